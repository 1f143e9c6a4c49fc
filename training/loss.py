"""What training makes small: cross entropy, or a yes or no for each class where images show several."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.metrics import class_weights
from training.multilabel import is_multi, pos_weights
from training.recipes import Recipe


class Loss:
    """(N, C) logits and targets -> the mean loss, as the recipe smooths and weighs it.

    Args:
        labels: of all training images, by which classes are weighed.
    """

    def __init__(self, recipe: Recipe, labels: Tensor, classes: int, device: torch.device) -> None:
        self.smoothing, self.is_multi = recipe.label_smoothing, is_multi(labels)
        self.weights: Tensor | None = None
        if recipe.balance == "weights":
            weights = pos_weights(labels) if self.is_multi else class_weights(labels, classes)
            self.weights = weights.to(device)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets are labels (N,), or shares (N, C)."""
        if self.is_multi:
            smooth = targets * (1 - self.smoothing) + self.smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=self.weights)
        if self.weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self.smoothing)
        # torch would divide by the sum of the batch's weights, and micro-batches would not add up to a batch.
        each = F.cross_entropy(
            logits, targets, self.weights, reduction="none", label_smoothing=self.smoothing
        )
        return each.mean()

    def right(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How many images are answered rightly; an image of several classes counts by the share of them."""
        if self.is_multi:
            return ((logits > 0) == labels.bool()).float().mean(1).sum()
        return (logits.argmax(1) == labels).sum()
