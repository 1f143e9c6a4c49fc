"""From an image file to a network's input tensor: the one way for training, the app, the card and parity.

`load_image` turns any usable file into an upright RGB image. `Preprocess` resizes, crops and normalises it
exactly as timm's evaluation transform does. torch is imported only when a tensor is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from resnet_hub.errors import Refusal

if TYPE_CHECKING:
    import torch

CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")  # names of Image.Resampling
MAX_SIDE = 4096
# Up to this size (256 MiB at 4 bytes a pixel) the whole image is resized, as in timm; for a 224 crop that is
# any aspect ratio up to 1024. Beyond it only the cropped part is computed.
MAX_RESIZED_PIXELS = 2**26

# Common raster formats only: PIL's EPS reader starts Ghostscript, and its rare formats are the least tested.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
# Enough for a phone's 50-megapixel photo (8192 x 6144). libjpeg decodes such a file at half its size, so that
# no more than MAX_DECODED pixels are in memory: 96 MB at 4 bytes a pixel, and as much again in a copy.
MAX_PIXELS = 64_000_000
MAX_DECODED = 24_000_000  # a camera's 6000 x 4000
MAX_DECODED_OF = {"WEBP": 16_000_000, "AVIF": 16_000_000}  # their decoders hold two copies more
MAX_LONG_SIDE = 1_000_000  # a row takes memory of its own, however short
# A JPEG is decoded at 1/2, 1/4 or 1/8 while this many times the size it is resized to remain, and so many
# pixels a side. Of enlarged photos the largest share then moves by less than 0.01; at 3 times it moved by up
# to 0.013 at 64x64, and by 0.036 at 32x32, where even 9 times moved it by 0.015.
REDUCED, LEAST_REDUCED = 6, 512
LARGE = 4_000_000  # pixels from which only one image is decoded at a time
# libjpeg decodes the whole image again for each scan of 95 bytes. Usual progressive files have about ten.
MAX_SCANS = 50
STRIP = 1_000_000  # pixels of a strip, where a conversion needs further copies
MAX_BYTES = 30_000_000

_ONE_LARGE = Lock()
# The next marker as libjpeg finds it, in entropy-coded data as well: neither a stuffed zero nor a restart.
_MARKER = re.compile(rb"\xff+[^\xff\x00\xd0-\xd7]")


class ImageError(Refusal):
    """An image that cannot be used.

    `code` is "missing", "not_a_file", "unreadable", "empty", "file_too_large", "not_an_image", "no_pixels",
    "too_many_pixels", "too_long", "too_many_scans" or "truncated"; the page adds "bad_address" and "none".
    `facts` are among path, max_bytes, max_pixels, max_side, max_scans and formats.
    """


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes network input; fields and results are those of timm's data config.

    Source: `timm.data.create_transform(..., is_training=False)`.

    Args:
        input_size: (channels, height, width); 1 or 3 channels, sides of 1 to 4096 pixels.
        interpolation: one of `INTERPOLATIONS`.
        crop_pct: side of the crop / side of the resized image, 0.01 to 1.
        crop_mode: one of `CROP_MODES`.
        mean, std: one a channel, in units of pixel value / 255.

    Raises:
        ValueError: for any other value.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name in ("input_size", "mean", "std"):
            value = getattr(self, name)
            self._require(name, isinstance(value, (list, tuple)), "a list of numbers")
            object.__setattr__(self, name, tuple(value))
        sizes = f"three integers (1 or 3 channels, height and width in 1..{MAX_SIDE})"
        self._require("input_size", _is_input_size(self.input_size), sizes)
        self._require("interpolation", self.interpolation in INTERPOLATIONS, INTERPOLATIONS)
        self._require("crop_mode", self.crop_mode in CROP_MODES, CROP_MODES)
        is_share = _are_finite([self.crop_pct]) and 0.01 <= self.crop_pct <= 1
        self._require("crop_pct", is_share, "a number from 0.01 to 1")
        channels = self.input_size[0]
        is_one_each = _are_finite(self.mean) and len(self.mean) == channels
        self._require("mean", is_one_each, f"{channels} finite number(s), one per channel")
        is_one_each = _are_finite(self.std) and len(self.std) == channels and min(self.std) > 0
        self._require("std", is_one_each, f"{channels} finite number(s) above 0, one per channel")

    def _require(self, name: str, ok: bool, allowed: object) -> None:
        if not ok:
            value = getattr(self, name)
            raise Refusal(f"Preprocess: {name} is {value!r}; allowed: {allowed}. Correct the data config.")

    @classmethod
    def from_pretrained_cfg(cls, cfg: dict[str, Any]) -> Preprocess:
        """Read timm's `pretrained_cfg`; missing or None means timm's default, other keys are ignored."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: cfg[name] for name in names if cfg.get(name) is not None})

    def to_pretrained_cfg(self) -> dict[str, Any]:
        """The fields under timm's keys, as plain JSON values."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def crop(self, image: Image.Image) -> Image.Image:
        """The network's input before normalisation: an image of mode "RGB" or "L", exactly height x width."""
        channels, height, width = self.input_size
        mode = "L" if channels == 1 else "RGB"
        image = image if image.mode == mode else image.convert(mode)  # which would copy it
        resized = self._resized_size(*image.size)
        left, top = _centered(resized[0], width), _centered(resized[1], height)
        window = (max(left, 0), max(top, 0), min(left + width, resized[0]), min(top + height, resized[1]))
        seen = _resize_window(image, resized, window, Image.Resampling[self.interpolation.upper()])
        # Only "border" leaves part of the canvas uncovered; timm fills it with the mean colour.
        canvas = Image.new(image.mode, (width, height), tuple(round(255 * value) for value in self.mean))
        canvas.paste(seen, (max(-left, 0), max(-top, 0)))
        return canvas

    def enough(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) at which a photo may be decoded for `crop`, where its file has a smaller one.

        `REDUCED` times what it is resized to and `LEAST_REDUCED` pixels a side, whichever side its EXIF
        block says is up; all of it for "nearest", which picks single pixels.
        """
        if self.interpolation == "nearest":
            return width, height
        upright, turned = self._resized_size(width, height), self._resized_size(height, width)
        wide, tall = max(upright[0], turned[1]), max(upright[1], turned[0])
        wide, tall = (max(REDUCED * side, LEAST_REDUCED) for side in (wide, tall))
        return min(wide, width), min(tall, height)

    def crop_words(self) -> str:
        """What `crop` does, in words."""
        size = "{}x{}".format(*self.input_size[1:])
        resized = "{}x{}".format(*(math.floor(side / self.crop_pct) for side in self.input_size[1:]))
        how = {
            "center": f"resize until the image just covers {resized}, crop the central {size}",
            "squash": f"resize to {resized} whatever the shape, crop the central {size}",
            "border": f"resize until the image fits into {resized}, crop or pad with the mean to {size}",
        }[self.crop_mode]
        return f"{how} ({self.interpolation})"

    def tensor(self, image: Image.Image) -> torch.Tensor:
        """One image, cropped and normalised: float32 (C, H, W)."""
        return self.normalise(self.crop(image))

    def normalise(self, crop: Image.Image) -> torch.Tensor:
        """An image that `crop` returned, as float32 (C, H, W): (value / 255 - mean) / std."""
        import torch

        channels, height, width = self.input_size
        pixels = torch.from_numpy(np.array(crop)).view(height, width, channels)
        values = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        mean, std = (torch.tensor(stat, dtype=torch.float32).view(-1, 1, 1) for stat in (self.mean, self.std))
        return values.sub(mean).div(std)

    def batch(self, images: Iterable[Image.Image]) -> torch.Tensor:
        """At least one image, normalised and stacked: float32 (N, C, H, W)."""
        import torch

        return torch.stack([self.tensor(image) for image in images])

    def _resized_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after resizing, before the crop. Source: timm's transforms_imagenet_eval."""
        target_height, target_width = (math.floor(side / self.crop_pct) for side in self.input_size[1:])
        if self.crop_mode == "squash":
            return target_width, target_height
        if self.crop_mode == "center" and target_width == target_height:
            # timm uses torchvision's Resize for squares, which truncates; its own ResizeKeepRatio rounds.
            short = min(width, height)
            return int(target_width * width / short), int(target_height * height / short)
        ratios = width / target_width, height / target_height
        ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
        # timm rounds the short side of a very elongated image to 0 and fails; here one pixel is kept.
        return max(1, round(width / ratio)), max(1, round(height / ratio))


