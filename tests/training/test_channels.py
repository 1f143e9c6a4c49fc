"""Images of one or many channels, from file to card. Oracles: timm's rule for a first convolution, and pixels
written into the files by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from resnet_hub import create_model, from_pretrained, predict
from resnet_hub.preprocess import ImageError, Preprocess
from training import cifar, transfer
from training.data import ImageSet, load_data, measured_preprocess, whole_image
from training.transfer import with_channels

QUICK = ["--epochs", "1", "--batch-size", "4", "--held-out", "2", "--device", "cpu", "--precision", "fp32"]


def view(channels: int, side: int = 8) -> Preprocess:
    return whole_image((side, side), channels)


def steps(channels: int, kind=np.uint8, side: int = 8) -> np.ndarray:
    """(side, side, C): channel c is 10 (c + 1) everywhere."""
    return np.broadcast_to(np.arange(1, channels + 1) * 10, (side, side, channels)).astype(kind)


@pytest.mark.parametrize("channels", [1, 2, 5, 13])
@pytest.mark.parametrize("first", [True, False])
def test_an_array_is_read_whichever_axis_holds_its_channels(tmp_path, channels, first):
    array = np.moveaxis(steps(channels), 2, 0) if first else steps(channels)
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(view(channels).load(tmp_path / "a.npy"), steps(channels))


def test_numbers_of_other_types_are_scaled_alike_in_all_channels(tmp_path):
    np.save(tmp_path / "wide.npy", steps(4, np.uint16) * 257)
    assert np.array_equal(view(4).load(tmp_path / "wide.npy"), steps(4))
    np.save(tmp_path / "float.npy", steps(4, np.float32) / 255)
    assert np.array_equal(view(4).load(tmp_path / "float.npy"), steps(4))


def test_a_tiff_has_a_page_a_channel(tmp_path):
    pages = [Image.fromarray(steps(5)[:, :, i]) for i in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(view(5).load(tmp_path / "a.tif"), steps(5))


def test_alpha_is_a_channel_of_its_own_and_a_png_without_one_is_opaque(tmp_path):
    Image.fromarray(steps(4)).save(tmp_path / "a.png")
    assert np.array_equal(view(4).load(tmp_path / "a.png"), steps(4))
    Image.fromarray(steps(3)).save(tmp_path / "opaque.png")
    assert view(4).load(tmp_path / "opaque.png")[0, 0].tolist() == [10, 20, 30, 255]


def test_a_photo_stored_on_its_side_is_turned_with_all_its_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored a quarter turn to the left
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(view(4).load(tmp_path / "a.png"), pixels)


def test_each_channel_is_cropped_as_an_image_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 5), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    read = Preprocess((5, 16, 16), crop_pct=0.8, mean=(0.5,) * 5, std=(0.5,) * 5).load(tmp_path / "a.npy")
    one = Preprocess((1, 16, 16), crop_pct=0.8, mean=(0.5,), std=(0.5,))
    for i in range(5):
        assert np.array_equal(read[:, :, i], np.asarray(one.crop(Image.fromarray(pixels[:, :, i]))))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda path: Image.new("RGB", (8, 8)).save(path, "JPEG"),
            "holds 3 channels, and the network takes 5",
        ),
        (lambda path: path.write_bytes(b"\x93NUMPY and no more"), "truncated or damaged"),
    ],
)
def test_another_number_of_channels_is_one_clear_line(tmp_path, write, said):
    write(tmp_path / "a.npy")
    with pytest.raises(ImageError, match=said):
        view(5).load(tmp_path / "a.npy")


def test_a_damaged_image_of_four_channels_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="truncated or damaged"):
        view(4).load(tmp_path / "a.png")


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ImageError, match="truncated or damaged"):
        view(5).load(tmp_path / "a.npy")


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_the_first_convolution_is_shared_out_as_timm_does(channels):
    from timm.models import adapt_input_conv

    source = create_model("resnet20_cifar")
    made = with_channels(source, channels)
    theirs = adapt_input_conv(channels, source.state_dict()["conv1.weight"])
    torch.testing.assert_close(made.state_dict()["conv1.weight"], theirs)
    assert made.preprocess.input_size[0] == len(made.preprocess.mean) == channels


@pytest.fixture(scope="module")
def stacks(tmp_path_factory) -> Path:
    """Arrays of five channels; the last one tells the classes apart."""
    root, draw = tmp_path_factory.mktemp("stacks"), np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 3)):
        for name, low in (("high", 150), ("low", 0)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 100, (5, 32, 32))
                pixels[4] += low
                np.save(root / part / name / f"{i}.npy", pixels.astype(np.uint8))
    return root


def test_stacks_of_five_channels_train_and_are_predicted(stacks, tmp_path, capsys):
    words = ["resnet20_cifar", "--data", str(stacks), "--recipe", "plain", "--in-chans", "5", *QUICK]
    assert cifar.main([*words, "--out", str(tmp_path / "run")]) == 0
    model = from_pretrained(tmp_path / "run")
    assert model.config.in_chans == 5 and model.preprocess.input_size == (5, 32, 32)
    train = load_data(str(stacks), "train", view(5, 32))
    assert measured_preprocess(train).mean[4] > measured_preprocess(train).mean[0] + 0.2
    assert predict.main([str(stacks / "test"), "--model", str(tmp_path / "run"), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count(".npy: ") == 6
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.jpg")
    assert predict.main([str(tmp_path / "photo.jpg"), "--model", str(tmp_path / "run")]) == 2
    assert "holds 3 channels, and the network takes 5 channels" in capsys.readouterr().err


def test_a_grey_network_is_fine_tuned_from_a_colour_one(tmp_path):
    for part in ("train", "test"):
        for name, level in (("bright", 200), ("dark", 20)):
            (tmp_path / "grey" / part / name).mkdir(parents=True)
            for i in range(6):
                Image.new("L", (32, 32), level + i).save(tmp_path / "grey" / part / name / f"{i}.png")
    create_model("resnet20_cifar").save_pretrained(tmp_path / "colour")
    words = [
        "--weights",
        str(tmp_path / "colour"),
        "--data",
        str(tmp_path / "grey"),
        "--in-chans",
        "1",
        *QUICK,
    ]
    assert transfer.main([*words, "--mode", "full", "--out", str(tmp_path / "run")]) == 0
    assert from_pretrained(tmp_path / "run").config.in_chans == 1
    assert "1 channel;" in (tmp_path / "run" / "README.md").read_text()


def test_colours_cannot_be_changed_where_there_are_none(stacks, tmp_path, capsys):
    words = ["resnet20_cifar", "--data", str(stacks), "--recipe", "plain", "--in-chans", "5", *QUICK]
    for change in ("jitter", "rand", "trivial"):
        assert cifar.main([*words, "--augment", change, "--out", str(tmp_path / "run")]) == 2
        assert f"--augment {change} changes colours, and there are 5 channels" in capsys.readouterr().err


def test_a_channel_that_is_the_same_everywhere_stays_as_it_is(tmp_path):
    """The alpha channel of opaque images, for instance: its deviation is 0 or, by rounding, below."""
    images = torch.randint(0, 256, (7, 4, 5, 5), dtype=torch.uint8)
    images[:, 3], images[:, 2] = 255, 77
    data = ImageSet(images, torch.zeros(7, dtype=torch.long), ("a",), "made")
    found = measured_preprocess(data)
    assert found.std[2:] == (1.0, 1.0) and found.mean[2:] == (round(77 / 255, 4), 1.0)
    torch.testing.assert_close(
        torch.tensor(found.std[:2]), images[:, :2].div(255).std((0, 2, 3), False), atol=1e-4, rtol=0
    )
