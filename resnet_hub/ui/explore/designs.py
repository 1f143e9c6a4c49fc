"""A design in each of its forms: values of controls, a word in an address, a line of Python, a table.

All are read into, and written from, the configuration that builds the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from resnet_hub.config import BOUNDS, ModelConfig, ResNetConfig
from resnet_hub.geometry import InputTooSmall, Row, trace
from resnet_hub.geometry.advice import Advice, advise
from resnet_hub.models.flags import parse_size, parse_strides
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.ui.shared.errors import refusal
from resnet_hub.ui.shared.text import csv_text

FIELDS = ("model", "stem", "input_size", "strides", "maxpool", "stride_in", "shortcut")
SWITCH = {"yes": True, "no": False}
MOST_ADDRESS = 300  # characters


@dataclass(frozen=True)
class Design:
    """A network layer by layer, with advice on it."""

    config: ModelConfig
    rows: list[Row]
    advice: list[Advice]


@lru_cache(64)  # a visitor changes one of two designs at a time
def design(config: ModelConfig) -> Design:
    """Rows and advice of a configuration.

    Raises:
        Refusal: when the input is too small for a layer.
    """
    try:
        rows = trace(config)
    except InputTooSmall as error:
        raise refusal("design_nothing_left", **error.facts) from error
    return Design(config, rows, advise(rows, config, config.input_size))


def published_config(model: str) -> ModelConfig:
    """The network as its name says.

    Raises:
        Refusal: for an unknown name.
    """
    if not isinstance(model, str) or model not in list_models():
        near = get_close_matches(str(model)[:40], list_models(), n=3) or [*list_models()[:4], "…"]
        raise refusal("design_network", seen=str(model)[:40], allowed=", ".join(near))
    return model_config(model)


def taken(config: ModelConfig) -> list[str]:
    """The fields that change something on this network."""
    if not isinstance(config, ResNetConfig):
        return ["model", "input_size"]
    return [field for field in FIELDS if field not in config.idle_fields()]


def read(
    model: str,
    stem: str | None = None,
    input_size: str | None = None,
    strides: str | None = None,
    maxpool: bool | None = None,
    stride_in: str | None = None,
    shortcut: str | None = None,
) -> ModelConfig:
    """The configuration that these values describe; None and "" keep the network's own.

    Args:
        input_size: "32" or "96x64", (height) x (width).
        strides: "1,2,2,2", one for each stage.
        maxpool: None means as usual with the stem: none after the CIFAR stem.

    Raises:
        Refusal: for the first value that is not possible.
    """
    published = published_config(model)
    wishes: dict[str, Any] = {
        "stem": stem,
        "input_size": _numbers("input_size", parse_size, input_size),
        "strides": _numbers("strides", parse_strides, strides),
        "stride_in": stride_in,
        "shortcut": shortcut,
    }
    _check_count(published, wishes["strides"])
    changes = {k: v for k, v in wishes.items() if v and v != getattr(published, k, None)}
    for field, value in changes.items():
        _check(published, field, value)
    design = published.override(**changes)
    if maxpool in (None, "") or maxpool == getattr(design, "has_maxpool", False):
        return design
    _check(published, "maxpool", maxpool)
    return published.override(**changes, maxpool=maxpool)


def read_address(text: str) -> ModelConfig:
    """The inverse of `address`.

    Raises:
        Refusal: for text in another form, or a design that is not possible.
    """
    if len(text) > MOST_ADDRESS:
        raise refusal("design_address", seen=text[:80])
    name, _, rest = text.partition(".")
    size, *parts = rest.split(".")
    texts: dict[str, Any] = {}
    for field, _, value in (part.partition("-") for part in parts):
        texts[field] = SWITCH.get(value, value) if field == "maxpool" else value
    if not set(texts) <= set(FIELDS) - {"model", "input_size"} or len(texts) < len(parts):
        raise refusal("design_address", seen=text[:80])
    texts["strides"] = texts.get("strides", "").replace("-", ",")
    return read(name, input_size=size, **texts)


def address(config: ModelConfig) -> str:
    """ "resnet50.32.stem-cifar": name, size and what differs, in characters that need no escaping."""
    parts = [config.name, size_text(config.input_size)]
    for field, value in differences(config).items():
        if field == "strides":
            value = "-".join(map(str, value))
        elif field == "maxpool":
            value = "yes" if value else "no"
        if field != "input_size":
            parts.append(f"{field}-{value}")
    return ".".join(parts)


def values(config: ModelConfig) -> dict[str, Any]:
    """The controls' values by field; None where the network has no such field."""
    here = {field: getattr(config, field, None) for field in FIELDS}
    return here | {
        "model": config.name,
        "input_size": size_text(config.input_size),
        "strides": ",".join(map(str, here["strides"] or ())),
        "maxpool": getattr(config, "has_maxpool", False),
    }


