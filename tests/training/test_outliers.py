"""Outlier exposure and its data: what is learned from images of other things, which of them, and how they
are shown. Oracles: torch's cross entropy, Pillow's JPEG, a run that was never interrupted."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import (
    image_folders,
    noise_image,
    noise_set,
    same_weights,
    signal_after_each_step,
)
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from resnet_hub import from_pretrained
from resnet_hub.errors import Refusal
from training import cifar, command, outliers, tiny_imagenet, transfer
from training.augment import Feed
from training.data import PhotoSet, find_data, val_for_test, whole_image
from training.recipes import RECIPES, Recipe, recipe_from

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = (16, 16)


def tinted(*channels: int):
    """A function that draws noise, brighter in some channels."""

    def draw(random: np.random.Generator) -> Image.Image:
        pixels = random.integers(0, 100, (*SIDE, 3), dtype=np.uint8)
        pixels[:, :, list(channels)] += 100
        return Image.fromarray(pixels)

    return draw


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    classes = {"red": tinted(0), "blue": tinted(2)}
    return image_folders(tmp_path_factory.mktemp("colours"), {"train": 36, "test": 4}, classes)


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Folders of other things: green and yellow, and one that holds what the network learns."""
    folder = image_folders(
        tmp_path_factory.mktemp("others"),
        {"all": 24},
        {"green": tinted(1), "yellow": tinted(0, 1), "crimson": tinted(0)},
    )
    return folder / "all"


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    size = ["--input", "16", "--epochs", "6", "--batch-size", "12", "--held-out", "12"]
    recipe = ["--recipe", "plain", "--lr", "0.1", "--ema", "0", "--precision", "fp32", "--device", "cpu"]
    return ["lenet5", "--data", str(data), "--out", str(run), *size, *recipe, *more]


def exposed(others: Path) -> list[str]:
    return ["--outliers", str(others), "--outliers-except", "crimson"]


@pytest.fixture(scope="module")
def with_exposure(colours, others, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "exposed"
    assert cifar.main(arguments(colours, run, *exposed(others))) == 0
    return run


def test_fine_tuning_learns_from_outliers_too(colours, others, tmp_path, capsys):
    """What differs from the run without them is the weights, and the card says why."""
    weights = {}
    flags = ["--weights", "resnet20_cifar10", "--data", str(colours), "--mode", "full", "--epochs", "1"]
    flags += ["--batch-size", "12", "--held-out", "12", "--device", "cpu", "--precision", "fp32"]
    for name, more in {"with": exposed(others), "without": []}.items():
        assert transfer.main([*flags, "--out", str(tmp_path / name), *more]) == 0
        weights[name] = load_file(tmp_path / name / "model.safetensors")
    assert not same_weights(weights["with"], weights["without"])
    assert "outlier exposure" in (tmp_path / "with" / "README.md").read_text()
    assert transfer.main([*flags, "--out", str(tmp_path / "none"), "--outlier-weight", "1"]) == 2
    assert "--outlier-weight need --outliers DIR" in capsys.readouterr().err


def test_exposure_lowers_the_top_share_on_other_things(colours, with_exposure, tmp_path):
    assert cifar.main(arguments(colours, tmp_path / "plain")) == 0
    random = np.random.default_rng(1)
    unseen, known = ([tinted(c)(random) for _ in range(20)] for c in (1, 0))

    @torch.no_grad()
    def top_share(run: Path, images: list) -> float:
        """Mean, before calibration, which sharpens what is right on a few images."""
        model = from_pretrained(run)
        return model(model.preprocess.batch(images)).softmax(1).max(1).values.mean().item()

    runs = (with_exposure, tmp_path / "plain")
    exposed_unseen, plain_unseen, exposed_known = map(
        top_share, (*runs, with_exposure), (unseen, unseen, known)
    )
    assert exposed_unseen + 0.15 < plain_unseen, (exposed_unseen, plain_unseen)
    assert exposed_known > 0.8, exposed_known  # what was learned stays known


def test_the_loss_on_outliers_is_the_cross_entropy_to_equal_shares():
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits, torch.full((9, 5), 1 / 5))
    torch.testing.assert_close(outliers.uniform_cross_entropy(logits), expected)


