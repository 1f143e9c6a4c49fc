"""The same network built from timm's or torchvision's parts, to compare ours with.

A counterpart is the library's own network where it has one. Otherwise it is the library's blocks and forward
pass with the stem, strides or shortcut replaced. timm and torchvision are imported when one is built.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.config import BaselineConfig, ModelConfig, ResNetConfig
from resnet_hub.errors import Refusal
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.models.timm_names import SAME_IN_TIMM

LIBRARIES = ("timm", "torchvision")


def stock_name(config: ModelConfig) -> str | None:
    """timm's and torchvision's name for a network with these stages; None where they have none."""
    if not isinstance(config, ResNetConfig):
        return None

    def stages(c: Any) -> tuple:
        return (c.block, c.depths, c.widths, c.stem_width, c.base_width if c.block == "bottleneck" else None)

    return next((name for name in SAME_IN_TIMM if stages(model_config(name)) == stages(config)), None)


def has_counterpart(config: ModelConfig, library: str) -> bool:
    """Whether the library's blocks can make this network.

    Neither library has pre-activation or pooled blocks, or blocks without a shortcut. torchvision has no deep
    stem, and VGG-16 is the only baseline that it builds as in the paper.
    """
    if isinstance(config, BaselineConfig):
        return config.kind == "vgg16" and not config.batch_norm and library == "torchvision"
    assert isinstance(config, ResNetConfig)
    return (
        config.block in ("basic", "bottleneck")
        and config.shortcut != "none"
        and len(config.depths) <= 4
        and not (config.stem == "deep" and (library == "torchvision" or config.stem_width % 2))
    )


def counterpart(config: ModelConfig, library: str = "timm") -> nn.Module:
    """The library's network for a configuration, randomly initialised, without dropout.

    Args:
        library: "timm" or "torchvision".

    Raises:
        Refusal: where the library cannot build it.
    """
    if library not in LIBRARIES or not has_counterpart(config, library):
        raise no_counterpart(config.name, library)
    if isinstance(config, BaselineConfig):
        return _torchvision_vgg16(config)
    assert isinstance(config, ResNetConfig)
    net: Any = _library_net(config, library)
    if config.stem != "deep" and (config.stem == "cifar" or config.stem_width != 64 or config.in_chans != 3):
        net.conv1 = nn.Conv2d(config.in_chans, config.stem_width, *_stem_window(config), bias=False)
        net.bn1 = nn.BatchNorm2d(config.stem_width)
    if not config.has_maxpool:
        net.maxpool = nn.Identity()
    if not _has_stock_stages(config) or config.shortcut != "projection":
        _replace_stages(net, config)
    if config.stride_in == "1x1":
        _stride_first(net)
    return net


def _has_stock_stages(config: ResNetConfig) -> bool:
    return stock_name(config) is not None and config.strides == (1, 2, 2, 2)


def replaced(config: ModelConfig) -> list[str]:
    """The parts of the library's network that its counterpart replaces or changes to be this one."""
    if isinstance(config, BaselineConfig):
        return [] if config.input_size == model_config(config.name).input_size else ["head"]
    assert isinstance(config, ResNetConfig)
    found = {
        "stages": not _has_stock_stages(config),
        "stem": config.stem == "cifar" or config.stem_width != 64,
        "shortcut": config.shortcut == "zeropad",
        "strides": config.stride_in == "1x1",
        "pooling": config.has_maxpool != (config.stem != "cifar"),
    }
    return [part for part, is_replaced in found.items() if is_replaced]


def provenance(config: ModelConfig, library: str) -> str:
    """The library's name for the counterpart, and what was replaced, e.g. "timm resnet18, stem replaced"."""
    parts = replaced(config)
    words = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"{library} {base_name(config)}" + (f", {words} replaced" if parts else "")


def base_name(config: ModelConfig) -> str:
    """What the counterpart is made from: a network's name in the library, or the kind of its blocks."""
    if not isinstance(config, ResNetConfig):
        return config.name
    name = stock_name(config) or f"ResNet of {config.block} blocks"
    if config.stem == "deep":
        return "resnet50c" if name == "resnet50" else f"{name} with its deep stem"
    return name


