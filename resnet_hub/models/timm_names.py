"""What timm calls our networks: its own name where it builds the same one, otherwise ours.

A checkpoint says in `config.json` which architecture timm is to build, and stock timm never loads one into a
network with other strides or another stem: what timm's name does not imply goes by a name stock timm lacks.
`timm_models.py` adds those names. Nothing here imports timm.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from resnet_hub.config import ModelConfig
from resnet_hub.models.registry import list_models, model_config

SAME_IN_TIMM = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2")
# timm's VGG-16 has other keys, which transformers would fill with random numbers and a warning.
TAKEN_IN_TIMM = {*SAME_IN_TIMM, "vgg16"}
# Fields that change no answer of a trained network, and those that timm takes from elsewhere in config.json.
WITHOUT_EFFECT = {"name", "num_classes", "drop_rate", "zero_init_residual"}
DEEP_STEM = {"stem_width": 32, "stem_type": "deep"}  # timm's resnet50c


def architecture(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """(architecture, model_args) of timm's `config.json`; timm can build none with a name of its own.

    `num_classes` is not among the arguments: timm reads it from the root, and transformers passes it itself.
    """
    if config.name not in list_models():
        return f"resnet_hub_{config.name}", {}
    changed = changed_fields(config)
    if config.name in SAME_IN_TIMM:
        args = {k: changed[k] for k in ("in_chans", "global_pool") if k in changed}
        args |= DEEP_STEM if changed.get("stem") == "deep" else {}
        has_timms_stem = config.stem in ("imagenet", "deep") and config.has_maxpool
        if has_timms_stem and changed.keys() <= {"in_chans", "global_pool", "stem", "maxpool", "input_size"}:
            return config.name, args
    return registered_name(config.name), changed


def changed_fields(config: ModelConfig) -> dict[str, Any]:
    """The fields that make `config` another network than the one its name stands for, JSON-ready."""
    usual = model_config(config.name)
    names = [field.name for field in fields(config) if field.name not in WITHOUT_EFFECT]
    changed = {name: getattr(config, name) for name in names if getattr(config, name) != getattr(usual, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


def registered_name(name: str) -> str:
    """What timm calls our network after `register_timm()`."""
    return f"resnet_hub_{name}" if name in TAKEN_IN_TIMM else name
