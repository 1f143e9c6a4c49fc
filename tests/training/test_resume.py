"""The promises of `training` about crashes and processes: killed at any moment, full disk, damaged files, two
processes against one. The oracle is a run that was never interrupted."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import ROOT
from helpers.training import image_folders, same_weights, signal_after_each_step
from PIL import Image
from safetensors.torch import load_file

from training import checkpoint, cifar, engine
from training.checkpoint import TrainingError, locked
from training.distributed import process_group

FAST = ["--epochs", "3", "--batch-size", "24", "--low-res", "16", "--held-out", "12", "--precision", "fp32"]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


# As in the processes started here: another number of threads gives other bits.
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """train/ with 72 images of two classes, test/ with 8: noise, redder or bluer."""

    def tinted(channel: int, draw: np.random.Generator) -> Image.Image:
        pixels = draw.integers(0, 200, (32, 32, 3), dtype=np.uint8)
        pixels[:, :, channel] += 40
        return Image.fromarray(pixels)

    classes = {"red": partial(tinted, 0), "blue": partial(tinted, 2)}
    root = image_folders(tmp_path_factory.mktemp("colours"), {"train": 36, "test": 4}, classes)
    (root / "train" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return root


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    return ["resnet20_cifar", "--data", str(data), "--out", str(run), *FAST, "--device", "cpu", *more]


def start(data: Path, run: Path, *more: str, launcher=(sys.executable,), **options) -> subprocess.Popen:
    command = [*launcher, "-m", "training.cifar", *arguments(data, run, *more)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=ENV, **pipes, **options)


@pytest.fixture(scope="module")
def undisturbed(colours, tmp_path_factory) -> dict[str, torch.Tensor]:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    process = start(colours, run)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return load_file(run / "model.safetensors")


# (where, file, the time it gets there), as in helpers/killed.py; three epochs pass between them.
MOMENTS = (
    ("step", "", 1), ("unnamed", "history.jsonl", 1), ("named", "history.jsonl", 1), ("half", "last.ckpt", 1),
    ("unnamed", "last.ckpt", 1), ("named", "last.ckpt", 1), ("half", "last.ckpt", 2),
    ("named", "history.jsonl", 2), ("step", "", 2), ("named", "run.json", 1),
)  # fmt: skip


@pytest.mark.timeout(900)  # on a machine that may be busy
def test_killed_at_ten_moments_it_ends_in_the_same_bits(colours, tmp_path, undisturbed):
    """With a checkpoint after every step, kills fall into steps, into writing and between two files."""
    run = tmp_path / "run"
    words = [json.dumps(MOMENTS), *arguments(colours, run, "--resume", "--save-every", "0")]
    command = [sys.executable, "-m", "helpers.killed", *words]
    env = ENV | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "is finished; nothing to do" in done.stdout  # the last kill fell between run.json and the end
    assert not (run / "last.ckpt").exists()
    assert same_weights(load_file(run / "model.safetensors"), undisturbed)


def wait_for(happens, process: subprocess.Popen, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not happens() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def stopped(colours, tmp_path_factory) -> Path:
    """A run interrupted in the middle of its first epoch; tests copy it."""
    run = tmp_path_factory.mktemp("runs") / "stopped"
    with signal_after_each_step():
        assert cifar.main(arguments(colours, run)) == 130
    return run


def test_ctrl_c_in_the_middle_of_an_epoch_loses_nothing(colours, tmp_path, stopped, undisturbed):
    run = shutil.copytree(stopped, tmp_path / "run")
    assert torch.load(run / "last.ckpt", weights_only=True)["step"] == 1
    assert cifar.main(arguments(colours, run, "--resume")) == 0
    assert same_weights(load_file(run / "model.safetensors"), undisturbed)


def test_ctrl_c_finishes_the_step_and_says_how_to_resume(colours, tmp_path):
    run = tmp_path / "run"
    process = start(colours, run, "--save-every", "0", "--epochs", "1000")
    wait_for(lambda: (run / "last.ckpt").exists(), process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130 and "repeat the command with --resume to continue" in said


def test_resume_keeps_the_precision_of_the_run(colours, tmp_path, monkeypatch):
    """`auto` times both, and may choose differently when the run is resumed."""
    run, seen = tmp_path / "run", []

    def stop(*anything):
        raise KeyboardInterrupt

    def look(trainer, *anything):
        seen.append(trainer.amp_dtype)
        raise KeyboardInterrupt

    words = [word if word != "fp32" else "auto" for word in arguments(colours, run)]
    with monkeypatch.context() as patch:
        patch.setattr("training.command.pick_precision", lambda *anything: torch.bfloat16)
        patch.setattr(cifar, "finish_run", stop)
        assert cifar.main(words) == 130
    with monkeypatch.context() as patch:
        patch.setattr("training.command.pick_precision", lambda *anything: None)
        patch.setattr(engine.Trainer, "fit", look)
        assert cifar.main([*words, "--resume"]) == 130
    assert seen == [torch.bfloat16]
    assert cifar.main([*arguments(colours, run), "--resume"]) == 2  # fp32 is asked for now


def test_full_disk_is_one_line_and_keeps_the_last_state(colours, tmp_path, stopped, undisturbed):
    """A limit on file sizes stands in for the disk: the first checkpoint fits, the next does not."""
    run = shutil.copytree(stopped, tmp_path / "run")
    before = (run / "last.ckpt").read_bytes()
    small = (len(before) // 2, len(before) // 2)
    full = start(
        colours, run, "--resume", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, small)
    )
    said, _ = full.communicate(timeout=600)
    assert full.returncode == 2 and "Traceback" not in said
    assert "last.ckpt cannot be written" in said and "Make room" in said
    assert (run / "last.ckpt").read_bytes() == before and not list(run.glob("*.tmp"))
    assert cifar.main(arguments(colours, run, "--resume")) == 0
    assert same_weights(load_file(run / "model.safetensors"), undisturbed)


def test_resume_finishes_a_run_that_died_before_its_card_was_written(
    colours, tmp_path, undisturbed, monkeypatch
):
    run = tmp_path / "run"

    def power_cut(*anything):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cifar, "finish_run", power_cut)
        assert cifar.main(arguments(colours, run)) == 130
    assert not (run / "run.json").exists()
    assert cifar.main(arguments(colours, run, "--resume")) == 0
    assert same_weights(load_file(run / "model.safetensors"), undisturbed)
    assert not (run / "last.ckpt").exists()


def test_run_is_not_overwritten_without_being_asked(colours, tmp_path, capsys):
    (tmp_path / "last.ckpt").write_bytes(b"hours of work")
    assert cifar.main(arguments(colours, tmp_path)) == 2
    assert "holds a run (last.ckpt); give --resume, or another --out" in capsys.readouterr().err
    assert (tmp_path / "last.ckpt").read_bytes() == b"hours of work"


def test_damaged_checkpoint_is_one_line(colours, tmp_path, capsys):
    (tmp_path / "last.ckpt").write_bytes(b"not a checkpoint")
    assert cifar.main(arguments(colours, tmp_path, "--resume")) == 2
    assert "last.ckpt cannot be read" in capsys.readouterr().err.splitlines()[-1]


def test_other_data_is_refused_on_resume(colours, tmp_path, stopped, capsys):
    run = shutil.copytree(stopped, tmp_path / "run")
    assert cifar.main(arguments(colours, run, "--resume", "--train-images", "40")) == 2
    assert "was made with another data: " in capsys.readouterr().err


def test_an_empty_checkpoint_is_one_line(colours, tmp_path, capsys):
    (tmp_path / "last.ckpt").write_bytes(b"")
    assert cifar.main(arguments(colours, tmp_path, "--resume")) == 2
    assert "last.ckpt cannot be read (it is empty)" in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def two_checkpoints(stopped, colours, tmp_path_factory) -> Path:
    """`stopped`, interrupted once more a step later: with a `last.ckpt` and the one before it."""
    run = shutil.copytree(stopped, tmp_path_factory.mktemp("runs") / "two")
    with signal_after_each_step(signal.SIGHUP):
        assert cifar.main(arguments(colours, run, "--resume")) == 130
    return run


@pytest.mark.parametrize("place", [0.1, 0.5, 0.97, None])
def test_a_flipped_byte_is_noticed(tmp_path, two_checkpoints, capsys, place):
    run = shutil.copytree(two_checkpoints, tmp_path / "run")
    data = bytearray((run / "last.ckpt").read_bytes())
    if place is None:
        data.clear()
    else:
        data[int(len(data) * place)] ^= 1
    (run / "last.ckpt").write_bytes(data)
    assert checkpoint.read(run)[0] == run / "last.ckpt.prev"
    why = "it is empty" if place is None else "it is damaged: its checksum differs"
    said = capsys.readouterr().err
    assert f"last.ckpt cannot be read ({why}); going on from {run}/last.ckpt.prev" in said
    (run / "last.ckpt.prev").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"last\.ckpt\.prev"):
        checkpoint.read(run)


def test_a_damaged_checkpoint_s_run_goes_on_from_the_one_before(
    colours, tmp_path, two_checkpoints, undisturbed
):
    run = shutil.copytree(two_checkpoints, tmp_path / "run")
    (run / "last.ckpt").write_bytes((run / "last.ckpt").read_bytes()[:-1])
    assert cifar.main(arguments(colours, run, "--resume")) == 0
    assert same_weights(load_file(run / "model.safetensors"), undisturbed)
    assert not list(run.glob("last.ckpt*"))


def test_two_damaged_checkpoints_are_one_line_that_names_both_and_stay(
    colours, tmp_path, two_checkpoints, capsys
):
    run = shutil.copytree(two_checkpoints, tmp_path / "run")
    names = ("last.ckpt", "last.ckpt.prev")
    for name in names:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[: len(whole) // 2])
    before = {name: (run / name).read_bytes() for name in names}
    capsys.readouterr()
    assert cifar.main(arguments(colours, run, "--resume")) == 2
    (*_, line) = capsys.readouterr().err.splitlines()
    assert all(f"{run / name} cannot be read (" in line for name in names)
    assert {name: (run / name).read_bytes() for name in names} == before


def test_a_checkpoint_without_its_last_one_goes_on_from_the_one_before(
    colours, tmp_path, two_checkpoints, undisturbed
):
    """A power cut between the two renames."""
    run = shutil.copytree(two_checkpoints, tmp_path / "run")
    (run / "last.ckpt").unlink()
    assert cifar.main(arguments(colours, run)) == 2
    assert cifar.main(arguments(colours, run, "--resume")) == 0
    assert same_weights(load_file(run / "model.safetensors"), undisturbed)


def test_a_second_run_into_the_same_directory_is_one_line(colours, tmp_path, capsys):
    """Also with --resume; the lock goes with the process that held it, however that ends."""
    run = tmp_path / "run"
    process = start(colours, run, "--save-every", "0", "--epochs", "1000")
    wait_for(lambda: (run / "last.ckpt").exists(), process)
    for more in ([], ["--resume"]):
        assert cifar.main(arguments(colours, run, *more)) == 2
        assert f"{run} is being written by another training run" in capsys.readouterr().err.splitlines()[-1]
    process.kill()
    process.wait()
    assert cifar.main(arguments(colours, run)) == 2
    assert "holds a run (last.ckpt)" in capsys.readouterr().err


def test_a_reader_that_outlives_its_run_does_not_hold_the_directory(tmp_path):
    with locked(tmp_path):
        started, starts = os.pipe()
        reader = os.fork()
        if not reader:
            os.write(starts, b"x")
            time.sleep(60)
            os._exit(0)
        os.read(started, 1)
        with pytest.raises(TrainingError, match="being written by another"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass
    os.kill(reader, signal.SIGKILL)
    os.waitpid(reader, 0)


def test_a_second_ctrl_c_ends_at_once_and_a_second_request_to_stop_does_not():
    with engine.stop_requests() as is_asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert is_asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with engine.stop_requests() as is_asked:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert is_asked()


STREAMED = """
import sys
from training import cifar, data
data.IN_MEMORY_BYTES = 0
sys.exit(cifar.main(sys.argv[1:]))
"""


def test_a_signal_to_a_streamed_run_and_its_readers_together_saves_it(colours, tmp_path):
    """As a terminal's Ctrl-C and a scheduler's warning are: to all processes of a group."""
    run = tmp_path / "run"
    words = arguments(colours, run, "--save-every", "0", "--epochs", "50", "--workers", "2")
    command = [sys.executable, "-c", STREAMED, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=ENV, start_new_session=True, **pipes)
    wait_for(lambda: (run / "last.ckpt").exists(), process)
    wait_for(lambda: len(children(process.pid)) >= 2, process)
    os.killpg(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "stopped and saved" in said, said


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("build_model", "lower --batch-size or --eval-batch, or raise --accumulate"),
        ("finish_run", "run/last.ckpt, with a lower --eval-batch where it was evaluating"),
    ],
)
def test_a_full_gpu_is_one_line(colours, tmp_path, monkeypatch, capsys, where, said):
    def full(*anything):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    monkeypatch.setattr(cifar, where, full)
    assert cifar.main(arguments(colours, tmp_path / "run")) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "Tried to allocate 2.00 GiB; " in line and said in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_in_a_step_saves_and_says_how_to_resume(colours, tmp_path, capsys, number):
    with signal_after_each_step(number):
        assert cifar.main(arguments(colours, tmp_path / "run")) == 130
    assert "repeat the command with --resume to continue" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("where", "said"),
    [("load_images_to_train", "nothing was trained yet"), ("finish_run", "--resume goes on from")],
)
def test_a_signal_while_reading_or_measuring_ends_with_a_sentence(
    colours, tmp_path, monkeypatch, capsys, where, said
):
    monkeypatch.setattr(cifar, where, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert cifar.main(arguments(colours, tmp_path / "run", "--epochs", "1")) == 130
    assert f"interrupted; {said}" in capsys.readouterr().err


def test_a_file_system_that_becomes_read_only_says_what_is_kept(colours, tmp_path, monkeypatch, capsys):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("training.plots.curves", read_only)
    assert cifar.main(arguments(colours, tmp_path / "run", "--epochs", "1")) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "Read-only file system" in said and f"--resume goes on from {tmp_path}/run/last.ckpt" in said


# Several processes


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def losses(run: Path) -> list[float]:
    """The training loss after each step, from TensorBoard's file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("training loss so far this epoch")]


