"""Where a network looks: a patch slid over the image, Grad-CAM at every stage, its first filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnet_hub.lab.bounds import within

if TYPE_CHECKING:
    from PIL import Image

    from resnet_hub.models.base import Network

MOST_ACROSS = 8  # positions of the patch along one side


@dataclass(frozen=True)
class Occluded:
    """What covering each part of an image does to the answer.

    Args:
        label, probability: the network's answer to the whole image, calibrated.
        drops: (rows, columns), by how much that probability falls with the patch at each place; negative
            where it rises.
        tops: (rows,), the patch's first row of pixels at each place.
        lefts: (columns,), its first column.
    """

    label: str
    probability: float
    drops: np.ndarray
    tops: tuple[int, ...]
    lefts: tuple[int, ...]


def occlude(model: Network, crop: Image.Image, patch: int) -> Occluded:
    """Cover the image with a square of the training images' mean colour, place by place (arXiv 1311.2901).

    Args:
        crop: the network's input image.
        patch: side of the square in pixels, 2 to the image's shorter side.
    """
    from resnet_hub.predict import evaluation

    within("patch", patch, 2, min(crop.size))
    tops, lefts = places(crop.height, patch), places(crop.width, patch)
    pixels = model.preprocess.normalise(crop).to(next(model.parameters()).device)
    images = pixels.repeat(len(tops) * len(lefts) + 1, 1, 1, 1)
    for i, (top, left) in enumerate(((top, left) for top in tops for left in lefts), 1):
        images[i, :, top : top + patch, left : left + patch] = 0  # normalised: the mean colour
    with evaluation(model):
        shares = model.calibration.probabilities(model(images).float())
    best = int(shares[0].argmax())
    whole, covered = shares[0, best], shares[1:, best]
    drops = (whole - covered).reshape(len(tops), len(lefts))
    return Occluded(model.labels[best], whole.item(), drops.cpu().numpy(), tops, lefts)


def places(length: int, patch: int) -> tuple[int, ...]:
    """Where the patch begins along a side: half a patch apart, or further where those would be too many."""
    count = min(MOST_ACROSS, 2 * (length - patch) // patch + 1)
    return tuple(round(at) for at in np.linspace(0, length - patch, count))


def cams(model: Network, crop: Image.Image, class_index: int) -> list[np.ndarray]:
    """Grad-CAM of a class at the map that leaves each stage, first to last (arXiv 1610.02391).

    Returns:
        One float32 array (h, w) a stage, 0 to 1; all zeros where nothing raises the score.
    """
    import torch

    from resnet_hub.predict import evaluation, grad_cam

    with evaluation(model), torch.inference_mode(False), torch.enable_grad():
        pixels = model.preprocess.normalise(crop)[None].to(next(model.parameters()).device)
        maps = model.features(pixels.requires_grad_())
        gradients = torch.autograd.grad(model.head(maps[-1])[0, class_index], maps)
    return [grad_cam(*pair) for pair in zip(maps, gradients, strict=True)]


def first_filters(model: Network) -> np.ndarray:
    """The filters of the first convolution (n, channels, k, k), each scaled to 0 to 1."""
    weights = model.state_dict()[f"{model.first_conv}.weight"].cpu().numpy()
    low, high = (side((1, 2, 3), keepdims=True) for side in (weights.min, weights.max))
    return (weights - low) / np.maximum(high - low, 1e-12)
