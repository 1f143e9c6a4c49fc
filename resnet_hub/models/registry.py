"""One literal table: every network's name and its configuration."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

from resnet_hub.config import BaselineConfig, ModelConfig, ResNetConfig
from resnet_hub.errors import Refusal

IMAGENET = {"num_classes": 1000, "input_size": (224, 224)}
CIFAR = {"num_classes": 10, "input_size": (32, 32), "stem": "cifar"}
# 6n+2 layers, three stages of n blocks, shortcut option A (arXiv 1512.03385 section 4.2)
PAPER = CIFAR | {
    "widths": (16, 32, 64),
    "stem_width": 16,
    "strides": (1, 2, 2),
    "shortcut": "zeropad",
}
WIDE = CIFAR | {"block": "preact", "stem_width": 16, "strides": (1, 2, 2)}
BOTTLENECK = {"block": "bottleneck"}
PLAIN = {"shortcut": "none"}

_RESNETS: dict[str, dict[str, Any]] = {
    "resnet18": IMAGENET | {"depths": (2, 2, 2, 2)},
    "resnet34": IMAGENET | {"depths": (3, 4, 6, 3)},
    "resnet50": IMAGENET | BOTTLENECK | {"depths": (3, 4, 6, 3)},
    "resnet101": IMAGENET | BOTTLENECK | {"depths": (3, 4, 23, 3)},
    "resnet152": IMAGENET | BOTTLENECK | {"depths": (3, 8, 36, 3)},
    "wide_resnet50_2": IMAGENET | BOTTLENECK | {"depths": (3, 4, 6, 3), "base_width": 128},
    "plain18": IMAGENET | PLAIN | {"depths": (2, 2, 2, 2)},
    "plain34": IMAGENET | PLAIN | {"depths": (3, 4, 6, 3)},
    "resnet18_cifar": CIFAR | {"depths": (2, 2, 2, 2)},
    "resnet34_cifar": CIFAR | {"depths": (3, 4, 6, 3)},
    "resnet50_cifar": CIFAR | BOTTLENECK | {"depths": (3, 4, 6, 3)},
    "resnet101_cifar": CIFAR | BOTTLENECK | {"depths": (3, 4, 23, 3)},
    "resnet20_cifar": PAPER | {"depths": (3, 3, 3)},
    "resnet32_cifar": PAPER | {"depths": (5, 5, 5)},
    "resnet44_cifar": PAPER | {"depths": (7, 7, 7)},
    "resnet56_cifar": PAPER | {"depths": (9, 9, 9)},
    "resnet110_cifar": PAPER | {"depths": (18, 18, 18)},
    "plain20_cifar": PAPER | PLAIN | {"depths": (3, 3, 3)},
    "plain56_cifar": PAPER | PLAIN | {"depths": (9, 9, 9)},
    "wrn16_4_cifar": WIDE | {"depths": (2, 2, 2), "widths": (64, 128, 256)},
    "wrn28_10_cifar": WIDE | {"depths": (4, 4, 4), "widths": (160, 320, 640)},
    "resnet8_cifar": CIFAR
    | {"block": "pooled", "depths": (1, 1, 1), "widths": (64, 256, 256), "stem_width": 24}
    | {"strides": (2, 2, 2), "global_pool": "max"},
    "resnet8_wide_cifar": CIFAR
    | {"block": "pooled", "depths": (1, 1, 1), "widths": (96, 320, 384), "stem_width": 24}
    | {"strides": (2, 2, 2), "global_pool": "max"},
    "resnet18_64px": CIFAR
    | {"depths": (2, 2, 2, 2), "widths": (64, 128, 256, 384), "stem": "deep", "maxpool": False}
    | {"input_size": (64, 64)},
    "simple_resnet": CIFAR | {"depths": (2, 2, 2), "widths": (64, 128, 256), "strides": (1, 2, 2)},
}
_BASELINES: dict[str, dict[str, Any]] = {
    "lenet5": {"num_classes": 10, "in_chans": 1, "input_size": (28, 28)},
    "alexnet": IMAGENET | {"drop_rate": 0.5},
    "vgg16": IMAGENET | {"drop_rate": 0.5},
    "vgg_cifar": {"num_classes": 10, "input_size": (32, 32)},
    "cifar10net": {"num_classes": 10, "input_size": (32, 32), "drop_rate": 0.5},
}


@cache
def _table() -> dict[str, ModelConfig]:
    table: dict[str, ModelConfig] = {}
    for name, values in _RESNETS.items():
        table[name] = ResNetConfig(name=name, **values)
    for name, values in _BASELINES.items():
        table[name] = BaselineConfig(name=name, **{"kind": name} | values)
    return table


def list_models() -> list[str]:
    """Every network's name, in the order of the table."""
    return [*_RESNETS, *_BASELINES]


def model_config(name: str, *, num_classes: int | None = None, **overrides: Any) -> ModelConfig:
    """The configuration of a named network, with overrides.

    Raises:
        ValueError: for an unknown name (with the nearest known ones) or an override that is not allowed.
    """
    if name not in _table():
        seen = str(name)[:100]  # looking for the nearest takes memory in proportion
        near = difflib.get_close_matches(seen, list_models(), n=3) or list_models()
        raise Refusal(f"unknown network {seen!r}; did you mean {', '.join(near)}? list_models() has them all")
    if num_classes is not None:
        overrides["num_classes"] = num_classes
    return _table()[name].override(**overrides)