def test_outliers_are_cropped_as_the_whole_photos_beside_them_are():
    """Those are cut where they are read, and outliers are not whole photos."""
    photos = tuple(torch.zeros(3, 20, 30, dtype=torch.uint8) for _ in range(4))
    view = whole_image((12, 12))
    held = PhotoSet(photos, torch.arange(4), tuple("abcd"), "made", view)
    recipe = Recipe(epochs=1, batch_size=4, augment=("resized_crop",))
    feed = outliers.outlier_feed(noise_set(4, 12), Feed(held, view, recipe, 0, torch.device("cpu")))
    shown = [next(feed.batches(epoch, [(0, torch.arange(4))], 12))[0] for epoch in (0, 1)]
    assert not torch.equal(*shown)


def test_a_run_with_outliers_stopped_and_resumed_ends_in_the_same_bits(
    colours, others, with_exposure, tmp_path
):
    run = tmp_path / "run"
    with signal_after_each_step():
        assert cifar.main(arguments(colours, run, *exposed(others))) == 130
    assert torch.load(run / "last.ckpt", weights_only=True)["step"] == 1
    assert cifar.main(arguments(colours, run, *exposed(others), "--resume")) == 0
    resumed, undisturbed = (load_file(each / "model.safetensors") for each in (run, with_exposure))
    assert same_weights(resumed, undisturbed)


def test_other_outliers_are_refused_on_resume(colours, others, tmp_path, monkeypatch, capsys):
    def stop(*anything):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cifar, "finish_run", stop)
        assert cifar.main(arguments(colours, tmp_path, "--epochs", "1", *exposed(others))) == 130
    assert cifar.main(arguments(colours, tmp_path, "--epochs", "1", "--resume")) == 2
    assert "was made with another " in capsys.readouterr().err


def test_every_process_count_sees_the_same_outliers():
    index = torch.arange(8)
    numbered = [(0, index), (1, index), (2, index)]
    drawn = outliers.positions(50, 0.5, seed=3, epoch=1, numbered=numbered)
    assert [len(positions) for _, positions in drawn] == [4, 4, 4]
    (alone,) = outliers.positions(50, 0.5, seed=3, epoch=1, numbered=numbered[1:2])
    assert alone[0] == 1 and torch.equal(alone[1], drawn[1][1])
    other_epoch = outliers.positions(50, 0.5, seed=3, epoch=2, numbered=numbered)
    assert not all(torch.equal(a, b) for (_, a), (_, b) in zip(drawn, other_epoch, strict=True))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--outliers-except", "purple"], "has no class purple; it has crimson, green, yellow"),
        (["--outliers-except", "crimson,green,yellow"], "holds no image that is not left out"),
    ],
)
def test_classes_to_leave_out_that_are_wrong_are_one_line(colours, others, tmp_path, capsys, flags, said):
    assert cifar.main(arguments(colours, tmp_path / "run", "--outliers", str(others), *flags)) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("place", "unknown", "said"),
    [
        ("colours/test", None, "--outliers: 8 of its 8 images belong to --data"),
        ("others", "dyes=others:green,crimson", "--unknown dyes: 24 of its 48 images belong to --outliers"),
        ("others", "dyes=others:crimson", ""),  # which is left out of what is learned from
    ],
)
def test_what_is_measured_is_not_among_the_outliers(
    colours, others, tmp_path, capsys, place, unknown, said, monkeypatch
):
    for name, folder in {"colours": colours, "others": others}.items():
        (tmp_path / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cifar, "build_model", lambda *_: pytest.fail("trains"))
    words = arguments(colours, tmp_path / "run", "--held-out", "20", "--outliers", place)
    words += ["--outliers-except", "crimson"] if place == "others" else []
    words += ["--unknown", unknown] if unknown else []
    if said:
        assert cifar.main(words) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
    else:
        with pytest.raises(pytest.fail.Exception, match="trains"):
            cifar.main(words)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--outlier-weight", "0.3"], "--outlier-weight need --outliers DIR"),
        (["--outlier-share", "2", "--outlier-jpeg", "80"], "--outlier-share, --outlier-jpeg need --outliers"),
        (["--recipe", "short_outliers"], "short_outliers learns from images of other things too"),
    ],
)
def test_flags_about_outliers_need_outliers(colours, tmp_path, capsys, monkeypatch, flags, said):
    monkeypatch.setattr(command, "in_memory", lambda data: pytest.fail("images were read"))
    assert cifar.main(arguments(colours, tmp_path / "run", *flags)) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_outliers_are_encoded_as_pillow_would():
    data = noise_set(3, side=24)
    encoded = outliers.jpeg_encoded(data, 75)
    assert not torch.equal(encoded.images, data.images) and torch.equal(encoded.labels, data.labels)
    for before, after in zip(data.images, encoded.images, strict=True):
        file = io.BytesIO()
        Image.fromarray(before.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=75)
        pillow = np.asarray(Image.open(file)).astype(int)
        assert np.abs(after.permute(1, 2, 0).numpy().astype(int) - pillow).max() <= 1


