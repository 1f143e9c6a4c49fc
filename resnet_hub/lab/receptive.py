"""The receptive field of one position of a feature map: the square of the formula, and what it weighs.

The formula counts every pixel that can matter; the gradient says how much each does (Luo et al., arXiv
1701.04128).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnet_hub.geometry import first_centres, stages_with_maps, trace
from resnet_hub.lab.bounds import within

if TYPE_CHECKING:
    from PIL import Image

    from resnet_hub.models.base import Network

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Field:
    """What one position of a stage's map depends on, in pixels of the network's input image.

    Args:
        weights: (H, W), each pixel's share of the gradient's magnitude over colours; they add up to 1.
        formal: side of the square of the formula; it may reach beyond the image.
        box: (top, left, bottom, right) of that square, cut off at the image; bottom and right are outside.
        inner: the same of the smallest centred square that holds half of the weight.
        inner_side: the side of that square, not cut off.
    """

    weights: np.ndarray
    formal: int
    box: Box
    inner: Box
    inner_side: int


def stage_names(name: str) -> list[str]:
    """The stages of a network that leave a feature map, first to last."""
    return [stage.name for stage in stages_with_maps(trace(name))]


def map_size(model: Network, stage: int) -> tuple[int, int]:
    """(height, width) of the map that leaves a stage of the network at its own input size."""
    return stages_with_maps(trace(model.config))[stage].out_size


def field(model: Network, crop: Image.Image, stage: int, row: int, column: int) -> Field:
    """The receptive field of position (row, column) of the map that leaves a stage, on this very image.

    Args:
        crop: the network's input image.
        stage: 0 for the first.

    Raises:
        ValueError: for a stage or position that is not there.
    """
    rows = trace(model.config)
    found = stages_with_maps(rows)
    within("stage", stage, 0, len(found) - 1)
    height, width = found[stage].out_size
    within("row", row, 0, height - 1)
    within("column", column, 0, width - 1)
    weights = gradient_weights(model, crop, stage, row, column)
    first, jump = first_centres(rows)[found[stage].name], found[stage].jump
    centre = (first + row * jump, first + column * jump)
    sides = range(1, 2 * max(weights.shape) + 2, 2)
    shares = ((side, weights[cut(square(centre, side), weights.shape)].sum()) for side in sides)
    inner = next((side for side, share in shares if share > 0.4999), sides[-1])
    formal = found[stage].receptive_field
    box, half = (bounds(square(centre, side), weights.shape) for side in (formal, inner))
    return Field(weights, formal, box, half, inner)


def gradient_weights(model: Network, crop: Image.Image, stage: int, row: int, column: int) -> np.ndarray:
    """(H, W): magnitude over colours of the gradient of the position's sum over channels, adding up to 1; all
    zero where no pixel moves it."""
    import torch

    from resnet_hub.predict import evaluation

    with evaluation(model), torch.inference_mode(False), torch.enable_grad():
        pixels = model.preprocess.normalise(crop)[None].to(next(model.parameters()).device)
        pixels.requires_grad_()
        out = model.features(pixels)[stage][0, :, row, column].sum()
        (gradient,) = torch.autograd.grad(out, pixels)
    magnitude = gradient[0].norm(dim=0).cpu().double().numpy()
    return magnitude / max(magnitude.sum(), 1e-30)


def square(centre: tuple[float, ...], side: int) -> Box:
    """(top, left, bottom, right) of a square around a point."""
    top, left = (round(c - (side - 1) / 2) for c in centre)
    return top, left, top + side, left + side


def bounds(box: Box, size: tuple[int, ...]) -> Box:
    """A box cut off at the image (H, W)."""
    top, left, bottom, right = box
    return max(top, 0), max(left, 0), min(bottom, size[0]), min(right, size[1])


def cut(box: Box, size: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of a box inside the image."""
    top, left, bottom, right = bounds(box, size)
    return slice(top, bottom), slice(left, right)
