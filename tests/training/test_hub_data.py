"""Data sets from the Hub and from archives. The real `datasets` library reads what the real huggingface_hub
client fetched from a Hub on loopback."""

from __future__ import annotations

import json
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.training import image_folders, noise_image
from PIL import Image

from resnet_hub.errors import Refusal
from training import cifar, hub_data
from training.command import data_source
from training.data import find_data, whole_image
from training.hub_data import dataset_id, local_folder

REPO = "someone/colours"
VIEW = whole_image((8, 8))
NAMES = ["bright", "dark/dim"]


def picture(level: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), level, np.uint8))


def parquet(labels: list[int], **columns) -> bytes:
    """A parquet file with an image and a label a row; image i has the level 10 i."""
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    features |= {name: datasets.Value("string") for name in columns}
    rows = {"image": [picture(10 * i) for i in range(len(labels))], "label": labels, **columns}
    file = BytesIO()
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(file)
    return file.getvalue()


@pytest.fixture
def published(hub):
    files = {
        "data/train-00000-of-00001.parquet": parquet([0, 1, 1, 0]),
        "data/test-00000-of-00001.parquet": parquet([1, 0, -1]),
    }
    hub.add(REPO, files, kind="datasets")
    return hub


def test_a_data_set_on_the_hub_is_class_folders_with_its_own_parts(published):
    folder = data_source(f"hf://{REPO}", None)
    train, test = (find_data(folder, part, VIEW) for part in ("train", "test"))
    assert train.classes == test.classes and "bright" in train.classes and len(train) == 4
    levels = [int(np.asarray(Image.open(file))[0, 0, 0]) for file in train.files]
    names = [train.classes[i] == "bright" for i in train.labels]
    assert dict(zip(levels, names, strict=True)) == {0: True, 10: False, 20: False, 30: True}
    assert len(test) == 2  # the third has no label


def test_it_is_fetched_once_and_a_new_commit_is_another_folder(published):
    first = local_folder(f"hf://{REPO}")
    asked = len(published.downloads())
    assert local_folder(f"hf://{REPO}") == first and len(published.downloads()) == asked
    before = published.repo(REPO, "datasets").refs["main"]
    published.repo(REPO, "datasets").commit({"data/train-00000-of-00001.parquet": parquet([0, 1])})
    assert local_folder(f"hf://{REPO}") != first
    assert local_folder(f"hf://{REPO}@{before}") == first


def test_the_column_of_labels_may_be_named(hub):
    file = parquet([0, 1, 0], kind=["x", "y", "y"])
    hub.add(REPO, {"data/train-00000-of-00001.parquet": file}, kind="datasets")
    folder = local_folder(f"hf://{REPO}#kind")
    assert sorted(each.name for each in folder.iterdir()) == ["x", "y"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("hf://nobody/nothing", "there is no data set nobody/nothing on the Hub"),
        ("hf://just-a-name", "give hf://OWNER/NAME"),
        (f"hf://{REPO}#colour", "has the columns image .Image., label .ClassLabel."),
    ],
)
def test_what_is_no_data_set_is_one_line(published, data, said):
    with pytest.raises(Refusal, match=said):
        local_folder(data)


def test_without_the_package_it_says_what_to_install(published, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Refusal, match=r"pip install -e '\.\[datasets\]'"):
        local_folder(f"hf://{REPO}")


def test_a_run_names_the_data_set_and_no_folder_of_this_machine(hub, tmp_path):
    file = parquet([i % 2 for i in range(24)])
    hub.add(REPO, {f"data/{part}.parquet": file for part in ("train", "test")}, kind="datasets")
    words = ["resnet20_cifar", "--data", f"hf://{REPO}", "--out", str(tmp_path / "run"), "--recipe", "plain"]
    words += ["--epochs", "1", "--batch-size", "8", "--input", "32", "--device", "cpu", "--precision", "fp32"]
    assert cifar.main(words) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"] == REPO
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"datasets:\n- {REPO}" in card and str(tmp_path) not in card
    assert dataset_id(f"hf://{REPO}@v1") == REPO and dataset_id("photos") is None


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "windows.zip"])
def test_an_archive_of_class_folders_is_read_below_what_wraps_it(hub, tmp_path, kind):
    classes = {"bright": noise_image(150, 250), "dark": noise_image(0, 100)}
    image_folders(tmp_path / "photos", {"train": 3, "test": 2}, classes)
    file = tmp_path / f"photos.{kind}"
    if kind.endswith("zip"):
        with zipfile.ZipFile(file, "w") as archive:
            for image in (tmp_path / "photos").rglob("*.png"):
                name = f"download/{image.relative_to(tmp_path)}"
                archive.write(image, name.replace("/", "\\") if "windows" in kind else name)
    else:
        with tarfile.open(file, "w:gz" if kind.endswith("gz") else "w") as archive:
            archive.add(tmp_path / "photos", "download/photos")
    folder = data_source(str(file), None)
    assert len(find_data(folder, "train", VIEW)) == 6 and len(find_data(folder, "test", VIEW)) == 4
    assert data_source(str(file), None) == folder


def test_an_archive_that_leads_out_or_is_cut_writes_nothing(hub, tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../../outside.png"))
    (tmp_path / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08 and no more")
    damaged = ["damaged.tar.bz2", "damaged.tar.xz"]
    for name in damaged:
        with tarfile.open(tmp_path / name, f"w:{name[-3:].strip('.')}") as archive:
            archive.add(__file__, "cat/1.png")
        whole = bytearray((tmp_path / name).read_bytes())
        whole[len(whole) // 2] ^= 0xFF
        (tmp_path / name).write_bytes(whole)
    for name in ("evil.tar", "cut.tar.gz", "missing.tar", *damaged):
        with pytest.raises(Refusal):
            local_folder(str(tmp_path / name))
    cache = tmp_path / "resnet_hub_data"
    assert not (tmp_path / "outside.png").exists() and not (tmp_path.parent / "outside.png").exists()
    assert not cache.exists() or not [*cache.iterdir()]


def test_two_runs_that_unpack_one_archive_at_a_time_get_all_of_it(tmp_path, monkeypatch):
    """The second begins while the first is in the middle, and ends first."""
    monkeypatch.setattr(hub_data.constants, "HF_HUB_CACHE", str(tmp_path / "kept" / "hub"))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
            archive.writestr(name, b"")
    given, extract, others = str(tmp_path / "photos.zip"), hub_data._extract, []

    def begun_twice(file: Path, folder: Path) -> None:
        (folder / "half").touch()
        if not others:
            others.append(None)
            others[0] = local_folder(given)
        extract(file, folder)
        (folder / "half").unlink()

    monkeypatch.setattr(hub_data, "_extract", begun_twice)
    folder = local_folder(given)
    assert others == [folder]
    assert sorted(file.name for file in folder.rglob("*.png")) == ["1.png", "1.png", "2.png"]
    assert [*folder.parent.iterdir()] == [folder]
