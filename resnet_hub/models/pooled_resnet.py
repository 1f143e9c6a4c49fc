"""The residual network for short training: max pooling, not a stride, makes its maps smaller.

Every position of a block's first convolution is computed and the strongest of each square is kept, which
costs more than a stride and learns in fewer epochs. Only what differs from `resnet.py` is here. Source:
cifar10-airbench, arXiv 2404.00498, whose blocks have no shortcut.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.config import ResNetConfig
from resnet_hub.models.resnet import ResNet, conv


class PooledBlock(nn.Module):
    """conv3x3-pool-BN-GELU, then a residual unit: plus its own conv3x3-BN, then GELU.

    (N, in_channels, H, W) -> (N, width, H // stride, W // stride)
    """

    depth = 2

    def __init__(self, config: ResNetConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.is_plain = config.shortcut == "none"
        self.conv1 = conv(in_channels, width, 3)
        self.pool = nn.MaxPool2d(stride) if stride > 1 else nn.Identity()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.bn1(self.pool(self.conv1(x))))
        branch = self.bn2(self.conv2(x))
        return F.gelu(branch if self.is_plain else branch + x)


class PooledResNet(ResNet):
    """ResNets of pooled blocks; `resnet8_cifar` has three."""

    block = PooledBlock

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.apply(pass_through)
        if isinstance(self.fc, nn.Linear):  # small, so that the first steps turn the filters, not the answer
            nn.init.normal_(self.fc.weight, std=1 / self.fc.in_features)

    def stem(self, x: Tensor) -> Tensor:
        return self.maxpool(F.gelu(self.bn1(self.conv1(x))))


@torch.no_grad()
def pass_through(module: nn.Module) -> None:
    """Start a 3x3 convolution so that as many channels as it can hand on leave it as they came."""
    if isinstance(module, nn.Conv2d):
        module.reset_parameters()
        nn.init.dirac_(module.weight[: module.in_channels])
