"""Images of any number of channels: arrays in `.npy`, TIFF files of one page a channel, and alpha.

A stack is a uint8 array (H, W, C). What has 1 or 3 channels in an ordinary file is `preprocess.load_image`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, ImageSequence

if TYPE_CHECKING:
    from resnet_hub.preprocess import Preprocess

NPY = b"\x93NUMPY"
# White is the first that no value exceeds: a scanner's or camera's 8 or 12 bits lie in files of 16.
WHITES, WHITES_OF_FLOATS = (255, 4095, 65535), (1, 255, 65535)
WITH_ALPHA = ("PNG", "WEBP", "GIF", "AVIF")  # formats in which a file without alpha is opaque


class ChannelError(ValueError):
    """An array or image without the channels that a network takes; the message says what it has."""


def is_array(data: bytes) -> bool:
    """Whether these are the bytes of a `.npy` file."""
    return data.startswith(NPY)


def from_array(data: bytes, channels: int) -> np.ndarray:
    """The array of a `.npy` file as a stack: (H, W), (H, W, C) or (C, H, W), of integers or floats.

    Raises:
        ChannelError: for another shape or kind of numbers, or another number of channels.
        ValueError: for a file that is damaged or holds objects.
    """
    array = np.load(BytesIO(data), allow_pickle=False)
    if array.dtype.kind not in "uifb" or array.ndim not in (2, 3) or not array.size:
        raise ChannelError(f"an array of shape {array.shape} and type {array.dtype}")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.shape[2] != channels and array.shape[0] == channels:
        array = np.moveaxis(array, 0, 2)
    if array.shape[2] != channels:
        raise ChannelError(f"an array of shape {array.shape}")
    return to_8_bit(array)


def from_image(image: Image.Image, channels: int) -> np.ndarray:
    """An opened image as a stack: a page a channel, or the channels of one page.

    Raises:
        ChannelError: when it has another number of channels.
    """
    count = getattr(image, "n_frames", 1)
    if count == channels and image.format == "TIFF":
        size, pages = image.size, []
        for page in ImageSequence.Iterator(image):
            if page.size != size or len(page.getbands()) != 1:  # before it is decoded
                raise ChannelError("pages of several channels or sizes")
            pages.append(np.asarray(page.copy()))
        return to_8_bit(np.stack(pages, 2))
    mode, kind = {2: "LA", 4: "RGBA"}.get(channels), image.format
    image.load()  # a damaged image is one, which PIL says once
    with suppress(Exception):  # a broken EXIF block is no reason to refuse an image
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if mode and (image.has_transparency_data or kind in WITH_ALPHA):
        return np.asarray(image.convert(mode))
    if len(image.getbands()) != channels:
        raise ChannelError(f"{len(image.getbands())} channels" + f" on {count} pages" * (count > 1))
    return np.asarray(image)


def to_8_bit(array: np.ndarray) -> np.ndarray:
    """Any numbers as 0 to 255, all channels on one scale.

    uint8 stays; black is 0 or the lowest value if that is negative; white is the first of `WHITES` that no
    value exceeds, or the highest value.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    values = np.nan_to_num(array.astype(np.float32), nan=0, posinf=0, neginf=0)
    black, white = black_and_white(float(values.min()), float(values.max()), array.dtype.kind == "f")
    return ((values - black) * (255 / (white - black))).round().clip(0, 255).astype(np.uint8)


def black_and_white(low: float, high: float, is_float: bool) -> tuple[float, float]:
    """What becomes 0 and 255 of values from `low` to `high`: 0, or the lowest where that is negative; the
    first usual white that none exceeds, or the highest."""
    whites = WHITES_OF_FLOATS if is_float else WHITES
    return min(0.0, low), next((white for white in whites if high <= white), high)


def cropped(stack: np.ndarray, of_channel: Callable[[int], Preprocess]) -> np.ndarray:
    """Each channel resized and cropped as an image of its own: uint8 (h, w, C)."""
    layers = (Image.fromarray(np.ascontiguousarray(stack[:, :, i])) for i in range(stack.shape[2]))
    return np.stack([np.asarray(of_channel(i).crop(layer)) for i, layer in enumerate(layers)], 2)


def visible(pixels: Any) -> Image.Image:
    """A picture of a network's input: the image itself; of a stack the first three channels, or the first."""
    if isinstance(pixels, Image.Image):
        return pixels
    return Image.fromarray(
        np.ascontiguousarray(pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0])
    )
