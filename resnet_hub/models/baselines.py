"""The networks before ResNet: one class that builds each from the table in `plans.py`.

LeNet-5, AlexNet, VGG-16, a VGG for 32x32 images and CIFAR10Net. (SimpleResNet is residual, and so in
`registry.py` with the others.) Every operation is a module and no ReLU works in place, so forward hooks see
each layer's own output.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from resnet_hub.config import BaselineConfig
from resnet_hub.errors import Refusal
from resnet_hub.models.base import Network
from resnet_hub.models.initialise import kaiming_fan_out
from resnet_hub.models.plans import InputTooSmall, Plan, plan_of

MOST_LINEAR_WEIGHTS = 1_000_000_000  # VGG-16 at 224 has 102,760,448


def feature_layers(plan: Plan, channels: int) -> list[nn.Module]:
    """Convolution, batch norm, activation, ..., pooling: everything before the head."""
    layers: list[nn.Module] = []
    for stage in plan.stages:
        for conv in stage:
            bias = not plan.batch_norm  # the batch norm's shift is the bias
            layers.append(nn.Conv2d(channels, conv.out, conv.kernel, conv.stride, conv.padding, bias=bias))
            if plan.batch_norm:
                layers.append(nn.BatchNorm2d(conv.out))
            layers.append(nn.Tanh() if plan.average_tanh else nn.ReLU())
            channels = conv.out
        layers.append((nn.AvgPool2d if plan.average_tanh else nn.MaxPool2d)(plan.pool, stride=2))
    return layers[:-1] if plan.global_pool else layers


def hidden_layers(plan: Plan, features: int, drop_rate: float | None) -> list[nn.Module]:
    """Linear, activation and, unless `drop_rate` is None, dropout, for each hidden width."""
    layers: list[nn.Module] = []
    for width in plan.hidden:
        layers += [nn.Linear(features, width), nn.Tanh() if plan.average_tanh else nn.ReLU()]
        if drop_rate is not None:
            layers.append(nn.Dropout(drop_rate))
        features = width
    return layers


def last_size(plan: Plan, name: str, size: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of the last feature map for an image of `size`.

    Raises:
        InputTooSmall: where a convolution or pooling finds no full window.
    """
    height, width = (plan.map_length(length) for length in size)
    if min(height, width) < 1:
        least = next(length for length in count(1) if plan.map_length(length) >= 1)
        raise InputTooSmall(
            f"{name}: a {size[0]}x{size[1]} image is pooled down to nothing; "
            f"use {least}x{least} or larger (create_model({name!r}, input_size={least}))",
            least=least,
        )
    return height, width


def check_weights(config: BaselineConfig, weights: int) -> None:
    """Refuse a first linear layer that grows too large with the image.

    Raises:
        ValueError: with the number of weights and the most allowed.
    """
    if weights > MOST_LINEAR_WEIGHTS:
        raise Refusal(
            f"{config.name}: input_size={config.input_size} makes a linear layer of {weights:,} weights; "
            f"{MOST_LINEAR_WEIGHTS:,} is the most that is built, so give a smaller input_size"
        )


class Stages(nn.Sequential):
    """Layers in a row that return the map leaving each stage, not only the last one.

    So `net.features(x)` is a list as on every network here, under torchvision's keys `features.0.weight`.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        pools = (nn.MaxPool2d, nn.AvgPool2d)
        self.ends = [i for i, x in enumerate(layers) if isinstance(x, pools) or i == len(layers) - 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_chans, H, W) -> the map leaving each stage."""
        maps = []
        for i, layer in enumerate(self):
            x = layer(x)
            if i in self.ends:
                maps.append(x)
        return maps


class Baseline(Network):
    """One network of `plans.PLANS`: (N, in_chans, H, W) -> (N, num_classes).

    The last layer is `classifier[-1]` where hidden layers come before it, otherwise `fc`. With
    `num_classes=0` it is the identity, and the network returns what would have entered it.

    Raises:
        InputTooSmall: for an `input_size` that the poolings bring down to nothing.
    """

    config: BaselineConfig
    features: Stages

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self.plan = plan = plan_of(config)
        height, width = last_size(plan, config.name, config.input_size)
        channels = plan.stages[-1][-1].out
        drop_rate = None if "drop_rate" in config.idle_fields() else config.drop_rate
        self.features = Stages(*feature_layers(plan, config.in_chans))
        self.global_pool = nn.AdaptiveAvgPool2d(1) if plan.global_pool else nn.Identity()
        features = channels if plan.global_pool else channels * height * width
        check_weights(config, features * (plan.hidden or (config.num_classes,))[0])
        if plan.hidden:
            self.classifier = nn.Sequential(*hidden_layers(plan, features, drop_rate))
            self.classifier.append(last_layer(plan.hidden[-1], config.num_classes))
        else:
            self.dropout = nn.Identity() if drop_rate is None else nn.Dropout(drop_rate)
            self.fc = last_layer(features, config.num_classes)
        if not plan.average_tanh:  # torch's own initialisation loses the signal on VGG's way down
            self.apply(kaiming_fan_out)

    @property
    def fixed_input_size(self) -> bool:
        """Whether the head is built for one image size."""
        return not self.plan.global_pool

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """For each map of `features`: `module` it leaves, its channels `num_chs`, its stride `reduction`."""
        info, stride = [], 1
        for end, stage in zip(self.features.ends, self.plan.stages, strict=True):
            for conv in stage:
                stride *= conv.stride
            if not isinstance(self.features[end], nn.ReLU):  # the stage ends in a pooling
                stride *= 2
            info.append({"module": f"features.{end}", "num_chs": stage[-1].out, "reduction": stride})
        return info

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        self.check_shape(x)
        return self.head(self.features(x)[-1])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Last feature map (N, C, h, w) -> logits (N, num_classes), or what enters the last layer."""
        x = torch.flatten(self.global_pool(x), 1)  # (N, C * h * w), or (N, C) after global pooling
        if self.plan.hidden:
            return self.classifier[:-1](x) if pre_logits else self.classifier(x)
        x = self.dropout(x)
        return x if pre_logits else self.fc(x)

    def check_shape(self, x: Tensor) -> None:
        """Refuse a batch the layers cannot take, with the way out.

        Raises:
            ValueError: for another number of channels, or another size where the head depends on it.
        """
        config = self.config
        any_size = self.plan.global_pool
        if x.ndim != 4 or x.shape[1] != config.in_chans or not (any_size or x.shape[2:] == config.input_size):
            size = "HxW" if any_size else "x".join(map(str, config.input_size))
            raise Refusal(
                f"{config.name}: got a batch of shape {tuple(x.shape)}, expected Nx{config.in_chans}x{size}; "
                f"resize the images or build create_model({config.name!r}, input_size=(H, W), in_chans=C)"
            )
        last_size(self.plan, config.name, x.shape[2:])


def last_layer(features: int, num_classes: int) -> nn.Module:
    """The classifier, or the identity on a headless network."""
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()
