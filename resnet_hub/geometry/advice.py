"""What is wrong with a design, and the change that mends it: rules over the rows of `geometry.trace`.

Every change is tried before it is proposed. Knows nothing of torch, of drawing or of languages: a page that
speaks another one builds its sentence from `code` and `facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from resnet_hub.config import BOUNDS, ModelConfig, ResNetConfig
from resnet_hub.geometry import NothingLeft, Row, stages, totals, trace
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.models.timm_names import SAME_IN_TIMM

LEAST_POSITIONS = 3  # rows or columns of the last map; with 2, every 3x3 window already hangs over the edge
MOST_PADDING = 0.5
FIELD_GROWTH = 4  # times the published network's ratio of receptive field to image
LEAST_FIELD = 0.5  # of the image
LARGE_IMAGE = 128  # the side from which a stem that keeps it costs more than it can give


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to know about a design.

    Args:
        code: which rule speaks.
        facts: the numbers it speaks of, JSON-ready.
        why: one English sentence.
        overrides: the change that mends it, for `create_model` and `trace`; empty where none was found.
    """

    code: str
    facts: dict[str, Any]
    why: str
    overrides: dict[str, Any]


Found = tuple[dict[str, Any], str]  # facts, why
Changes = Iterable[dict[str, Any]]


def advise(rows: list[Row], config: ModelConfig, input_size: int | tuple[int, int]) -> list[Advice]:
    """What goes wrong in a residual network at this size; nothing for the networks before ResNet.

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
    return [
        Advice(code=rule.code, facts=what[0], why=what[1], overrides=_mend(rule, rows, config))
        for rule, what in found
        if what is not None
    ]


@dataclass(frozen=True)
class Rule:
    """A code, what to look for, and the changes to try in turn."""

    code: str
    look: Callable[[list[Row], ResNetConfig], Found | None]
    changes: Callable[[list[Row], ResNetConfig], Changes]


def _mend(rule: Rule, rows: list[Row], config: ResNetConfig) -> dict[str, Any]:
    """The first change after which the rule has nothing to say."""
    for change in rule.changes(rows, config):
        try:
            changed = config.override(**change)
            rows_after = trace(changed)
        except ValueError:  # a size beyond what the configuration allows, or strides that leave nothing
            continue
        if rule.look(rows_after, changed) is None:
            return change
    return {}


def _last_map_is_small(rows: list[Row], config: ResNetConfig) -> Found | None:
    height, width = stages(rows)[-2].out_size
    if min(height, width) >= LEAST_POSITIONS:
        return None
    why = f"At the last stage's {height}x{width} positions next to nothing is left of the image's layout."
    return {"out_size": [height, width]}, why


def _padding_is_most(rows: list[Row], config: ResNetConfig) -> Found | None:
    padded = [row for row in rows if row.padding_share > MOST_PADDING]
    if not padded:
        return None
    worst = max(padded, key=lambda row: row.padding_share)
    facts = {"layers": len(padded), "layer": worst.name, "share": worst.padding_share}
    why = f"{len(padded)} layers read more padding than map, {worst.name} {worst.padding_share:.0%}."
    return facts, why


def _field_is_far_above(rows: list[Row], config: ResNetConfig) -> Found | None:
    field, side = rows[-1].receptive_field, min(config.input_size)
    usual = _published_field(config.name)
    if usual is None or field / side <= FIELD_GROWTH * usual:
        return None
    facts = {"receptive_field": field, "times": field / side, "published_times": usual}
    why = (
        f"The receptive field of {field} pixels is {field / side:.1f} times the image, against {usual:.1f} "
        f"in the published {config.name}: the later layers look mostly at what lies outside."
    )
    return facts, why


def _field_is_far_below(rows: list[Row], config: ResNetConfig) -> Found | None:
    field, side = rows[-1].receptive_field, max(config.input_size)
    if field >= LEAST_FIELD * side:
        return None
    why = f"No position sees more than {field} of {side} pixels, so large things are never seen whole."
    return {"receptive_field": field, "side": side}, why


@cache
def _published_field(name: str) -> float | None:
    """Receptive field over image of the network as it was published; None for names of one's own."""
    if name not in list_models():
        return None
    config = model_config(name)
    return trace(config)[-1].receptive_field / min(config.input_size)


def _stem_keeps_a_large_image(rows: list[Row], config: ResNetConfig) -> Found | None:
    entering = stages(rows)[1 if config.has_maxpool else 0]
    if entering.jump > 1 or min(config.input_size) < LARGE_IMAGE:
        return None
    try:
        usual = totals(trace(config, stem="imagenet", maxpool=True)).macs
    except NothingLeft:
        return None
    times = totals(rows).macs / usual
    why = (
        f"The stem keeps the full size, which costs {times:.1f} times the multiply-adds of the ImageNet stem."
    )
    return {"times": times}, why


def _size_is_rounded(rows: list[Row], config: ResNetConfig) -> Found | None:
    found = None if config.block == "pooled" else _no_multiple(rows, config)
    if found is None:
        return None
    jump, left = found["jump"], min(r for r in found["rest"] if r)
    why = f"The size is no multiple of {jump}: the last positions find {left} of their {jump} pixels filled."
    return found, why


def _size_is_cut(rows: list[Row], config: ResNetConfig) -> Found | None:
    """A convolution reaches over the edge of its map; pooling without padding stops before it."""
    found = _no_multiple(rows, config) if config.block == "pooled" else None
    if found is None:
        return None
    why = f"The size is no multiple of {found['jump']}: pooling drops the rows and columns left over."
    return found, why


def _no_multiple(rows: list[Row], config: ResNetConfig) -> dict[str, Any] | None:
    jump = rows[-1].jump
    rest = [n % jump for n in config.input_size]
    return {"jump": jump, "rest": rest} if any(rest) and min(config.input_size) >= jump else None


def _weights_mean_something_else(rows: list[Row], config: ResNetConfig) -> Found | None:
    changed = _silent_changes(rows, config)
    if not changed:
        return None
    facts = {"fields": list(changed)}
    why = (
        f"timm and torchvision load these weights into their own {config.name} without an error, "
        f"but it computes something else: {', '.join(changed)} cannot be told to them."
    )
    return facts, why


def _silent_changes(rows: list[Row], config: ResNetConfig) -> dict[str, Any]:
    """Published values of the fields that differ although every weight keeps its name and shape."""
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
    side = int(rows[-1].receptive_field / LEAST_FIELD)
    yield {"input_size": tuple(min(n, side) for n in config.input_size)}


def _nearest_multiple(rows: list[Row], config: ResNetConfig) -> Iterator[dict[str, Any]]:
    jump, most = rows[-1].jump, BOUNDS["input_size"][1]
    yield {"input_size": tuple(min(max(1, round(n / jump)), most // jump) * jump for n in config.input_size)}


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
