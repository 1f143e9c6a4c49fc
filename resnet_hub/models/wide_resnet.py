"""The wide residual network: pre-activation blocks, many channels, dropout inside the block.

Only what differs from `resnet.py` is here. Source: Zagoruyko and Komodakis, arXiv 1605.07146.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.config import ResNetConfig
from resnet_hub.models.initialise import kaiming_fan_out
from resnet_hub.models.resnet import StagedNet, ZeroPadShortcut, conv, shortcut


class PreActBlock(nn.Module):
    """BN-ReLU-conv3x3(stride)-BN-ReLU-dropout-conv3x3, plus the shortcut.

    (N, in_channels, H, W) -> (N, width, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, config: ResNetConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.drop_rate = config.drop_rate
        self.is_plain = config.shortcut == "none"
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        beside = shortcut(config.shortcut, in_channels, width, stride)
        # The input is normalised already, so a projection here has no batch norm of its own.
        self.downsample = beside if beside is None or isinstance(beside, ZeroPadShortcut) else beside[:1]

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        out = F.relu(self.bn2(self.conv1(activated)))
        if self.drop_rate:
            out = F.dropout(out, self.drop_rate, self.training)
        out = self.conv2(out)
        if self.is_plain:
            return out
        return out + (x if self.downsample is None else self.downsample(activated))


class WideResNet(StagedNet):
    """6n+4 layers, widths k times those of the CIFAR paper nets; `wrn28_10_cifar` is n = 4, k = 10."""

    block = PreActBlock

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.bn = nn.BatchNorm2d(config.num_features)
        self.apply(kaiming_fan_out)

    def stem(self, x: Tensor) -> Tensor:
        return self.maxpool(self.conv1(x))

    def features(self, x: Tensor) -> list[Tensor]:
        *earlier, last = super().features(x)
        return [*earlier, F.relu(self.bn(last))]
