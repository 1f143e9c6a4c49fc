"""`python -m resnet_hub.geometry NAME`: a network, layer by layer, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from resnet_hub.command import program_name, run_command
from resnet_hub.geometry import Row, document, times, totals, trace
from resnet_hub.models.flags import add_override_flags, overrides_from, own_design
from resnet_hub.models.registry import model_config

COLUMNS: dict[str, Callable[[Row], str]] = {
    "layer": lambda row: row.name,
    "op": lambda row: row.op,
    "kernel": lambda row: str(row.kernel) if isinstance(row.kernel, int) else times(row.kernel),
    "stride": lambda row: str(row.stride),
    "padding": lambda row: str(row.padding),
    "output": lambda row: times((row.out_channels, *row.out_size)),
    "field": lambda row: "all" if row.stage == "head" else str(row.receptive_field),
    "jump": lambda row: str(row.jump),
    "padded": lambda row: f"{row.padding_share:.1%}",
    "params": lambda row: f"{row.params:,}",
    "MACs": lambda row: f"{row.macs:,}",
    "KiB": lambda row: f"{row.activation_bytes / 1024:,.1f}",
}


def table(rows: list[Row]) -> str:
    """The rows and their totals as aligned text."""
    total = totals(rows)
    sums = [f"{total.params:,}", f"{total.macs:,}", f"{total.activation_bytes / 1024:,.1f}"]
    last = ["total", *[""] * (len(COLUMNS) - 1 - len(sums)), *sums]
    lines = [list(COLUMNS), *([cell(row) for cell in COLUMNS.values()] for row in rows), last]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(cells: list[str], widths: list[int]) -> str:
    """The layer and its op to the left, the numbers to the right."""
    sides = [str.ljust] * 2 + [str.rjust] * (len(cells) - 2)
    return "  ".join(side(cell, width) for side, cell, width in zip(sides, cells, widths, strict=True))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        program_name("resnet_hub.geometry"), description="A network, layer by layer."
    )
    parser.add_argument("name", metavar="NAME", help="network, e.g. resnet50 or resnet20_cifar")
    add_override_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when the network could be traced, 2 after one line otherwise."""
    options = parse_arguments(arguments)
    return run_command("resnet_hub.geometry", lambda: print_rows(options))


def print_rows(options: argparse.Namespace) -> None:
    """The rows of the network that a command line describes, on stdout."""
    config = own_design(model_config(options.name, **overrides_from(options)), options.set)
    rows = trace(config)
    print(json.dumps(document(config, rows), indent=2) if options.json else table(rows))


if __name__ == "__main__":
    sys.exit(main())
