"""Augmentations of a whole batch on the device it is on.

Each takes images uint8 (B, C, H, W) and numbers from 0 to 1 drawn for them, (n, B), and returns images of the
same shape. What an image becomes depends on its own numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ZOOM_AREA, ZOOM_RATIO = (0.35, 1.0), (3 / 4, 4 / 3)  # share of the area shown, width over height
CUTOUT_SHARE = 0.25  # of the side, arXiv 1708.04552
TURN = 15.0  # degrees to either side
AFFINE_TURN, AFFINE_SHEAR, AFFINE_SHIFT = (
    10.0,
    5.0,
    0.1,
)  # degrees, degrees, share of the side; to either side
AFFINE_SCALE = (0.9, 1.1)
BLUR_CHANCE, BLUR_SIGMA = 0.3, (0.1, 2.0)  # pixels, in a window of 3
ERASE_CHANCE, ERASE_AREA, ERASE_RATIO = 0.25, (0.02, 0.33), (0.3, 3.3)  # arXiv 1708.04896


def between(least: float, most: float, draws: Tensor) -> Tensor:
    """Numbers from 0 to 1 as numbers from `least` to `most`."""
    return least + (most - least) * draws


def between_logarithms(least: float, most: float, draws: Tensor) -> Tensor:
    """As `between`, evenly by logarithm: 1:2 is as likely as 2:1."""
    return torch.exp(between(math.log(least), math.log(most), draws))


def zoomed(images: Tensor, draws: Tensor) -> Tensor:
    """A random window, enlarged to the image's size: torchvision's RandomResizedCrop for a batch.

    Args:
        draws: of the window's area, its shape, and its place in both directions.
    """
    area, ratio = between(*ZOOM_AREA, draws[0]), between_logarithms(*ZOOM_RATIO, draws[1])
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = (1 - width) * (2 * draws[2] - 1), (1 - height) * (2 * draws[3] - 1)
    zero = torch.zeros_like(width)
    theta = torch.stack([torch.stack([width, zero, left], 1), torch.stack([zero, height, top], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    shown = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    return shown.round().to(torch.uint8)


def with_hole(images: Tensor, draws: Tensor) -> Tensor:
    """A grey square around a random point, which the border may cut; `draws` are the point's."""
    height, width = images.shape[-2:]
    half = CUTOUT_SHARE * min(height, width) / 2
    rows = (torch.arange(height, device=images.device) + 0.5 - height * draws[0][:, None]).abs() < half
    columns = (torch.arange(width, device=images.device) + 0.5 - width * draws[1][:, None]).abs() < half
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 128)


def turned(images: Tensor, draws: Tensor) -> Tensor:
    """torchvision's RandomRotation; `draws` is of the angle."""
    angle = between(-TURN, TURN, draws[0])
    zero = torch.zeros_like(angle)
    return _warped(images, angle, zero, zero + 1, zero, zero)


def moved(images: Tensor, draws: Tensor) -> Tensor:
    """torchvision's RandomAffine; `draws` are of the angle, the shear, the scale, and the shift across and
    down."""
    height, width = images.shape[-2:]
    across, down = between(-AFFINE_SHIFT, AFFINE_SHIFT, draws[3:])
    turn, shear = between(-AFFINE_TURN, AFFINE_TURN, draws[0]), between(-AFFINE_SHEAR, AFFINE_SHEAR, draws[1])
    scale = between(*AFFINE_SCALE, draws[2])
    return _warped(images, turn, shear, scale, (across * width).round(), (down * height).round())


def _warped(
    images: Tensor, turn: Tensor, shear: Tensor, scale: Tensor, across: Tensor, down: Tensor
) -> Tensor:
    """Sheared, turned clockwise (degrees), scaled and shifted (pixels) about the centre, black beside it; all
    (B,). A pixel is the nearest one's."""
    height, width = images.shape[-2:]
    turn, slope = turn.deg2rad(), shear.deg2rad().tan()
    cos, sin = turn.cos(), turn.sin()
    # Where a pixel comes from: the inverse of turning after shearing, in pixels from the centre.
    (a, b), (c, d) = (cos - sin * slope, sin + cos * slope), (-sin, cos)
    a, b, c, d = (value / scale for value in (a, b, c, d))
    x, y = -(a * across + b * down), -(c * across + d * down)
    rows = [a, b * height / width, 2 * x / width], [c * width / height, d, 2 * y / height]
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)


def blurred(images: Tensor, draws: Tensor) -> Tensor:
    """torchvision's GaussianBlur(3) by chance; `draws` say whether, and how strong it is."""
    beside = torch.exp(-0.5 / between(*BLUR_SIGMA, draws[1]) ** 2)
    beside = (beside / (1 + 2 * beside)).view(-1, 1, 1, 1)
    x = F.pad(images.float(), (1, 1, 1, 1), mode="reflect")
    x = (1 - 2 * beside) * x[:, :, 1:-1] + beside * (x[:, :, :-2] + x[:, :, 2:])
    x = (1 - 2 * beside) * x[..., 1:-1] + beside * (x[..., :-2] + x[..., 2:])
    return torch.where((draws[0] < BLUR_CHANCE).view(-1, 1, 1, 1), x.round().to(torch.uint8), images)


def erased(images: Tensor, draws: Tensor) -> Tensor:
    """torchvision's RandomErasing, a black rectangle by chance: no larger than the image, where torchvision
    draws another. `draws` say whether, the rectangle's area, its shape, and its place down and across."""
    height, width = images.shape[-2:]
    area, ratio = between(*ERASE_AREA, draws[1]) * height * width, between_logarithms(*ERASE_RATIO, draws[2])
    high, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    high, wide = high.clamp(max=height - 1), wide.clamp(max=width - 1)
    top, left = (draws[3] * (height - high + 1)).floor(), (draws[4] * (width - wide + 1)).floor()
    rows, columns = _within(top, high, height), _within(left, wide, width)
    happens = (draws[0] < ERASE_CHANCE).view(-1, 1, 1)
    return images.masked_fill((happens & rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _within(first: Tensor, count: Tensor, side: int) -> Tensor:
    """(B, side): whether a pixel of a line is one of `count` from `first` on."""
    place = torch.arange(side, device=first.device) - first[:, None]
    return (place >= 0) & (place < count[:, None])


class Batched(NamedTuple):
    """How many numbers are drawn for an image, and what is done with them."""

    draws: int
    change: Callable[[Tensor, Tensor], Tensor]


BATCHED = {
    "zoom": Batched(4, zoomed),
    "cutout": Batched(2, with_hole),
    "rotate": Batched(1, turned),
    "affine": Batched(5, moved),
    "blur": Batched(2, blurred),
    "erase": Batched(5, erased),
}
