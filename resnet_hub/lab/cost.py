"""What a block costs: basic against bottleneck at any width, and two small windows against a large one.

Arithmetic with geometry's own formula. Knows nothing of torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from resnet_hub.geometry import conv_weights, totals, trace
from resnet_hub.lab.bounds import within

MOST_WIDTH = 4096


@dataclass(frozen=True)
class BlockCost:
    """Two blocks of equal outer width.

    Args:
        basic, bottleneck: weights of each block's convolutions; a list, one a layer.
        macs: multiply-adds of (basic, bottleneck) for one image.
    """

    basic: tuple[int, ...]
    bottleneck: tuple[int, ...]
    macs: tuple[int, int]

    @property
    def ratio(self) -> float:
        """How many times the basic block costs."""
        return sum(self.basic) / sum(self.bottleneck)


@dataclass(frozen=True)
class Windows:
    """Weights of two stacked 3x3 convolutions and of the one 5x5 that sees as far."""

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

    At 256 channels 1,179,648 against 69,632 weights, 16.9 times. Raises ValueError for a width that is no
    multiple of 4 or out of 4 to 4096.
    """
    within("width", width, 4, MOST_WIDTH)
    within("size", size, 1, 512)
    if width % 4:
        raise ValueError(f"width={width} is no multiple of 4; a bottleneck is a quarter as wide inside")
    inner = width // 4
    basic = (conv_weights(width, width, (3, 3)),) * 2
    bottleneck = (
        conv_weights(width, inner, (1, 1)),
        conv_weights(inner, inner, (3, 3)),
        conv_weights(inner, width, (1, 1)),
    )
    return BlockCost(basic, bottleneck, (sum(basic) * size**2, sum(bottleneck) * size**2))


def windows(channels: int) -> Windows:
    """18 C^2 against 25 C^2: both see 5x5 of the map, and the channels count twice."""
    within("channels", channels, 1, MOST_WIDTH)
    return Windows(2 * conv_weights(channels, channels, (3, 3)), conv_weights(channels, channels, (5, 5)))


def networks(*names: str) -> list[Network]:
    """Whole networks: ResNet-50 has more parameters than ResNet-34, for all its bottlenecks."""
    sums = [totals(trace(name)) for name in names]
    return [Network(name, each.params, each.macs) for name, each in zip(names, sums, strict=True)]
