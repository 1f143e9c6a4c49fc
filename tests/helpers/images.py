"""Images made on the spot."""

import numpy as np
from PIL import Image


def image(seed: int, size: tuple[int, int] = (90, 60)) -> Image.Image:
    """A smooth random image of (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
