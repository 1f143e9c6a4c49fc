"""A design as a person gives it: values of controls, a word in an address, a line of Python.

All of them are read into, and written from, the configuration that builds the network. Knows nothing of
gradio, of torch or of languages: what is wrong with a design is a code and facts, which `text.py` makes a
sentence of.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from io import StringIO
from typing import Any, get_args, get_type_hints

from resnet_hub.config import BOUNDS, ModelConfig, ResNetConfig
from resnet_hub.geometry import InputTooSmall, Row, trace
from resnet_hub.geometry.advice import Advice, advise
from resnet_hub.models.flags import parse_size, parse_strides
from resnet_hub.models.registry import list_models, model_config

FIELDS = ("model", "stem", "input_size", "strides", "maxpool", "stride_in", "shortcut")
SWITCH = {"yes": True, "no": False}


class DesignError(ValueError):
    """A design that cannot be; `code` and `facts` are those of a `design_...` sentence in `text.py`."""

    def __init__(self, code: str, **facts: Any) -> None:
        super().__init__(f"{code}: {facts}")
        self.code = code
        self.facts = facts


@dataclass(frozen=True)
class Design:
    """A network somebody thought up, layer by layer, and what there is to say against it."""

    config: ModelConfig
    rows: list[Row]
    advice: list[Advice]


@lru_cache(64)  # a visitor changes one of two designs at a time
def design(config: ModelConfig) -> Design:
    """All that is computed of a configuration.

    Raises:
        DesignError: where a layer has nothing left to work on.
    """
    try:
        rows = trace(config)
    except InputTooSmall as error:
        raise DesignError("nothing_left", **error.facts) from error
    return Design(config, rows, advise(rows, config, config.input_size))


def published_config(model: str) -> ModelConfig:
    """The network as its name says.

    Raises:
        DesignError: for a name that is none.
    """
    if model not in list_models():
        near = get_close_matches(str(model), list_models(), n=3) or [*list_models()[:4], "…"]
        raise DesignError("network", seen=str(model)[:40], allowed=", ".join(near))
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
    """The configuration that texts describe; None and "" keep the network's own value.

    Args:
        input_size: "32" or "96x64", (height) x (width).
        strides: "1,2,2,2", one for each stage.
        maxpool: None means as usual with the stem: none after the CIFAR stem.

    Raises:
        DesignError: for the first text that cannot be.
    """
    published = published_config(model)
    wishes = {
        "stem": stem,
        "input_size": _size(input_size),
        "strides": _strides(published, strides),
        "stride_in": stride_in,
        "shortcut": shortcut,
    }
    changes = {k: v for k, v in wishes.items() if v and v != getattr(published, k, None)}
    if maxpool not in (None, "") and maxpool != _usual_maxpool(published, changes):
        changes["maxpool"] = maxpool
    for field, value in changes.items():
        _check(published, field, value)
    return published.override(**changes)


def read_address(text: str) -> ModelConfig:
    """The inverse of `address`.

    Raises:
        DesignError: for a text that is none, or a design that cannot be.
    """
    name, _, rest = text.partition(".")
    size, *parts = rest.split(".")
    texts: dict[str, Any] = {}
    for field, _, value in (part.partition("-") for part in parts):
        texts[field] = SWITCH.get(value, value) if field == "maxpool" else value
    if not set(texts) <= set(FIELDS) - {"model", "input_size"} or len(texts) < len(parts):
        raise DesignError("address", seen=text[:80])
    texts["strides"] = texts.get("strides", "").replace("-", ",")
    return read(name, input_size=size, **texts)


def address(config: ModelConfig) -> str:
    """ "resnet50.32.stem-cifar": name, size and what differs, in letters no address has to escape."""
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
    """What the controls say, by field; None where the network has no such thing."""
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
    if isinstance(config, ResNetConfig) and config.has_maxpool != (config.stem != "cifar"):
        found["maxpool"] = config.has_maxpool
    return found


def python(config: ModelConfig) -> str:
    """The lines that build this very network."""
    arguments = [json.dumps(config.name)]
    for field, value in differences(config).items():
        if field == "input_size" and value[0] == value[1]:
            value = value[0]
        arguments.append(f"{field}={json.dumps(value) if isinstance(value, str) else value}")
    return f"import resnet_hub\n\nmodel = resnet_hub.create_model({', '.join(arguments)})\n"


def csv_table(rows: list[Row]) -> str:
    """The rows with their column names, (height, width) as "HxW"."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(vars(rows[0]))
    for row in rows:
        writer.writerow("x".join(map(str, v)) if isinstance(v, tuple) else v for v in vars(row).values())
    return text.getvalue()


def size_text(size: tuple[int, int]) -> str:
    """(32, 32) -> "32", (96, 64) -> "96x64" """
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None or not str(text).strip():
        return None
    try:
        size = parse_size(str(text))
    except ValueError:
        raise DesignError("size", seen=str(text)[:40]) from None
    least, most = BOUNDS["input_size"]
    if not all(least <= side <= most for side in size):
        raise DesignError("size_range", seen=str(text)[:40], least=least, most=most)
    return size


def _strides(published: ModelConfig, text: str | None) -> tuple[int, ...] | None:
    if text is None or not str(text).strip():
        return None
    try:
        strides = parse_strides(str(text))
    except ValueError:
        raise DesignError("strides", seen=str(text)[:40]) from None
    stages = len(getattr(published, "strides", strides))
    if len(strides) != stages:
        raise DesignError("strides_count", seen=str(text)[:40], network=published.name, count=stages)
    least, most = BOUNDS["strides"]
    if not all(least <= stride <= most for stride in strides):
        raise DesignError("strides_range", seen=str(text)[:40], least=least, most=most)
    return strides


def _usual_maxpool(published: ModelConfig, changes: dict[str, Any]) -> bool:
    return changes.get("stem", getattr(published, "stem", "cifar")) != "cifar"


def _check(published: ModelConfig, field: str, value: Any) -> None:
    """Refuse a field this network does not have, and a word it does not know."""
    if field not in taken(published):
        allowed = ", ".join(taken(published)[1:])
        raise DesignError("idle", field=field, seen=str(value)[:40], network=published.name, allowed=allowed)
    words = get_args(get_type_hints(ResNetConfig).get(field))
    if field in ("stem", "stride_in", "shortcut") and value not in words:
        raise DesignError("word", field=field, seen=str(value)[:40], allowed=", ".join(words))
    if field == "maxpool" and not isinstance(value, bool):
        raise DesignError("word", field=field, seen=str(value)[:40], allowed="yes, no")
