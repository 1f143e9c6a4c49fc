"""What a network does to an image, by arithmetic alone: sizes, receptive fields, parameters, cost.

The layers are read off the same configuration (and the same table of plans) that builds the network, so the
numbers cannot drift from the model. Knows nothing of torch, of pixels or of drawing.

Source of the formulas: Araujo et al., Computing Receptive Fields of Convolutional Neural Networks,
https://distill.pub/2019/computing-receptive-fields/
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import count, groupby
from typing import Any, NamedTuple

from resnet_hub.command import program_name
from resnet_hub.config import BaselineConfig, ModelConfig, ResNetConfig
from resnet_hub.models.plans import Conv, Plan, plan_of
from resnet_hub.models.registry import model_config

BYTES = 4  # of an fp32 value
SHORTCUT = "downsample"  # the module beside a block's convolutions, as in torchvision and timm


@dataclass(frozen=True, kw_only=True)
class Row:
    """One leaf module of a network and the feature map that leaves it, for one image.

    Args:
        name: the module's name, as in `named_modules()`.
        op: conv, batch_norm, relu, tanh, dropout, max_pool, avg_pool, global_avg_pool, global_max_pool,
            zero_pad (shortcut option A) or linear.
        kernel: side of the window, or (height, width) where it is not square. Global pooling and linear
            layers read all of a map; layers that look at single positions have 1.
        stride: positions from one window to the next.
        padding: rows or columns of zeros on each side.
        out_channels: channels of the map, or features of a linear layer.
        out_size: (height, width) of the map, (1, 1) for global pooling and whatever follows a flattened map.
        receptive_field: side in pixels of the square of the image that one position of the map can
            depend on, edges of the image disregarded. What reads a whole map depends on all of the
            image; these last rows repeat the value of the map they read.
        jump: pixels of the image from one position of the map to the next (the total stride).
        params: weights and biases; the running statistics of a batch norm are not counted.
        macs: multiply-adds of a convolution or linear layer without its bias, 0 for other layers.
        padding_share: share of what the windows read that is padding, 0 to 1.
        activation_bytes: the map in fp32.
        stage: stem, maxpool, layer1 ... and head; stage1 ... and head on the networks before ResNet.
    """

    name: str
    op: str
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: int = 0
    out_channels: int
    out_size: tuple[int, int]
    receptive_field: int = 1
    jump: int = 1
    params: int = 0
    macs: int = 0
    padding_share: float = 0.0
    activation_bytes: int = 0
    stage: str = ""


class NothingLeft(ValueError):
    """An image too small for a network: `layer` finds nothing to work on, `least` pixels a side would do."""

    def __init__(self, message: str, layer: str = "", least: int = 0) -> None:
        super().__init__(message)
        self.layer = layer
        self.least = least


class Totals(NamedTuple):
    """Sums over rows; `activation_bytes` is what training keeps for one image, about."""

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


class Layer(NamedTuple):
    """A leaf module that has no map yet; `out_channels=None` keeps the channels, `kernel=None` reads all."""

    name: str
    op: str
    out_channels: int | None = None
    kernel: int | None = 1
    stride: int = 1
    padding: int = 0
    bias: bool = False


Walk = Generator[Row, None, Row]  # yields a row for each layer, returns what the next layer reads


def trace(
    name_or_config: str | ModelConfig, input_size: int | tuple[int, int] | None = None, **overrides: Any
) -> list[Row]:
    """Every leaf layer of a network, in the order a forward pass meets them.

    Args:
        name_or_config: a name means the network `create_model(name, input_size=input_size, **overrides)`
            builds; a configuration means that very network, whose head may be tied to its own size.
        input_size: (height, width) of the image in pixels, an int for a square; None means the
            configuration's own.
        **overrides: fields of the configuration, e.g. `stem="cifar"`.

    Returns:
        One row for each leaf module that computes something (no `nn.Identity`), names unique. The columns
        add up to the network's totals.

    Raises:
        ValueError: for a name, override or size that is not allowed, naming the layer where no map is left.
    """
    config = _configured(name_or_config, {} if input_size is None else {"input_size": input_size}, overrides)
    rows = list(_walk(config))
    _check_maps(config, rows)
    return rows


def totals(rows: list[Row]) -> Totals:
    """Parameters, multiply-adds and fp32 bytes of all rows together."""
    return Totals(*(sum(getattr(row, column) for row in rows) for column in Totals._fields))


def stages(rows: list[Row]) -> list[Stage]:
    """The rows summed up by stage, in order."""
    return [_summed(name, list(group)) for name, group in groupby(rows, key=lambda row: row.stage)]


def out_length(length: int, kernel: int, stride: int, padding: int) -> int:
    """Windows that fit along one side of a map; below 1 where none does."""
    return (length + 2 * padding - kernel) // stride + 1


def in_length(length: int, kernel: int, stride: int, padding: int) -> int:
    """The shortest side from which `length` windows can be cut; the inverse of `out_length`."""
    return max(1, (length - 1) * stride + kernel - 2 * padding)


def receptive_field(before: int, jump: int, kernel: int) -> int:
    """Pixels one window sees, whose positions see `before` pixels each and lie `jump` pixels apart."""
    return before + (kernel - 1) * jump


@lru_cache(10_000)  # a network asks the same few questions over and over; each costs a step a position
def share_inside(length: int, kernel: int, stride: int, padding: int) -> float:
    """Share of what all windows along one side read that lies on the map and not on its padding."""
    starts = range(-padding, length + padding - kernel + 1, stride)
    inside = sum(min(start + kernel, length) - max(start, 0) for start in starts)
    return inside / (kernel * len(starts)) if starts else 1.0


def padding_share(size: tuple[int, int], kernel: int, stride: int, padding: int) -> float:
    """Share of what the windows on a map of `size` read that is padding, 0 to 1."""
    if padding == 0:
        return 0.0
    return 1 - math.prod(share_inside(length, kernel, stride, padding) for length in size)


def conv_weights(in_channels: int, out_channels: int, window: tuple[int, int]) -> int:
    """Weights of a convolution without its bias; each is multiplied once for every position of the map."""
    return in_channels * out_channels * math.prod(window)


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "32" or "47x61".

    Raises:
        ValueError: for any other text; whether the numbers are allowed is the configuration's business.
    """
    try:
        height, _, width = text.lower().partition("x")
        return int(height), int(width if "x" in text.lower() else height)
    except ValueError:
        raise ValueError(f"input size {text[:40]!r} is not a size; give N or HxW, e.g. 32 or 96x64") from None


