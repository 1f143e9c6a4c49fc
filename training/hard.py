"""Learning from the hardest of the images shown, as a small network that is trained alongside finds them.

Source: cifar10-airbench `airbench96_faster.py`, which reaches 96 % with 3.1 instead of 4.9 PFLOPs. There the
small network is trained first and its choice recorded; here both networks learn from the same batches.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from resnet_hub.geometry import counted_flops
from resnet_hub.models.build import build_network
from resnet_hub.models.registry import model_config
from training.augment import Feed, random_key
from training.distributed import summed, world_size
from training.loss import Loss
from training.optim import build_optimizers
from training.recipes import Recipe

NAME, WIDTHS = "resnet8_cifar", (32, 64, 64)  # about a seventh of the work of `resnet8_cifar`
STEPS_BETWEEN = 4  # of the small network's: it learns from every fourth batch


class Judge:
    """A small network that says which images are hardest.

    Args:
        loss: the trained network's own; what is hardest has the largest.

    Raises:
        ValueError: where what is shown are features.
    """

    def __init__(self, recipe: Recipe, feed: Feed, loss: Loss, seed: int, device: torch.device) -> None:
        if len(feed.data.shape) != 3:
            raise ValueError("--hard-share needs images, and features are trained on here; leave it out")
        channels, *size = feed.data.shape
        shown = {"in_chans": channels, "input_size": tuple(size), "num_classes": len(feed.data.classes)}
        config = replace(model_config(NAME, **shown), widths=WIDTHS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_key(seed, 11))  # alike in all processes
            net = build_network(config)
        self.net = net.to(device, memory_format=torch.channels_last).train()
        self.share, self.loss = recipe.hard_share, loss
        self.optimizers = build_optimizers(self.net, recipe)

    @torch.no_grad()
    def hardest(self, x: Tensor, targets: Tensor) -> Tensor:
        """Positions (K,) of the recipe's share of the images (N, C, H, W), in their order."""
        kept = max(round(self.share * len(x)), 1)
        return self.loss.each(self.net(x), targets).topk(kept).indices.sort().values

    def learn(self, x: Tensor, targets: Tensor, parts: int) -> None:
        """Add the gradients of a micro-batch, one of `parts`."""
        (self.loss(self.net(x), targets) / parts).backward()

    def update(self) -> None:
        """Take a step along the gradients of all processes."""
        for parameter in self.net.parameters():
            summed(parameter.grad).div_(world_size())
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def learns_at(self, step: int) -> bool:
        """Whether it learns from this step's batch."""
        return step % STEPS_BETWEEN == 0

    def flops(self, shape: tuple[int, ...]) -> float:
        """Floating-point operations for each image (C, H, W) that the trained network learns from."""
        net = copy.deepcopy(self.net)
        x = torch.zeros(2, *shape, device=next(net.parameters()).device)

        @torch.no_grad()
        def judged() -> None:
            net(x)

        step = counted_flops(lambda: net(x).sum().backward())
        return (counted_flops(judged) / self.share + step / STEPS_BETWEEN) / len(x)

    def state(self) -> dict[str, Any]:
        """What a resume needs."""
        return {"net": self.net.state_dict(), "optimizers": [each.state_dict() for each in self.optimizers]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.net.load_state_dict(state["net"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