def differences(config: ModelConfig) -> dict[str, Any]:
    """The overrides that make this configuration of the network as it was published."""
    published = model_config(config.name)
    fields = [f for f in FIELDS if f not in ("model", "maxpool") and hasattr(config, f)]
    found = {f: getattr(config, f) for f in fields if getattr(config, f) != getattr(published, f)}
    if isinstance(config, ResNetConfig):
        usual: Any = published.override(stem=config.stem)
        if config.has_maxpool != usual.has_maxpool:
            found["maxpool"] = config.has_maxpool
    return found


def python(config: ModelConfig) -> str:
    """The lines of Python that build exactly this network."""
    arguments = [json.dumps(config.name)]
    for field, value in differences(config).items():
        if field == "input_size" and value[0] == value[1]:
            value = value[0]
        arguments.append(f"{field}={json.dumps(value) if isinstance(value, str) else value}")
    return f"import resnet_hub\n\nmodel = resnet_hub.create_model({', '.join(arguments)})\n"


def csv_table(rows: list[Row]) -> str:
    """The rows with their column names, (height, width) as "HxW"."""
    return csv_text(vars(rows[0]), (map(_cell, vars(row).values()) for row in rows))


def _cell(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def size_text(size: tuple[int, int]) -> str:
    """(32, 32) -> "32", (96, 64) -> "96x64" """
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _numbers(field: str, parse: Callable[[str], tuple[int, ...]], text: str | None) -> tuple[int, ...] | None:
    """The numbers of a text, each within the bounds of its field; None for no text."""
    if text is None or not str(text).strip():
        return None
    seen, (least, most) = str(text)[:40], BOUNDS[field]
    try:
        numbers = parse(str(text))
    except ValueError:
        raise refusal(f"design_{field}", seen=seen) from None
    if not all(least <= number <= most for number in numbers):
        raise refusal(f"design_{field}_range", seen=seen, least=least, most=most)
    return numbers


def _check_count(published: ModelConfig, strides: tuple[int, ...] | None) -> None:
    stages = len(getattr(published, "strides", strides or ()))
    if strides and len(strides) != stages:
        seen = ",".join(map(str, strides))
        raise refusal("design_strides_count", seen=seen, network=published.name, count=stages)


def _check(published: ModelConfig, field: str, value: Any) -> None:
    """Refuse a field that this network does not have, and a value that the field does not take."""
    if field not in taken(published):
        facts = {"network": published.name, "allowed": ", ".join(taken(published)[1:])}
        raise refusal("design_idle", field=field, seen=str(value)[:40], **facts)
    words = get_args(get_type_hints(ResNetConfig).get(field))
    if field in ("stem", "stride_in", "shortcut") and value not in words:
        raise refusal("design_word", field=field, seen=str(value)[:40], allowed=", ".join(words))
    if field == "maxpool" and not isinstance(value, bool):
        raise refusal("design_word", field=field, seen=str(value)[:40], allowed="yes, no")
