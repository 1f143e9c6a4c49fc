"""The flags of a command that change a network, and the overrides they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from resnet_hub.config import ModelConfig
from resnet_hub.errors import Refusal
from resnet_hub.models.registry import model_config


def network_name(text: str) -> str:
    """The name itself, as the type of an argument.

    Raises:
        argparse.ArgumentTypeError: for a name that no network has.
    """
    try:
        return model_config(text).name
    except Refusal as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
    group.add_argument(
        "--stride-in", metavar="3x3|1x1", help="which convolution of a bottleneck has the stride"
    )
    group.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        help="after each convolution of LeNet-5, VGG ...",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        type=setting,
        metavar="FIELD=VALUE",
        help="a field of the structure, which makes a network of your own: widths=96,320,384, depths=2,2,2, "
        "stem_width=24, block=pooled ...; may be repeated",
    )


def setting(text: str) -> tuple[str, Any]:
    """(field, value) from "widths=96,320,384".

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} sets nothing; give FIELD=VALUE, e.g. widths=96,320,384"
        )
    parts = [_number_or_word(part) for part in value.split(",")]
    return name.replace("-", "_"), tuple(parts) if len(parts) > 1 else parts[0]


def _number_or_word(text: str) -> int | str | bool:
    return {"true": True, "false": False}.get(text.lower(), int(text) if text.isdecimal() else text)


def own_design(config: ModelConfig, settings: Iterable[tuple[str, Any]]) -> ModelConfig:
    """A network of one's own: `config` with fields of its structure changed, and a name that says so; with
    the values that it has, `config` itself.

    Raises:
        ValueError: for a field that it does not have or that nothing in it reads, or a value that is not
            allowed.
    """
    changes = dict(settings)
    if not changes:
        return config
    kinds = {field.name: field.type for field in fields(config)}
    allowed = kinds.keys() - set(ModelConfig.__dataclass_fields__) - {"kind"}
    if unknown := sorted(changes.keys() - allowed):
        raise Refusal(f"--set {unknown[0]}: {config.name} has {', '.join(sorted(allowed))} to set")
    for name, value in changes.items():
        if str(kinds[name]).startswith("tuple") and not isinstance(value, tuple):
            changes[name] = (value,)
    made = replace(config, name=f"{config.name}_own", **changes)
    if idle := sorted(changes.keys() & made.idle_fields()):
        raise Refusal(f"--set {idle[0]}={changes[idle[0]]} changes nothing in {config.name}; leave it out")
    return config if replace(made, name=config.name) == config else made


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
