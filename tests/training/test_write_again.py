"""The promise of `evaluate --write`: what is fitted again is fitted on the images that the run held out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.training import image_folders, noise_image, same_weights
from PIL import Image
from safetensors.torch import load_file

from resnet_hub import from_pretrained
from training import cifar, evaluate
from training.data import split_held_out

QUICK = ["--recipe", "plain", "--epochs", "1", "--batch-size", "8", "--device", "cpu", "--precision", "fp32"]
EACH, HELD_OUT = 30, 24

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Bright and dark images; one of those that will be held out is broken."""
    classes = {"bright": noise_image(150, 250), "dark": noise_image(0, 100)}
    root = image_folders(tmp_path_factory.mktemp("photos"), {"train": EACH, "test": 4}, classes)
    files = sorted((root / "train").rglob("*.png"))
    _, held_out = split_held_out(torch.arange(2).repeat_interleave(EACH), HELD_OUT, seed=0)
    files[int(held_out[3])].write_bytes(b"no image")
    return root


@contextmanager
def recorded_fits() -> Iterator[list[tuple[Path, ...]]]:
    """The files of each validation set that something is fitted on."""
    seen, calibrate = [], evaluate.calibrate

    def record(model, held_out, *more):
        seen.append(held_out.files)
        return calibrate(model, held_out, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "calibrate", record)
        yield seen


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> tuple[Path, tuple[Path, ...]]:
    """A finished run, and the files that it was fitted on."""
    run = tmp_path_factory.mktemp("runs") / "run"
    words = ["lenet5", "--data", str(photos), "--out", str(run), "--held-out", str(HELD_OUT), *QUICK]
    with recorded_fits() as seen:
        assert cifar.main(words) == 0
    return run, seen[0]


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained[0], tmp_path / "run")


def write(run: Path, data: Path) -> int:
    return evaluate.main([str(run), "--data", str(data), "--write", "--device", "cpu", "--engine", "eager"])


def test_what_is_stored_as_float16_is_measured_and_what_is_left_out_is_said(photos, run, capsys):
    facts = json.loads((run / "run.json").read_text())
    facts["results"]["unfamiliar"] = {"static": {}}
    (run / "run.json").write_text(json.dumps(facts))
    words = ["--write", "--half", "--precision", "bf16", "--engine", "eager", "--device", "cpu"]
    assert evaluate.main([str(run), "--data", str(photos), *words]) == 0
    assert "no longer on the card: images of static; give --unknown 'static=DIR'" in capsys.readouterr().err
    now = json.loads((run / "run.json").read_text())
    assert now["half"]["bf16"]["same"] <= 1 and now["results"]["unfamiliar"] == {}
    types = {name: value.dtype for name, value in load_file(run / "model.safetensors").items()}
    assert types["features.0.weight"] is torch.float16 and types["features.0.bias"] is torch.float32


def test_a_run_is_fitted_again_on_the_images_that_it_held_out(photos, trained, run):
    before, model = json.loads((run / "run.json").read_text()), from_pretrained(run)
    fitted = model.calibration
    model.calibration = replace(fitted, temperature=9.0)
    model.save_pretrained(run)
    (run / "run.json").write_text(json.dumps(before | {"results": {}, "calibration": {}}))
    with recorded_fits() as seen:
        assert write(run, photos) == 0
    assert seen == [trained[1]] and len(seen[0]) == HELD_OUT - 1
    assert from_pretrained(run).calibration.temperature == pytest.approx(fitted.temperature, abs=1e-3)
    after = json.loads((run / "run.json").read_text())
    assert after["calibration"]["images"] == before["calibration"]["images"]
    assert after["results"]["top1"] == before["results"]["top1"]


def test_its_pictures_and_its_table_are_of_the_new_measurement(photos, run):
    answers = (run / "predictions.csv").read_text()
    for name in ("predictions.csv", "predictions.png", "top_losses.png", "confusion.png"):
        (run / name).write_bytes(b"of the old one")
    assert write(run, photos) == 0
    assert (run / "predictions.csv").read_text() == answers
    for name in ("predictions.png", "top_losses.png", "confusion.png"):
        Image.open(run / name).verify()


def test_a_run_that_has_a_shipped_checkpoint_s_name_is_itself(photos, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(trained[0], tmp_path / "resnet20_cifar10")
    before = load_file(run / "model.safetensors")
    assert evaluate.main(["resnet20_cifar10", "--data", str(photos), "--write", "--device", "cpu"]) == 0
    assert same_weights(load_file(run / "model.safetensors"), before)


def test_weights_without_the_record_of_a_run_are_not_written_again(photos, run, capsys):
    (run / "run.json").unlink()
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    assert write(run, photos) == 2
    said = f"--write: {run} holds no run.json; give a directory that a trainer wrote"
    assert said in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def one_more(data: Path, facts: dict) -> None:
    shutil.copy(data / "train" / "dark" / "00.png", data / "train" / "dark" / "zz.png")


def one_renamed(data: Path, facts: dict) -> None:
    (data / "train" / "dark" / "00.png").rename(data / "train" / "dark" / "zz.png")


def one_replaced(data: Path, facts: dict) -> None:
    _, held_out = split_held_out(torch.arange(2).repeat_interleave(EACH), HELD_OUT, seed=0)
    sorted((data / "train").rglob("*.png"))[int(held_out[0])].write_bytes(b"another image")


def an_earlier_record(data: Path, facts: dict) -> None:
    """It counts the images that could be read, and one could not: the split may have been any of two."""
    del facts["split"]


@pytest.mark.parametrize("changed", [one_more, one_renamed, one_replaced, an_earlier_record])
def test_images_that_may_have_been_trained_on_are_refused(photos, run, tmp_path, capsys, changed):
    facts = json.loads((run / "run.json").read_text())
    assert facts["held_out_images"] == HELD_OUT - 1
    data = shutil.copytree(photos, tmp_path / "data")
    changed(data, facts)
    (run / "run.json").write_text(json.dumps(facts))
    before = (run / "run.json").read_bytes()
    assert write(run, data) == 2
    assert "does not hold the images of this run as they were" in capsys.readouterr().err
    assert (run / "run.json").read_bytes() == before


def test_an_earlier_record_of_images_that_could_all_be_read_is_enough(photos, run, tmp_path):
    data = shutil.copytree(photos, tmp_path / "data")
    (broken,) = [file for file in (data / "train").rglob("*.png") if file.read_bytes() == b"no image"]
    shutil.copy(next(file for file in broken.parent.glob("*.png") if file != broken), broken)
    facts = json.loads((run / "run.json").read_text())
    del facts["split"]
    (run / "run.json").write_text(json.dumps(facts | {"held_out_images": HELD_OUT}))
    with recorded_fits() as seen:
        assert write(run, data) == 0
    assert len(seen[0]) == HELD_OUT