def parse_strides(text: str) -> tuple[int, ...]:
    """One stride for each stage from "1,2,2,2".

    Raises:
        ValueError: for any other text.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        message = f"strides {text[:40]!r} are not numbers; give one for each stage, e.g. 1,2,2,2"
        raise ValueError(message) from None


# What follows mirrors models/resnet.py, wide_resnet.py and pooled_resnet.py, function for function.


def _residual_net(config: ResNetConfig, image: Row) -> Walk:
    x = yield from _through(image, "stem", _stem(config))
    if config.has_maxpool:
        x = yield from _through(x, "maxpool", [Layer("maxpool", "max_pool", None, 3, 2, 1)])
    for i, (depth, width, stride) in enumerate(
        zip(config.depths, config.widths, config.strides, strict=True), 1
    ):
        for j in range(depth):
            x = yield from _block(config, f"layer{i}.{j}", x, width, stride if j == 0 else 1)
    return (yield from _through(x, "head", _residual_head(config)))


def _stem(config: ResNetConfig) -> list[Layer]:
    out, half = config.stem_width, config.stem_width // 2
    if config.stem == "imagenet":
        layers = [_conv("conv1", out, 7, 2)]
    elif config.stem == "cifar":
        layers = [_conv("conv1", out, 3)]
    else:
        layers = [
            _conv("conv1.0", half, 3, 2), Layer("conv1.1", "batch_norm"), Layer("conv1.2", "relu"),
            _conv("conv1.3", half, 3), Layer("conv1.4", "batch_norm"), Layer("conv1.5", "relu"),
            _conv("conv1.6", out, 3),
        ]  # fmt: skip
    # Pre-activation blocks begin with their own batch norm.
    return layers if config.block == "preact" else [*layers, Layer("bn1", "batch_norm")]


def _block(config: ResNetConfig, name: str, x: Row, width: int, stride: int) -> Walk:
    stage, _, _ = name.partition(".")
    branch = {"preact": _preact_branch, "pooled": _pooled_branch}.get(config.block, _branch)
    out = yield from _through(x, stage, branch(config, name, width, stride))
    beside = yield from _through(x, stage, _shortcut(config, name, x.out_channels, out.out_channels, stride))
    return replace(out, receptive_field=max(out.receptive_field, beside.receptive_field))


def _branch(config: ResNetConfig, name: str, width: int, stride: int) -> Iterator[Layer]:
    for i, (kernel, out, conv_stride) in enumerate(_block_plan(config, width, stride), 1):
        yield _conv(f"{name}.conv{i}", out, kernel, conv_stride)
        yield Layer(f"{name}.bn{i}", "batch_norm")


def _block_plan(config: ResNetConfig, width: int, stride: int) -> list[tuple[int, int, int]]:
    """(kernel, out_channels, stride) of the block's convolutions."""
    if config.block == "basic":
        return [(3, width, stride), (3, width, 1)]
    first, middle = (stride, 1) if config.stride_in == "1x1" else (1, stride)
    inner = width * config.base_width // 64
    return [(1, inner, first), (3, inner, middle), (1, width * config.expansion, 1)]