def is_stock(config: ModelConfig, library: str) -> bool:
    """Whether the library builds exactly this network under its own name for it."""
    if not has_counterpart(config, library) or replaced(config):
        return False
    averages = getattr(config, "global_pool", "avg") == "avg"
    return averages and (library == "timm" or config.in_chans == 3)


def no_counterpart(name: str, *libraries: str) -> Refusal:
    """The error for a network that none of the libraries can build; it lists those that one can."""
    have = (n for n in list_models() if any(has_counterpart(model_config(n), one) for one in libraries))
    return Refusal(f"{name} has no counterpart in {' or '.join(libraries)}; {', '.join(have)} have one")


def _library_net(config: ResNetConfig, library: str) -> nn.Module:
    """The closest network that the library's own arguments build."""
    name = stock_name(config) or ("resnet50" if config.block == "bottleneck" else "resnet18")
    if library == "torchvision":
        import torchvision

        net = torchvision.models.get_model(name, weights=None)
        net.fc = _classifier(config)
        if config.global_pool == "max":
            net.avgpool = nn.AdaptiveMaxPool2d(1)
        return net
    import timm

    arguments: dict[str, Any] = {"num_classes": config.num_classes, "in_chans": config.in_chans}
    if config.stem == "deep":
        arguments |= {"stem_type": "deep", "stem_width": config.stem_width // 2}
    return timm.create_model(name, pretrained=False, global_pool=config.global_pool, **arguments)


def _classifier(config: ResNetConfig) -> nn.Module:
    return nn.Linear(config.num_features, config.num_classes) if config.num_classes else nn.Identity()


def _stem_window(config: ResNetConfig) -> tuple[int, int, int]:
    """(kernel, stride, padding) of a stem with one convolution."""
    return (3, 1, 1) if config.stem == "cifar" else (7, 2, 3)


def _replace_stages(net: Any, config: ResNetConfig) -> None:
    """Stages of the library's own block, in the depths, widths and strides of `config`."""
    block = type(net.layer1[0])
    inner = {"base_width": config.base_width} if config.block == "bottleneck" else {}
    channels = config.stem_width
    for i, (depth, width, stride) in enumerate(
        zip(config.depths, config.widths, config.strides, strict=True)
    ):
        stage, out = nn.Sequential(), width * config.expansion
        for step in (stride, *[1] * (depth - 1)):
            shortcut = None if step == 1 and channels == out else _shortcut(config, channels, out, step)
            stage.append(block(channels, width, step, shortcut, **inner))
            channels = out
        setattr(net, f"layer{i + 1}", stage)
    for i in range(len(config.depths), 4):  # an empty stage is the identity
        setattr(net, f"layer{i + 1}", nn.Sequential())
    net.fc = _classifier(config)


def _shortcut(config: ResNetConfig, channels: int, out: int, stride: int) -> nn.Module:
    if config.shortcut == "zeropad":
        return OptionA(out, stride)
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class OptionA(nn.Module):
    """The paper's shortcut A, which neither library has, written in a different way from ours."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        x = F.avg_pool2d(x, kernel_size=1, stride=self.stride)
        missing = self.out_channels - x.shape[1]
        before = x.new_zeros(len(x), missing // 2, *x.shape[2:])
        after = x.new_zeros(len(x), missing - missing // 2, *x.shape[2:])
        return torch.cat([before, x, after], dim=1)


def _stride_first(net: Any) -> None:
    """Move the stride of each bottleneck from the 3x3 convolution to the first 1x1."""
    for module in net.modules():
        if hasattr(module, "conv3") and module.conv2.stride != (1, 1):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)


def _torchvision_vgg16(config: BaselineConfig) -> nn.Module:
    import torchvision

    net = torchvision.models.vgg16(num_classes=config.num_classes, dropout=0.0)
    grid = tuple(side // 32 for side in config.input_size)
    if grid != (7, 7):
        net.avgpool = nn.AdaptiveAvgPool2d(grid)
        net.classifier[0] = nn.Linear(512 * math.prod(grid), 4096)
    if config.in_chans != 3:
        net.features[0] = nn.Conv2d(config.in_chans, 64, 3, padding=1)
    return net
