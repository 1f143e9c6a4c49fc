"""The promises of `resnet_hub.preprocess`: any image becomes upright RGB or one clear ImageError, and what
the network sees equals timm's evaluation transform. Oracles: timm, and images whose pixels are known."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.images import scan_bomb
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from resnet_hub import preprocess
from resnet_hub.preprocess import CROP_MODES, INTERPOLATIONS, ImageError, Preprocess, load_image

INPUT_SIZES = [(3, 32, 32), (3, 33, 33), (3, 28, 45), (3, 45, 28), (1, 24, 24)]
SIDES = st.integers(1, 120)
ORIENTATION = 0x0112  # EXIF tag
RED, WHITE = (255, 0, 0), (255, 255, 255)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def timm_tensor(config: Preprocess, image: Image.Image) -> torch.Tensor:
    from timm.data import create_transform

    return create_transform(**config.to_pretrained_cfg(), is_training=False)(image)


def config_for(input_size: tuple[int, int, int], **fields) -> Preprocess:
    if input_size[0] == 1:
        fields |= {"mean": (0.1307,), "std": (0.3081,)}
    return Preprocess(input_size=input_size, **fields)


def png_claiming(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(b"\0" * 64)
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, pixels))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def error_of(source, **limits) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load_image(source, **limits)
    return caught.value


def assert_shows(image: Image.Image, expected, tolerance: int = 0) -> None:
    """`expected`: an image or one colour. PIL's own `==` would compare the metadata too."""
    assert image.mode == "RGB"
    if isinstance(expected, Image.Image):
        assert image.size == expected.size
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(expected)).max() <= tolerance


# What the network sees


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@settings(max_examples=25, derandomize=True)
@given(
    input_size=st.sampled_from(INPUT_SIZES),
    crop_pct=st.sampled_from([1.0, 0.95, 0.9, 0.875]),
    size=st.tuples(SIDES, SIDES),
    seed=st.integers(0, 9),
)
@example(input_size=(3, 33, 33), crop_pct=0.875, size=(1, 1), seed=0)
@example(input_size=(3, 28, 45), crop_pct=1.0, size=(300, 1), seed=0)
@example(input_size=(1, 24, 24), crop_pct=0.95, size=(2, 151), seed=0)
def test_tensor_is_exactly_timms(interpolation, crop_mode, input_size, crop_pct, size, seed):
    config = config_for(input_size, interpolation=interpolation, crop_mode=crop_mode, crop_pct=crop_pct)
    # Where "border" rounds the short side of an elongated image to 0, timm fails: no oracle.
    assume(crop_mode != "border" or max(size) < 20 * min(size))
    image = noise(*size, seed)
    oracle = timm_tensor(config, image.convert("L") if input_size[0] == 1 else image)
    assert torch.equal(config.tensor(load_image(image)), oracle)


def test_default_tensor_of_a_photograph_sized_image_is_exactly_timms():
    image = noise(640, 427)
    assert torch.equal(Preprocess().tensor(load_image(encoded(image))), timm_tensor(Preprocess(), image))


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1)])
def test_tensor_of_a_very_elongated_image_is_exactly_timms(shape):
    config = Preprocess(input_size=(3, 32, 32))
    assert torch.equal(config.tensor(noise(*shape)), timm_tensor(config, noise(*shape)))


