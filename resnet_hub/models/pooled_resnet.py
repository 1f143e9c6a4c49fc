"""The residual network for short training: max pooling, not a stride, makes its maps smaller.

Every position of a block's first convolution is computed and the strongest of each square is kept, which
costs more than a stride and learns in fewer epochs. Only what differs from `resnet.py` is here. Source: the
ResNet-9 of https://myrtle.ai/how-to-train-your-resnet-4-architecture/ and cifar10-airbench, arXiv 2404.00498.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.config import ResNetConfig
from resnet_hub.models.resnet import ResidualBlock, ResNet


class PooledBlock(ResidualBlock):
    """conv3x3-pool-BN-ReLU-conv3x3-BN, plus the pooled shortcut, then ReLU.

    (N, in_channels, H, W) -> (N, width, H // stride, W // stride)
    """

    def __init__(self, config: ResNetConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__(config, in_channels, width, stride=1)
        self.pool = nn.MaxPool2d(stride) if stride > 1 else nn.Identity()
        if stride > 1 and not self.is_plain:
            beside = nn.Identity() if self.downsample is None else self.downsample
            self.downsample = nn.Sequential(nn.MaxPool2d(stride), beside)

    def branch(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.pool(self.conv1(x))))
        return self.bn2(self.conv2(x))


class PooledResNet(ResNet):
    """ResNets of pooled blocks; `resnet8_cifar` has three."""

    block = PooledBlock
