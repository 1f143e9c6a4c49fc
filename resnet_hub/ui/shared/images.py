"""Images for the page: inside their own address, and numbers as colours."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image

SMALL = 64  # pixels a side, of a photo in a table
VIRIDIS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])


def data_url(image: Image.Image, kind: str = "png") -> str:
    """An image inside its own address, so that no file is written for it; as "png", or smaller as "jpeg"."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, kind)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def at_most(image: Image.Image, side: int) -> Image.Image:
    """The image, scaled down where it is larger."""
    if max(image.size) <= side:
        return image
    image = image.copy()
    image.thumbnail((side, side))
    return image


def viridis(shares: np.ndarray) -> Image.Image:
    """An array (h, w), 0 to 1, as an image of that size."""
    stops = np.linspace(0, 1, len(VIRIDIS))
    colours = np.stack([np.interp(shares, stops, channel) for channel in VIRIDIS.T], axis=-1)
    return Image.fromarray(colours.astype(np.uint8))