def load_image(
    source: str | Path | bytes | BinaryIO | Image.Image,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    then: Callable[[Image.Image], Image.Image] = lambda image: image,
    enough: Callable[[int, int], tuple[int, int]] | None = None,
) -> Image.Image:
    """Read an image as upright 8-bit RGB: first frame, EXIF orientation applied, transparency on white.

    Grey images of more than 8 bits are scaled, not clipped (see `_to_8_bit`).

    Args:
        source: a path, the bytes of a file, an open binary file (read from its position) or a PIL image.
        max_pixels: checked on the header, before decoding; PIL's `Image.MAX_IMAGE_PIXELS` applies as well.
        max_bytes: of the file.
        then: applied to a file's image while no other large one is in memory, e.g. `Preprocess.crop`.
        enough: (width, height) of a JPEG -> the least at which it may be decoded, e.g. `Preprocess.enough`;
            by default it is decoded whole.

    Raises:
        ImageError: for an image that cannot be used; no exception of PIL's gets out.
    """
    if isinstance(source, Image.Image):
        _check_pixels(source, max_pixels)
        return then(_usable(source, Image.Image.copy))  # the caller's image is not changed
    data = _read(source, max_bytes)
    image = _open(data, max_pixels)
    _check_cost(image, data, max_pixels, enough)
    with _ONE_LARGE if image.width * image.height > LARGE else nullcontext():
        return then(_usable(image))