def _preact_branch(config: ResNetConfig, name: str, width: int, stride: int) -> Iterator[Layer]:
    for i, conv_stride in enumerate((stride, 1), 1):
        yield Layer(f"{name}.bn{i}", "batch_norm")
        yield _conv(f"{name}.conv{i}", width, 3, conv_stride)


def _pooled_branch(config: ResNetConfig, name: str, width: int, stride: int) -> Iterator[Layer]:
    yield _conv(f"{name}.conv1", width, 3)
    if stride > 1:
        yield Layer(f"{name}.pool", "max_pool", None, stride, stride)
    yield Layer(f"{name}.bn1", "batch_norm")
    yield _conv(f"{name}.conv2", width, 3)
    yield Layer(f"{name}.bn2", "batch_norm")


def _shortcut(config: ResNetConfig, name: str, channels: int, out: int, stride: int) -> list[Layer]:
    beside = f"{name}.{SHORTCUT}"
    if config.shortcut == "none" or config.block == "pooled" or (stride == 1 and channels == out):
        return []
    if config.shortcut == "zeropad":
        return [Layer(beside, "zero_pad", out, stride=stride)]
    projection = [_conv(f"{beside}.0", out, 1, stride), Layer(f"{beside}.1", "batch_norm")]
    return projection[:1] if config.block == "preact" else projection


def _residual_head(config: ResNetConfig) -> Iterator[Layer]:
    if config.block == "preact":
        yield Layer("bn", "batch_norm")
    yield Layer("global_pool", f"global_{config.global_pool}_pool", kernel=None)
    if config.num_classes:
        yield _linear("fc", config.num_classes)


# What follows mirrors models/baselines.py.


def _baseline(config: BaselineConfig, image: Row) -> Walk:
    plan, names, x = plan_of(config), _numbered("features"), image
    for i, convs in enumerate(plan.stages, 1):
        x = yield from _through(x, f"stage{i}", _convs(plan, convs, names))
        if not (plan.global_pool and i == len(plan.stages)):
            pool = Layer(next(names), "avg_pool" if plan.average_tanh else "max_pool", None, plan.pool, 2)
            x = yield from _through(x, f"stage{i}", [pool])
    return (yield from _through(x, "head", _baseline_head(config)))


def _convs(plan: Plan, convs: Iterable[Conv], names: Iterator[str]) -> Iterator[Layer]:
    for conv in convs:
        bias = not plan.batch_norm
        yield Layer(next(names), "conv", conv.out, conv.kernel, conv.stride, conv.padding, bias)
        if plan.batch_norm:
            yield Layer(next(names), "batch_norm")
        yield Layer(next(names), "tanh" if plan.average_tanh else "relu")


def _baseline_head(config: BaselineConfig) -> Iterator[Layer]:
    plan, names = plan_of(config), _numbered("classifier")
    drops = "drop_rate" not in config.idle_fields()
    if plan.global_pool:
        yield Layer("global_pool", "global_avg_pool", kernel=None)
    for width in plan.hidden:
        yield _linear(next(names), width)
        yield Layer(next(names), "tanh" if plan.average_tanh else "relu")
        if drops:
            yield Layer(next(names), "dropout")
    if drops and not plan.hidden:
        yield Layer("dropout", "dropout")
    if config.num_classes:
        yield _linear(next(names) if plan.hidden else "fc", config.num_classes)


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}.{i}" for i in count())


