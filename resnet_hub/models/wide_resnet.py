"""The wide residual network: pre-activation blocks, many channels, dropout inside the block.

Only what differs from `resnet.py` is here. Source: Zagoruyko and Komodakis, arXiv 1605.07146.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.config import ResNetConfig
from resnet_hub.models.initialise import kaiming_fan_out
from resnet_hub.models.plans import block_plan
from resnet_hub.models.resnet import StagedNet, conv, shortcut


class PreActBlock(nn.Module):
    """BN-ReLU-conv3x3(stride)-BN-ReLU-dropout-conv3x3, plus the shortcut.

    (N, in_channels, H, W) -> (N, width, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, config: ResNetConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        plan = block_plan(config, in_channels, width, stride)
        first, second = plan.convs
        self.drop_rate = config.drop_rate
        self.is_plain = plan.shortcut == "none"
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, first)
        self.bn2 = nn.BatchNorm2d(first.out)
        self.conv2 = conv(first.out, second)
        self.downsample = shortcut(plan, in_channels)
        if isinstance(self.downsample, nn.Sequential):  # its input is normalised already
            self.downsample = self.downsample[:1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width, H / stride, W / stride)."""
        activated = F.relu(self.bn1(x))
        out = self.conv1(activated)  # (N, width, H / stride, W / stride)
        out = F.relu(self.bn2(out))
        if self.drop_rate:
            out = F.dropout(out, self.drop_rate, self.training)
        out = self.conv2(out)  # (N, width, H / stride, W / stride)
        if self.is_plain:
            return out
        return out + (x if self.downsample is None else self.downsample(activated))


class WideResNet(StagedNet):
    """6n+4 layers, widths k times those of the CIFAR paper nets; `wrn28_10_cifar` is n = 4, k = 10."""

    blocks: ClassVar = {"preact": PreActBlock}

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.bn = nn.BatchNorm2d(config.num_features)
        self.apply(kaiming_fan_out)

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> what enters the first stage."""
        return self.maxpool(self.conv1(x))

    def features(self, x: Tensor) -> list[Tensor]:
        """As in `StagedNet`; the last map after the final batch norm and ReLU."""
        *earlier, last = super().features(x)
        return [*earlier, F.relu(self.bn(last))]
