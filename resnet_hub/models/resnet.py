"""The residual network: two blocks, a stem, and one loop over stages.

State-dict keys are torchvision's and timm's (`conv1 bn1 layer1.0.conv1 ... downsample.0 ... fc`), so weights
travel between the three libraries. Kernels, channels and strides come from `plans.py`.

Source: He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.config import ResNetConfig
from resnet_hub.models.base import Network
from resnet_hub.models.initialise import kaiming_fan_out
from resnet_hub.models.plans import MAXPOOL, BlockPlan, Conv, block_plan, stage_plan, stem_plan


def conv(in_channels: int, plan: Conv) -> nn.Conv2d:
    """The convolution of a plan, without a bias: the shift of a batch norm follows."""
    return nn.Conv2d(in_channels, plan.out, plan.kernel, plan.stride, plan.padding, bias=False)


class ZeroPadShortcut(nn.Module):
    """Option A of the paper: every s-th pixel; the missing channels are zero, half before, half after."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        missing = out_channels - in_channels
        self.stride = stride
        self.before, self.after = missing // 2, missing - missing // 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def shortcut(plan: BlockPlan, in_channels: int) -> nn.Module | None:
    """The module beside a block's convolutions; None where x is added as it is, or nothing is."""
    if plan.shortcut == "zeropad":
        return ZeroPadShortcut(in_channels, plan.convs[-1].out, plan.stride)
    if plan.shortcut == "projection":  # option B
        return nn.Sequential(conv(in_channels, plan.projection), nn.BatchNorm2d(plan.projection.out))
    return None


