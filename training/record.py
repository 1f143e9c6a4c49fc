"""Measurements that are kept: where they are written, and on what machine they were made."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resnet_hub.command import run_command
from resnet_hub.files import write_whole
from training.engine import write_json

RESULTS = Path(__file__).with_name("results")


def add_record_flags(parser: argparse.ArgumentParser, data: str) -> None:
    """`--data`, which `data` describes, `--data-name` and `--results`."""
    parser.add_argument("--data", required=True, help=data)
    parser.add_argument("--data-name", help="what the record calls the data")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the record is written")


def command_line(program: str, arguments: list[str] | None) -> str:
    """The command as a person repeats it; without `arguments` those of this process."""
    return f"python -m {program} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"


def run_recorded(
    program: str,
    record: Callable[[argparse.Namespace, str], None],
    parser: argparse.ArgumentParser,
    arguments: list[str] | None,
) -> int:
    """Call `record(options, command line)`; returns the exit status."""
    options = parser.parse_args(arguments)
    return run_command(program, lambda: record(options, command_line(program, arguments)))


def made_with(device: torch.device) -> dict[str, Any]:
    """Hardware and versions behind a measurement."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"hardware": hardware(device), "versions": versions}


def hardware(device: torch.device) -> str:
    """The processor a run was made on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [
        line.split(":")[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    used = torch.get_num_threads() * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = "" if used >= (os.cpu_count() or 1) else f", {used} used"
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores{threads}"


def write_record(name: str, results: Path, document: dict[str, Any], page: str = "") -> None:
    """Write NAME.json into `results` and, where there is one, the page NAME.md."""
    results.mkdir(parents=True, exist_ok=True)
    write_json(results / f"{name}.json", document)
    if page:
        write_whole(results / f"{name}.md", page.encode())
