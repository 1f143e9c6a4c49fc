"""Networks whose images show any number of their classes: each class is a question of its own.

Labels are (N, C) of 0 and 1, probabilities sigmoids. Thresholds are fitted on held-out images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.models.calibration import UNDECIDED


def is_multi(labels: Tensor) -> bool:
    """Whether these are labels of images that may show several classes."""
    return labels.ndim == 2


def strata(labels: Tensor) -> Tensor:
    """One number an image (N,), so that a split takes each class in proportion: its rarest class, or C."""
    if not is_multi(labels):
        return labels
    rarity = torch.where(labels > 0, labels.sum(0), float("inf"))
    return torch.where(labels.any(1), rarity.argmin(1), labels.shape[1])


def counts(labels: Tensor, classes: int) -> Tensor:
    """Images that show each class (C,) int64."""
    return labels.sum(0).long() if is_multi(labels) else torch.bincount(labels, minlength=classes)


def pos_weights(labels: Tensor) -> Tensor:
    """For each class (C,): images without it for one with it, so that both weigh the same in its loss."""
    present = labels.sum(0).clamp(min=1)
    return (len(labels) - present).clamp(min=1) / present


def average_precision(scores: Tensor, present: Tensor) -> float:
    """The sum over falling scores of (recall gained) x (precision); equal scores count as one.

    Args:
        scores: (N,), higher for images more likely to show the class.
        present: (N,) of 0 and 1; with none of 1 it is 0.
    """
    order = scores.argsort(descending=True)
    ranked, hits = scores[order], present[order].double().cumsum(0)
    last = torch.cat([ranked[1:] != ranked[:-1], torch.tensor([True])])  # of those that score alike
    hits, seen = hits[last], last.nonzero()[:, 0] + 1
    gained = hits.diff(prepend=torch.zeros(1, dtype=torch.double))
    return ((gained * hits / seen).sum() / hits[-1].clamp(min=1)).item()


def average_precisions(logits: Tensor, labels: Tensor) -> list[float]:
    """Of each class, from (N, C) logits and labels."""
    return [average_precision(*pair) for pair in zip(logits.T, labels.T, strict=True)]


def mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """Mean over the classes that some image shows."""
    shown = [p for p, any_ in zip(average_precisions(logits, labels), labels.any(0), strict=True) if any_]
    return sum(shown) / max(len(shown), 1)


def best_threshold(shares: Tensor, present: Tensor) -> float:
    """The probability from which calling the class present gives the best F1; `UNDECIDED` without an image.

    It lies halfway between the least probable image called present and the next one.
    """
    if not present.any():
        return UNDECIDED
    ranked, order = shares.sort(descending=True)
    is_last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])  # of equal ones
    levels, called = ranked[is_last], is_last.nonzero()[:, 0] + 1
    right = present[order].bool().long().cumsum(0)[is_last]
    f1 = 2 * right / (called + present.sum())
    best = int(f1.argmax())
    below = levels[best + 1] if best + 1 < len(levels) else torch.zeros(())
    return ((levels[best].double() + below) / 2).item()


def class_thresholds(probabilities: Tensor, labels: Tensor) -> tuple[float, ...]:
    """`best_threshold` of each class, from (N, C) of held-out images."""
    return tuple(best_threshold(*pair) for pair in zip(probabilities.T, labels.T, strict=True))


def beside_loss(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """What a line of the history gives of the held-out images: shares of the answers and of the images that
    are right at even odds, and the mean average precision."""
    right = (logits > 0) == labels.bool()
    return {
        "val_acc": right.float().mean().item(),
        "val_map": mean_average_precision(logits, labels),
    }


def is_called(model, probabilities: Tensor) -> Tensor:
    """Which classes (N, C) the network calls present."""
    return probabilities.double() >= torch.tensor(model.calibration.class_thresholds, dtype=torch.double)


def measure(model, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Every figure a card gives, from the test images' logits and labels (N, C)."""
    shares = model.calibration.probabilities(logits)
    called, present = is_called(model, shares), labels.bool()
    right, said, true = (called & present).sum(0).double(), called.sum(0), present.sum(0)
    f1 = 2 * right / (said + true).clamp(min=1)
    return {
        "images": len(labels),
        "mean_average_precision": mean_average_precision(logits, labels),
        "exact_match": (called == present).all(1).float().mean().item(),
        "micro_f1": (2 * right.sum() / (said.sum() + true.sum()).clamp(min=1)).item(),
        "macro_f1": f1[true > 0].mean().item(),
        "loss": F.binary_cross_entropy_with_logits(logits / model.calibration.temperature, labels).item(),
        "class_ap": average_precisions(logits, labels),
        "class_precision": (right / said.clamp(min=1)).tolist(),
        "class_recall": (right / true.clamp(min=1)).tolist(),
        "class_f1": f1.tolist(),
        "class_threshold": list(model.calibration.class_thresholds),
        "class_images": true.tolist(),
    }
