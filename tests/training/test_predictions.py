"""Answers image by image, and photos of any shape. Oracles: the probabilities of the checkpoint itself, and
pixels worked out by hand."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import image_folders, noise_image
from PIL import Image

from resnet_hub import create_model, from_pretrained, predict
from training import cifar, evaluate, transfer
from training.data import _in_one, find_data, read_images, whole_image

COLUMNS = ["file", "true", "predicted", "share", "loss", "familiar"]
QUICK = ["--epochs", "1", "--batch-size", "8", "--held-out", "20", "--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Bright and dark images, three times as wide as high."""
    classes = {"bright": noise_image(150, 250, (96, 32)), "dark": noise_image(0, 100, (96, 32))}
    return image_folders(tmp_path_factory.mktemp("photos"), {"train": 24, "test": 5}, classes)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    """A finished run that was shown whole photos between borders; tests only read it."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    words = ["resnet20_cifar", "--data", str(photos), "--out", str(directory), "--recipe", "plain"]
    assert cifar.main([*words, *QUICK, "--framing", "letterbox"]) == 0
    return directory


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check(table: list[dict[str, str]], model, root: Path, count: int) -> None:
    """Every figure is the model's own answer to that file, and losses fall."""
    assert len(table) == count and list(table[0]) == COLUMNS
    losses = [float(row["loss"]) for row in table]
    assert losses == sorted(losses, reverse=True)
    for row in table:
        prediction = predict.classify(model, [root / row["file"]], top_k=2)[0]
        assert row["true"] == Path(row["file"]).parent.name
        assert row["predicted"] == prediction.top[0][0]
        assert float(row["share"]) == pytest.approx(prediction.top[0][1], abs=1e-4)
        assert float(row["loss"]) == pytest.approx(-math.log(dict(prediction.top)[row["true"]]), abs=1e-3)
        assert row["familiar"] == {True: "no", False: "yes"}[prediction.unfamiliar]


def test_a_run_lists_the_answer_to_every_test_image_worst_first(run, photos):
    check(rows(run / "predictions.csv"), from_pretrained(run), photos, 10)
    assert Image.open(run / "top_losses.png").size[0] > 100


def test_evaluation_writes_the_same_table(run, photos, tmp_path):
    words = [str(run), "--data", str(photos), "--csv", str(tmp_path / "again.csv"), "--device", "cpu"]
    assert evaluate.main(words) == 0
    assert [r["file"] for r in rows(tmp_path / "again.csv")] == [
        r["file"] for r in rows(run / "predictions.csv")
    ]


def test_a_folder_is_predicted_and_tabled_with_the_classes_its_folders_name(run, photos, tmp_path, capsys):
    table = tmp_path / "table.csv"
    assert (
        predict.main([str(photos / "test"), "--model", str(run), "--csv", str(table), "--device", "cpu"]) == 0
    )
    check(rows(table), from_pretrained(run), Path(), 10)
    assert "of 10 in folders called like a class are right" in capsys.readouterr().out
    one = str(photos / "test" / "dark" / "00.png")
    assert predict.main([one, "--model", str(run), "--csv", str(table), "--device", "cpu"]) == 0
    assert [(row["true"], row["loss"]) for row in rows(table)] == [("", "")]


@pytest.mark.parametrize(
    ("label", "name"), [("が", "か\u3099"), ("か\u3099", "が"), ("か\u3099", "か\u3099")]
)
def test_a_class_folder_that_macos_wrote_is_the_label_of_that_name(tmp_path, label, name):
    model = create_model("resnet20_cifar", num_classes=2)
    model.labels = (label, "x")
    model.save_pretrained(tmp_path / "net")
    (tmp_path / "photos" / name).mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / name / "1.png")
    words = [str(tmp_path / "photos"), "--model", str(tmp_path / "net"), "--device", "cpu"]
    assert predict.main([*words, "--csv", str(tmp_path / "t.csv")]) == 0
    (row,) = rows(tmp_path / "t.csv")
    assert row["true"] == label and float(row["loss"]) > 0
    shutil.copytree(tmp_path / "photos", tmp_path / "test")
    (tmp_path / "test" / "x").mkdir()
    shutil.copy(tmp_path / "photos" / name / "1.png", tmp_path / "test" / "x")
    words = [str(tmp_path / "net"), "--data", str(tmp_path / "test"), "--device", "cpu"]
    assert evaluate.main(words) == 0


