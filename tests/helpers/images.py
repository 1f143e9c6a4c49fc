"""Images made on the spot."""

from io import BytesIO

import numpy as np
from PIL import Image


def image(seed: int, size: tuple[int, int] = (90, 60)) -> Image.Image:
    """A smooth random image of (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def scan_bomb(scans: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """A progressive JPEG whose last scan is repeated, each time for a few bytes."""
    buffer = BytesIO()
    Image.new("L", size, 128).save(buffer, "jpeg", progressive=True, quality=50)
    plain = buffer.getvalue()
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + last * scans + b"\xff\xd9"
