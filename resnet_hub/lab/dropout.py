"""Dropout: what it zeroes, how it scales the rest, and that eval mode leaves everything unchanged.

Every number is computed by torch's own layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_hub.lab.bounds import within

SIDE = 10
DRAWS = 200


@dataclass(frozen=True)
class Dropped:
    """Activations before and after dropout.

    Args:
        before, after: (10, 10).
        zeroed: share of the activations that are 0 afterwards.
        scale: factor on the others: 1 / (1 - p) in train mode, 1 in eval mode.
        mean_before: mean activation before.
        mean_after: mean activation over 200 draws; dropout keeps it near `mean_before`.
    """

    before: np.ndarray
    after: np.ndarray
    zeroed: float
    scale: float
    mean_before: float
    mean_after: float


def drop(p: float, training: bool, seed: int = 0) -> Dropped:
    """Drop each of 100 activations with probability `p` (0 to 0.95), as `torch.nn.Dropout` does.

    This is inverted dropout: what is kept is scaled up in training, so eval mode changes nothing. The 2014
    paper (JMLR 15, Srivastava et al.) scaled the weights down at test time instead.
    """
    import torch

    from resnet_hub.models.initialise import seeded

    within("p", p, 0, 0.95)
    draw = torch.Generator().manual_seed(seed)
    before = torch.rand(SIDE, SIDE, generator=draw) + 0.5
    layer = torch.nn.Dropout(p).train(training)
    with seeded(seed):  # nn.Dropout draws from the global generator
        draws = layer(before.expand(DRAWS, SIDE, SIDE))
    after = draws[0]
    kept = after != 0
    scale = (after[kept] / before[kept]).mean().item() if kept.any() else 0.0
    means = before.mean().item(), draws.mean().item()
    return Dropped(before.numpy(), after.numpy(), 1 - kept.float().mean().item(), scale, *means)
