"""Cost of blocks and windows: basic against bottleneck at any width, two 3x3 convolutions against one 5x5."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_hub.geometry import conv_weights, totals, trace
from resnet_hub.lab.bounds import within
from resnet_hub.lab.residual import block_rows, check_channels

MOST_WIDTH = 4096


@dataclass(frozen=True)
class BlockCost:
    """A basic and a bottleneck block with the same number of input and output channels.

    Args:
        basic, bottleneck: weights of the block's convolutions, one number a layer.
        macs: multiply-adds of (basic, bottleneck) for one image.
    """

    basic: tuple[int, ...]
    bottleneck: tuple[int, ...]
    macs: tuple[int, int]

    @property
    def ratio(self) -> float:
        """Weights of the basic block over those of the bottleneck."""
        return sum(self.basic) / sum(self.bottleneck)


@dataclass(frozen=True)
class Windows:
    """Weights of two stacked 3x3 convolutions and of one 5x5 with the same receptive field."""

    two_small: int
    one_large: int


@dataclass(frozen=True)
class Network:
    """A whole network's parameters and multiply-adds at 224x224."""

    name: str
    params: int
    macs: int


def block_cost(width: int, size: int = 14) -> BlockCost:
    """Two 3x3 convolutions of `width` channels against 1x1 to a quarter, 3x3, 1x1 back, on (size, size) maps.

    At 256 channels 1,179,648 against 69,632 weights, 16.9 times.

    Raises:
        ValueError: for a width that is not a multiple of 4 or not in 4 to 4096.
    """
    check_channels("width", width, MOST_WIDTH)
    within("size", size, 1, 512)
    basic, bottleneck = (
        [row for row in block_rows(block, width, width, 1, size) if row.op == "conv"]
        for block in ("basic", "bottleneck")
    )
    return BlockCost(
        basic=tuple(row.params for row in basic),
        bottleneck=tuple(row.params for row in bottleneck),
        macs=(sum(row.macs for row in basic), sum(row.macs for row in bottleneck)),
    )


def windows(channels: int) -> Windows:
    """18 C^2 against 25 C^2 weights for the same 5x5 receptive field, with C channels in and out."""
    within("channels", channels, 1, MOST_WIDTH)
    return Windows(2 * conv_weights(channels, channels, (3, 3)), conv_weights(channels, channels, (5, 5)))


def networks(*names: str) -> list[Network]:
    """Whole networks: despite its bottlenecks ResNet-50 has more parameters than ResNet-34."""
    sums = [totals(trace(name)) for name in names]
    return [Network(name, each.params, each.macs) for name, each in zip(names, sums, strict=True)]
