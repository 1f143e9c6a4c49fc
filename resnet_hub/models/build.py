"""A name or a configuration -> a network.

torch and the classes are imported when a network is built, not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from resnet_hub.config import BaselineConfig, ModelConfig
from resnet_hub.models.registry import model_config

if TYPE_CHECKING:
    from resnet_hub.models.base import Network


def network_class(config: ModelConfig) -> type[Network]:
    """The class that builds `config`."""
    if isinstance(config, BaselineConfig):
        return import_module("resnet_hub.models.baselines").Baseline
    if config.block == "preact":
        return import_module("resnet_hub.models.wide_resnet").WideResNet
    if config.block == "pooled":
        return import_module("resnet_hub.models.pooled_resnet").PooledResNet
    return import_module("resnet_hub.models.resnet").ResNet


def build_network(config: ModelConfig) -> Network:
    """The network of `config`, with fresh random weights, in training mode."""
    return network_class(config)(config)


def create_model(name: str, *, num_classes: int | None = None, **overrides: Any) -> Network:
    """Build a network with fresh random weights.

    Args:
        name: one of `list_models()`.
        num_classes: outputs; None keeps the table's (1000 for ImageNet nets, else 10), 0 drops the head.
        **overrides: fields of the network's configuration, e.g. `stem="cifar"`, `strides=(1, 2, 2, 2)`,
            `shortcut="zeropad"`, `drop_rate=0.2`.

    Returns:
        A network in training mode that maps (N, in_chans, H, W) to logits (N, num_classes).

    Raises:
        ValueError: for an unknown name, or an override that is not allowed or has no effect.
    """
    return build_network(model_config(name, num_classes=num_classes, **overrides))
