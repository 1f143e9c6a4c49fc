"""The network of `gradients.py`: convolutions of one width, in pairs as a basic block has them.

Imports torch, and so is imported where a topic computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

WIDTH = 16
CLASSES = 10
ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "none": lambda x: x,
}


class ConvStack(nn.Module):
    """`depth` 3x3 convolutions at 16 channels: (N, 3, H, W) -> (N, 10), in float64.

    A pair is act(x + BN(conv(act(BN(conv(x)))))), the basic block of arXiv 1512.03385 without stages, or with
    order "pre" x + conv(act(BN(conv(act(BN(x)))))), that of arXiv 1603.05027. He initialisation (fan in)
    whatever the activation, as a beginner would leave it.

    Args:
        skip: add each pair's input to its output.
        activation: a key of `ACTIVATE`.
        order: "post" or "pre".

    Attributes:
        maps: what left each layer in the last forward pass.
        joins: (input, sum) of each pair in that pass.
    """

    maps: list[Tensor]
    joins: list[tuple[Tensor, Tensor]]

    def __init__(
        self, depth: int, skip: bool, activation: str, batch_norm: bool, seed: int, order: str = "post"
    ) -> None:
        super().__init__()
        self.skip, self.order, self.act = skip, order, ACTIVATE[activation]
        pairs = list(itertools.pairwise([3] + [WIDTH] * depth))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=not batch_norm) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) if batch_norm else nn.Identity() for _, o in pairs)
        self.head = nn.Linear(WIDTH, CLASSES)
        self.initialise(torch.Generator().manual_seed(seed))
        self.double()

    def initialise(self, draw: torch.Generator) -> None:
        """Draw all weights; biases start at 0."""
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=draw)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        nn.init.normal_(self.head.weight, std=WIDTH**-0.5, generator=draw)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 10)"""
        self.maps, self.joins = [], []
        x = self.pre_activation(x) if self.order == "pre" else self.post_activation(x)
        return self.head(x.mean((2, 3)))

    def post_activation(self, x: Tensor) -> Tensor:
        """The map that leaves the last layer."""
        kept = x = self.act(self.norms[0](self.convs[0](x)))
        self.maps.append(x)
        for i in range(1, len(self.convs)):
            x = self.norms[i](self.convs[i](x))
            if i % 2 == 0 and self.skip:
                self.joins.append((kept, x := x + kept))
            x = self.act(x)
            self.maps.append(x)
            kept = x if i % 2 == 0 else kept
        return x

    def pre_activation(self, x: Tensor) -> Tensor:
        """The same, with a norm and an activation before each convolution but the first."""
        kept = x = self.convs[0](x)
        self.maps.append(x)
        for i in range(1, len(self.convs)):
            x = self.convs[i](self.act(self.norms[i](x)))
            if i % 2 == 0:
                self.joins.append((kept, x := x + kept))
            self.maps.append(x)
            kept = x if i % 2 == 0 else kept
        return self.act(self.norms[0](x))  # the one after the last block