@pytest.mark.parametrize("interpolation", ["bilinear", "hamming", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 301), (3, 500), (500, 3)], ids=str)
def test_resizing_only_the_window_differs_by_rounding(monkeypatch, shape, interpolation):
    config = Preprocess(input_size=(3, 33, 64), interpolation=interpolation)
    whole = np.asarray(config.crop(noise(*shape)), dtype=int)
    monkeypatch.setattr(preprocess, "MAX_RESIZED_PIXELS", 0)
    window = np.asarray(config.crop(noise(*shape)), dtype=int)
    assert np.abs(whole - window).max() <= 1


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)], ids=["wide", "tall"])
def test_an_image_too_elongated_to_resize_whole_shows_its_centre(axes):
    pixels = np.asarray(noise(20_000, 1)).transpose(*axes, 2)
    centre = pixels[:, 9_900:10_100] if axes == (0, 1) else pixels[9_900:10_100]
    seen, oracle = (Preprocess().tensor(Image.fromarray(part)) for part in (pixels, centre))
    assert torch.allclose(seen, oracle, atol=1.01 / 255 / min(Preprocess().std))


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1)])
def test_border_mode_keeps_one_pixel_of_a_very_elongated_image(shape):
    config = Preprocess(input_size=(3, 32, 32), crop_mode="border", crop_pct=1.0, mean=(0, 0, 0))
    seen = np.asarray(config.crop(Image.new("RGB", shape, WHITE)))
    assert (seen == 255).all(axis=2).sum() == 32


@pytest.mark.parametrize(("input_size", "mode"), [((3, 33, 50), "RGB"), ((1, 24, 31), "L")])
def test_crop_is_the_image_behind_the_tensor(input_size, mode):
    config = config_for(input_size)
    crop = config.crop(noise(70, 60))
    assert (crop.mode, crop.size) == (mode, input_size[:0:-1])
    pixels = torch.from_numpy(np.array(crop)).view(*input_size[1:], -1).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(stat).view(-1, 1, 1) for stat in (config.mean, config.std))
    assert torch.equal(config.tensor(noise(70, 60)), (pixels - mean) / std)


def test_batch_stacks_tensors():
    images = [noise(40, 30), noise(5, 90)]
    batch = Preprocess().batch(images)
    assert batch.shape == (2, 3, 224, 224) and batch.dtype == torch.float32
    assert all(torch.equal(row, Preprocess().tensor(image)) for row, image in zip(batch, images, strict=True))


# The data config


@pytest.mark.parametrize("cfg", [
    {},
    {"input_size": None, "mean": None, "architecture": "resnet50", "num_classes": 1000},
    {"input_size": [3, 288, 288], "crop_pct": 0.95, "crop_mode": "squash", "interpolation": "bilinear"},
])  # fmt: skip
def test_pretrained_cfg_means_what_it_means_to_timm(cfg):
    from timm.data import resolve_data_config

    expected = resolve_data_config(pretrained_cfg=cfg or {"mean": None})
    expected["input_size"] = tuple(expected["input_size"])
    assert vars(Preprocess.from_pretrained_cfg(cfg)) == expected


def test_pretrained_cfg_survives_json():
    config = config_for((1, 28, 31), crop_mode="border", crop_pct=0.9)
    assert Preprocess.from_pretrained_cfg(json.loads(json.dumps(config.to_pretrained_cfg()))) == config


@pytest.mark.parametrize(("field", "value"), [
    ("input_size", 224), ("input_size", (224, 224)), ("input_size", (65, 224, 224)),
    ("input_size", (3, 0, 224)), ("input_size", (3, 224, 4097)), ("input_size", (3, 224.0, 224)),
    ("input_size", (1, 224, 224)),  # three means are left for one channel
    ("interpolation", "random"), ("interpolation", None), ("crop_mode", "middle"),
    ("crop_pct", 0), ("crop_pct", 1.01), ("crop_pct", float("nan")), ("crop_pct", "0.9"),
    ("mean", (0.5, 0.5)), ("mean", (0.5, 0.5, float("inf"))), ("mean", None), ("mean", (0.5, 0.5, "0.5")),
    ("std", (0.5, 0.5, 0.0)), ("std", (0.5, 0.5, -1)), ("std", ()), ("std", (0.5, 0.5, float("nan"))),
])  # fmt: skip
def test_an_impossible_config_is_refused(field, value):
    with pytest.raises(ValueError, match=r"is .*; allowed: .*\. Correct"):
        Preprocess(**{field: value})


