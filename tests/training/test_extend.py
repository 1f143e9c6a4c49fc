"""The promises of `--resume` on a finished run: the same command changes nothing, more epochs go on to the
same bits however often they are interrupted, anything else is an error that names it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest
from helpers.training import image_folders, noise_image, same_weights, signal_after_each_step
from safetensors.torch import load_file

from training import cifar, engine, extend, transfer
from training.optim import one_cycle

pytestmark = pytest.mark.usefixtures("one_thread")

FAST = ["--batch-size", "12", "--held-out", "6", "--precision", "fp32", "--device", "cpu", "--recipe", "fast"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    classes = {"dark": noise_image(0, 120), "bright": noise_image(100, 256)}
    return image_folders(tmp_path_factory.mktemp("data"), {"train": 18, "test": 4}, classes)


def arguments(data: Path, run: Path, epochs: int, *more: str) -> list[str]:
    thin = ["--set", "widths=8,16,16", "--set", "stem_width=8"]
    words = ["resnet8_cifar", *thin, "--data", str(data), "--out", str(run), *FAST, "--epochs", str(epochs)]
    return [*words, *more]


def train(data: Path, run: Path, epochs: int, *more: str) -> int:
    return cifar.main(arguments(data, run, epochs, *more))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert train(data, run, 2) == 0
    return run


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="module")
def extended(data, finished, tmp_path_factory) -> Path:
    run = shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "run")
    assert train(data, run, 4, "--resume") == 0
    return run


def record(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_the_same_command_on_a_finished_run_changes_nothing(data, run, capsys):
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    assert train(data, run, 2, "--resume", "--seed", "0") == 0
    assert "is finished; nothing to do" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_a_restart_of_the_command_that_finished_has_nothing_to_do_and_others_are_refused(
    data, run, capsys, monkeypatch
):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train(data, run, 2) == 2 and "holds a run (run.json)" in capsys.readouterr().err
    made = cifar.main(shlex.split(record(run)["command"])[3:])
    assert made == 0 and "is finished; nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--seed", "5"], ["--seed 5, not 0"]),
        (["--lr", "0.3", "--augment", "flip"], ["--lr 0.3", "--augment"]),
        (["--data", "nowhere"], ["--data nowhere, not "]),
        (["--epochs", "1"], ["--epochs 1", "has been trained for 2"]),
    ],
)
def test_other_arguments_on_a_finished_run_are_an_error_that_names_them(data, run, capsys, more, named):
    before = record(run)
    assert train(data, run, 2, "--resume", *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(name in line for name in named), line
    assert record(run) == before


def test_a_damaged_record_of_a_finished_run_is_one_line_and_the_run_stays(data, run, capsys):
    (run / "run.json").write_text('{"command": "python -m tr')
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    assert train(data, run, 4, "--resume") == 2
    assert f"{run / 'run.json'} is damaged (" in capsys.readouterr().err.splitlines()[-1]
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


@pytest.mark.parametrize("change", ["a class more", "an image more", "a class renamed"])
def test_other_images_on_a_finished_run_are_refused_and_nothing_is_lost(
    data, finished, tmp_path, capsys, change
):
    """A class more would not fit the classifier; a new split would hold out images that were learned."""
    photos, run = shutil.copytree(data, tmp_path / "data"), shutil.copytree(finished, tmp_path / "run")
    facts = record(run) | {"command": record(run)["command"].replace(str(data), str(photos))}
    (run / "run.json").write_text(json.dumps(facts))
    for part in ("train", "test"):
        bright = photos / part / "bright"
        if change == "a class more":
            shutil.copytree(bright, photos / part / "grey")
        elif change == "an image more":
            shutil.copy(next(bright.iterdir()), bright / "0.png")
        else:
            bright.rename(photos / part / "zebra")
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    assert train(photos, run, 4, "--resume") == 2
    assert "was trained on other images" in capsys.readouterr().err.splitlines()[-1]
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_a_name_that_is_not_text_is_refused_before_anything_is_read(data, tmp_path, capsys):
    assert train(data, tmp_path / os.fsdecode(b"caf\xe9"), 2) == 2
    assert "is not text; rename the file or folder" in capsys.readouterr().err
    assert train(data, tmp_path / "two\nlines", 2) == 2
    assert "an argument has a line break" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_another_trainer_on_a_finished_run_is_an_error(data, run, capsys):
    words = ["--weights", "resnet20_cifar10", "--data", str(data), "--out", str(run), "--resume"]
    assert transfer.main(words) == 2
    assert "training.transfer, not training.cifar" in capsys.readouterr().err


def test_more_epochs_go_on_from_the_end_and_are_recorded(data, finished, extended):
    before, after = record(finished), record(extended)
    assert history(extended)[:2] == history(finished) and len(history(extended)) == 4
    assert (after["epochs_run"], after["recipe"]["epochs"]) == (4, 4)
    (one,) = after["extended"]
    assert (one["from_epoch"], one["to_epoch"]) == (2, 4) and one["command"].endswith("--resume")
    assert after["command"].splitlines() == [before["command"], one["command"]]
    on_card = one["command"].replace(str(data), data.name).replace(str(extended), extended.name)
    assert f"\n{on_card}\n```" in (extended / "README.md").read_text()
    assert not list(extended.glob("last.ckpt*"))


def test_the_schedule_starts_anew_over_the_further_epochs(data, extended):
    rates = [line["lr"] / 0.1 for line in history(extended)]
    steps = 2  # of 12 among 30 images; the rate is that of an epoch's last step
    expected = [one_cycle((epoch + 1 - 1 / steps) / 2, warmup=0.05) for epoch in (0, 1)]
    assert rates == pytest.approx(expected * 2)


@pytest.mark.parametrize("stops", [1, 3])
def test_an_interrupted_extension_ends_in_the_same_bits(data, run, extended, monkeypatch, stops):
    step, taken = engine.Trainer.train_step, []

    def step_and_interrupt(trainer, *batches):
        step(trainer, *batches)
        taken.append(trainer.step)
        if len(taken) in (1, 2, 3)[:stops]:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(engine.Trainer, "train_step", step_and_interrupt)
    codes = []
    while not codes or codes[-1] == 130:
        codes.append(train(data, run, 4, "--resume"))
    assert codes[-1] == 0 and 130 in codes
    assert same_weights(*(load_file(each / "model.safetensors") for each in (run, extended)))
    assert len(record(run)["extended"]) == 1 and len(history(run)) == 4


def test_the_first_command_leaves_an_interrupted_extension_alone(data, run, extended, capsys):
    with signal_after_each_step():
        assert train(data, run, 4, "--resume") == 130
    before = (run / "last.ckpt").read_bytes()
    assert train(data, run, 2, "--resume") == 0
    assert "nothing to do" in capsys.readouterr().out and (run / "last.ckpt").read_bytes() == before
    assert train(data, run, 4, "--resume") == 0
    assert same_weights(*(load_file(each / "model.safetensors") for each in (run, extended)))


def test_an_extended_run_is_finished_and_can_be_extended_again(data, extended, tmp_path, capsys):
    run = shutil.copytree(extended, tmp_path / "run")
    assert train(data, run, 4, "--resume") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert train(data, run, 5, "--resume") == 0
    assert [one["to_epoch"] for one in record(run)["extended"]] == [4, 5]


def test_a_checkpoint_that_a_crash_left_in_a_finished_run_does_not_count(data, run, extended, tmp_path):
    """A power cut between writing run.json and deleting last.ckpt."""

    def power_cut(*anything):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar, "finish_run", power_cut)
        assert train(data, tmp_path / "cut", 2) == 130
    shutil.copy(tmp_path / "cut" / "last.ckpt", run)
    assert train(data, run, 4, "--resume") == 0
    assert same_weights(*(load_file(each / "model.safetensors") for each in (run, extended)))


def test_a_run_of_two_processes_is_extended_by_one_with_as_many_micro_batches(data, run, capsys, monkeypatch):
    """The record of two processes differs from that of one in their number alone."""
    (run / "run.json").write_text(json.dumps(record(run) | {"processes": 2}))
    assert train(data, run, 3, "--resume") == 2
    assert "--accumulate times processes is 1, not 2" in capsys.readouterr().err
    assert train(data, run, 3, "--resume", "--accumulate", "2") == 0
    assert record(run)["epochs_run"] == 3
    monkeypatch.setenv("WORLD_SIZE", "2")  # and further by two, as it began
    two = cifar.parse_arguments(arguments(data, run, 4))
    two.command = "torchrun --nproc-per-node=2 -m training.cifar"
    assert extend.epochs_run(run, two) == 3


def test_batch_norms_over_all_processes_need_as_many_as_before(data, run, monkeypatch):
    flags = ["--sync-batch-norm", "--accumulate", "2"]
    command = f"torchrun -m training.cifar {shlex.join(arguments(data, run, 2, '--sync-batch-norm'))}"
    before = record(run) | {"processes": 4, "command": command}
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = cifar.parse_arguments(arguments(data, run, 3, *flags))
    options.command = command
    assert extend.other_arguments(before, options) == ["2 processes, not 4"]
    assert extend.other_arguments(before | {"processes": 2, "recipe": {"accumulate": 2}}, options) == []


def test_a_record_of_an_earlier_version_tells_how_many_epochs_were_small(data, extended):
    recipe = {"epochs": 38, "low_res": 24, "low_res_until": 0.66}
    assert extend.low_res_epochs(record(extended)) == 1  # of the first two; the further two had none
    assert extend.low_res_epochs({"recipe": recipe}) == 25
    assert extend.low_res_epochs({"recipe": recipe | {"low_res": 0}}) == 0
    assert extend.low_res_epochs({"recipe": recipe, "extended": [{}]}) is None


def test_a_head_on_features_is_extended_too(data, tmp_path):
    words = ["--weights", "resnet20_cifar10", "--data", str(data), "--out", str(tmp_path / "run"), *FAST[:-2]]
    words += ["--mode", "feature"]
    assert transfer.main([*words, "--epochs", "1"]) == 0
    first = load_file(tmp_path / "run" / "model.safetensors")
    assert transfer.main([*words, "--epochs", "3", "--resume"]) == 0
    last = load_file(tmp_path / "run" / "model.safetensors")
    assert record(tmp_path / "run")["epochs_run"] == 3
    changed = {name for name in first if not (first[name] == last[name]).all()}
    assert changed == {"fc.weight", "fc.bias"}
