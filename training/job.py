"""`training.cifar ... --print-job`: the `hf jobs` command that trains on a rented GPU and publishes."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from resnet_hub.errors import Refusal, listed
from training.data import is_download
from training.hub_data import SCHEME
from training.recipes import flag

FLAVOR, TIMEOUT = "t4-small", "6h"  # `hf jobs hardware` lists the others and what they cost
IMAGE = "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
CODE, DATA, RUN = "/code", "/data", "/tmp/run"
SOURCES = ("resnet_hub", "training")
OWNER = "YOUR_NAME"


def checkout() -> Path:
    """The folder of the project's sources.

    Raises:
        Refusal: where the package was installed without them.
    """
    root = Path(__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        raise Refusal("the project's sources are sent along; clone its repository and run the command there")
    return root


def job_command(arguments: list[str], options: argparse.Namespace) -> str:
    """The command to paste into a shell, one line.

    Args:
        arguments: those of `training.cifar`, without --print-job.
        options: the same, parsed; a folder that --data names is sent along, and the repository is named after
            --out.

    Raises:
        Refusal: for other files of this machine, which the job would not find.
    """
    data, out = options.data, options.out
    if here := [
        flag(name) for name in ("labels", "outliers", "unknown", "teacher") if _is_here(options, name)
    ]:
        raise Refusal(f"--print-job sends --data along, and not {listed(here)}; leave it out, or train here")
    root = checkout()
    volumes = {str(root / name): f"{CODE}/{name}" for name in SOURCES}  # not the data and runs beside them
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = [*(line for line in lines if line and not line.startswith("#")), "datasets>=4.0"]
    there, name = data, []
    if not is_download(data) and not data.startswith(SCHEME):
        if not Path(data).is_dir():
            what = "is not one; unpack it and give the folder" if Path(data).exists() else "does not exist"
            raise Refusal(f"--print-job sends a folder along, and {data} {what}")
        folder = Path(data).resolve()
        volumes[str(folder)] = there = DATA
        name = [] if options.data_name else ["--data-name", folder.name]
    words = [*_replaced(arguments, {"--data": there, "--out": RUN}), *name]
    steps = [
        f"cd {CODE} && pip install -q {shlex.join(needed)}",
        f"python -m training.cifar {shlex.join(words)}",
        f"python -m training.publish {RUN} --repo-id {OWNER}/{shlex.quote(out.name)}",
    ]
    flags = [f"--volume={here}:{where}" for here, where in volumes.items()]
    head = ["hf", "jobs", "run", "--flavor", FLAVOR, "--timeout", TIMEOUT, "--secrets", "HF_TOKEN", *flags]
    return shlex.join([*head, IMAGE, "bash", "-c", " && ".join(steps)])


def _is_here(options: argparse.Namespace, name: str) -> bool:
    value = getattr(options, name)
    return Path(value).exists() if name == "teacher" and value else bool(value)


def _replaced(arguments: list[str], values: dict[str, str]) -> list[str]:
    """The arguments with other values for some flags, given as `--flag value` or `--flag=value`."""
    words: list[str] = []
    for word in arguments:
        flag = word.partition("=")[0]
        if words and words[-1] in values:
            words.append(values[words[-1]])
        elif "=" in word and flag in values:
            words.append(f"{flag}={values[flag]}")
        else:
            words.append(word)
    return words