def _conv(name: str, out_channels: int, kernel: int, stride: int = 1) -> Layer:
    return Layer(name, "conv", out_channels, kernel, stride, kernel // 2)


def _linear(name: str, out_features: int) -> Layer:
    """A linear layer is a convolution whose window is all of the map it reads, and so are its numbers."""
    return Layer(name, "linear", out_features, kernel=None, bias=True)


def _through(x: Row, stage: str, layers: Iterable[Layer]) -> Walk:
    """The rows of layers that follow one another."""
    for layer in layers:
        x = _measured(x, stage, layer)
        yield x
    return x


def _measured(x: Row, stage: str, layer: Layer) -> Row:
    """The row of `layer` where it reads the map of `x`."""
    window = x.out_size if layer.kernel is None else (layer.kernel, layer.kernel)
    out = layer.out_channels or x.out_channels
    size = tuple(
        out_length(n, k, layer.stride, layer.padding) for n, k in zip(x.out_size, window, strict=True)
    )
    weights = conv_weights(x.out_channels, out, window) if layer.op in ("conv", "linear") else 0
    scale_and_shift = 2 * out if layer.op == "batch_norm" else out * layer.bias
    seen = 1 if layer.kernel is None else layer.kernel  # what reads a whole map repeats the map's field
    return Row(
        name=layer.name,
        op=layer.op,
        kernel=window[0] if window[0] == window[1] else window,
        stride=layer.stride,
        padding=layer.padding,
        out_channels=out,
        out_size=size,
        receptive_field=receptive_field(x.receptive_field, x.jump, seen),
        jump=x.jump * layer.stride,
        params=weights + scale_and_shift,
        macs=weights * math.prod(size),
        padding_share=padding_share(x.out_size, window[0], layer.stride, layer.padding),
        activation_bytes=out * math.prod(size) * BYTES,
        stage=stage,
    )


def _walk(config: ModelConfig) -> Walk:
    image = Row(name="image", op="image", out_channels=config.in_chans, out_size=config.input_size)
    return (_baseline if isinstance(config, BaselineConfig) else _residual_net)(config, image)


def _configured(name_or_config: str | ModelConfig, size: dict, overrides: dict) -> ModelConfig:
    """The network to trace, its `input_size` being that of the image."""
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
        raise ValueError(
            f"{config.name}: layer {layer} is built for a {_times(config.input_size)} image and cannot "
            f"take {_times(size)}; resize the image or build the network with input_size={size}"
        )


def _check_maps(config: ModelConfig, rows: list[Row]) -> None:
    starved = next((row for row in rows if min(row.out_size) < 1), None)
    if starved is None:
        return
    least = 1
    for row in reversed([row for row in rows if row.stage != "head" and f".{SHORTCUT}" not in row.name]):
        least = in_length(least, row.kernel, row.stride, row.padding)
    message = (
        f"{config.name}: layer {starved.name} ({starved.op} {starved.kernel}, stride {starved.stride}) has "
        f"nothing left to work on in a {_times(config.input_size)} image; give input_size={least} or larger"
    )
    raise NothingLeft(message, starved.name, least)


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


def _times(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


COLUMNS: dict[str, Callable[[Row], str]] = {
    "layer": lambda row: row.name,
    "op": lambda row: row.op,
    "kernel": lambda row: str(row.kernel) if isinstance(row.kernel, int) else _times(row.kernel),
    "stride": lambda row: str(row.stride),
    "padding": lambda row: str(row.padding),
    "output": lambda row: _times((row.out_channels, *row.out_size)),
    "field": lambda row: str(row.receptive_field),
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
    """The layer and its op from the left, everything else, being numbers, from the right."""
    sides = [str.ljust] * 2 + [str.rjust] * (len(cells) - 2)
    return "  ".join(side(cell, width) for side, cell, width in zip(sides, cells, widths, strict=True))


def document(config: ModelConfig, rows: list[Row]) -> dict[str, Any]:
    """All of it, JSON-ready: the configuration, rows, stages and totals."""
    return {
        "model": config.name,
        "config": config.to_dict(),
        "rows": [asdict(row) for row in rows],
        "stages": [asdict(stage) for stage in stages(rows)],
        "totals": totals(rows)._asdict(),
    }


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program_name("resnet_hub.geometry"), description="A network, layer by layer."
    )
    parser.add_argument("name", metavar="NAME", help="network, e.g. resnet50 or resnet20_cifar")
    add_override_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(arguments)


def add_override_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that change a network; `overrides_from` reads them."""
    group = parser.add_argument_group("the network, where it is to differ from what its name says")
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
    """The overrides a command line asks for.

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


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when the network could be traced, 2 with one line when not."""
    options = parse_arguments(arguments)
    try:
        config = model_config(options.name, **overrides_from(options))
        rows = trace(config)
    except ValueError as error:
        print(f"resnet_hub.geometry: {error}", file=sys.stderr)
        return 2
    print(json.dumps(document(config, rows), indent=2) if options.json else table(rows))
    return 0