def _usable(image: Image.Image, loaded: Callable = lambda image: image) -> Image.Image:
    # On hostile files PIL raises nearly anything (SyntaxError, struct.error, OverflowError, EOFError, ...).
    try:
        return _to_rgb(_upright(loaded(image)))
    except Exception as error:
        message = "The image is truncated or damaged; save or send it again."
        raise ImageError(message, "truncated") from error


def jpeg_scans(data: bytes) -> int:
    """How many scans a JPEG file has, counted without decoding; 0 for another file."""
    if not data.startswith(b"\xff\xd8"):
        return 0
    scans, at = 0, 2
    while found := _MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:  # the end
            break
        if marker in (0x01, 0xD8):  # these have no length
            continue
        scans += marker == 0xDA
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return scans


def _is_input_size(size: tuple) -> bool:
    if len(size) != 3 or not all(isinstance(number, int) for number in size):
        return False
    return size[0] in (1, 3) and all(1 <= side <= MAX_SIDE for side in size[1:])


def _are_finite(numbers: Iterable[Any]) -> bool:
    return all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers)


def _centered(have: int, want: int) -> int:
    """Where a centred crop starts; negative for padding. Rounding as in torchvision's center_crop."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)


def _resize_window(
    image: Image.Image, size: tuple[int, int], window: tuple[int, int, int, int], resample: Image.Resampling
) -> Image.Image:
    """The `window` (left, top, right, bottom) of `image` resized to `size`, in bounded memory.

    Beyond MAX_RESIZED_PIXELS (a 1 x 20000 image would become 256 x 5120000) only the window is computed. PIL
    keeps its box in float32, so pixels may then differ from the full resize by rounding: by 1/255, or with
    "nearest" and "box" by the choice between two equally near source pixels.
    """
    if size[0] * size[1] <= MAX_RESIZED_PIXELS:
        return image.resize(size, resample).crop(window)
    old, new = np.array(image.size * 2, dtype=float), np.array(size * 2, dtype=float)
    box = window * old / new
    # The source is cut first, with more margin than the widest filter's reach (Lanczos, 3 pixels): this keeps
    # the float32 coordinates small and stops PIL swapping its two passes, as it does for very tall images.
    reach = np.ceil(4 * np.maximum(1, old / new))
    cut = np.clip(np.concatenate([np.floor(box[:2]) - reach[:2], np.ceil(box[2:]) + reach[2:]]), 0, old)
    box = box - np.tile(cut[:2], 2)
    return image.crop(cut).resize((window[2] - window[0], window[3] - window[1]), resample, box=tuple(box))


def _read(source: str | Path | bytes | BinaryIO, max_bytes: int) -> bytes:
    if isinstance(source, (str, Path)):
        return _read_path(Path(source), max_bytes)
    data = source if isinstance(source, bytes) else source.read(max_bytes + 1)
    _check_bytes(len(data), max_bytes)
    return data


def _read_path(path: Path, max_bytes: int) -> bytes:
    name = str(path)
    try:
        if path.is_file():
            _check_bytes(path.stat().st_size, max_bytes)
            return path.read_bytes()
        if path.exists():
            message = f"{name!r} is not a file; give the path of one image."
            raise ImageError(message, "not_a_file", path=name)
    except OSError as error:
        raise ImageError(f"{name!r} cannot be read: {error.strerror}.", "unreadable", path=name) from error
    raise ImageError(f"There is no file {name!r}; check the path.", "missing", path=name)


def _check_bytes(count: int, max_bytes: int) -> None:
    if count == 0:
        raise ImageError("The file is empty; save or send the image again.", "empty")
    if count > max_bytes:
        message = f"The file has at least {count:,} bytes; at most {max_bytes:,} are accepted. Shrink it."
        raise ImageError(message, "file_too_large", max_bytes=max_bytes)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels("far too many", max_pixels) from error
    except Exception as error:
        message = f"This is not a readable image; accepted formats: {', '.join(FORMATS)}."
        raise ImageError(message, "not_an_image", formats=FORMATS) from error


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"The image has {width} x {height} pixels; it needs at least 1 x 1.", "no_pixels")
    if width * height > max_pixels:
        raise _too_many_pixels(f"{width:,} x {height:,}", max_pixels)


def _too_many_pixels(seen: str, max_pixels: int) -> ImageError:
    message = f"The image has {seen} pixels; at most {max_pixels:,} are accepted. Make it smaller."
    return ImageError(message, "too_many_pixels", max_pixels=max_pixels)


def _check_cost(
    image: Image.Image,
    data: bytes,
    max_pixels: int,
    enough: Callable[[int, int], tuple[int, int]] | None = None,
) -> None:
    """Bound the pixels and how often they are decoded; a large JPEG will be decoded at half its size, or less
    where less is `enough`."""
    _check_pixels(image, max_pixels)
    scans = jpeg_scans(data) if image.format in ("JPEG", "MPO") else 0
    if scans > MAX_SCANS:
        message = f"This JPEG has {scans} scans; at most {MAX_SCANS} are accepted. Save it as baseline."
        raise ImageError(message, "too_many_scans", max_scans=MAX_SCANS)
    # With several scans libjpeg holds the whole image's coefficients, whatever the size asked for.
    is_reducible = scans == 1 and isinstance(image, JpegImageFile) and min(image.size) > 1
    is_large = image.width * image.height > MAX_DECODED
    wanted = image.size
    if is_reducible and is_large:
        wanted = image.width // 2, image.height // 2
    if enough is not None and isinstance(image, JpegImageFile) and (is_reducible or not is_large):
        least = enough(*image.size)
        wanted = min(wanted[0], least[0]), min(wanted[1], least[1])
    if wanted != image.size and isinstance(image, JpegImageFile):  # a second call would do nothing
        image.draft(image.mode, wanted)
    _check_pixels(image, min(max_pixels, MAX_DECODED_OF.get(image.format or "", MAX_DECODED)))
    if max(image.size) > MAX_LONG_SIDE:
        message = f"The longer side has {max(image.size):,} pixels; at most {MAX_LONG_SIDE:,} are accepted."
        raise ImageError(f"{message} Crop it.", "too_long", max_side=MAX_LONG_SIDE)


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    # A broken EXIF block is no reason to refuse an image; in place, PIL turns it before rewriting the block.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _to_8_bit(image).convert("RGB")
    if image.width * image.height <= STRIP or (image.mode == "RGB" and not image.has_transparency_data):
        return _on_white(image)
    # In strips: each copy of a whole image would take as much memory as the image.
    done, height = Image.new("RGB", image.size), max(1, STRIP // image.width)
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(top + height, image.height)))
        done.paste(_on_white(strip), (0, top))
    return done


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale modes I, I;16 and F to L.

    Black is 0, or the lowest value if that is negative. White is 65535 for integers; for floats it is the
    first of 1, 255 and 65535 that no value exceeds. Where a value exceeds them, white is the highest value.
    NaN and infinity count as 0.
    """
    stored = np.asarray(image)

    def strips() -> Iterator[tuple[slice, np.ndarray]]:
        height = max(1, STRIP // image.width)
        for rows in (slice(top, top + height) for top in range(0, image.height, height)):
            values = stored[rows].astype(np.float32)
            yield rows, np.nan_to_num(values, nan=0, posinf=0, neginf=0)

    bounds = [(float(values.min()), float(values.max())) for _, values in strips()]
    black, highest = min(0.0, *(low for low, _ in bounds)), max(high for _, high in bounds)
    whites = (1, 255, 65535) if image.mode == "F" else (65535,)
    scale = 255 / (next((white for white in whites if highest <= white), highest) - black)
    grey = np.empty(stored.shape, np.uint8)
    for rows, values in strips():
        grey[rows] = (values * scale - black * scale).round().clip(0, 255)
    return Image.fromarray(grey)
