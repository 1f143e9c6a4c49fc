"""The formulas of geometry: small pure functions of sizes, windows and channels.

Source: Araujo et al., Computing Receptive Fields of Convolutional Neural Networks,
https://distill.pub/2019/computing-receptive-fields/
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from resnet_hub.models.plans import out_length

if TYPE_CHECKING:
    from torch import nn

BYTES = 4  # of an fp32 value


def out_size(size: tuple[int, int], window: tuple[int, int], stride: int, padding: int) -> tuple[int, int]:
    """(height, width) of the map that a convolution or pooling makes of one of `size`."""
    height, width = (out_length(n, k, stride, padding) for n, k in zip(size, window, strict=True))
    return height, width


def in_length(length: int, kernel: int, stride: int, padding: int) -> int:
    """The shortest side from which `length` windows can be cut; the inverse of `out_length`."""
    return max(1, (length - 1) * stride + kernel - 2 * padding)


def receptive_field(before: int, jump: int, kernel: int) -> int:
    """Pixels a window covers on a map with receptive field `before`, its positions `jump` pixels apart."""
    return before + (kernel - 1) * jump


@lru_cache(10_000)  # a network asks the same few questions over and over; each costs a step a position
def share_inside(length: int, kernel: int, stride: int, padding: int) -> float:
    """Share of what all windows along one side read that lies on the map, not on its padding; 0 to 1."""
    starts = range(-padding, length + padding - kernel + 1, stride)
    inside = sum(min(start + kernel, length) - max(start, 0) for start in starts)
    return inside / (kernel * len(starts)) if starts else 1.0


def padding_share(size: tuple[int, int], kernel: int, stride: int, padding: int) -> float:
    """Share of what the windows on a map of `size` read that is padding, 0 to 1."""
    if padding == 0:
        return 0.0
    return 1 - math.prod(share_inside(length, kernel, stride, padding) for length in size)


def conv_weights(in_channels: int, out_channels: int, window: tuple[int, int]) -> int:
    """Weights of a convolution without its bias."""
    return in_channels * out_channels * math.prod(window)


def multiply_adds(weights: int, size: tuple[int, int]) -> int:
    """Multiply-adds of a convolution: each weight is used once for every position of its output."""
    return weights * math.prod(size)


def counted_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of whatever `run` computes, by torch's counter: two for a multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def counted_macs(net: nn.Module, size: tuple[int, ...]) -> int:
    """Multiply-adds of any network for one image (C, H, W), counted on a copy without memory.

    For networks of other libraries; `totals(trace(config)).macs` has those of our own.
    """
    from copy import deepcopy

    import torch

    shapes = deepcopy(net).to("meta").eval()
    with torch.no_grad():
        return counted_flops(lambda: shapes(torch.empty(1, *size, device="meta"))) // 2
