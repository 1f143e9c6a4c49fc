"""A network's layers in the order of its forward pass, each with the map it makes: what `trace` returns.

Follows `models/resnet.py`, `wide_resnet.py`, `pooled_resnet.py` and `baselines.py`, whose kernels, channels,
strides and shortcuts come from the same `models/plans.py`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

from resnet_hub.config import BaselineConfig, ModelConfig, ResNetConfig
from resnet_hub.geometry.formulas import (
    BYTES,
    conv_weights,
    multiply_adds,
    out_size,
    padding_share,
    receptive_field,
)
from resnet_hub.models.plans import (
    MAXPOOL,
    BlockPlan,
    Conv,
    Plan,
    block_plan,
    plan_of,
    stage_plan,
    stem_plan,
)

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


def walk(config: ModelConfig) -> Walk:
    """The rows of a network for an image of its `input_size`; maps may be empty (a side below 1)."""
    image = Row(name="image", op="image", out_channels=config.in_chans, out_size=config.input_size)
    if isinstance(config, BaselineConfig):
        return _baseline(config, image)
    assert isinstance(config, ResNetConfig)
    return _residual_net(config, image)


# Residual networks


def _residual_net(config: ResNetConfig, image: Row) -> Walk:
    x = yield from _through(image, "stem", _stem(config))
    if config.has_maxpool:
        x = yield from _through(x, "maxpool", [Layer("maxpool", "max_pool", None, *MAXPOOL)])
    for name, width, strides in stage_plan(config):
        for i, stride in enumerate(strides):
            plan = block_plan(config, x.out_channels, width, stride)
            x = yield from _block(config, f"{name}.{i}", x, plan)
    return (yield from _through(x, "head", _residual_head(config)))


def _stem(config: ResNetConfig) -> Iterator[Layer]:
    first, *others = stem_plan(config)
    yield _conv("conv1.0" if others else "conv1", first)
    for i, conv in enumerate(others):
        yield Layer(f"conv1.{3 * i + 1}", "batch_norm")
        yield Layer(f"conv1.{3 * i + 2}", "relu")
        yield _conv(f"conv1.{3 * i + 3}", conv)
    if config.block != "preact":  # pre-activation blocks begin with a batch norm of their own
        yield Layer("bn1", "batch_norm")


def _block(config: ResNetConfig, name: str, x: Row, plan: BlockPlan) -> Walk:
    stage, _, _ = name.partition(".")
    out = yield from _through(x, stage, _branch(config, name, plan))
    beside = yield from _through(x, stage, _shortcut(config, name, plan))
    return replace(out, receptive_field=max(out.receptive_field, beside.receptive_field))


def _branch(config: ResNetConfig, name: str, plan: BlockPlan) -> Iterator[Layer]:
    for i, conv in enumerate(plan.convs, 1):
        layers = [_conv(f"{name}.conv{i}", conv), Layer(f"{name}.bn{i}", "batch_norm")]
        if i == 1 and plan.pool > 1:
            layers.insert(1, Layer(f"{name}.pool", "max_pool", None, plan.pool, plan.pool))
        yield from reversed(layers) if config.block == "preact" else layers


def _shortcut(config: ResNetConfig, name: str, plan: BlockPlan) -> Iterator[Layer]:
    beside = f"{name}.{SHORTCUT}"
    if plan.shortcut == "zeropad":
        yield Layer(beside, "zero_pad", plan.projection.out, stride=plan.stride)
    elif plan.shortcut == "projection":
        yield _conv(f"{beside}.0", plan.projection)
        if config.block != "preact":
            yield Layer(f"{beside}.1", "batch_norm")


def _residual_head(config: ResNetConfig) -> Iterator[Layer]:
    if config.block == "preact":
        yield Layer("bn", "batch_norm")
    yield Layer("global_pool", f"global_{config.global_pool}_pool", kernel=None)
    if config.num_classes:
        yield _linear("fc", config.num_classes)


# The networks before ResNet


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


def _conv(name: str, plan: Conv) -> Layer:
    return Layer(name, "conv", plan.out, plan.kernel, plan.stride, plan.padding)


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
    size = out_size(x.out_size, window, layer.stride, layer.padding)
    weights = conv_weights(x.out_channels, out, window) if layer.op in ("conv", "linear") else 0
    scale_and_shift = 2 * out if layer.op == "batch_norm" else out * layer.bias
    reach = 1 if layer.kernel is None else layer.kernel  # what reads a whole map repeats the map's field
    return Row(
        name=layer.name,
        op=layer.op,
        kernel=window[0] if window[0] == window[1] else window,
        stride=layer.stride,
        padding=layer.padding,
        out_channels=out,
        out_size=size,
        receptive_field=receptive_field(x.receptive_field, x.jump, reach),
        jump=x.jump * layer.stride,
        params=weights + scale_and_shift,
        macs=multiply_adds(weights, size),
        padding_share=padding_share(x.out_size, window[0], layer.stride, layer.padding),
        activation_bytes=out * math.prod(size) * BYTES,
        stage=stage,
    )
