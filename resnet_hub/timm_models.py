"""Our networks under names that timm knows: timm's own where it builds the same network, otherwise ours.

A checkpoint says in `config.json` which architecture timm is to build, and stock timm never loads one into a
network with other strides or another stem: what timm's name does not imply goes by a name stock timm lacks,
and `register_timm()` adds those names. Nothing here imports timm before that call.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Any

from resnet_hub.config import ModelConfig
from resnet_hub.models.registry import list_models, model_config, network_class
from resnet_hub.preprocess import Preprocess

SAME_IN_TIMM = {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2"}
# timm's VGG-16 has other keys, which transformers would fill with random numbers and a warning.
TAKEN_IN_TIMM = SAME_IN_TIMM | {"vgg16"}
# Fields that change no answer of a trained network, and those that timm takes from elsewhere in config.json.
WITHOUT_EFFECT = {"name", "num_classes", "drop_rate", "zero_init_residual"}
DEEP_STEM = {"stem_width": 32, "stem_type": "deep"}  # timm's resnet50c

__all__ = ["architecture", "register_timm"]


def architecture(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """(architecture, model_args) of timm's `config.json` for a network.

    `num_classes` is not among the arguments: timm reads it from the root, and transformers passes it itself.
    """
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


def register_timm() -> None:
    """Add this package's networks to timm, so that `timm.create_model` builds and loads them.

    For checkpoints that stock timm cannot build, a CIFAR stem or other strides, say:

        import timm, resnet_hub
        resnet_hub.register_timm()
        model = timm.create_model("hf-hub:owner/name", pretrained=True)

    What comes back is a `HubModel`. timm's own networks are left alone, and calling it again changes nothing.
    """
    from timm.models import generate_default_cfgs, is_model, register_model

    from resnet_hub.hub import default_preprocess

    configs = {registered_name(name): model_config(name) for name in list_models()}
    # register_model looks the defaults up in the module of the function it is given
    globals()["default_cfgs"] = generate_default_cfgs(
        {
            name: default_preprocess(config).to_pretrained_cfg() | {"num_classes": config.num_classes}
            for name, config in configs.items()
        }
    )
    for name, config in configs.items():
        if not is_model(name):
            register_model(entry_point(name, config))


def entry_point(name: str, config: ModelConfig):
    """The function timm calls to build `config` under `name`."""

    def create(pretrained: bool = False, **kwargs):
        from timm.models import build_model_with_cfg

        if kwargs.pop("features_only", False):
            raise ValueError(f"{name}: features_only is not supported; call model.features(x) instead")
        model = build_model_with_cfg(partial(build, config), name, pretrained, **kwargs)
        return with_timms_settings(model)

    create.__name__ = create.__qualname__ = name
    create.__module__ = __name__
    return create


def build(config: ModelConfig, *, img_size: tuple[int, int] | None = None, **changes: Any):
    """The network of `config` with timm's arguments: `img_size` is our `input_size`, the rest are fields."""
    if img_size is not None:
        changes.setdefault("input_size", img_size)
    config = replace(config, **changes)
    return network_class(config)(config)


def with_timms_settings(model):
    """Give a network that timm filled the labels and preprocessing of its `pretrained_cfg`."""
    settings = model.pretrained_cfg
    names = settings.get("label_names")
    if names and len(names) == model.config.num_classes:
        model.labels = tuple(names)
    preprocess = Preprocess.from_pretrained_cfg(settings)
    if preprocess.input_size[0] == model.config.in_chans:
        model.preprocess = preprocess
    return model
