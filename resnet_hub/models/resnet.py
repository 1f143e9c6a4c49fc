"""The residual network: one block, one stem, one loop over stages.

State-dict keys are torchvision's and timm's (`conv1 bn1 layer1.0.conv1 ... downsample.0 ... fc`), so weights
travel between the three libraries. Knows nothing of files, the Hub or images.

Source: He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.config import ResNetConfig
from resnet_hub.models.base import Network
from resnet_hub.models.initialise import kaiming_fan_out


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size at stride 1; no bias, since a batch norm's shift follows."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


class ZeroPadShortcut(nn.Module):
    """Option A of the paper: every s-th pixel, missing channels zero, half before, half after."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        missing = out_channels - in_channels
        self.stride = stride
        self.before, self.after = missing // 2, missing - missing // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def shortcut(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """What stands beside a block's convolutions when shapes change; None where x itself can be added."""
    if kind == "none" or (stride == 1 and in_channels == out_channels):
        return None
    if kind == "zeropad":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class ResidualBlock(nn.Module):
    """Basic or bottleneck block: conv-BN-ReLU ... conv-BN, plus the shortcut, then ReLU.

    (N, in_channels, H, W) -> (N, width * expansion, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, config: ResNetConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.depth = 0
        self.is_plain = config.shortcut == "none"
        out_channels = width * config.expansion
        channels = in_channels
        for kernel, out, conv_stride in self.plan(config, width, stride):
            self.depth += 1
            setattr(self, f"conv{self.depth}", conv(channels, out, kernel, conv_stride))
            setattr(self, f"bn{self.depth}", nn.BatchNorm2d(out))
            channels = out
        self.downsample = shortcut(config.shortcut, in_channels, out_channels, stride)

    @staticmethod
    def plan(config: ResNetConfig, width: int, stride: int) -> list[tuple[int, int, int]]:
        """(kernel, out_channels, stride) of the block's convolutions."""
        if config.block != "bottleneck":
            return [(3, width, stride), (3, width, 1)]
        # The paper strides in the first 1x1 (v1); torchvision and timm in the 3x3 (v1.5), +0.5 % top-1:
        # https://catalog.ngc.nvidia.com/orgs/nvidia/resources/resnet_50_v1_5_for_pytorch
        first, middle = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        inner = width * config.base_width // 64
        return [(1, inner, first), (3, inner, middle), (1, width * config.expansion, 1)]

    def branch(self, x: Tensor) -> Tensor:
        """F(x), what the block adds to its shortcut."""
        for i in range(1, self.depth + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            if i < self.depth:
                x = F.relu(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        if not self.is_plain:
            out = out + (x if self.downsample is None else self.downsample(x))
        return F.relu(out)


class StagedNet(Network):
    """Stem, stages, pooling, classifier: what ResNet and WideResNet share."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.head_drop_rate = 0.0 if config.block == "preact" else config.drop_rate
        self.add_stem(config)
        channels = config.stem_width
        for i, (depth, width, stride) in enumerate(
            zip(config.depths, config.widths, config.strides, strict=True), 1
        ):
            blocks = []
            for j in range(depth):
                blocks.append(self.block(config, channels, width, stride if j == 0 else 1))
                channels = width * config.expansion
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.global_pool = (nn.AdaptiveAvgPool2d if config.global_pool == "avg" else nn.AdaptiveMaxPool2d)(1)
        self.fc = nn.Linear(channels, config.num_classes) if config.num_classes else nn.Identity()

    def add_stem(self, config: ResNetConfig) -> None:
        out, half = config.stem_width, config.stem_width // 2
        if config.stem == "imagenet":
            self.conv1 = conv(config.in_chans, out, 7, 2)
        elif config.stem == "cifar":
            self.conv1 = conv(config.in_chans, out, 3)
        else:  # arXiv 1812.01187 (ResNet-C), timm's resnet50c
            self.conv1 = nn.Sequential(
                conv(config.in_chans, half, 3, 2), nn.BatchNorm2d(half), nn.ReLU(),
                conv(half, half, 3), nn.BatchNorm2d(half), nn.ReLU(),
                conv(half, out, 3),
            )  # fmt: skip
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if config.has_maxpool else nn.Identity()

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, stem_width, H / stride, W / stride)"""
        raise NotImplementedError

    @property
    def stages(self) -> list[nn.Module]:
        """The residual stages, first to last."""
        return [getattr(self, f"layer{i}") for i in range(1, len(self.config.depths) + 1)]

    @property
    def feature_info(self) -> list[dict]:
        """For each map of `features`: the module it leaves, its channels and its stride to the input."""
        stride = (1 if self.config.stem == "cifar" else 2) * (2 if self.config.has_maxpool else 1)
        info = []
        for i, (width, step) in enumerate(zip(self.config.widths, self.config.strides, strict=True), 1):
            stride *= step
            info.append(
                {"module": f"layer{i}", "num_chs": width * self.config.expansion, "reduction": stride}
            )
        return info

    def features(self, x: Tensor) -> list[Tensor]:
        """The map leaving each stage, for detection and segmentation; strides are in `feature_info`."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def head(self, x: Tensor) -> Tensor:
        """Last feature map (N, num_features, h, w) -> logits (N, num_classes)"""
        x = torch.flatten(self.global_pool(x), 1)  # (N, num_features)
        return self.fc(F.dropout(x, self.head_drop_rate, self.training))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1])


class ResNet(StagedNet):
    """Basic-block and bottleneck ResNets and, with shortcut "none", the plain nets they are compared with."""

    block = ResidualBlock

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.apply(kaiming_fan_out)
        if config.zero_init_residual:  # each block starts as the identity, arXiv 1706.02677 section 5.1
            for module in self.modules():
                if isinstance(module, self.block):
                    nn.init.zeros_(getattr(module, f"bn{module.depth}").weight)

    def add_stem(self, config: ResNetConfig) -> None:
        super().add_stem(config)
        self.bn1 = nn.BatchNorm2d(config.stem_width)

    def stem(self, x: Tensor) -> Tensor:
        return self.maxpool(F.relu(self.bn1(self.conv1(x))))
