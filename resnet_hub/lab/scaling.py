"""EfficientNet's compound scaling and the Vision Transformer's patches, as arithmetic.

The networks themselves are timm's.
"""

from __future__ import annotations

from dataclasses import dataclass

from resnet_hub.errors import Refusal
from resnet_hub.lab.bounds import within

DEPTH, WIDTH, RESOLUTION = 1.2, 1.1, 1.15  # alpha, beta, gamma of arXiv 1905.11946 section 3.3
CHANNELS = 3


@dataclass(frozen=True)
class Compound:
    """Factors over EfficientNet-B0.

    Args:
        depth, width, resolution: of layers, channels and the image's side.
        flops: of the cost.
        alone: factors that depth, width or resolution would each need alone for the same cost.
    """

    depth: float
    width: float
    resolution: float
    flops: float
    alone: tuple[float, float, float]


@dataclass(frozen=True)
class Patches:
    """An image as a Vision Transformer reads it.

    Args:
        across: patches along one side.
        tokens: patches and the class token.
        patch_values: numbers in one patch.
        attention: pairs of tokens that each head of each layer compares.
    """

    across: int
    tokens: int
    patch_values: int
    attention: int


def compound(phi: float) -> Compound:
    """Scale by the coefficient `phi` (0 to 7): the cost grows with depth, width^2 and resolution^2."""
    within("phi", phi, 0, 7)
    depth, width, resolution = (base**phi for base in (DEPTH, WIDTH, RESOLUTION))
    flops = depth * width**2 * resolution**2
    return Compound(depth, width, resolution, flops, (flops, flops**0.5, flops**0.5))


def patches(size: int, patch: int) -> Patches:
    """Cut a size x size image into patch x patch squares (arXiv 2010.11929).

    Raises:
        ValueError: for a side that is not a multiple of the patch.
    """
    within("size", size, 1, 1024)
    within("patch", patch, 4, 64)
    if size % patch:
        raise Refusal(f"size={size} is not a multiple of patch={patch}; try {size // patch * patch or patch}")
    across = size // patch
    tokens = across**2 + 1
    return Patches(across, tokens, CHANNELS * patch**2, tokens**2)
