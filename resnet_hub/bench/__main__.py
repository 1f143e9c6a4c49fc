"""`python -m resnet_hub.bench`: how fast engines, photos, the page and its start are, as ratios.

Run from the repository's root, on a machine that does nothing else. What is measured again replaces its
section of the report.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resnet_hub.bench import memory, networks, page
from resnet_hub.command import number_up_to, program_name, run_command
from resnet_hub.errors import Refusal
from resnet_hub.files import write_whole

REPORT = Path("training", "results", "speed.md")
IMAGE = Path(__file__).parents[1] / "examples" / "koala.jpg"
CLIENTS = (1, 16, 32)
HEAD = """# Speed of inference

`python -m resnet_hub.bench`, on the machine named in each section. "ms (ratio)": milliseconds per image, and
that time divided by the eager network's. Networks without a checkpoint have random weights. *usual*: a
typical Gradio demo with torchvision's ResNet-50. *empty*: a Gradio app whose event does nothing. *added*: our
time minus that of *empty*; below 0 we answered sooner. *bound*: twice the two networks alone plus one empty
event. *of_bound*: our time as a share of *bound*. *before*: eager batches over photos read at full size.
*now*: what `training.transfer` does.
"""
Section = dict[str, dict[str, Any]]


def sections(options: argparse.Namespace, folder: Path) -> dict[str, tuple[str, Callable[[], Section]]]:
    """Every section by its name: (title, what measures it)."""
    app, usual, empty = options.app, folder / "usual.py", folder / "empty.py"
    usual.write_text(page.USUAL_DEMO)
    empty.write_text(page.EMPTY_EVENT)
    return {
        "engines": ("Engines", partial(networks.engines, options.seconds)),
        "files": ("`classify()` from a file of 640x480 pixels", partial(networks.files, options.seconds)),
        "features": ("Features of 200 photos of 1 to 12 megapixels, ResNet-50", networks.features),
        "start": ("Start-up, seconds", lambda: {"app": page.start_up(app, usual, options.runs)}),
        "events": (
            "One event, milliseconds",
            lambda: (
                page.simple_events(app, empty, IMAGE, options.calls)
                | {"compare": page.compare_event(app, empty, IMAGE, options.calls)}
            ),
        ),
        "clients": (
            "`/classify`, answers a second",
            lambda: (
                page.rates(app, empty, IMAGE, CLIENTS, 8 * options.seconds)
                | page.rate_of_resnet50(app, IMAGE, CLIENTS[1], 8 * options.seconds)
            ),
        ),
        "memory": ("Memory of the app", lambda: memory.memory(app, IMAGE, options.events)),
    }


def measure(options: argparse.Namespace) -> None:
    """Measure what is asked, print each section and put it into the report as soon as it is there."""
    if not options.app.is_file():
        raise Refusal(f"no file {options.app}; run from the repository's root, or give --app")
    with tempfile.TemporaryDirectory() as folder:
        known = sections(options, Path(folder))
        titles, found = [title for title, _ in known.values()], {}
        for name in options.only or known:
            title, act = known[name]
            print(f"measuring {title}", file=sys.stderr)
            found[title] = act()
            if not options.json:
                print(section(title, found[title]))
            if options.out:
                before = options.out.read_text(encoding="utf-8") if options.out.is_file() else ""
                write_whole(options.out, report(before, found, titles).encode())
    if options.json:
        print(json.dumps({"machine": machine(), **found}, indent=2))


def machine() -> str:
    """The processor, its cores and the versions that count."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag} " in f"{text} "]
    versions = [
        f"{each} {found}" for each in ("torch", "openvino", "onnxruntime") if (found := installed(each))
    ]
    cores = f"{os.cpu_count()} cores"
    return ", ".join([name[1] if name else platform.machine(), cores, *flags, *versions])


def installed(package: str) -> str:
    """A package's version; "" where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def section(title: str, rows: Section) -> str:
    """A title, the machine and a table."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(shown(row.get(column, "")) for column in columns)] for name, row in rows.items()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {title}\n\n{machine()}\n\n{table}\n"


def shown(value: Any) -> str:
    """A cell."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def report(before: str, found: dict[str, Section], titles: list[str]) -> str:
    """The report with these sections new and the others as they were."""
    parts = re.split(r"^## ", before, flags=re.MULTILINE)[1:]
    kept = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}
    kept |= {title: section(title, rows) for title, rows in found.items()}
    return "\n".join([HEAD, *(kept[title] for title in titles if title in kept)])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        program_name("resnet_hub.bench"),
        description="How fast inference, the page and its start are, as ratios on this machine.",
    )
    names = ("engines", "files", "features", "start", "events", "clients", "memory")
    parser.add_argument(
        "--only", action="append", choices=names, help="measure this section only; may be repeated"
    )
    parser.add_argument("--app", type=Path, default=Path("app.py"), help="the app's script (default: app.py)")
    for flag, default, what in (
        ("--runs", 5, "starts of each app"),
        ("--calls", 40, "events of each app"),
        (
            "--seconds",
            5,
            "seconds for each network and batch; eight times as many for each number of clients",
        ),
        ("--events", 9000, "mixed events after which memory is looked at"),
    ):
        parser.add_argument(
            flag,
            type=number_up_to(9_999),
            metavar="N",
            default=default,
            help=f"{what}, 1 to 9,999 (default: {default})",
        )
    parser.add_argument("--out", type=Path, help=f"put the tables into this report, e.g. {REPORT}")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    return run_command("resnet_hub.bench", lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main())