def test_a_folder_without_images_or_a_table_that_cannot_be_written_is_one_line(run, tmp_path, capsys):
    assert predict.main([str(tmp_path), "--model", str(run)]) == 2
    assert "holds no image" in capsys.readouterr().err.splitlines()[-1]
    assert predict.main(["photo.png", "--model", str(run), "--csv", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("give a file path in a folder that exists")


# Framing


def stripes(levels: tuple[int, ...], side: int) -> Image.Image:
    """Greys from left to right, each `side` wide and high."""
    return Image.fromarray(np.repeat(np.repeat(np.uint8([levels]), side, 0), side, 1)).convert("RGB")


@pytest.mark.parametrize(
    ("crop_mode", "corners"),
    [
        ("center", {"top": 0, "middle_left": 0, "middle_right": 0}),
        ("squash", {"top": 0, "middle_left": 64, "middle_right": 255}),
        ("border", {"top": 128, "middle_left": 64, "middle_right": 255}),
    ],
)
def test_training_reads_a_long_photo_as_its_framing_says(tmp_path, crop_mode, corners):
    stripes((64, 0, 255), 32).save(tmp_path / "long.png")
    (image,), _ = read_images([tmp_path / "long.png"], whole_image((16, 16), crop_mode=crop_mode), "photos")
    seen = {"top": image[0, 0, 8], "middle_left": image[0, 8, 1], "middle_right": image[0, 8, 14]}
    assert seen == corners


def test_the_checkpoint_and_the_next_run_keep_the_framing(run, photos, tmp_path):
    first = from_pretrained(run).preprocess
    # What fills the borders in training is what fills them afterwards.
    assert (first.crop_mode, first.crop_pct, first.mean) == ("border", 1.0, (0.5, 0.5, 0.5))
    words = ["--weights", str(run), "--data", str(photos), "--mode", "feature", *QUICK]
    assert transfer.main([*words, "--out", str(tmp_path / "kept")]) == 0
    assert from_pretrained(tmp_path / "kept").preprocess.crop_mode == "border"
    assert transfer.main([*words, "--out", str(tmp_path / "other"), "--framing", "squash"]) == 0
    assert from_pretrained(tmp_path / "other").preprocess.crop_mode == "squash"
    assert "resize to 32x32 whatever the shape" in (tmp_path / "other" / "README.md").read_text()


# Classes in another order


def test_a_folder_is_measured_whatever_the_order_of_the_model_s_classes(run, photos, tmp_path, capsys):
    """The same network with its outputs swapped answers the same."""
    model = from_pretrained(run)
    model.labels = model.labels[::-1]
    head = model.get_submodule(model.classifier_name)
    head.weight.data, head.bias.data = head.weight.data.flip(0), head.bias.data.flip(0)
    model.save_pretrained(tmp_path / "swapped")
    figures = []
    for checkpoint in (run, tmp_path / "swapped"):
        evaluate.main([str(checkpoint), "--data", str(photos), "--json", "--device", "cpu"])
        figures.append(json.loads(capsys.readouterr().out))
    assert figures[1]["top1"] == figures[0]["top1"]
    assert figures[1]["per_class"] == figures[0]["per_class"][::-1]


def test_classes_that_the_model_does_not_have_are_one_line(run, tmp_path, capsys):
    image_folders(tmp_path / "more", {"test": 1}, {name: noise_image(0, 9) for name in ("dark", "green")})
    assert evaluate.main([str(run), "--data", str(tmp_path / "more")]) == 2
    said = "has classes that the model does not have: 'green'; it has 'bright', 'dark'"
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_batches_of_a_stream_cross_no_shared_memory(photos):
    """A container has 64 MB of it: the pixels lie in the message itself."""
    from multiprocessing.reduction import ForkingPickler  # to which torch adds tensors in shared memory

    found = find_data(str(photos), "train", whole_image((64, 64)))
    message = ForkingPickler.dumps(_in_one([found[i, None] for i in range(8)], found.shape))
    assert len(message) > 8 * 3 * 64 * 64
    (pixels, index), *_ = found.fetch([torch.arange(3)])
    assert pixels.shape == (3, 3, 64, 64) and pixels.dtype == torch.uint8 and index.tolist() == [0, 1, 2]
