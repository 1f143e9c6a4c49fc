"""timm's names for our networks: its own where it builds the same network, otherwise ours.

A checkpoint's `config.json` names the architecture that timm builds. Where timm's name does not imply the
strides or the stem, the checkpoint has a name that stock timm lacks, so timm refuses it instead of loading it
into another network. `interop/register_timm.py` adds those names to timm. timm is not imported here.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.models.registry import list_models, model_config

SAME_IN_TIMM = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2")
# timm's VGG-16 has other keys; transformers would fill them with random weights and only warn.
TAKEN_IN_TIMM = {*SAME_IN_TIMM, "vgg16"}
# Fields that do not change a trained network's answers, or that timm reads elsewhere in config.json.
WITHOUT_EFFECT = {"name", "num_classes", "drop_rate", "zero_init_residual"}
DEEP_STEM = {"stem_width": 32, "stem_type": "deep"}  # timm's resnet50c


def architecture(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """(architecture, model_args) for timm's `config.json`.

    `num_classes` is not among the arguments: timm reads it from the root, and transformers passes it itself.
    A network outside the registry gets a name that timm never knows.
    """
    if config.name not in list_models():
        return f"resnet_hub_{config.name}", {}
    changed = changed_fields(config)
    if isinstance(config, ResNetConfig) and config.name in SAME_IN_TIMM:
        args: dict[str, Any] = {k: changed[k] for k in ("in_chans", "global_pool") if k in changed}
        args |= DEEP_STEM if changed.get("stem") == "deep" else {}
        has_timm_stem = config.stem in ("imagenet", "deep") and config.has_maxpool
        if has_timm_stem and changed.keys() <= {"in_chans", "global_pool", "stem", "maxpool", "input_size"}:
            return config.name, args
    return registered_name(config.name), changed


def changed_fields(config: ModelConfig) -> dict[str, Any]:
    """The fields in which `config` differs from the network of its name, JSON-ready."""
    usual = model_config(config.name)
    names = [field.name for field in fields(config) if field.name not in WITHOUT_EFFECT]
    changed = {name: getattr(config, name) for name in names if getattr(config, name) != getattr(usual, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


def registered_name(name: str) -> str:
    """timm's name for our network after `register_timm()`."""
    return f"resnet_hub_{name}" if name in TAKEN_IN_TIMM else name
