"""From an image file to a network's input tensor: the one way for training, the app, the card and parity.

`load_image` turns any usable file into an upright RGB image. `Preprocess` resizes, crops and normalises it
exactly as timm's evaluation transform does. torch is imported only when a tensor is made. Where strangers'
files are read, `decode_apart` names what reads the expensive ones (see `decoding.py`).
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from resnet_hub import stacks
from resnet_hub.errors import Refusal
from resnet_hub.folders import SUFFIXES_OF
from resnet_hub.stacks import WHITES, black_and_white

if TYPE_CHECKING:
    import torch

CROP_MODES = ("center", "squash", "border")
FRAMINGS = {"crop": "center", "squash": "squash", "letterbox": "border"}  # names of --framing
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")  # names of Image.Resampling
MAX_SIDE = 4096
MOST_CHANNELS = 64
# Up to this size (256 MiB at 4 bytes a pixel) the whole image is resized, as in timm; for a 224 crop that is
# any aspect ratio up to 1024. Beyond it only the cropped part is computed.
MAX_RESIZED_PIXELS = 2**26

# Common raster formats only: PIL's EPS reader starts Ghostscript, and its rare formats are the least tested.
FORMATS = tuple(SUFFIXES_OF)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Enough for a phone's 50-megapixel photo (8192 x 6144). libjpeg decodes such a file at half its size, so that
# no more than MAX_DECODED pixels are in memory: 96 MB at 4 bytes a pixel, and as much again in a copy.
MAX_PIXELS = 64_000_000
MAX_DECODED = 24_000_000  # a camera's 6000 x 4000
MAX_DECODED_OF = dict.fromkeys(("WEBP", "AVIF", "HEIF"), 16_000_000)  # their decoders hold two copies more
MAX_LONG_SIDE = 1_000_000  # a row takes memory of its own, however short
LARGE = 4_000_000  # pixels from which only one image is decoded at a time
# libjpeg decodes the whole image again for each scan of 95 bytes. Usual progressive files have about ten.
MAX_SCANS = 50
# Each is found by a step of Python here and in PIL, before anything is decoded. A usual file has below 500.
MAX_MARKERS = 5_000
STRIP = 1_000_000  # pixels of a strip, where a conversion needs further copies
MAX_BYTES = 30_000_000
JPEG = b"\xff\xd8"  # the first bytes of every one
# From where a file is dear to read: 40 million pixels are decoded, scan by scan, in half a second. PIL opens
# a PNG of many chunks slowly, and reads plain PPM and packed BMP in Python; a TIFF may hold anything.
DEAR_PIXELS = 40_000_000
DEAR_BYTES, DEAR_BYTES_OF = 2_000_000, {b"P": 100_000, b"B": 100_000, b"I": 0, b"M": 0}  # by first letter

Then = Callable[[Image.Image], Image.Image]
Decoder = Callable[[bytes, int, "Then | None"], Image.Image]

# In `Image.info`: the one of `WHITES` that an image was scaled by, where it is not its format's own.
WHITE = "white"
# PIL keeps one byte of the two in 16-bit colour; read in the other byte order it keeps the other one.
OTHER_BYTE = {f"{mode};16{order}": f"{mode};16{other}" for mode in ("RGB", "RGBA", "RGBX")
              for order, other in ("BL", "LB", "NL" if sys.byteorder == "big" else "NB")}  # fmt: skip

_ONE_LARGE = Lock()
_apart: Decoder | None = None
# The next marker as libjpeg finds it, in entropy-coded data as well: neither a stuffed zero nor a restart.
_MARKER = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]")  # a literal first byte is found by memchr


class ImageError(Refusal):
    """An image that cannot be used.

    `code` is "missing", "not_a_file", "unreadable", "empty", "file_too_large", "not_an_image", "heic",
    "no_pixels", "too_many_pixels", "too_long", "too_many_scans", "too_slow", "crowded", "truncated" or
    "channels"; the page adds "bad_address" and "none". `facts` are among path, max_bytes, max_pixels,
    max_side, max_scans, formats, held and takes.
    """


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes network input; fields and results are those of timm's data config.

    Source: `timm.data.create_transform(..., is_training=False)`.

    Args:
        input_size: (channels, height, width); 1 to 64 channels, sides of 1 to 4096 pixels.
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
        sizes = f"three integers (1 to {MOST_CHANNELS} channels, height and width in 1..{MAX_SIDE})"
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
        return _noted(canvas, image)

    def load(self, source: str | Path | bytes | BinaryIO | Image.Image) -> Image.Image | np.ndarray:
        """A file or image as the network's input before normalisation.

        Returns:
            What `crop` returns for 1 or 3 channels; else, and from a `.npy` file, uint8 (height, width, C).

        Raises:
            ImageError: for an image that cannot be used, or does not have the channels.
        """
        channels = self.input_size[0]
        if isinstance(source, Image.Image):
            if channels in (1, 3):
                return load_image(source, then=self.crop)
            return self._cropped(lambda: stacks.from_image(source, channels))
        data = _read(source, MAX_BYTES)
        if stacks.is_array(data):
            return self._cropped(lambda: stacks.from_array(data, channels))
        if channels in (1, 3):
            return load_image(data, then=self.crop)
        image, _ = _opened(data, MAX_PIXELS)
        return self._cropped(lambda: stacks.from_image(image, channels))

    def _cropped(self, read: Callable[[], np.ndarray]) -> np.ndarray:
        channels, height, width = self.input_size

        def of_channel(i: int) -> Preprocess:
            return replace(self, input_size=(1, height, width), mean=self.mean[i : i + 1], std=(1.0,))

        try:
            return stacks.cropped(read(), of_channel)
        except stacks.ChannelError as error:
            takes = f"{channels} channel" + "s" * (channels > 1)
            message = f"The file holds {error}, and the network takes {takes}."
            raise ImageError(message, "channels", held=str(error), takes=channels) from error
        except Exception as error:
            message = "The image is truncated or damaged; save or send it again."
            raise ImageError(message, "truncated") from error

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

    def normalise(self, crop: Image.Image | np.ndarray) -> torch.Tensor:
        """An image that `crop` or `load` returned, as float32 (C, H, W): (value / 255 - mean) / std."""
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
    then: Then | None = None,
    least_side: int | None = None,
) -> Image.Image:
    """Read an image as upright 8-bit RGB: first frame, EXIF orientation applied, transparency on white.

    Images of more than 8 bits are scaled by the bits that their values take, not clipped (see `_to_8_bit`);
    where that is less than their format has, the result's `info[WHITE]` is their white.

    Args:
        source: a path, the bytes of a file, an open binary file (read from its position) or a PIL image.
        max_pixels: checked on the header, before decoding; PIL's `Image.MAX_IMAGE_PIXELS` applies as well.
        max_bytes: of the file.
        then: applied to a file's image while no other large one is in memory, e.g. `Preprocess.crop`.
        least_side: a JPEG may be decoded at an eighth, a quarter or half of its size while its short side has
            so many pixels; None for the whole size, as timm decodes.

    Raises:
        ImageError: for an image that cannot be used; no exception of PIL's gets out.
    """
    if isinstance(source, Image.Image):
        _check_pixels(source, max_pixels)
        usable = _usable(source, Image.Image.copy)  # the caller's image is not changed
        return usable if then is None else then(usable)
    data = _read(source, max_bytes)
    if _apart is not None and _is_dear_to_open(data):
        return _apart(data, max_pixels, then)
    image, scans = _opened(data, max_pixels)
    if _apart is not None and _is_dear(image, scans):
        return _apart(data, max_pixels, then)
    if least_side is not None and isinstance(image, JpegImageFile):
        share = least_side / min(image.size)
        image.draft(image.mode, (math.ceil(image.width * share), math.ceil(image.height * share)))
    return _decoded(image, data, then)


def decode(data: bytes, max_pixels: int = MAX_PIXELS, then: Then | None = None) -> Image.Image:
    """An image file's bytes, decoded in this process whatever they cost. See `load_image`."""
    return _decoded(_opened(data, max_pixels)[0], data, then)