# Reading images


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "file", "PIL"])
def test_every_kind_of_source_reads_the_same(tmp_path, kind):
    data = encoded(noise(9, 7))
    path = tmp_path / "image.png"
    path.write_bytes(data)
    sources = {"path": path, "str": str(path), "bytes": data, "file": BytesIO(data), "PIL": noise(9, 7)}
    assert_shows(load_image(sources[kind]), noise(9, 7))


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG", "AVIF"])
def test_every_accepted_format_is_read(image_format):
    options = {"lossless": True} if image_format == "WEBP" else {}
    image = load_image(encoded(Image.new("RGB", (16, 8), RED), image_format, **options))
    assert image.size == (16, 8)
    assert_shows(image, RED, tolerance=3)  # lossy formats


STORED_AS = {  # EXIF orientation: how an upright image is turned into the stored one
    1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270",
}  # fmt: skip


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation_is_applied(image_format, orientation):
    upright = Image.new("RGB", (32, 16))
    upright.paste(WHITE, (0, 0, 8, 8))
    turn = STORED_AS[orientation]
    stored = upright.transpose(Image.Transpose[turn]) if turn else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert_shows(load_image(encoded(stored, image_format, exif=exif.tobytes())), upright, tolerance=3)


def test_a_broken_exif_block_does_not_spoil_an_image():
    assert_shows(load_image(encoded(noise(9, 7), exif=b"Exif\0\0not an EXIF block")), noise(9, 7))


def test_orientation_is_applied_even_if_the_rest_of_the_exif_block_is_broken():
    camera_as_a_fraction = struct.pack("<HHIIHHIHH", 0x010F, 5, 1, 38, ORIENTATION, 3, 1, 6, 0)
    block = b"II*\0" + struct.pack("<IH", 8, 2) + camera_as_a_fraction + struct.pack("<III", 0, 1, 1)
    image = load_image(encoded(noise(9, 7), exif=block))
    assert_shows(image, noise(9, 7).transpose(Image.Transpose.ROTATE_270))


def test_a_callers_image_is_left_as_it_is():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    source = Image.open(BytesIO(encoded(noise(9, 7), exif=exif.tobytes())))
    assert_shows(load_image(source), noise(9, 7).transpose(Image.Transpose.ROTATE_270))
    assert source.getexif()[ORIENTATION] == 6
    assert_shows(source, noise(9, 7))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBA"])
def test_colours_survive_every_mode(mode):
    colour = WHITE if mode in ("1", "L") else RED
    assert_shows(load_image(Image.new("RGB", (4, 3), colour).convert(mode)), colour, tolerance=2)


def test_a_cmyk_jpeg_keeps_its_colours():
    data = encoded(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=100)
    assert_shows(load_image(data), RED, tolerance=6)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_on_white(mode):
    image = Image.new(mode, (2, 1))
    image.putalpha(Image.fromarray(np.array([[0, 255]], dtype=np.uint8)))
    assert [load_image(image).getpixel((x, 0)) for x in (0, 1)] == [WHITE, (0, 0, 0)]


def test_half_transparent_red_becomes_pink():
    assert load_image(encoded(Image.new("RGBA", (1, 1), (*RED, 128)))).getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])], ids=["index", "table"])
def test_palette_transparency_is_laid_on_white(transparency):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "L").convert("P")
    image.putpalette([0, 0, 255, *RED])
    loaded = load_image(encoded(image, transparency=transparency))
    assert [loaded.getpixel((x, 0)) for x in (0, 1)] == [WHITE, RED]


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_by_257(image_format):
    gradient = np.arange(256, dtype=np.uint16).reshape(16, 16)
    image = load_image(encoded(Image.fromarray(gradient * 257), image_format))
    assert np.array_equal(np.asarray(image)[..., 0], gradient)