def test_two_processes_train_like_one_with_two_micro_batches(colours, tmp_path):
    """Losses over 20 steps of 12 images, and the weights at the end."""
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -e .[dev]")
    same = ["--epochs", "4", "--batch-size", "12", "--tensorboard", "--recipe", "plain", "--low-res", "0"]
    same += ["--lr", "0.02"]
    two = start(colours, tmp_path / "two", *same, launcher=TORCHRUN)
    said, _ = two.communicate(timeout=600)
    assert two.returncode == 0, said
    assert cifar.main(arguments(colours, tmp_path / "one", *same, "--accumulate", "2")) == 0
    pairs = list(zip(losses(tmp_path / "two"), losses(tmp_path / "one"), strict=True))
    assert len(pairs) == 4 and all(abs(a - b) < 1e-4 for a, b in pairs)
    two, one = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    for name, value in two.items():
        if "num_batches_tracked" not in name:
            torch.testing.assert_close(value, one[name], rtol=1e-3, atol=1e-4)
    assert said.count("held out") == 4  # only rank 0 prints
    assert said.count("broken.png") == 1  # the images are read once, for both
    assert "deprecated" not in said


def test_a_run_of_two_processes_is_resumed_by_one_with_as_many_micro_batches(colours, tmp_path, capsys):
    same = ["--recipe", "plain", "--low-res", "0", "--lr", "0.02"]
    two = start(colours, tmp_path / "two", *same, "--save-every", "0", launcher=TORCHRUN)
    wait_for(lambda: (tmp_path / "two" / "last.ckpt").exists(), two)
    two.send_signal(signal.SIGTERM)
    two.communicate(timeout=600)
    assert not (tmp_path / "two" / "run.json").exists()
    assert checkpoint.read(tmp_path / "two")[1]["epoch"] < 3
    assert cifar.main(arguments(colours, tmp_path / "two", *same, "--save-every", "0", "--resume")) == 2
    assert "another recipe: {'accumulate': 2}, now {'accumulate': 1}" in capsys.readouterr().err
    ends = []
    for run, resume in (("two", ["--resume"]), ("one", [])):
        assert cifar.main(arguments(colours, tmp_path / run, *same, "--accumulate", "2", *resume)) == 0
        ends.append(load_file(tmp_path / run / "model.safetensors"))
    for name, value in ends[0].items():
        if "num_batches_tracked" not in name:  # one process counts each of its micro-batches
            torch.testing.assert_close(value, ends[1][name], rtol=1e-3, atol=1e-4)


def test_torchrun_starts_a_process_that_died_again_from_the_checkpoint(colours, tmp_path):
    run = tmp_path / "run"
    launcher = (*TORCHRUN, "--max-restarts=1")
    process = start(colours, run, "--save-every", "0", "--epochs", "8", "--low-res", "0", launcher=launcher)
    wait_for(lambda: (run / "last.ckpt").exists(), process, seconds=280)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert (run / "run.json").exists() and len((run / "history.jsonl").read_text().splitlines()) == 8
    assert said.count(" training images of ") == 2  # at each start, by rank 0
    assert "starting afresh" not in said


def test_restarted_processes_do_not_find_the_addresses_of_those_that_died(monkeypatch):
    """torchrun's store outlives them; Gloo puts each process's address into it and waits for the others'."""
    store, seen = dist.HashStore(), []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "rendezvous", lambda url: iter([(store, 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, store, **more: seen.append(store))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    for restart in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restart)
        with process_group(torch.device("cpu")):
            assert not seen[-1].check(["0"])
            seen[-1].set("0", f"address of start {restart}")


def children(parent: int) -> list[int]:
    """The processes that `parent` started, by number."""
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(map(int, listed))