def decode_apart(decoder: Decoder | None) -> None:
    """Let `decoder`, called as `decode`, read the files that are expensive to read; None undoes it."""
    global _apart
    _apart = decoder


def _is_dear_to_open(data: bytes) -> bool:
    return not data.startswith(JPEG) and len(data) > DEAR_BYTES_OF.get(data[:1], DEAR_BYTES)


def _is_dear(image: Image.Image, scans: int) -> bool:
    """Whether decoding may take more than a moment; not of an ordinary photo, a baseline JPEG of any size."""
    pixels = image.width * image.height
    return pixels * scans > DEAR_PIXELS if scans else pixels > LARGE


def _opened(data: bytes, max_pixels: int) -> tuple[Image.Image, int]:
    """An image of which only the header is read, and how many scans it has if it is a JPEG."""
    scans = jpeg_scans(data)
    image = _open(data, max_pixels)
    _check_cost(image, scans, max_pixels)
    return image, scans


def _decoded(image: Image.Image, data: bytes, then: Then | None) -> Image.Image:
    with _ONE_LARGE if image.width * image.height > LARGE else nullcontext():
        usable = _usable(image, lambda image: _deep_colour(image, data))
        return usable if then is None else then(usable)


def _usable(image: Image.Image, loaded: Callable = lambda image: image) -> Image.Image:
    # On hostile files PIL raises nearly anything (SyntaxError, struct.error, OverflowError, EOFError, ...).
    try:
        return _to_rgb(_upright(loaded(image)))
    except Exception as error:
        message = "The image is truncated or damaged; save or send it again."
        raise ImageError(message, "truncated") from error


