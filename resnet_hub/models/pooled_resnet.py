"""The residual network for short training: max pooling, not a stride, halves its maps.

A block's first convolution is computed at every position, and of each square the strongest is kept: more
expensive than a stride, and learnt in fewer epochs. Only what differs from `resnet.py` is here. Source:
cifar10-airbench, arXiv 2404.00498, whose blocks have no shortcut.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.config import ResNetConfig
from resnet_hub.models.plans import block_plan
from resnet_hub.models.resnet import ResNet, conv, start_as_identity


class PooledBlock(nn.Module):
    """conv3x3-pool-BN-GELU, then a residual unit: plus its own conv3x3-BN, then GELU.

    (N, in_channels, H, W) -> (N, width, H // stride, W // stride)
    """

    def __init__(self, config: ResNetConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        plan = block_plan(config, in_channels, width, stride)
        first, second = plan.convs
        self.is_plain = plan.shortcut == "none"
        self.conv1 = conv(in_channels, first)
        self.pool = nn.MaxPool2d(plan.pool) if plan.pool > 1 else nn.Identity()
        self.bn1 = nn.BatchNorm2d(first.out)
        self.conv2 = conv(first.out, second)
        self.bn2 = start_as_identity(nn.BatchNorm2d(second.out), config)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width, H // stride, W // stride)."""
        x = self.pool(self.conv1(x))  # (N, width, H // stride, W // stride)
        x = F.gelu(self.bn1(x))
        branch = self.bn2(self.conv2(x))
        return F.gelu(branch if self.is_plain else branch + x)


class PooledResNet(ResNet):
    """ResNets of pooled blocks; `resnet8_cifar` has three."""

    blocks: ClassVar = {"pooled": PooledBlock}

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.apply(pass_through)
        if isinstance(self.fc, nn.Linear):  # small, so that the first steps turn the filters, not the answer
            nn.init.normal_(self.fc.weight, std=1 / self.fc.in_features)

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> what enters the first stage."""
        return self.maxpool(F.gelu(self.bn1(self.conv1(x))))


@torch.no_grad()
def pass_through(module: nn.Module) -> None:
    """Start a 3x3 convolution so that its first outputs repeat its inputs; the rest are random."""
    if isinstance(module, nn.Conv2d):
        module.reset_parameters()
        nn.init.dirac_(module.weight[: module.in_channels])