def png_of_16_bits(values: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3 or 4), which PIL cannot write."""
    height, width = values.shape[:2]
    colour = {2: 0, 3: 2 if values.shape[-1] == 3 else 6}[values.ndim]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(rows), b"IEND")
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_a_text_of_a_png_is_no_fact_about_its_values():
    text = PngInfo()
    text.add_text("white", "spirit")
    file = BytesIO()
    Image.new("RGB", (4, 4)).save(file, "png", pnginfo=text)
    assert "white" not in load_image(file.getvalue()).info


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (9, 7, 4)], ids=["grey", "RGB", "RGBA"])
@pytest.mark.parametrize(("highest", "white"), [(255, 255), (4095, 4095), (65535, None)])
def test_16_bit_files_are_scaled_by_the_bits_they_use(shape, highest, white):
    values = np.random.default_rng(0).integers(0, highest + 1, shape)
    values.flat[0] = highest
    if shape[-1] == 4:
        values[..., 3] = 65535
    image = load_image(png_of_16_bits(values))
    colours = values[..., :3] if values.ndim == 3 else values[..., None].repeat(3, 2)
    assert np.abs(np.asarray(image) - colours * 255 / highest).max() <= 1
    seen = config_for((3, 8, 8)).crop(image)
    assert image.info.get("white") == seen.info.get("white") == white


def test_a_heic_photo_is_read_or_named(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 32), RED)).save(file, quality=90)
    assert_shows(load_image(file.getvalue()), Image.new("RGB", (64, 32), RED), tolerance=6)
    for broken in (file.getvalue()[:200], file.getvalue()[:32] + bytes(64)):
        assert error_of(broken).code == "heic"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install pillow-heif" in str(error_of(file.getvalue()))


@pytest.mark.parametrize(("values", "expected"), [
    ([0, 257 * 100, 65535], [0, 100, 255]),
    ([0, 100_000, 200_000], [0, 128, 255]),
    ([-100, 0, 65535], [0, 0, 255]),
])  # fmt: skip
def test_32_bit_integers_are_scaled_by_their_range(values, expected):
    image = load_image(encoded(Image.fromarray(np.array([values], dtype=np.int32)), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("values", "expected"), [
    ([0, 0.4, 1], [0, 102, 255]),
    ([0, 102, 255], [0, 102, 255]),
    ([0, 257 * 102, 65535], [0, 102, 255]),
    ([-3e38, 0, 3e38], [0, 128, 255]),
    ([float("nan"), float("inf"), 1], [0, 0, 255]),
])  # fmt: skip
def test_floats_are_scaled_by_their_range(values, expected):
    image = load_image(encoded(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_its_first_frame(image_format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, (0, 0, 255))]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=50)
    assert Image.open(BytesIO(data)).n_frames == 2
    assert_shows(load_image(data), RED, tolerance=3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1)], ids=str)
def test_extreme_shapes_are_read(shape):
    assert_shows(load_image(encoded(noise(*shape))), noise(*shape))


# Refusing what is not an image


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF"])
def test_a_truncated_file_is_refused(image_format):
    data = encoded(noise(64, 64), image_format)
    assert error_of(data[: len(data) // 2]).code in ("truncated", "not_an_image")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_a_truncated_photograph_is_called_truncated(image_format):
    data = encoded(noise(64, 64), image_format)
    assert error_of(data[: len(data) // 2]).code == "truncated"


def test_each_kind_of_unusable_file_has_its_code(tmp_path):
    (tmp_path / "text.jpg").write_text("this is a text file")
    (tmp_path / "empty.png").touch()
    names = {"text.jpg": "not_an_image", "empty.png": "empty", "none.png": "missing", "": "not_a_file"}
    assert {name: error_of(tmp_path / name).code for name in names} == names


def test_a_path_the_system_refuses_is_unreadable():
    assert error_of("x" * 5000).code == "unreadable"


def test_formats_that_run_programs_are_refused():
    assert error_of(encoded(noise(9, 7), "EPS")).code == "not_an_image"


@pytest.mark.parametrize("side", [8_001, 12_000, 60_000])
def test_a_header_that_claims_too_many_pixels_is_refused_before_decoding(side, recwarn):
    error = error_of(png_claiming(side, side))  # decoding these few bytes would say "truncated"
    assert (error.code, error.facts) == ("too_many_pixels", {"max_pixels": preprocess.MAX_PIXELS})


def test_pixel_limit_holds_for_opened_images_too():
    assert load_image(noise(10, 10), max_pixels=100).size == (10, 10)
    assert error_of(noise(10, 11), max_pixels=100).code == "too_many_pixels"


def test_an_image_without_pixels_is_refused():
    assert error_of(Image.new("RGB", (0, 5))).code == "no_pixels"


@pytest.mark.parametrize("kind", ["path", "bytes", "file"])
def test_a_file_over_the_byte_limit_is_refused(tmp_path, kind):
    data = encoded(noise(9, 7))
    path = tmp_path / "image.png"
    path.write_bytes(data)
    source = {"path": path, "bytes": data, "file": BytesIO(data)}[kind]
    error = error_of(source, max_bytes=len(data) - 1)
    assert (error.code, error.facts) == ("file_too_large", {"max_bytes": len(data) - 1})


def test_a_file_at_the_byte_limit_is_read():
    data = encoded(noise(9, 7))
    assert_shows(load_image(data, max_bytes=len(data)), noise(9, 7))


def test_a_large_file_is_refused_without_reading_it(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    path.touch()
    os.truncate(path, preprocess.MAX_BYTES + 1)
    monkeypatch.delattr(Path, "read_bytes")
    assert error_of(path).code == "file_too_large"


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF"])
@pytest.mark.filterwarnings("ignore")  # PIL's own, on damaged metadata
@settings(max_examples=60, derandomize=True)
@given(damage=st.dictionaries(st.integers(0, 199), st.integers(0, 255), min_size=1, max_size=3))
def test_damaged_bytes_give_an_image_or_an_image_error(image_format, damage):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = bytearray(encoded(noise(16, 16), image_format, exif=exif.tobytes()))
    for place, value in damage.items():
        data[place % len(data)] = value
    try:
        assert load_image(bytes(data), max_pixels=10**6).mode == "RGB"
    except ImageError as error:
        assert error.code in ("not_an_image", "truncated", "too_many_pixels", "no_pixels")


@pytest.mark.parametrize("source", [b"", b"text", "no\nsuch\nfile", png_claiming(9_000, 9_000)], ids=range(4))
def test_an_error_is_one_line(source):
    message = str(error_of(source))
    assert message.endswith(".") and "\n" not in message


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(error_of(noise(10, 11), max_pixels=100)))
    assert (error.code, error.facts) == ("too_many_pixels", {"max_pixels": 100})


# What an image may cost


@given(st.integers(0, 40))
def test_scans_are_counted_without_decoding(more):
    assert preprocess.jpeg_scans(scan_bomb(more)) == preprocess.jpeg_scans(scan_bomb(0)) + more


@given(st.binary(max_size=300), st.integers(0, 600))
def test_counting_scans_ends_whatever_the_bytes(noise, at):
    whole = scan_bomb(3)
    assert preprocess.jpeg_scans(whole[:at] + noise + whole[at:]) <= len(whole) + 300


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(monkeypatch):
    bomb = scan_bomb(1000)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="scans") as refused:
        load_image(bomb)
    assert refused.value.code == "too_many_scans"


@pytest.mark.parametrize("kind", ["jpeg", "mpo"])
def test_a_large_baseline_jpeg_is_decoded_at_half_its_size(monkeypatch, kind):
    monkeypatch.setattr(preprocess, "MAX_DECODED", 10_000)
    whole = Image.linear_gradient("L").convert("RGB").crop((0, 0, 180, 121))
    loaded = load_image(encoded(whole, kind, quality=95))
    assert loaded.size == (90, 61)
    reduced = np.asarray(whole.reduce(2), dtype=int)[:60]
    assert np.abs(np.asarray(loaded, dtype=int)[:60] - reduced).max() <= 3


@pytest.mark.parametrize(("kind", "options"), [("png", {}), ("tiff", {}), ("jpeg", {"progressive": True})])
def test_other_large_images_are_refused_before_they_are_decoded(monkeypatch, kind, options):
    monkeypatch.setattr(preprocess, "MAX_DECODED", 10_000)
    data = encoded(Image.new("RGB", (101, 100)), kind, **options)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(ImageError) as refused:
        load_image(data)
    assert (refused.value.code, refused.value.facts) == ("too_many_pixels", {"max_pixels": 10_000})


def test_a_thread_of_pixels_may_not_be_endless():
    with pytest.raises(ImageError) as refused:
        load_image(encoded(Image.new("L", (1, preprocess.MAX_LONG_SIDE + 1)), "png"))
    assert refused.value.code == "too_long"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "I;16", "F"])
def test_strips_change_no_pixel(monkeypatch, mode):
    noise = np.random.default_rng(0).integers(0, 255, (67, 45, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA")
    image = Image.fromarray(noise[..., 0].astype(np.uint16) * 200) if mode == "I;16" else image.convert(mode)
    whole = np.asarray(load_image(image))
    monkeypatch.setattr(preprocess, "STRIP", 500)
    np.testing.assert_array_equal(np.asarray(load_image(image)), whole)


MEASURE = """
import re, sys
from resnet_hub.preprocess import ImageError, Preprocess, load_image
# Not ru_maxrss, which a child takes over from its parent.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
data, before = open(sys.argv[1], "rb").read(), peak()
try:
    end = Preprocess().crop(load_image(data)).size
