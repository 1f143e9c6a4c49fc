"""More epochs for a finished run: `--resume --epochs N` beyond its end.

A warm restart (arXiv 1608.03983): from the weights that the run keeps, with fresh optimizers and the recipe's
schedule anew over the further epochs, all at full size. `run.json` records it. It stays the finished run's
until the longer one is written.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import shlex
from contextlib import redirect_stderr
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_hub import from_pretrained
from resnet_hub.errors import listed
from resnet_hub.hub.push import RECORD
from resnet_hub.models.base import Network
from training import checkpoint
from training.checkpoint import TrainingError
from training.recipes import recipe_from

WITHOUT_EFFECT = {  # on what a run becomes
    "out", "resume", "command", "epochs", "save_every", "device", "tensorboard", "trackio", "wandb",
    "accumulate",  # but times the processes
    "workers", "eval_batch", "compile", "extends", "split", "print_job", "expects",
}  # fmt: skip


def read_record(run: Path) -> dict[str, Any]:
    """What a finished run recorded of itself.

    Raises:
        TrainingError: when its file is damaged.
    """
    try:
        return json.loads((run / RECORD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(
            f"{run / RECORD} is damaged ({error}); move the run away and train it again"
        ) from error


def is_made_by(run: Path, command: str) -> bool:
    """Whether what a run directory holds is not finished, or was finished by this command."""
    if not (run / RECORD).exists():
        return True
    return read_record(run)["command"].splitlines()[-1].removesuffix(" --resume") == command


def low_res_epochs(record: dict[str, Any]) -> int | None:
    """How many epochs of a finished run had small images; None where an earlier version did not record it and
    extended the run."""
    if "low_res_epochs" in record or record.get("extended"):
        return record.get("low_res_epochs")
    recipe = record["recipe"]
    return round(recipe["epochs"] * recipe["low_res_until"]) if recipe["low_res"] else 0


def epochs_run(run: Path, options: argparse.Namespace) -> int | None:
    """How many epochs a finished run has, where more are asked for; None where nothing is left to do.

    Raises:
        TrainingError: naming what is asked for otherwise than the run was made.
    """
    record = read_record(run)
    if changed := other_arguments(record, options):
        raise TrainingError(
            f"{run} is finished, and with other arguments: {listed(changed, 12)}; give the same "
            "ones (with more --epochs to go on), or choose another --out"
        )
    before, asked = record["recipe"]["epochs"], recipe_from(options).epochs
    if asked < before:
        raise TrainingError(f"--epochs {asked}: {run} has been trained for {before}; give more to go on")
    return record["epochs_run"] if asked > before else None


def other_arguments(record: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """What a command asks for otherwise than the one that made a run: "--data nowhere, not photos"."""
    module, before = _parsed(record["command"].splitlines()[0])
    now = options.command.split(" -m ", 1)[-1].split()[0]
    if module != now:
        return [f"{now}, not {module}"]
    if before is None:  # an earlier version's command
        asked = asdict(recipe_from(options)) | {"seed": options.seed}
        then = record["recipe"] | {"seed": record["seed"]}
    else:
        asked, then = vars(options), vars(before)
    names = sorted((asked.keys() & then.keys()) - WITHOUT_EFFECT)
    changed = [_said(name, asked[name], then[name]) for name in names if not _same(asked[name], then[name])]
    return changed + _other_parts(record, options)


def _other_parts(record: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """A batch norm sees one micro-batch of a step, so there have to be as many as there were; with
    --sync-batch-norm it sees those of all processes."""
    before, processes = record.get("processes", 1), int(os.environ.get("WORLD_SIZE", "1"))
    if options.sync_batch_norm and processes != before:
        return [f"{processes} processes, not {before}"]
    then = record["recipe"].get("accumulate", 1) * before
    now = recipe_from(options).accumulate * processes
    return [] if now == then else [f"--accumulate times processes is {now}, not {then}"]


def _parsed(command: str) -> tuple[str, argparse.Namespace | None]:
    """The module of a recorded command, and its arguments; None where they are no longer understood."""
    words = shlex.split(command)
    module, *arguments = words[words.index("-m") + 1 :] if "-m" in words else ["training.cifar"]
    try:
        with redirect_stderr(io.StringIO()):
            return module, importlib.import_module(module).parse_arguments(arguments)
    except (SystemExit, ImportError, AttributeError):
        return module, None


def _same(one: Any, other: Any) -> bool:
    if one == other or [one] == other or (isinstance(one, tuple) and list(one) == other):
        return True
    return isinstance(one, str) and isinstance(other, str) and Path(one).resolve() == Path(other).resolve()


def _said(name: str, now: Any, then: Any) -> str:
    shown = name if name in ("model",) else f"--{name.replace('_', '-')}"
    return f"{shown} {now}, not {then}"


def is_under_way(run: Path) -> bool:
    """Whether the resume files of a finished run are those of its extension, not what a crash left."""
    if not checkpoint.held(run):
        return False
    _, state = checkpoint.read(run)
    return bool(state.get("restart")) and state["recipe"]["epochs"] > read_record(run)["recipe"]["epochs"]


def take_weights(model: Network, options: argparse.Namespace) -> None:
    """Give a network the weights that the run to go on from keeps.

    Raises:
        TrainingError: when the images are no longer those it was trained on.
    """
    if not options.extends:
        return
    kept = from_pretrained(options.out.resolve())  # not a shipped one of that name
    before = read_record(options.out).get("split", [])  # earlier versions recorded less of it
    then, now = (kept.labels, before), (model.labels, options.split[: len(before)])
    if then != now:
        said, says = (f"{listed(classes, 5)}; split {split}" for classes, split in (then, now))
        raise TrainingError(
            f"{options.out} was trained on other images ({said}; now {says}); put them back, or fine-tune "
            f"it: training.transfer --weights {options.out} with another --out"
        )
    model.load_state_dict(kept.state_dict())


def history_of(run: Path, epochs: int) -> list[dict[str, Any]]:
    """The lines of a run's first epochs."""
    lines = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:epochs]]


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """What `run.json` says of how a run was extended; empty where it was not."""
    if not options.extends:
        return {}
    before, command = read_record(options.out), f"{options.command} --resume"
    this = {"from_epoch": options.extends, "to_epoch": recipe_from(options).epochs, "command": command}
    return {
        "command": f"{before['command']}\n{command}",
        "extended": [*before.get("extended", []), this],
    }
