"""Max, average and global pooling of a small map, what they drop, and what a shift by one pixel changes.

Written in numpy, so that the tests can check it against torch's own pooling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from resnet_hub.errors import Refusal
from resnet_hub.lab.bounds import one_of, within

KINDS = ("max", "average", "global")
MOST_SIDE, MOST_KERNEL = 128, 8


@dataclass(frozen=True)
class Pooled:
    """A map after pooling.

    Args:
        values: (..., h, w), the pooled map.
        used: (..., H, W), True where the input value contributes to at least one output.
        dropped: share of input values that contribute to no output, 0 to 1.
    """

    values: np.ndarray
    used: np.ndarray
    dropped: float


@dataclass(frozen=True)
class Shifted:
    """A map and the same map one pixel to the right, both pooled.

    Args:
        moved: (..., H, W), the input shifted by one column; its first column is repeated.
        before, after: (..., h, w), the pooled maps.
        changed: share of the outputs that differ, 0 to 1.
    """

    moved: np.ndarray
    before: np.ndarray
    after: np.ndarray
    changed: float


def pool(grid: ArrayLike, kind: str, kernel: int = 2, stride: int = 2, padding: int = 0) -> Pooled:
    """Pool the last two axes of `grid` (..., H, W) as `torch.nn.functional` does.

    Padding counts as minus infinity for "max" and as zeros for "average" (torch's default
    `count_include_pad=True`); "global" averages the whole map and ignores the window.

    Raises:
        ValueError: for a kind, side or window that is not allowed; padding is at most half the kernel.
    """
    grid = np.asarray(grid, dtype=np.float64)
    one_of("kind", kind, KINDS)
    if grid.ndim < 2:
        raise Refusal(f"the map has shape {grid.shape}; give (H, W), or more axes before these two")
    within("longest side", max(grid.shape[-2:]), 1, MOST_SIDE)
    if kind == "global":
        return Pooled(grid.mean((-2, -1), keepdims=True), np.ones(grid.shape, bool), 0.0)
    within("kernel", kernel, 1, MOST_KERNEL)
    within("stride", stride, 1, MOST_KERNEL)
    within("padding", padding, 0, kernel // 2)
    within("kernel", kernel, 1, min(grid.shape[-2:]) + 2 * padding)
    fill = -np.inf if kind == "max" else 0.0
    windows = _windows(grid, kernel, stride, padding, fill)  # (..., h, w, kernel * kernel)
    values = windows.max(-1) if kind == "max" else windows.mean(-1)
    used = _used(grid, windows.argmax(-1) if kind == "max" else None, kernel, stride, padding)
    return Pooled(values, used, float(1 - used.mean()))


def shift_test(grid: ArrayLike, kind: str, kernel: int = 2, stride: int = 2, padding: int = 0) -> Shifted:
    """Pool a map and the same map shifted one pixel to the right.

    Pooling with a stride is not invariant to a shift.
    """
    grid = np.asarray(grid, dtype=np.float64)
    moved = np.concatenate([grid[..., :1], grid[..., :-1]], axis=-1)
    before, after = (pool(each, kind, kernel, stride, padding).values for each in (grid, moved))
    return Shifted(moved, before, after, float((before != after).mean()))


def _windows(grid: np.ndarray, kernel: int, stride: int, padding: int, fill: float) -> np.ndarray:
    edges = [(0, 0)] * (grid.ndim - 2) + [(padding, padding)] * 2
    padded = np.pad(grid, edges, constant_values=fill)
    windows = sliding_window_view(padded, (kernel, kernel), axis=(-2, -1))[..., ::stride, ::stride, :, :]
    return windows.reshape(*windows.shape[:-2], kernel * kernel)


def _used(grid: np.ndarray, winners: np.ndarray | None, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Inputs that some window reads; with `winners` (positions in their windows), only those."""
    numbers = np.arange(grid.size).reshape(grid.shape)
    windows = _windows(numbers, kernel, stride, padding, -1)
    if winners is not None:
        windows = np.take_along_axis(windows, winners[..., None], -1)
    used = np.zeros(grid.size, bool)
    used[windows[windows >= 0]] = True
    return used.reshape(grid.shape)
