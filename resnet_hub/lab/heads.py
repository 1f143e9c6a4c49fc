"""The end of a network: global average pooling and one linear layer, or linear layers on the whole map."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from resnet_hub.lab.bounds import within
from resnet_hub.lab.pooling import pool

HIDDEN = 4096  # the width of AlexNet's and VGG's two hidden layers


@dataclass(frozen=True)
class Heads:
    """Parameters of three heads on the same last map.

    Args:
        pooled: global average pooling, then one linear layer.
        flat: one linear layer on the flattened map.
        hidden: two hidden layers of 4096 on the flattened map, then one more, as in VGG-16.
    """

    pooled: int
    flat: int
    hidden: int


@dataclass(frozen=True)
class Errors:
    """Root mean square error of global average and of global max pooling as estimates of what a map shows.

    Args:
        flat: of (average, max) where the whole map has the value 1.
        spike: of (average, max) where one cell has the value 1 and the others 0.
    """

    flat: tuple[float, float]
    spike: tuple[float, float]


def heads(channels: int, side: int, classes: int) -> Heads:
    """Parameters, biases included, on a map (channels, side, side).

    Args:
        channels: 1 to 4096.
        side: 1 to 32.
        classes: 2 to 10,000.
    """
    for name, value, least, most in (
        ("channels", channels, 1, 4096), ("side", side, 1, 32), ("classes", classes, 2, 10_000),
    ):  # fmt: skip
        within(name, value, least, most)
    inputs = channels * side * side
    widths = (inputs, HIDDEN, HIDDEN, classes)
    hidden = sum(linear(before, after) for before, after in pairwise(widths))
    return Heads(linear(channels, classes), linear(inputs, classes), hidden)


def linear(inputs: int, outputs: int) -> int:
    """Parameters of a linear layer with its bias."""
    return (inputs + 1) * outputs


def pooling_errors(noise: float, side: int = 7, draws: int = 400, seed: int = 0) -> Errors:
    """How far both poolings are from the 1 that a map shows, with Gaussian noise on every cell.

    Averaging divides the noise by the side; the maximum of many noisy cells lies above all of them, but a
    single cell survives it.

    Args:
        noise: standard deviation, 0 to 2.
        side: of the map, 2 to 16.
    """
    within("noise", noise, 0, 2)
    within("side", side, 2, 16)
    cells = np.random.default_rng(seed).normal(0, noise, (draws, side, side))
    spike = np.zeros((side, side))
    spike[side // 2, side // 2] = 1.0
    return Errors(*(_errors(cells + shown) for shown in (1.0, spike)))


def _errors(maps: np.ndarray) -> tuple[float, float]:
    means, highest = pool(maps, "global").values.ravel(), maps.max((1, 2))
    average, largest = (float(np.sqrt(np.mean((each - 1) ** 2))) for each in (means, highest))
    return average, largest
