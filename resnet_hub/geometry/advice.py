"""What is wrong with a design and which change repairs it: rules over the rows of `geometry.trace`.

Every change is tried before it is proposed. The page makes its sentences from `code` and `facts`
(`ui/explore/text.toml`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from resnet_hub.config import BOUNDS, ModelConfig, ResNetConfig
from resnet_hub.geometry import InputTooSmall, Row, stages, totals, trace
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.models.timm_names import SAME_IN_TIMM

LEAST_POSITIONS = 3  # rows or columns of the last map; with 2, every 3x3 window reaches over the edge
MOST_PADDING = 0.5
FIELD_GROWTH = 4  # times the published network's ratio of receptive field to image side
LEAST_FIELD = 0.5  # of the image
LARGE_IMAGE = 128  # side in pixels from which a stem that keeps the size costs more than it gains


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to know about a design.

    Args:
        code: the rule.
        facts: the numbers behind it, JSON-ready.
        overrides: the change that repairs it, for `create_model` and `trace`; empty where none was found.
    """

    code: str
    facts: dict[str, Any]
    overrides: dict[str, Any]


Facts = dict[str, Any]
Changes = Iterable[dict[str, Any]]


def advise(rows: list[Row], config: ModelConfig, input_size: int | tuple[int, int]) -> list[Advice]:
    """What goes wrong in a residual network at this size; an empty list for the networks before ResNet.

    Args:
        rows: `trace(config, input_size)`.
        input_size: (height, width) of the image in pixels; an int means a square.

    Returns:
        At most one `Advice` for each rule, in the order of `RULES`.

    Raises:
        ValueError: for a size out of bounds.
    """
    if not isinstance(config, ResNetConfig):
        return []
    config = config.override(input_size=input_size)
    found = [(rule, rule.look(rows, config)) for rule in RULES]
    # What a change may still say: what was said before, and that it is one.
    known = {"weights_mean_something_else", *(rule.code for rule, facts in found if facts is not None)}
    return [
        Advice(code=rule.code, facts=facts, overrides=_repair(rule, rows, config, known))
        for rule, facts in found
        if facts is not None
    ]


@dataclass(frozen=True)
class Rule:
    """A code, what to look for, and the changes to try in turn."""

    code: str
    look: Callable[[list[Row], ResNetConfig], Facts | None]
    changes: Callable[[list[Row], ResNetConfig], Changes]


def _repair(rule: Rule, rows: list[Row], config: ResNetConfig, known: set[str]) -> dict[str, Any]:
    """The first change after which the rule finds nothing, nor any other but those `known`; if there is none,
    the first after which the rule finds nothing."""
    others = [other for other in RULES if other.code not in known]
    second: dict[str, Any] = {}
    for change in rule.changes(rows, config):
        try:
            changed = config.override(**change)
            rows_after = trace(changed)
        except ValueError:  # a size the configuration does not allow, or strides that leave no map
            continue
        if rule.look(rows_after, changed) is None:
            if all(other.look(rows_after, changed) is None for other in others):
                return change
            second = second or change
    return second


def _last_map_is_small(rows: list[Row], config: ResNetConfig) -> Facts | None:
    height, width = stages(rows)[-2].out_size
    if min(height, width) >= LEAST_POSITIONS:
        return None
    return {"out_size": [height, width]}


def _padding_is_most(rows: list[Row], config: ResNetConfig) -> Facts | None:
    padded = [row for row in rows if row.padding_share > MOST_PADDING]
    if not padded:
        return None
    worst = max(padded, key=lambda row: row.padding_share)
    return {"layers": len(padded), "layer": worst.name, "share": worst.padding_share}


def _field_is_far_above(rows: list[Row], config: ResNetConfig) -> Facts | None:
    field, side = rows[-1].receptive_field, min(config.input_size)
    usual = _published_field(config.name)
    if usual is None or field / side <= FIELD_GROWTH * usual:
        return None
    return {"receptive_field": field, "times": field / side, "published_times": usual}


def _field_is_far_below(rows: list[Row], config: ResNetConfig) -> Facts | None:
    field, side = rows[-1].receptive_field, max(config.input_size)
    if field >= LEAST_FIELD * side:
        return None
    return {"receptive_field": field, "side": side}