def start_as_identity(norm: nn.BatchNorm2d, config: ResNetConfig) -> nn.BatchNorm2d:
    """A block's last batch norm, zero with `zero_init_residual`: arXiv 1706.02677 section 5.1."""
    if config.zero_init_residual:
        nn.init.zeros_(norm.weight)
    return norm


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (figure 5, left).

    (N, in_channels, H, W) -> (N, width, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, config: ResNetConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        plan = block_plan(config, in_channels, width, stride)
        first, second = plan.convs
        self.conv1 = conv(in_channels, first)
        self.bn1 = nn.BatchNorm2d(first.out)
        self.conv2 = conv(first.out, second)
        self.bn2 = start_as_identity(nn.BatchNorm2d(second.out), config)
        self.downsample = shortcut(plan, in_channels)
        self.is_plain = plan.shortcut == "none"

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width, ceil(H / stride), ceil(W / stride))."""
        out = self.conv1(x)  # (N, width, H / stride, W / stride)
        out = self.bn1(out)
        out = F.relu(out)
        out = self.conv2(out)  # (N, width, H / stride, W / stride)
        out = self.bn2(out)
        if not self.is_plain:
            out = out + (x if self.downsample is None else self.downsample(x))
        return F.relu(out)


class Bottleneck(nn.Module):
    """1x1 to the inner width, 3x3, 1x1 to four times the stage's width, and a shortcut (figure 5, right).

    (N, in_channels, H, W) -> (N, 4 * width, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, config: ResNetConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        plan = block_plan(config, in_channels, width, stride)
        reduce, middle, expand = plan.convs
        self.conv1 = conv(in_channels, reduce)
        self.bn1 = nn.BatchNorm2d(reduce.out)
        self.conv2 = conv(reduce.out, middle)
        self.bn2 = nn.BatchNorm2d(middle.out)
        self.conv3 = conv(middle.out, expand)
        self.bn3 = start_as_identity(nn.BatchNorm2d(expand.out), config)
        self.downsample = shortcut(plan, in_channels)
        self.is_plain = plan.shortcut == "none"

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 4 * width, ceil(H / stride), ceil(W / stride))."""
        out = self.conv1(x)  # (N, inner, H, W); v1 strides here, as the paper does
        out = self.bn1(out)
        out = F.relu(out)
        out = self.conv2(out)  # (N, inner, H / stride, W / stride); v1.5 strides here
        out = self.bn2(out)
        out = F.relu(out)
        out = self.conv3(out)  # (N, 4 * width, H / stride, W / stride)
        out = self.bn3(out)
        if not self.is_plain:
            out = out + (x if self.downsample is None else self.downsample(x))
        return F.relu(out)


class GlobalMaxPool(nn.Module):
    """The maximum of each channel's map: `AdaptiveMaxPool2d(1)`, whose gradient on CUDA, unlike this one's,
    differs from run to run.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, 1, 1)."""
        return x.amax((2, 3), keepdim=True)


class StagedNet(Network):
    """Stem, stages, pooling, classifier: what ResNet, WideResNet and PooledResNet share."""

    config: ResNetConfig
    blocks: ClassVar[dict[str, type[nn.Module]]]  # by `config.block`

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.conv1 = stem_convs(config)
        if config.block != "preact":  # pre-activation blocks begin with a batch norm of their own
            self.bn1 = nn.BatchNorm2d(config.stem_width)
        self.maxpool = nn.MaxPool2d(*MAXPOOL) if config.has_maxpool else nn.Identity()
        channels, block = config.stem_width, self.blocks[config.block]
        for name, width, strides in stage_plan(config):
            stage = nn.Sequential()
            for stride in strides:
                stage.append(block(config, channels, width, stride))
                channels = width * config.expansion
            self.add_module(name, stage)
        self.global_pool = nn.AdaptiveAvgPool2d(1) if config.global_pool == "avg" else GlobalMaxPool()
        self.fc = nn.Linear(channels, config.num_classes) if config.num_classes else nn.Identity()
        self.head_drop_rate = 0.0 if config.block == "preact" else config.drop_rate

    @property
    def stages(self) -> list[nn.Module]:
        """The residual stages, first to last."""
        return [self.get_submodule(name) for name, *_ in stage_plan(self.config)]

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """For each map of `features`: `module` it leaves, its channels `num_chs`, its stride `reduction`."""
        stride = math.prod(conv.stride for conv in stem_plan(self.config))
        stride *= MAXPOOL[1] if self.config.has_maxpool else 1
        info = []
        for name, width, (first, *_) in stage_plan(self.config):
            stride *= first
            info.append({"module": name, "num_chs": width * self.config.expansion, "reduction": stride})
        return info

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, stem_width, H / stride, W / stride)."""
        raise NotImplementedError

    def features(self, x: Tensor) -> list[Tensor]:
        """The map leaving each stage, for detection and segmentation; strides are in `feature_info`."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Last feature map (N, num_features, h, w) -> logits (N, num_classes), or what enters `fc`."""
        x = self.global_pool(x)  # (N, num_features, 1, 1)
        x = torch.flatten(x, 1)  # (N, num_features)
        x = F.dropout(x, self.head_drop_rate, self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        return self.head(self.features(x)[-1])


class ResNet(StagedNet):
    """Basic-block and bottleneck ResNets and, with shortcut "none", the plain nets they are compared with."""

    blocks: ClassVar = {"basic": BasicBlock, "bottleneck": Bottleneck}

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.apply(kaiming_fan_out)

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> what enters the first stage."""
        x = self.conv1(x)  # (N, stem_width, H / 2, W / 2), or (..., H, W) with the CIFAR stem
        x = F.relu(self.bn1(x))
        return self.maxpool(x)  # (N, stem_width, H / 4, W / 4), or (..., H, W) with the CIFAR stem


def stem_convs(config: ResNetConfig) -> nn.Module:
    """The stem's convolution, or its three with batch norms and ReLUs between (keys of timm's resnet50c)."""
    channels, layers = config.in_chans, []
    for plan in stem_plan(config):
        layers += [conv(channels, plan), nn.BatchNorm2d(plan.out), nn.ReLU()]
        channels = plan.out
    del layers[-2:]  # the network's own follow the last one
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]
