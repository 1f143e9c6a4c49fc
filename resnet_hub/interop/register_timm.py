"""`register_timm()`: our networks for `timm.create_model`, under the names of `models/timm_names.py`.

timm is imported by that call, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from resnet_hub.config import ModelConfig
from resnet_hub.models.base import default_preprocess
from resnet_hub.models.build import build_network
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.models.timm_names import registered_name
from resnet_hub.preprocess import Preprocess

if TYPE_CHECKING:
    from resnet_hub.models.base import Network


def register_timm() -> None:
    """Add this package's networks to timm, so that `timm.create_model` builds and loads them.

    For checkpoints that stock timm cannot build, with a CIFAR stem or other strides for instance:

        import timm, resnet_hub
        resnet_hub.register_timm()
        model = timm.create_model("hf-hub:owner/name", pretrained=True)

    `timm.create_model` then returns a `Network`. timm's own networks stay as they are, and calling
    `register_timm` again changes nothing.
    """
    from timm.models import generate_default_cfgs, is_model, register_model

    configs = {registered_name(name): model_config(name) for name in list_models()}
    # register_model looks for default_cfgs in the module of the function it gets
    globals()["default_cfgs"] = generate_default_cfgs(
        {
            name: default_preprocess(config).to_pretrained_cfg() | {"num_classes": config.num_classes}
            for name, config in configs.items()
        }
    )
    for name, config in configs.items():
        if not is_model(name):
            register_model(entry_point(name, config))


def entry_point(name: str, config: ModelConfig) -> Callable[..., Network]:
    """The function timm calls to build `config` under `name`."""

    def create(pretrained: bool = False, **kwargs: Any) -> Network:
        from timm.models import build_model_with_cfg

        if kwargs.pop("features_only", False):
            raise ValueError(f"{name}: features_only is not supported; call model.features(x) instead")
        model = build_model_with_cfg(partial(build_for_timm, config), name, pretrained, **kwargs)
        return with_timm_settings(model)

    create.__name__ = create.__qualname__ = name
    create.__module__ = __name__
    return create


def build_for_timm(
    config: ModelConfig, *, img_size: tuple[int, int] | None = None, **changes: Any
) -> Network:
    """The network of `config` with timm's arguments: `img_size` is our `input_size`, others are fields."""
    if img_size is not None:
        changes.setdefault("input_size", img_size)
    return build_network(replace(config, **changes))


def with_timm_settings(model: Any) -> Network:
    """Give a network that timm loaded the labels and preprocessing of its `pretrained_cfg`.

    Without stored weights that is the one it was registered with, changed here and there perhaps: what is as
    registered says nothing of a network built for another size or number of channels, and stays as built.
    Its calibration is in no file that timm reads: `from_pretrained` loads it, this does not.
    """
    settings = model.pretrained_cfg
    names = settings.get("label_names")
    if names and len(names) == model.config.num_classes:
        model.labels = tuple(names)
    preprocess = Preprocess.from_pretrained_cfg(settings)
    is_stored = bool(settings.get("hf_hub_id") or settings.get("file"))
    if not is_stored:
        usual = asdict(default_preprocess(model_config(model.config.name)))
        changed = {name: value for name, value in asdict(preprocess).items() if value != usual[name]}
        preprocess = replace(model.preprocess, **changed)
    if preprocess.input_size[0] == model.config.in_chans:
        model.preprocess = preprocess
    return model