# Tiny ImageNet in its original layout


WORDS = {"n1": "crane", "n2": "crane, hoisting machine", "n3": "Egyptian cat, Felis", "n9": "not in wnids"}


@pytest.fixture
def miniature(tmp_path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "wnids.txt").write_text("n3\nn1\nn2\n")
    (tmp_path / "words.txt").write_text("".join(f"{k}\t{v}\n" for k, v in WORDS.items()))
    (tmp_path / "val" / "images").mkdir(parents=True)
    lines = []
    for number, wnid in enumerate(["n1", "n2", "n3"]):
        folder = tmp_path / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for i in range(2):
            noise_image(0, 256, (64, 64))(random).save(folder / f"{wnid}_{i}.JPEG")
        name = f"val_{number}.JPEG"
        noise_image(0, 256, (64, 64))(random).save(tmp_path / "val" / "images" / name)
        lines.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    return tmp_path


def test_tiny_imagenet_is_read_with_readable_names(miniature):
    assert val_for_test(str(miniature))
    view = whole_image((64, 64))
    classes = ("Egyptian cat", "crane (n1)", "crane (n2)")
    train, test = (find_data(str(miniature), part, view) for part in ("train", "test"))
    assert train.classes == test.classes == classes
    pairs = [pair for data in (train, test) for pair in zip(data.files, data.labels, strict=True)]
    named = {file.name: classes[label] for file, label in pairs}
    assert named == {
        "n1_0.JPEG": "crane (n1)", "n1_1.JPEG": "crane (n1)", "val_0.JPEG": "crane (n1)",
        "n2_0.JPEG": "crane (n2)", "n2_1.JPEG": "crane (n2)", "val_1.JPEG": "crane (n2)",
        "n3_0.JPEG": "Egyptian cat", "n3_1.JPEG": "Egyptian cat", "val_2.JPEG": "Egyptian cat",
    }  # fmt: skip


def test_outliers_from_tiny_imagenet_are_its_training_part(miniature):
    found = outliers.all_but(miniature, ["Egyptian cat"], whole_image((64, 64)))
    assert sorted(file.name for file in found.files) == ["n1_0.JPEG", "n1_1.JPEG", "n2_0.JPEG", "n2_1.JPEG"]


@pytest.mark.parametrize(("part", "missing"), [("train", "words.txt"), ("test", "val/val_annotations.txt")])
def test_a_tiny_imagenet_that_is_not_whole_is_refused(miniature, part, missing):
    (miniature / missing).unlink()
    with pytest.raises(Refusal, match=r"is not whole \(.*unpack it again"):
        tiny_imagenet.find_files(miniature, part)


def test_a_recipe_s_outliers_can_be_changed_by_flags():
    recipe = RECIPES["short_outliers"]
    assert "Egyptian cat" in recipe.outliers_except and recipe.outlier_jpeg == 75
    given = ["x", "--data", "d", "--out", "o", "--recipe", "short_outliers", "--outliers-except", "none"]
    options = cifar.parse_arguments(["lenet5", *given[1:]])
    assert recipe_from(options).outliers_except == ()
