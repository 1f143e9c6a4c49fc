"""One residual block, the library's own: how easily it becomes the identity, and the shapes inside it."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resnet_hub.config import ResNetConfig
from resnet_hub.errors import Refusal
from resnet_hub.geometry import Row, trace
from resnet_hub.lab.bounds import one_of, within

if TYPE_CHECKING:
    from resnet_hub.models.resnet import BasicBlock

BLOCKS = ("basic", "bottleneck")
MOST_CHANNELS = 1024
CHANNELS, SIDE = 8, 8  # of the map that goes through the block


@dataclass(frozen=True)
class Passed:
    """A map before and after one block with a shortcut and one without.

    Args:
        before, residual, plain: (8, 8), channel 0 of the input and of both outputs.
        difference: largest |output - input| of the residual block over all channels.
        plain_difference: the same of the block without a shortcut.
    """

    before: np.ndarray
    residual: np.ndarray
    plain: np.ndarray
    difference: float
    plain_difference: float


class Step(NamedTuple):
    """One convolution of a block: its place ("branch" or "shortcut"), kernel, output shape, parameters."""

    name: str
    place: str
    kernel: int
    stride: int
    shape: tuple[int, int, int]
    params: int


class CodeLine(NamedTuple):
    """A line of the block's `forward`, and the shape (C, H, W) that it leaves; None where it makes none."""

    code: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Shapes:
    """The convolutions of a block with the shape (C, H, W) after each, and the block's parameters."""

    steps: tuple[Step, ...]
    out_shape: tuple[int, int, int]
    params: int


def pass_through(strength: float, negative: bool = False, seed: int = 0) -> Passed:
    """Send a random map through a real block whose branch is multiplied by `strength`.

    With strength 0 the branch is zero and the block returns its input after the final ReLU: exactly the input
    where it has no negative values, as after the ReLU of the block before.

    Args:
        strength: weight of the branch's last batch norm, 0 to 1; networks start with 1, or with 0 where
            `zero_init_residual` is set.
        negative: let the input have negative values too.
    """
    import torch

    within("strength", strength, 0, 1)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(1, CHANNELS, SIDE, SIDE, generator=draw)
    x = x if negative else x.abs()
    residual, plain = (_block(kind, strength, seed)(x).detach() for kind in ("projection", "none"))
    gaps = [(out - x).abs().max().item() for out in (residual, plain)]
    return Passed(x[0, 0].numpy(), residual[0, 0].numpy(), plain[0, 0].numpy(), *gaps)


def _block(shortcut: Any, strength: float, seed: int) -> BasicBlock:
    import torch

    from resnet_hub.models.resnet import BasicBlock

    config = ResNetConfig(name="lab", depths=(1,), widths=(CHANNELS,), strides=(1,), shortcut=shortcut)
    block = BasicBlock(config, CHANNELS, CHANNELS, stride=1)
    draw = torch.Generator().manual_seed(seed + 1)
    for conv in (block.conv1, block.conv2):
        torch.nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=draw)
    torch.nn.init.constant_(block.bn2.weight, strength)
    return block  # in train mode, so that the batch norms use this very input's statistics


def check_channels(name: str, value: int, most: int = MOST_CHANNELS) -> None:
    """Raises ValueError unless a bottleneck can have this many channels."""
    within(name, value, 4, most)
    if value % 4:
        raise Refusal(f"{name}={value} is not a multiple of 4; a bottleneck is a quarter as wide inside")


def block_rows(block: Any, in_channels: int, out_channels: int, stride: int, size: int) -> list[Row]:
    """The geometry of one block on (N, in_channels, size, size)."""
    width = out_channels // (4 if block == "bottleneck" else 1)
    config = ResNetConfig(
        name="lab", block=block, depths=(1,), widths=(width,), strides=(stride,), stem="cifar",
        stem_width=in_channels, base_width=64, input_size=(size, size),
    )  # fmt: skip
    return [row for row in trace(config) if row.stage == "layer1"]


def block_shapes(block: str, in_channels: int, out_channels: int, stride: int, size: int) -> Shapes:
    """What each layer of a block makes of (N, in_channels, size, size).

    The bottleneck's inner width is a quarter of `out_channels`: "expansion 4" means four times the inner
    width, not four times the input.

    Raises:
        ValueError: for channels that are not a multiple of 4, or any argument out of bounds.
    """
    one_of("block", block, BLOCKS)
    check_channels("in_channels", in_channels)
    check_channels("out_channels", out_channels)
    within("stride", stride, 1, 4)
    within("size", size, 1, 512)
    rows = block_rows(block, in_channels, out_channels, stride, size)
    steps = tuple(
        Step(
            row.name.removeprefix("layer1.0."),
            "shortcut" if ".downsample" in row.name else "branch",
            row.kernel,
            row.stride,
            (row.out_channels, *row.out_size),
            row.params,
        )
        for row in rows
        if row.op == "conv" and isinstance(row.kernel, int)
    )
    out = rows[-1]
    return Shapes(steps, (out.out_channels, *out.out_size), sum(row.params for row in rows))


def block_code(block: str, in_channels: int, out_channels: int, stride: int, size: int) -> list[CodeLine]:
    """The library's own `forward` of a block, each line with the shape it leaves in this very block.

    Arguments and errors are those of `block_shapes`.
    """
    from resnet_hub.models.resnet import BasicBlock, Bottleneck

    steps = block_shapes(block, in_channels, out_channels, stride, size).steps
    left = {step.name: step.shape for step in steps}  # by convolutions; all else keeps the shape it finds
    kind = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
    found, shape = [], (in_channels, size, size)
    for line in inspect.getsource(kind.forward).splitlines():
        code = line.partition("  # ")[0].removeprefix("    ")
        called = re.search(r"out = self\.(\w+)\(", code)
        shape = left.get(called[1], shape) if called else shape
        found.append(CodeLine(code, shape if re.match(r" +(out =|return)", code) else None))
    return [line for line in found if '"""' not in line.code]