def jpeg_scans(data: bytes) -> int:
    """How many scans a JPEG file has, counted without decoding; 0 for another file.

    Raises:
        ImageError: for more markers than any camera or program writes.
    """
    if not data.startswith(JPEG):
        return 0
    scans, at = 0, 2
    for _ in range(MAX_MARKERS):
        found = _MARKER.search(data, at)
        if not found or data[found.end() - 1] == 0xD9:  # the end
            return scans
        marker, at = data[found.end() - 1], found.end()
        if marker in (0x01, 0xD8):  # these have no length
            continue
        scans += marker == 0xDA
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    raise _too_many_scans(f"more than {MAX_MARKERS:,} parts", MAX_SCANS)


def _too_many_scans(seen: str, most: int) -> ImageError:
    message = f"This JPEG has {seen}; at most {most} scans are accepted. Save it as baseline."
    return ImageError(message, "too_many_scans", max_scans=most)


def _is_input_size(size: tuple) -> bool:
    if len(size) != 3 or not all(isinstance(number, int) for number in size):
        return False
    return 1 <= size[0] <= MOST_CHANNELS and all(1 <= side <= MAX_SIDE for side in size[1:])


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
    if not isinstance(source, bytes) and not hasattr(source, "read"):
        kinds = "give a path, a PIL image, bytes or an open binary file"
        raise ImageError(f"A {type(source).__name__} is not read as an image; {kinds}.", "not_an_image")
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
    formats = (*FORMATS, *_heif_format()) if is_heic(data) else FORMATS
    try:
        return Image.open(BytesIO(data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels("far too many", max_pixels) from error
    except Exception as error:
        if is_heic(data):
            message = "This HEIC photo is damaged or of a kind that is not read; save it as JPEG."
            raise ImageError(message, "heic") from error
        message = f"This is not a readable image; accepted formats: {', '.join(FORMATS)}."
        raise ImageError(message, "not_an_image", formats=FORMATS) from error


def is_heic(data: bytes) -> bool:
    """Whether a file is HEIC or HEIF, the format of an iPhone's photos."""
    return data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS and b"avif" not in data[8:40]


def _heif_format() -> tuple[str]:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        message = "This is a HEIC photo; pip install pillow-heif to read it, or save it as JPEG."
        raise ImageError(message, "heic") from error
    register_heif_opener(thumbnails=False)
    return ("HEIF",)


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"The image has {width} x {height} pixels; it needs at least 1 x 1.", "no_pixels")
    if width * height > max_pixels:
        raise _too_many_pixels(f"{width:,} x {height:,}", max_pixels)


def _too_many_pixels(seen: str, max_pixels: int) -> ImageError:
    message = f"The image has {seen} pixels; at most {max_pixels:,} are accepted. Make it smaller."
    return ImageError(message, "too_many_pixels", max_pixels=max_pixels)


def _check_cost(image: Image.Image, scans: int, max_pixels: int) -> None:
    """Bound the pixels and how often they are decoded; a large JPEG will be decoded at half its size."""
    _check_pixels(image, max_pixels)
    if scans > MAX_SCANS:
        raise _too_many_scans(f"{scans} scans", MAX_SCANS)
    # With several scans libjpeg holds the whole image's coefficients, whatever the size asked for.
    is_reducible = scans == 1 and isinstance(image, JpegImageFile) and min(image.size) > 1
    if is_reducible and image.width * image.height > MAX_DECODED:
        image.draft(image.mode, (image.width // 2, image.height // 2))
    _check_pixels(image, min(max_pixels, MAX_DECODED_OF.get(image.format or "", MAX_DECODED)))
    if max(image.size) > MAX_LONG_SIDE:
        message = f"The longer side has {max(image.size):,} pixels; at most {MAX_LONG_SIDE:,} are accepted."
        raise ImageError(f"{message} Crop it.", "too_long", max_side=MAX_LONG_SIDE)


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    if not isinstance(image.info.get(WHITE), int):
        image.info.pop(WHITE, None)  # a text of a PNG file's own
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
    return _noted(done, image)


def _noted(image: Image.Image, source: Image.Image) -> Image.Image:
    """The image, with the white that its source was scaled by."""
    if WHITE in source.info:
        image.info[WHITE] = source.info[WHITE]
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        opaque = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return _noted(opaque, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_colour(image: Image.Image, data: bytes) -> Image.Image:
    """A 16-bit colour image whose values take 8 or 12 bits, scaled by these; any other as it is."""
    other = OTHER_BYTE.get(_raw_mode(image))
    if other is None:
        return image
    image.load()
    extrema: Any = image.getextrema()  # (lowest, highest) of each channel
    if max(high for _, high in extrema[:3]) * 256 > WHITES[1]:
        return image
    low = Image.open(BytesIO(data), formats=FORMATS)
    low.tile = [tile._replace(args=_with_raw_mode(tile.args, other)) for tile in low.tile]
    values = np.asarray(image)[..., :3].astype(np.uint16) * 256 + np.asarray(low)[..., :3]
    white = next(white for white in WHITES if values.max() <= white)
    bright = Image.fromarray((values * np.float32(255 / white)).round().astype(np.uint8))
    image.paste(Image.merge(image.mode, [*bright.split(), *image.split()[3:]]))
    image.info[WHITE] = white
    return image


def _raw_mode(image: Image.Image) -> str:
    """How the pixels of a file that is not loaded yet are stored, in PIL's words; "" for no tiles."""
    args = image.tile[0].args if isinstance(image, ImageFile) and image.tile else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _with_raw_mode(args: Any, mode: str) -> Any:
    return (mode, *args[1:]) if isinstance(args, tuple) else mode


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale modes I, I;16 and F to L.

    Black is 0, or the lowest value if that is negative. White is the first of 255, 4095 (12 bits) and 65535
    that no value exceeds, for floats of 1, 255 and 65535; where a value exceeds them, the highest value. NaN
    and infinity count as 0. `info[WHITE]` says which, where it is not the format's own.
    """
    stored = np.asarray(image)

    def strips() -> Iterator[tuple[slice, np.ndarray]]:
        height = max(1, STRIP // image.width)
        for rows in (slice(top, top + height) for top in range(0, image.height, height)):
            values = stored[rows].astype(np.float32)
            yield rows, np.nan_to_num(values, nan=0, posinf=0, neginf=0)

    bounds = [(float(values.min()), float(values.max())) for _, values in strips()]
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    black, white = black_and_white(low, high, image.mode == "F")
    scale = 255 / (white - black)
    grey = np.empty(stored.shape, np.uint8)
    for rows, values in strips():
        grey[rows] = (values * scale - black * scale).round().clip(0, 255)
    scaled = Image.fromarray(grey)
    if image.mode != "F" and white < WHITES[-1]:
        scaled.info[WHITE] = white
    return scaled
