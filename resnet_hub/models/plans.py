"""The layers of every network as data, without torch: the classes and `geometry` both read it.

Stems and blocks of the residual networks are functions of their configuration; the networks before ResNet
stand in one literal table, `PLANS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from resnet_hub.config import BaselineConfig, ResNetConfig
from resnet_hub.errors import Refusal

MAXPOOL = (3, 2, 1)  # kernel, stride and padding of the pooling after the stem


class InputTooSmall(Refusal):
    """An image too small for a network; `facts` has the `layer` whose map is empty and the `least` side."""


class Conv(NamedTuple):
    """One convolution; the defaults are VGG's, which keep the size."""

    out: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


def padded(out: int, kernel: int, stride: int = 1) -> Conv:
    """A convolution that keeps the size of the map at stride 1."""
    return Conv(out, kernel, stride, kernel // 2)


def out_length(length: int, kernel: int, stride: int, padding: int) -> int:
    """Windows that fit along one side of a map, of a convolution or a pooling; below 1 where none does."""
    return (length + 2 * padding - kernel) // stride + 1


# Residual networks


class BlockPlan(NamedTuple):
    """One residual block.

    Args:
        convs: its convolutions, in order.
        shortcut: what is added to them: the input ("identity"), the input in the output's shape
            ("projection", "zeropad"), or nothing ("none").
        stride: of the shortcut.
        pool: side and stride of the max pooling after the first convolution; 1 for none.
    """

    convs: tuple[Conv, ...]
    shortcut: Literal["identity", "projection", "zeropad", "none"]
    stride: int
    pool: int = 1

    @property
    def projection(self) -> Conv:
        """The convolution of a projection shortcut."""
        return padded(self.convs[-1].out, 1, self.stride)


def stem_plan(config: ResNetConfig) -> tuple[Conv, ...]:
    """The convolutions before the first stage (and its max pooling)."""
    out, half = config.stem_width, config.stem_width // 2
    if config.stem == "imagenet":
        return (padded(out, 7, 2),)
    if config.stem == "cifar":  # arXiv 1512.03385 section 4.2
        return (padded(out, 3),)
    return (padded(half, 3, 2), padded(half, 3), padded(out, 3))  # ResNet-C, arXiv 1812.01187


def stage_plan(config: ResNetConfig) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """(module, width, stride of each block) of every stage; only a stage's first block strides."""
    sizes = zip(config.depths, config.widths, config.strides, strict=True)
    for i, (depth, width, stride) in enumerate(sizes, 1):
        yield f"layer{i}", width, (stride,) + (1,) * (depth - 1)


def block_plan(config: ResNetConfig, in_channels: int, width: int, stride: int) -> BlockPlan:
    """One block of a stage of `width`, reading a map of `in_channels`."""
    convs = _block_convs(config, width, stride)
    pool = stride if config.block == "pooled" else 1
    if config.shortcut == "none":
        return BlockPlan(convs, "none", stride, pool)
    keeps_shape = stride == 1 and in_channels == convs[-1].out
    if keeps_shape or config.block == "pooled":  # pooled blocks add after their pooling, where shapes agree
        return BlockPlan(convs, "identity", stride, pool)
    return BlockPlan(convs, config.shortcut, stride, pool)


def _block_convs(config: ResNetConfig, width: int, stride: int) -> tuple[Conv, ...]:
    if config.block == "pooled":
        return (padded(width, 3), padded(width, 3))
    if config.block != "bottleneck":
        return (padded(width, 3, stride), padded(width, 3))
    # The paper strides in the first 1x1 (v1); torchvision and timm in the 3x3 (v1.5), +0.5 % top-1:
    # https://catalog.ngc.nvidia.com/orgs/nvidia/resources/resnet_50_v1_5_for_pytorch
    first, middle = (stride, 1) if config.stride_in == "1x1" else (1, stride)
    inner = width * config.base_width // 64
    return (padded(inner, 1, first), padded(inner, 3, middle), padded(width * config.expansion, 1))


# The networks before ResNet


class Plan(NamedTuple):
    """What one of these networks is.

    Args:
        stages: the convolutions of each stage; a pooling with stride 2 follows it.
        hidden: widths of the fully connected layers before the classifier.
        pool: kernel of the pooling.
        batch_norm: batch norm after each convolution, which then has no bias.
        average_tanh: LeNet's average pooling and tanh in place of max pooling and ReLU.
        global_pool: average the last stage's map instead of pooling it, so that any image size fits.
    """

    stages: tuple[tuple[Conv, ...], ...]
    hidden: tuple[int, ...] = ()
    pool: int = 2
    batch_norm: bool = False
    average_tanh: bool = False
    global_pool: bool = False

    def map_length(self, length: int) -> int:
        """Rows (or columns) of the last feature map for `length` rows of image; below 1 where it is empty."""
        for i, stage in enumerate(self.stages, 1):
            for conv in stage:
                length = out_length(length, conv.kernel, conv.stride, conv.padding)
            if not (self.global_pool and i == len(self.stages)):
                length = out_length(length, self.pool, 2, 0)
            if length < 1:
                break
        return length


def convs_3x3(*stages: tuple[int, ...]) -> tuple[tuple[Conv, ...], ...]:
    """Stages of VGG's convolutions, from their channels."""
    return tuple(tuple(Conv(out) for out in stage) for stage in stages)


VGG16 = convs_3x3((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

PLANS = {
    # LeCun et al. 1998, without its trained poolings, partly connected maps and RBF outputs.
    "lenet5": Plan(
        stages=((Conv(6, 5, padding=0),), (Conv(16, 5, padding=0),)), hidden=(120, 84), average_tanh=True
    ),
    # Krizhevsky et al. 2012 as if on one GPU: no groups, and no local response normalisation, which later
    # networks dropped. torchvision's and timm's nets starting with 64 channels are arXiv 1404.5997's.
    "alexnet": Plan(
        stages=(
            (Conv(96, 11, stride=4, padding=2),),
            (Conv(256, 5, padding=2),),
            (Conv(384), Conv(384), Conv(256)),
        ),
        hidden=(4096, 4096),
        pool=3,
    ),
    # Simonyan and Zisserman, arXiv 1409.1556, configuration D; keys are torchvision's.
    "vgg16": Plan(stages=VGG16, hidden=(4096, 4096)),
    "vgg_cifar": Plan(stages=VGG16, batch_norm=True),
    "cifar10net": Plan(
        stages=convs_3x3((64, 128), (256, 256), (512, 512)), batch_norm=True, global_pool=True
    ),
}


def plan_of(config: BaselineConfig) -> Plan:
    """The layers of a configuration: its network's, with or without batch norm where it says so."""
    plan = PLANS[config.kind]
    return plan if config.batch_norm is None else plan._replace(batch_norm=config.batch_norm)