@cache
def _published_field(name: str) -> float | None:
    """Receptive field over image side of the published network; None for a name not in the registry."""
    if name not in list_models():
        return None
    config = model_config(name)
    return trace(config)[-1].receptive_field / min(config.input_size)


def _stem_keeps_a_large_image(rows: list[Row], config: ResNetConfig) -> Facts | None:
    entering = stages(rows)[1 if config.has_maxpool else 0]
    if entering.jump > 1 or min(config.input_size) < LARGE_IMAGE:
        return None
    try:
        usual = totals(trace(config, stem="imagenet", maxpool=True)).macs
    except InputTooSmall:
        return None
    return {"times": totals(rows).macs / usual}


def _size_is_rounded(rows: list[Row], config: ResNetConfig) -> Facts | None:
    return None if config.block == "pooled" else _no_multiple(rows, config)


def _size_is_cut(rows: list[Row], config: ResNetConfig) -> Facts | None:
    """Unlike a convolution, pooling without padding does not reach over the edge of its map."""
    return _no_multiple(rows, config) if config.block == "pooled" else None


def _no_multiple(rows: list[Row], config: ResNetConfig) -> Facts | None:
    jump = rows[-1].jump
    rest = [n % jump for n in config.input_size]
    return {"jump": jump, "rest": rest} if any(rest) and min(config.input_size) >= jump else None


def _weights_mean_something_else(rows: list[Row], config: ResNetConfig) -> Facts | None:
    changed = _silent_changes(rows, config)
    return {"fields": list(changed)} if changed else None


def _silent_changes(rows: list[Row], config: ResNetConfig) -> dict[str, Any]:
    """Published values of changed fields, where every weight still has its published name and shape."""
    if config.name not in SAME_IN_TIMM:
        return {}
    published = model_config(config.name).override(in_chans=config.in_chans, num_classes=config.num_classes)
    fields = {"strides": "strides", "stride_in": "stride_in", "maxpool": "has_maxpool"}
    values = {name: (getattr(config, f), getattr(published, f)) for name, f in fields.items()}
    ours, theirs = (
        [(row.name, row.params) for row in each if row.params] for each in (rows, trace(published))
    )
    if ours != theirs:
        return {}
    return {name: usual for name, (value, usual) in values.items() if value != usual}


def _less_stride(rows: list[Row], config: ResNetConfig) -> Iterator[dict[str, Any]]:
    """Gentle changes first; a larger image where nothing else helps."""
    if config.has_maxpool:
        yield {"maxpool": False}
    cifar = {"stem": "cifar", "maxpool": False}
    yield cifar
    for i in range(len(config.strides)):
        yield cifar | {"strides": (1,) * (i + 1) + config.strides[i + 1 :]}
    for times in range(1, 17):
        yield {"input_size": tuple(times * LEAST_POSITIONS * rows[-1].jump for _ in config.input_size)}


def _more_stride(rows: list[Row], config: ResNetConfig) -> Iterator[dict[str, Any]]:
    yield {"stem": "imagenet", "maxpool": True}
    side, jump = int(rows[-1].receptive_field / LEAST_FIELD), rows[-1].jump
    for most in (side, max(side // jump, 1) * jump):
        yield {"input_size": tuple(min(n, most) for n in config.input_size)}


def _nearest_multiple(rows: list[Row], config: ResNetConfig) -> Iterator[dict[str, Any]]:
    jump, most = rows[-1].jump, BOUNDS["input_size"][1]
    for nearest in (round, math.ceil):
        sides = (min(max(1, nearest(n / jump)), most // jump) * jump for n in config.input_size)
        yield {"input_size": tuple(sides)}


def _published(rows: list[Row], config: ResNetConfig) -> Iterator[dict[str, Any]]:
    yield _silent_changes(rows, config)


RULES = (
    Rule("last_map_small", _last_map_is_small, _less_stride),
    Rule("padding_over_half", _padding_is_most, _less_stride),
    Rule("field_far_above", _field_is_far_above, _less_stride),
    Rule("field_far_below", _field_is_far_below, _more_stride),
    Rule("stem_keeps_large_image", _stem_keeps_a_large_image, _more_stride),
    Rule("size_rounded", _size_is_rounded, _nearest_multiple),
    Rule("size_cut", _size_is_cut, _nearest_multiple),
    Rule("weights_mean_something_else", _weights_mean_something_else, _published),
)