except ImageError as error:
    end = error.code
print(peak() - before, end)
"""


@pytest.mark.parametrize(("name", "mode", "size", "options"), [  # the last two are refused
    ("phone.jpg", "RGB", (8160, 6120), {}), ("camera.jpg", "RGB", (6000, 4000), {"progressive": True}),
    ("glass.png", "RGBA", (6000, 4000), {"compress_level": 1}), ("deep.png", "I;16", (6000, 4000), {}),
    ("photo.webp", "RGB", (4800, 3333), {"method": 0}), ("large.webp", "RGB", (16_000, 4_000), {"method": 0}),
    ("thread.png", "L", (1, 30_000_000), {"compress_level": 1}),
])  # fmt: skip
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_one_image_takes_less_than_300_megabytes(tmp_path, name, mode, size, options):
    Image.new(mode, size).save(tmp_path / name, **options)
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / name)], cwd=ROOT, capture_output=True, text=True
    )
    megabytes, _, end = out.stdout.strip().partition(" ")
    is_refused = name in ("large.webp", "thread.png")
    assert int(megabytes) < 300 and end == ("too_many_pixels" if is_refused else "(224, 224)"), out


def jpeg_of(side: int) -> bytes:
    Image.new("RGB", (side, side), "grey").save(buffer := BytesIO(), "jpeg")
    return buffer.getvalue()


@pytest.mark.parametrize(("side", "most"), [(2100, 1), (300, 3)])
def test_of_large_images_only_one_is_in_memory_at_a_time(side, most):
    now, seen, lock = [0], [], threading.Lock()
    together = threading.Barrier(3)

    def hold(image):
        with lock:
            now[0] += 1
            seen.append(now[0])
        with suppress(threading.BrokenBarrierError):
            together.wait(2 if most == 1 else 60)  # small ones all come here before the first one goes
        with lock:
            now[0] -= 1
        return image.resize((8, 8))

    data = jpeg_of(side)
    with ThreadPoolExecutor(3) as pool:
        sizes = [image.size for image in pool.map(lambda _: load_image(data, then=hold), range(3))]
    assert sizes == [(8, 8)] * 3 and max(seen) == most
