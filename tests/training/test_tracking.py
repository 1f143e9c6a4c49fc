"""Figures sent to other tools, and training elsewhere. The `hf` command itself reads the printed job."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training import image_folders, noise_image

from training import cifar
from training.job import job_command

CLASSES = {"a": noise_image(0, 9), "b": noise_image(90, 99)}
# wandb's interface, as trackio has it too: what a run calls is written down.
RECORDER = """
import json, pathlib
LOG = pathlib.Path(__file__).with_name("calls.jsonl")
def _note(*call):
    with LOG.open("a") as file:
        file.write(json.dumps(call) + "\\n")
def init(project, name, config, resume): _note("init", project, name, config, resume)
def log(metrics, step): _note("log", metrics, step)
def finish(): _note("finish")
"""


@pytest.mark.parametrize("package", ["trackio", "wandb"])
def test_a_run_is_logged_from_its_first_look_to_its_end(tmp_path, monkeypatch, package):
    (tmp_path / f"{package}.py").write_text(RECORDER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    data = image_folders(tmp_path / "data", {"train": 12, "test": 2}, CLASSES)
    words = ["resnet20_cifar", "--data", str(data), "--out", str(tmp_path / "run"), "--recipe", "plain"]
    words += ["--epochs", "2", "--batch-size", "8", "--device", "cpu", "--precision", "fp32", f"--{package}"]
    assert cifar.main(words) == 0
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert calls[0][:3] == ["init", "resnet_hub", "run"] and calls[-1] == ["finish"]
    values = {name: value for kind, metrics, _ in calls[1:-1] for name, value in metrics.items()}
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert (
        values["val_loss"] == history[-1]["val_loss"]
        and values["val_macro_f1"] == history[-1]["val_macro_f1"]
    )
    steps = [step for _, _, step in calls[1:-1]]
    assert steps == sorted(steps)


def test_a_package_that_is_not_there_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    data = image_folders(tmp_path / "data", {"train": 12, "test": 2}, CLASSES)
    words = [
        "resnet20_cifar",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "run"),
        "--wandb",
        "--device",
        "cpu",
    ]
    assert cifar.main([*words, "--recipe", "plain"]) == 2
    assert "--wandb needs the package: pip install wandb" in capsys.readouterr().err.splitlines()[-1]


def test_the_printed_job_is_one_that_hf_takes(tmp_path, capsys):
    words = ["resnet20_cifar", "--data", str(tmp_path), "--out", "runs/mine", "--epochs", "3", "--print-job"]
    assert cifar.main(words) == 0
    command = shlex.split(capsys.readouterr().out)
    assert command[:3] == ["hf", "jobs", "run"] and not Path("runs/mine").exists()
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_nobody", "NO_COLOR": "1"}
    hf = Path(sys.executable).with_name("hf")
    dry = [str(hf), *command[1:3], "--dry-run", *command[3:]]
    said = subprocess.run(
        dry, capture_output=True, text=True, env=environment, timeout=120, check=True
    ).stdout
    assert "Job not submitted" in said and "t4-small" in said and f"{tmp_path}:/data" in said
    assert f"--data /data --out /tmp/run --epochs 3 --data-name {tmp_path.name}" in command[-1]
    sent = [Path(word.partition("=")[2].split(":")[0]) for word in command if word.startswith("--volume=")]
    assert {path.name for path in sent} == {"resnet_hub", "training", tmp_path.name}  # nothing beside them
    assert command[-1].endswith("training.publish /tmp/run --repo-id YOUR_NAME/mine")


def test_a_folder_called_like_a_download_is_sent_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["lenet5", "--data", "mnist"]
    options = cifar.parse_arguments([*words, "--out", "x"])
    assert "--data mnist" in job_command(words, options)
    Path("mnist").mkdir()
    assert f"{tmp_path / 'mnist'}:/data" in job_command(words, options)


@pytest.mark.parametrize("flag", ["--outliers", "--unknown", "--teacher"])
def test_a_job_that_would_lack_a_folder_is_refused(tmp_path, capsys, flag):
    words = ["resnet20_cifar", "--data", "cifar10", "--out", "x", flag, str(tmp_path), "--print-job"]
    assert cifar.main(words) == 2
    assert f"--print-job sends --data along, and not {flag}" in capsys.readouterr().err
    assert cifar.main([*words[:5], "--teacher", "resnet20_cifar10", "--print-job"]) == 0


def test_an_archive_is_not_sent_as_a_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.zip").write_bytes(b"")
    assert cifar.main(["lenet5", "--data", "photos.zip", "--out", "x", "--print-job"]) == 2
    assert "photos.zip is not one; unpack it" in capsys.readouterr().err
    assert cifar.main(["lenet5", "--data", "phtos", "--out", "x", "--print-job"]) == 2
    assert "phtos does not exist" in capsys.readouterr().err


def test_data_that_is_on_the_hub_is_not_sent_along():
    words = ["resnet20_cifar", "--data=hf://a/b", "--out=x"]
    command = job_command(words, cifar.parse_arguments(words))
    assert "--data=hf://a/b --out=/tmp/run" in command and ":/data" not in command
