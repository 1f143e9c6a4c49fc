"""transformers' ResNets: its keys, its `config.json` and its `preprocessor_config.json` for ours, and back.

The tensors are the same under other names. What transformers' ResNet does not have is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from torch import Tensor

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.errors import Refusal
from resnet_hub.hub.save import problem_type
from resnet_hub.interop.counterpart import stock_name
from resnet_hub.models.base import Network, default_preprocess
from resnet_hub.preprocess import Preprocess

BLOCK = "resnet.encoder.stages.{stage}.layers.{block}"
# Ours and those of transformers' ResNetForImageClassification, which counts stages and layers from 0.
KEYS = [
    ("conv1.", "resnet.embedder.embedder.convolution."),
    ("bn1.", "resnet.embedder.embedder.normalization."),
    ("layer{stage}.{block}.conv{layer}.", f"{BLOCK}.layer.{{layer}}.convolution."),
    ("layer{stage}.{block}.bn{layer}.", f"{BLOCK}.layer.{{layer}}.normalization."),
    ("layer{stage}.{block}.downsample.0.", f"{BLOCK}.shortcut.convolution."),
    ("layer{stage}.{block}.downsample.1.", f"{BLOCK}.shortcut.normalization."),
    ("fc.", "classifier.1."),
]
TRANSFORMERS_FIELDS = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}
SQUASHED_FROM = 384  # pixels a side; from there transformers' ConvNext processor squashes instead of cropping
RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # PIL's numbers


# Keys


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under transformers' keys; the tensors are the same objects.

    Raises:
        Refusal: for a key that transformers' ResNet does not have.
    """
    return {_renamed(key, KEYS, -1): value for key, value in state.items()}


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_transformers`.

    Raises:
        Refusal: for a key that is not one of ResNetForImageClassification's.
    """
    pairs = [(theirs, ours) for ours, theirs in KEYS]
    return {_renamed(key, pairs, +1): value for key, value in state.items()}


def _renamed(key: str, pairs: list[tuple[str, str]], shift: int) -> str:
    for before, after in pairs:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(before))
        if match := re.match(pattern, key):
            places = {name: int(text) for name, text in match.groupdict().items()}
            moved = {name: place + (name != "block") * shift for name, place in places.items()}
            return after.format(**moved) + key[match.end() :]
    raise Refusal(
        f"{key} has no equivalent between our ResNet and transformers' ResNetForImageClassification"
    )


# Configurations


def config_to_transformers(model: Network) -> dict[str, Any]:
    """The `config.json` of transformers for one of our networks.

    Raises:
        Refusal: naming what transformers' ResNet does not have.
    """
    config = _supported(model.config)
    return (
        TRANSFORMERS_FIELDS
        | {
            "num_channels": config.in_chans,
            "embedding_size": config.stem_width,
            "hidden_sizes": [width * config.expansion for width in config.widths],
            "depths": list(config.depths),
            "layer_type": config.block,
            "hidden_act": "relu",
            "downsample_in_first_stage": False,
            "downsample_in_bottleneck": config.stride_in == "1x1",
            "id2label": dict(enumerate(model.labels)),
            "label2id": {name: i for i, name in enumerate(model.labels)},
        }
        | problem_type(model)
    )


def _supported(config: ModelConfig) -> ResNetConfig:
    if not isinstance(config, ResNetConfig) or config.block not in ("basic", "bottleneck"):
        raise Refusal(
            f"{config.name} is not a ResNet of basic or bottleneck blocks, the only ones transformers has"
        )
    supported = {
        "stem": "imagenet",
        "shortcut": "projection",
        "global_pool": "avg",
        "base_width": 64,
        "has_maxpool": True,
        "strides": (1, *[2] * (len(config.depths) - 1)),
    }
    for field, value in supported.items():
        if getattr(config, field) != value:
            raise Refusal(
                f"{config.name}: transformers' ResNet has {field}={value!r} only, not "
                f"{getattr(config, field)!r}; keep it as a resnet_hub checkpoint"
            )
    return config


def config_from_transformers(values: dict[str, Any]) -> ResNetConfig:
    """Our configuration for transformers' `config.json` of a ResNet.

    Raises:
        Refusal: for a network we do not have.
    """
    block = values.get("layer_type", "bottleneck")  # what is missing takes transformers' default
    if values.get("hidden_act", "relu") != "relu" or values.get("downsample_in_first_stage"):
        raise Refusal("only hidden_act=relu and downsample_in_first_stage=False have a counterpart here")
    depths = tuple(values.get("depths", (3, 4, 6, 3)))
    expansion = 4 if block == "bottleneck" else 1
    config = ResNetConfig(
        name="resnet",
        block=block,
        depths=depths,
        widths=tuple(c // expansion for c in values.get("hidden_sizes", (256, 512, 1024, 2048))),
        strides=(1, *[2] * (len(depths) - 1)),
        stem_width=values.get("embedding_size", 64),
        in_chans=values.get("num_channels", 3),
        num_classes=len(values["id2label"]) if "id2label" in values else values.get("num_labels", 2),
        stride_in="1x1" if block == "bottleneck" and values.get("downsample_in_bottleneck") else "3x3",
    )
    return replace(config, name=stock_name(config) or config.name)


def preprocess_to_transformers(preprocess: Preprocess) -> dict[str, Any]:
    """transformers' `preprocessor_config.json`: its ConvNext processor resizes and crops as timm does."""
    _, side, width = preprocess.input_size
    if preprocess.crop_mode != "center" or side != width or side >= SQUASHED_FROM:
        raise Refusal(
            f"transformers' processor crops squares below {SQUASHED_FROM} pixels from the centre only, not "
            f"{side}x{width} (crop_mode={preprocess.crop_mode}); keep it as a resnet_hub checkpoint"
        )
    return {
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "crop_pct": preprocess.crop_pct,
        "resample": RESAMPLE[preprocess.interpolation],
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def preprocess_from_transformers(values: dict[str, Any], config: ModelConfig) -> Preprocess:
    """The preprocessing in a `preprocessor_config.json`; missing fields take ImageNet's usual values.

    Raises:
        Refusal: for another processor than ConvNext's, which transformers' ResNets use, or one that
            leaves out a step of ours.
    """
    size = values.get("size") or {}
    _check_steps(values, size)
    side = size if isinstance(size, int) else size.get("shortest_edge", config.input_size[0])
    names: dict[Any, str] = {number: name for name, number in RESAMPLE.items()}
    given = {
        "input_size": (config.in_chans, side, side),
        "crop_pct": values.get("crop_pct"),
        "interpolation": names.get(values.get("resample")),
        "mean": values.get("image_mean"),
        "std": values.get("image_std"),
    }
    squashed = {"crop_mode": "squash", "crop_pct": 1.0} if side >= SQUASHED_FROM else {}
    given = {name: value for name, value in given.items() if value is not None} | squashed
    return Preprocess.from_pretrained_cfg(default_preprocess(config).to_pretrained_cfg() | given)


def _check_steps(values: dict[str, Any], size: Any) -> None:
    """Refuse a processor that does something our preprocessing does not do, or leaves out what it does."""
    kind = values.get("image_processor_type") or values.get("feature_extractor_type") or "ConvNext"
    is_supported = {
        "image_processor_type": kind.startswith("ConvNext"),
        "size": isinstance(size, int) or not size or "shortest_edge" in size,
        "resample": values.get("resample") in (None, *RESAMPLE.values()),
        "rescale_factor": abs(255 * values.get("rescale_factor", 1 / 255) - 1) < 1e-6,
    } | {step: values.get(step) is not False for step in ("do_resize", "do_rescale", "do_normalize")}
    seen = {"image_processor_type": kind} | values
    unsupported = [f"{field}={seen[field]!r}" for field, ok in is_supported.items() if not ok]
    if unsupported:
        raise Refusal(
            f"{', '.join(unsupported)} has no counterpart here; only the ConvNext processor is read, with a "
            "shortest_edge, resizing, rescaling and normalising"
        )
