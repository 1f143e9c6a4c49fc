"""The flags of a command that change a network, and the overrides they ask for."""

from __future__ import annotations

import argparse
from typing import Any

from resnet_hub.errors import Refusal


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "32" or "47x61".

    Raises:
        ValueError: for any other text; the configuration checks the numbers.
    """
    try:
        height, _, width = text.lower().partition("x")
        return int(height), int(width if "x" in text.lower() else height)
    except ValueError:
        raise Refusal(f"input size {text[:40]!r} is not a size; give N or HxW, e.g. 32 or 96x64") from None


def parse_strides(text: str) -> tuple[int, ...]:
    """One stride for each stage from "1,2,2,2".

    Raises:
        ValueError: for any other text.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        message = f"strides {text[:40]!r} are not numbers; give one for each stage, e.g. 1,2,2,2"
        raise Refusal(message) from None


def add_override_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that change a network; `overrides_from` reads them."""
    group = parser.add_argument_group("overrides of the named network")
    group.add_argument("--input", metavar="N|HxW", help="size of the image in pixels")
    group.add_argument("--stem", help="imagenet, cifar or deep")
    group.add_argument("--strides", metavar="S,S,...", help="one for each stage, e.g. 1,2,2,2")
    group.add_argument("--maxpool", action=argparse.BooleanOptionalAction, help="pooling after the stem")
    group.add_argument("--shortcut", help="projection, zeropad or none")
    group.add_argument("--stride-in", metavar="3x3|1x1", help="which convolution of a bottleneck strides")
    group.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        help="after each convolution of LeNet-5, VGG ...",
    )


def overrides_from(options: argparse.Namespace) -> dict[str, Any]:
    """The overrides a command line asks for, for `create_model` and `trace`.

    Raises:
        ValueError: for a size or strides that cannot be read.
    """
    given = ("stem", "maxpool", "shortcut", "stride_in", "batch_norm")
    overrides = {name: getattr(options, name) for name in given}
    if options.input is not None:
        overrides["input_size"] = parse_size(options.input)
    if options.strides is not None:
        overrides["strides"] = parse_strides(options.strides)
    return {name: value for name, value in overrides.items() if value is not None}
