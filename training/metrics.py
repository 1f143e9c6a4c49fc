"""Figures of a classifier that do not favour large classes, and what a balanced training draws and weighs.

All start from a confusion matrix (C, C): rows are true classes, columns predicted ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.errors import Refusal
from training import multilabel

BALANCES = ("none", "weights", "sampler")
# name of --metric -> (its key in a line of the history, whether more is better)
CHOICES = {
    "auto": ("", True),  # mean_average_precision where images show several classes, else accuracy
    "accuracy": ("val_acc", True),
    "balanced_accuracy": ("val_balanced_acc", True),
    "macro_f1": ("val_macro_f1", True),
    "loss": ("val_loss", False),
    "mean_average_precision": ("val_map", True),
}


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts (C, C) by true class (rows) and predicted class (columns)."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def by_class(confusion: Tensor) -> dict[str, Tensor]:
    """Precision, recall, F1 and number of images of each class (C,); 0 where a share is one of nothing."""
    right, true, called = confusion.diagonal().double(), confusion.sum(1), confusion.sum(0)
    return {
        "precision": right / called.clamp(min=1),
        "recall": right / true.clamp(min=1),
        "f1": 2 * right / (true + called).clamp(min=1),
        "images": true,
    }


def summary(confusion: Tensor) -> dict[str, Any]:
    """What a card states: balanced accuracy (the mean recall), and means over classes, plain (macro) and by
    their number of images (weighted). Classes without an image do not count."""
    each = by_class(confusion)
    present = each["images"] > 0
    share = each["images"] / each["images"].sum().clamp(min=1)

    def macro(name: str) -> float:
        return each[name][present].mean().item()

    def weighted(name: str) -> float:
        return (each[name] * share).sum().item()

    return {
        "balanced_accuracy": macro("recall"),
        "macro_precision": macro("precision"),
        "macro_f1": macro("f1"),
        "weighted_precision": weighted("precision"),
        "weighted_f1": weighted("f1"),
    }


def of_held_out(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """What a line of the history gives of the held-out images."""
    if multilabel.is_multi(labels):
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        return {"val_loss": loss.item()} | multilabel.beside_loss(logits, labels)
    figures = summary(confusion_matrix(logits.argmax(1), labels, logits.shape[1]))
    return {
        "val_loss": F.cross_entropy(logits, labels).item(),
        "val_acc": (logits.argmax(1) == labels).float().mean().item(),
        "val_balanced_acc": figures["balanced_accuracy"],
        "val_macro_f1": figures["macro_f1"],
    }


def chosen(metric: str, labels: Tensor) -> str:
    """The metric that `--metric` means for these labels.

    Raises:
        ValueError: for one that they do not have.
    """
    several = multilabel.is_multi(labels)
    allowed = ("mean_average_precision", "loss", "accuracy") if several else tuple(CHOICES)[1:5]
    if metric == "auto":
        return allowed[0]
    if metric not in allowed:
        raise Refusal(f"--metric {metric} is not for these labels; give {', '.join(allowed)}")
    return metric


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """The weight of each class (C,) float32: the mean number of images of a class, over its own.

    The mean over all images is 1, so that the rate means what it did.
    """
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / (classes * counts.clamp(min=1)).float()


def balanced_draw(labels: Tensor, classes: int, key: int) -> Tensor:
    """As many positions (N,) as there are images, each class as probable as any other, with replacement.

    Args:
        key: the seed of the draw.
    """
    draw = torch.Generator().manual_seed(key)
    return torch.multinomial(class_weights(labels, classes)[labels], len(labels), True, generator=draw)
