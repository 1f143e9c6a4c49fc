"""From a name, a configuration or a checkpoint to a network.

Imports torch and the classes when a network is built, not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from resnet_hub.config import BaselineConfig, ModelConfig
from resnet_hub.models.registry import model_config


def network_class(config: ModelConfig) -> type:
    """The class that builds `config`."""
    if isinstance(config, BaselineConfig):
        return import_module("resnet_hub.models.baselines").Baseline
    if config.block == "preact":
        return import_module("resnet_hub.models.wide_resnet").WideResNet
    if config.block == "pooled":
        return import_module("resnet_hub.models.pooled_resnet").PooledResNet
    return import_module("resnet_hub.models.resnet").ResNet


def build_network(config: ModelConfig):
    """The network of `config`, a `HubModel` with fresh random weights in training mode."""
    return network_class(config)(config)


def create_model(name: str, *, num_classes: int | None = None, **overrides: Any):
    """Build a network with fresh random weights.

    Args:
        name: one of `list_models()`.
        num_classes: outputs; None keeps the table's (1000 for ImageNet nets, else 10), 0 drops the head.
        **overrides: fields of the network's configuration, e.g. `stem="cifar"`, `strides=(1, 2, 2, 2)`,
            `shortcut="zeropad"`, `drop_rate=0.2`.

    Returns:
        A `HubModel` in training mode that maps (N, in_chans, H, W) to logits (N, num_classes).

    Raises:
        ValueError: for an unknown name, or an override that is not allowed or has no effect.
    """
    return build_network(model_config(name, num_classes=num_classes, **overrides))


def from_pretrained(
    repo_id_or_dir: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    tqdm_class: type | None = None,
):
    """Load a checkpoint from a Hub repository (`owner/name`) or a directory.

    timm's own ResNet repositories load too, e.g. `timm/resnet18.a1_in1k`. `resnet20_cifar10` names the
    checkpoint that ships with this package.

    Args:
        revision: branch, tag or commit; the commit it resolves to is in `model.revision`.
        token: for private and gated repositories; None uses the one `hf auth login` stored.
        cache_dir: where downloads are kept; None means the Hugging Face cache.
        local_files_only: never touch the network.
        tqdm_class: progress bar for downloads instead of the console's.

    Returns:
        A `HubModel` in eval mode.

    Raises:
        resnet_hub.fetch.CheckpointError: naming the repository or directory, the file and the cause.
    """
    from resnet_hub.hub.fetch import fetch_checkpoint
    from resnet_hub.hub.load import load_checkpoint

    checkpoint = fetch_checkpoint(
        repo_id_or_dir,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        tqdm_class=tqdm_class,
    )
    return load_checkpoint(checkpoint, build_network)
