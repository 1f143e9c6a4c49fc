"""Dropout at work: what it zeroes, what it scales, and that evaluation leaves everything as it is.

torch's own layer does the dropping. Knows nothing of networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_hub.lab.bounds import within

SIDE = 10
DRAWS = 200


@dataclass(frozen=True)
class Dropped:
    """A map of activations before and after dropout.

    Args:
        before, after: (10, 10).
        zeroed: share of the activations that are 0 afterwards.
        scale: what the others were multiplied by: 1 / (1 - p) while training, 1 in evaluation.
        mean_before: mean activation before.
        mean_after: mean activation over 200 draws, which dropout keeps near `mean_before`.
    """

    before: np.ndarray
    after: np.ndarray
    zeroed: float
    scale: float
    mean_before: float
    mean_after: float


def drop(p: float, training: bool, seed: int = 0) -> Dropped:
    """Drop each of 100 activations with probability `p` (0 to 0.95), as `torch.nn.Dropout` does.

    Inverted dropout: the survivors are scaled up while training, nothing is done when the network is used.
    The 2014 paper (JMLR 15, Srivastava et al.) scaled the weights down at test time instead.
    """
    import torch

    within("p", p, 0, 0.95)
    draw = torch.Generator().manual_seed(seed)
    before = torch.rand(SIDE, SIDE, generator=draw) + 0.5
    layer = torch.nn.Dropout(p).train(training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # nn.Dropout draws from the global generator
        draws = layer(before.expand(DRAWS, SIDE, SIDE))
    after = draws[0]
    kept = after != 0
    scale = (after[kept] / before[kept]).mean().item() if kept.any() else 0.0
    means = before.mean().item(), draws.mean().item()
    return Dropped(before.numpy(), after.numpy(), 1 - kept.float().mean().item(), scale, *means)
