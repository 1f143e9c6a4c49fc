"""What a network does to an image, by arithmetic alone: sizes, receptive fields, parameters, cost.

The layers are read off the configuration and plans that build the network, so the numbers cannot drift from
the model. torch is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, NamedTuple

from resnet_hub.config import BaselineConfig, ModelConfig
from resnet_hub.errors import Refusal
from resnet_hub.geometry.formulas import BYTES, conv_weights, counted_flops, counted_macs, in_length
from resnet_hub.geometry.walk import SHORTCUT, Row, walk
from resnet_hub.models.plans import InputTooSmall, plan_of
from resnet_hub.models.registry import model_config

__all__ = [
    "BYTES", "InputTooSmall", "Row", "Stage", "Totals", "conv_weights", "counted_flops", "counted_macs",
    "document", "first_centres", "main_path", "stages", "stages_with_maps", "totals", "trace",
]  # fmt: skip


WINDOWED = ("conv", "max_pool", "avg_pool")  # layers that read more than single positions


class Totals(NamedTuple):
    """Sums over rows, for one image; `activation_bytes` is about what training keeps."""

    params: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a network: the map that leaves it, and the sums over its rows; units as in `Row`."""

    name: str
    out_channels: int
    out_size: tuple[int, int]
    receptive_field: int
    jump: int
    params: int
    macs: int
    activation_bytes: int


def trace(
    name_or_config: str | ModelConfig, input_size: int | tuple[int, int] | None = None, **overrides: Any
) -> list[Row]:
    """Every leaf layer of a network, in the order a forward pass meets them.

    Args:
        name_or_config: a name stands for the network `create_model(name, input_size=input_size, **overrides)`
            builds; a configuration for that very network, whose head may be tied to its own size.
        input_size: (height, width) of the image in pixels, an int for a square; None means the
            configuration's own.
        **overrides: fields of the configuration, e.g. `stem="cifar"`.

    Returns:
        One row for each leaf module that computes something (no `nn.Identity`), names unique. The columns
        add up to the network's totals.

    Raises:
        InputTooSmall: naming the first layer whose map would be empty, and the least size.
        ValueError: for a name, override or size that is not allowed.
    """
    config = _configured(name_or_config, {} if input_size is None else {"input_size": input_size}, overrides)
    rows = list(walk(config))
    _check_maps(config, rows)
    return rows


def totals(rows: Sequence[Row]) -> Totals:
    """Parameters, multiply-adds and fp32 bytes of all rows together."""
    return Totals(*(sum(getattr(row, column) for row in rows) for column in Totals._fields))


def main_path(rows: Sequence[Row]) -> list[Row]:
    """The convolutions and poolings an image passes one after another, shortcuts left out."""
    return [row for row in rows if row.op in WINDOWED and ".downsample" not in row.name]


def stages(rows: Sequence[Row]) -> list[Stage]:
    """The rows summed up by stage, in order."""
    return [_summed(name, list(group)) for name, group in groupby(rows, key=lambda row: row.stage)]


def stages_with_maps(rows: Sequence[Row]) -> list[Stage]:
    """The stages that leave a map: neither the stem nor the head."""
    return [stage for stage in stages(rows) if stage.name.startswith(("layer", "stage"))]


def first_centres(rows: Sequence[Row]) -> dict[str, float]:
    """For each stage, the pixel at the centre of its first position's receptive field, from 0.

    Each window moves it by half of what it is larger than its padding covers (Dumoulin and Visin,
    arXiv 1603.07285).
    """
    centre, jump, found = 0.0, 1, {}
    for row in main_path(rows):
        if isinstance(row.kernel, int):
            centre += ((row.kernel - 1) / 2 - row.padding) * jump
            jump = row.jump
        found[row.stage] = centre
    return found


def _configured(name_or_config: str | ModelConfig, size: dict, overrides: dict) -> ModelConfig:
    """The network to trace, with the image's size as its `input_size`."""
    if not isinstance(name_or_config, ModelConfig):
        return model_config(name_or_config, **size, **overrides)
    built = name_or_config.override(**overrides)
    config = built.override(**size)
    if isinstance(built, BaselineConfig) and built.input_size != config.input_size:
        _check_any_size(built, config.input_size)
    return config


def _check_any_size(config: BaselineConfig, size: tuple[int, int]) -> None:
    plan = plan_of(config)
    if not plan.global_pool:
        layer = "classifier.0" if plan.hidden else "fc"
        raise Refusal(
            f"{config.name}: layer {layer} is built for a {times(config.input_size)} image and cannot "
            f"take {times(size)}; resize the image or build the network with input_size={size}"
        )


def _check_maps(config: ModelConfig, rows: list[Row]) -> None:
    empty = next((row for row in rows if min(row.out_size) < 1), None)
    if empty is None:
        return
    least = 1
    for row in reversed([row for row in rows if row.stage != "head" and f".{SHORTCUT}" not in row.name]):
        assert isinstance(row.kernel, int)  # only in the head does a window follow the map
        least = in_length(least, row.kernel, row.stride, row.padding)
    raise InputTooSmall(
        f"{config.name}: layer {empty.name} ({empty.op} {empty.kernel}, stride {empty.stride}) has nothing "
        f"left to work on in a {times(config.input_size)} image; give input_size={least} or larger",
        "input_too_small",
        layer=empty.name,
        least=least,
    )


def _summed(name: str, rows: list[Row]) -> Stage:
    last = rows[-1]
    return Stage(
        name=name,
        out_channels=last.out_channels,
        out_size=last.out_size,
        receptive_field=max(row.receptive_field for row in rows),  # the last row may be a shortcut's
        jump=last.jump,
        **totals(rows)._asdict(),
    )


def times(size: tuple[int, ...]) -> str:
    """(224, 160) as "224x160"."""
    return "x".join(map(str, size))


def document(config: ModelConfig, rows: list[Row]) -> dict[str, Any]:
    """The configuration, rows, stages and totals, JSON-ready."""
    return {
        "model": config.name,
        "config": config.to_dict(),
        "rows": [asdict(row) for row in rows],
        "stages": [asdict(stage) for stage in stages(rows)],
        "totals": totals(rows)._asdict(),
    }
