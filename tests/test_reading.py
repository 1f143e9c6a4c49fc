"""Reading ahead keeps the order and the errors; a photo decoded at a smaller size gets the same answer."""

from __future__ import annotations

import threading
from io import BytesIO

import pytest
from PIL import Image

import resnet_hub
from resnet_hub.predict import classify, classify_crops, classify_files
from resnet_hub.preprocess import ImageError, Preprocess, load_image
from resnet_hub.reading import ahead, crops, read_crop
from resnet_hub.ui.shared.page import EXAMPLES

SIZES = [(1100, 1040), (1600, 1200), (2400, 3200)]


def jpeg_of(example, size, **options) -> bytes:
    """An example photo enlarged, as a camera would have taken it."""
    buffer = BytesIO()
    Image.open(example).convert("RGB").resize(size, Image.Resampling.LANCZOS).save(
        buffer, "jpeg", quality=90, **options
    )
    return buffer.getvalue()


def test_results_come_in_order_and_not_all_at_once():
    taken, started = 0, []

    def slow(i):
        started.append(i)
        return i

    for i in ahead(slow, range(100), most=4):
        assert i == taken
        taken += 1
        assert max(started) <= taken + 4
    assert taken == 100


def test_sources_are_read_by_other_threads():
    assert threading.get_ident() not in set(ahead(lambda _: threading.get_ident(), range(8)))


def test_who_stops_listening_stops_the_reading():
    started = []
    for _ in ahead(started.append, range(1000), most=4):
        break
    assert len(started) < 20


def test_a_broken_file_is_its_error_at_its_place(photo, tmp_path):
    (tmp_path / "note.jpg").write_text("not an image")
    model = resnet_hub.from_pretrained("resnet8_cifar10")
    found = list(classify_files(model, [photo, tmp_path / "note.jpg", photo]))
    assert isinstance(found[1], ImageError)
    shares = [dict(each.top) for each in (found[0], found[2], classify(model, [photo])[0])]
    assert shares == [pytest.approx(shares[0], abs=1e-4)] * 3
    assert [isinstance(each, ImageError) for each in crops([tmp_path / "no", photo], model.preprocess)] == [
        True,
        False,
    ]


def decoded_size(data: bytes, preprocess: Preprocess) -> tuple[int, int]:
    """The size at which a JPEG is decoded for this preprocessing."""
    seen = []
    load_image(data, then=lambda image: seen.append(image.size) or image, enough=preprocess.enough)
    return seen[0]


def test_a_photo_is_decoded_no_larger_than_its_crop_needs():
    small, large = (jpeg_of(EXAMPLES[0], size) for size in ((640, 480), (4000, 3000)))
    assert decoded_size(large, Preprocess(input_size=(3, 64, 64), crop_pct=1.0)) == (1000, 750)
    assert decoded_size(large, Preprocess(crop_pct=1.0)) == (2000, 1500)  # a quarter is less than 6 x 224
    assert decoded_size(large, Preprocess()) == (4000, 3000)  # and half is less than 6 x 256
    assert decoded_size(small, Preprocess()) == (640, 480)
    assert decoded_size(large, Preprocess(interpolation="nearest")) == (4000, 3000)


def test_a_photo_on_its_side_is_decoded_as_finely_as_upright():
    turned = Image.Exif()
    turned[0x0112] = 6
    data = jpeg_of(EXAMPLES[0], (4000, 2000), exif=turned.tobytes())
    upright = Preprocess(input_size=(3, 256, 64), crop_pct=1.0)
    assert decoded_size(data, upright)[1] >= 6 * 256  # its height, once it is upright


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["resnet18_tiny_imagenet", "resnet20_cifar10"])
def test_the_largest_share_moves_by_less_than_a_hundredth(name, size):
    model = resnet_hub.from_pretrained(name)
    files = [jpeg_of(example, size) for example in EXAMPLES[:5]]
    whole = classify_crops(model, [load_image(data, then=model.preprocess.crop) for data in files])
    less = classify_crops(model, [read_crop(data, model.preprocess) for data in files])
    for a, b in zip(whole, less, strict=True):
        assert a.top[0][0] == b.top[0][0]
        assert abs(a.top[0][1] - b.top[0][1]) < 0.01
