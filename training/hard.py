"""Learning from the hardest of the images shown, as a small network that is trained alongside finds them.

Source: cifar10-airbench `airbench96_faster.py`, which reaches 96 % with 3.1 instead of 4.9 PFLOPs. There the
small network is trained first, on all that it is shown, and its choice recorded; here both networks learn
from the same images.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.geometry import counted_flops
from resnet_hub.models.build import build_network
from resnet_hub.models.flags import own_design
from resnet_hub.models.registry import model_config
from training.augment import Feed, random_key, resized
from training.distributed import summed, world_size
from training.multilabel import is_multi
from training.optim import build_optimizers
from training.recipes import Recipe

NAME, WIDTHS = "resnet8_cifar", (32, 64, 64)  # about a seventh of the work of `resnet8_cifar`
SMALLEST, LARGEST = 8, 32  # pixels of a side: three poolings need so many, and more would cost too much
STEPS_BETWEEN = 4  # of the small network's: it learns from every fourth batch


class Judge:
    """A small network that says which images are hardest: those with the largest cross entropy.

    Raises:
        ValueError: where what is shown is not images of at least 8 pixels with one class each.
    """

    def __init__(self, recipe: Recipe, feed: Feed, seed: int, device: torch.device) -> None:
        if len(feed.data.shape) != 3 or is_multi(feed.data.labels):
            raise ValueError("--hard-share needs images of one class each; leave it out")
        channels, *size = feed.data.shape
        sides = [min(size), *[recipe.low_res] * bool(recipe.low_res_epochs)]
        if min(sides) < SMALLEST:
            raise ValueError(f"--hard-share needs images of {SMALLEST} pixels, and some have {min(sides)}")
        shown: dict[str, Any] = {
            "in_chans": channels,
            "num_classes": len(feed.data.classes),
            "input_size": LARGEST,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_key(seed, 11))  # alike in all processes
            net = build_network(own_design(model_config(NAME, **shown), [("widths", WIDTHS)]))
        self.net = net.to(device).to(memory_format=torch.channels_last).train()
        self.recipe = recipe
        self.optimizers = build_optimizers(self.net, recipe)

    def hardest(self, x: Tensor, targets: Tensor) -> Tensor:
        """Positions (K,) of the recipe's share of the images (N, C, H, W), in their order."""
        kept = max(round(self.recipe.hard_share * len(x)), 1)
        with torch.no_grad():
            return self._losses(x, targets).topk(kept).indices.sort().values

    def learn(self, x: Tensor, targets: Tensor, parts: int) -> None:
        """Add the gradients of a micro-batch, one of `parts`."""
        (self._losses(x, targets).mean() / parts).backward()

    def _losses(self, x: Tensor, targets: Tensor) -> Tensor:
        logits = self.net(resized(x, min(*x.shape[2:], LARGEST)))
        return F.cross_entropy(logits, targets, reduction="none", label_smoothing=self.recipe.label_smoothing)

    def update(self) -> None:
        """Take a step along the gradients of all processes."""
        for parameter in self.net.parameters():
            if parameter.grad is not None:
                summed(parameter.grad).div_(world_size())
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def flops(self, shape: tuple[int, ...]) -> float:
        """Floating-point operations for each image (C, H, W) that the trained network learns from."""
        judge = copy.copy(self)
        judge.net = copy.deepcopy(self.net)  # its batch norms will have seen this input
        device = next(self.net.parameters()).device
        x, targets = torch.zeros(2, *shape, device=device), torch.zeros(2, dtype=torch.long, device=device)
        chosen = counted_flops(lambda: judge.hardest(x, targets)) / self.recipe.hard_share
        return (chosen + counted_flops(lambda: judge.learn(x, targets, 1)) / STEPS_BETWEEN) / len(x)

    def state(self) -> dict[str, Any]:
        """What a resume needs."""
        return {"net": self.net.state_dict(), "optimizers": [each.state_dict() for each in self.optimizers]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.net.load_state_dict(state["net"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
