"""The promises of `training.check`: copies of every kind are found and others are not, wrong labels and odd
images come first. The oracle is what was planted."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.images import image
from PIL import Image, ImageEnhance

from training import check, doubts


@pytest.fixture
def data(tmp_path) -> Path:
    """train/ with 8 smooth images of two classes and test/ with 3, all different; 90x60."""
    root, seed = tmp_path / "d", 0
    for part, count in (("train", 8), ("test", 3)):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                image(seed := seed + 1).save(root / part / name / f"{i}.png")
    return root


def found(data: Path, capsys, *more: str) -> dict:
    assert check.main([str(data), "--json", "--out", str(data.parent / "out"), "--device", "cpu", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_clean_set_has_no_copies(data, capsys):
    figures = found(data, capsys)
    assert figures["exact"] == figures["near"] == [] and figures["images"] == 22
    assert figures["counts"] == {"train": {"a": 8, "b": 8}, "test": {"a": 3, "b": 3}}
    assert figures["cropped_away"]["median"] == pytest.approx(1 / 3)
    assert check.summary(data) == []


def test_a_device_without_a_network_is_refused(data, capsys):
    assert check.main([str(data), "--device", "cuda"]) == 2
    assert "--device cuda computes the features of --weights" in capsys.readouterr().err


def test_a_copy_in_another_part_is_named_also_at_the_start_of_a_run(data, capsys):
    shutil.copy(data / "train/a/1.png", data / "test/a/new.png")
    (line,) = found(data, capsys)["exact"]
    assert line == "test images that are byte for byte in train: 1 of 7 (test/a/new.png = train/a/1.png)"
    assert line in check.summary(data)


def test_a_file_that_may_not_be_read_is_no_copy_and_no_error(data, monkeypatch):
    kept = Path.read_bytes
    for name in ("one.bmp", "two.bmp"):
        Image.new("RGB", (4, 4)).save(data / "train/a" / name)
    files = [data / "train/a" / name for name in ("one.bmp", "two.bmp")]
    assert len(doubts.same_bytes(files)[0]) == 1

    def read(path):
        if path.name == "two.bmp":
            raise PermissionError(13, "Permission denied", str(path))
        return kept(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert doubts.same_bytes(files) == ([], True)


def test_a_copy_with_another_label_is_named(data, capsys):
    shutil.copy(data / "train/a/1.png", data / "train/b/new.png")
    assert "images that are byte for byte in two classes: 1 (" in " ".join(found(data, capsys)["exact"])


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.resize((45, 30)),
        lambda x: ImageEnhance.Brightness(x).enhance(1.05),
        lambda x: x,
    ],
    ids=["smaller", "brighter", "encoded again"],
)
def test_a_near_copy_is_found(data, capsys, change):
    with Image.open(data / "train/b/2.png") as original:
        change(original).save(data / "test/b/new.jpg", quality=60)
    (line,) = found(data, capsys)["near"]
    assert "test/b/new.jpg = train/b/2.png" in line


def test_rows_say_what_is_known_of_each_image(data, capsys):
    found(data, capsys)
    with (data.parent / "out" / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 22 and rows[0]["file"] == "train/a/0.png"
    assert (rows[0]["width"], rows[0]["height"], rows[0]["mode"]) == ("90", "60", "RGB")


def test_wrong_labels_and_odd_images_come_first():
    draw = torch.Generator().manual_seed(0)
    centres = torch.eye(3, 16)[torch.arange(60) % 3]
    features = centres + 0.05 * torch.randn(60, 16, generator=draw)
    features[59] = -torch.ones(16)
    labels = torch.arange(60) % 3
    labels[7] = (labels[7] + 1) % 3
    doubt = doubts.doubts_of(features, labels, 3)
    first = doubts.most_suspicious(doubt, 20)
    assert first[0] == 7 and doubt.other[7] == 1 and len(first) <= 2
    assert doubts.most_unusual(doubt, 20)[0] == 59


def test_sheets_and_tables_of_doubtful_images_are_written(data, capsys):
    figures = found(data, capsys, "--weights", "resnet20_cifar10")
    out = data.parent / "out"
    assert len(figures["unusual"]) == 20
    for name in ("unusual.png", "unusual.csv", "images.csv"):
        assert (out / name).stat().st_size > 0
    with Image.open(out / "unusual.png") as sheet:
        assert sheet.width > 500


def test_a_set_that_training_refuses_is_looked_at_and_it_says_so(data, capsys):
    shutil.rmtree(data / "test" / "b")
    assert check.main([str(data), "--out", str(data.parent / "out")]) == 0
    assert "training would refuse it: " in capsys.readouterr().out


def test_a_class_of_which_nothing_can_be_read_is_said_also_as_json(data, capsys):
    assert found(data, capsys)["refused"] is None
    for file in (data / "train" / "b").iterdir():
        file.write_bytes(b"no")
    assert found(data, capsys)["refused"] == "no training image of b can be read"


def test_a_file_that_cannot_be_read_is_named(data, capsys):
    (data / "train/a/bad.png").write_bytes(b"no")
    assert "bad.png" in found(data, capsys)["unreadable"][0]
