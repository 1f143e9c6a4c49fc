"""timm's networks as references to compare one of ours with: found by name and filled with weights.

A reference has timm's own pretrained weights, or a copy of ours in the counterpart built from timm's parts.
torch and timm are imported when a reference is asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.errors import Refusal
from resnet_hub.preprocess import Preprocess

if TYPE_CHECKING:
    import torch

    from resnet_hub.config import ModelConfig
    from resnet_hub.models.base import Network
    from resnet_hub.models.calibration import Calibration

COUNTERPART = "counterpart"  # instead of a timm name: the same network as ours, built from timm's parts
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?")  # never a directory or another kind of repository
MAX_WEIGHT_BYTES = 2 << 30
MEMORY_SHARE = 8  # a reference may take 1/8 of the machine's memory; a page keeps four
FAMILIES = {"efficientnet": "efficientnet", "tf_efficientnet": "efficientnet", "vit": "vit", "deit": "vit"}
SUGGESTED = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnet50d",
    "resnetv2_50", "resnext50_32x4d", "seresnet50", "convnext_tiny", "efficientnet_b0", "efficientnet_b2",
    "mobilenetv3_large_100", "densenet121", "vit_tiny_patch16_224", "vit_small_patch16_224",
    "vit_base_patch16_224", "deit_small_patch16_224",
)  # fmt: skip


class NoReference(Refusal):
    """A reference that is not available; `code` is "unknown", "not_offered", "no_counterpart", "too_large",
    "no_weights", "unreachable" or "unusable".
    """


@dataclass(frozen=True)
class Facts:
    """What a network is, whatever the image.

    Args:
        name: timm's name, or ours.
        family: "efficientnet", "vit" or "".
        weights: "pretrained", "copied" or "ours".
        origin: the repository or checkpoint the weights are from.
        parameters: their number.
        macs: multiply-adds of one image at `input_size`.
        input_size: (height, width) in pixels.
        built_from: of a counterpart, timm's network or the kind of its blocks.
        replaced: of a counterpart, the parts that are not timm's own.
        revision: of weights of ours, their commit, "shipped" or "local".
    """

    name: str
    family: str
    weights: str
    origin: str
    parameters: int
    macs: int
    input_size: tuple[int, int]
    built_from: str = ""
    replaced: tuple[str, ...] = ()
    revision: str | None = None


@dataclass(frozen=True, eq=False)
class Reference:
    """A timm network in eval mode with what `resnet_hub.predict.classify` needs to run it.

    Args:
        net: maps normalised images (N, C, H, W) to logits (N, classes).
        facts: what the network is.
        preprocess: how an image becomes its input.
        labels: its classes; () for a headless network.
        calibration: its temperature and threshold; none of timm's own networks has them.
    """

    net: Any
    facts: Facts
    preprocess: Preprocess
    labels: tuple[str, ...]
    calibration: Calibration

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (N, C, H, W) -> logits (N, classes)."""
        return self.net(pixels)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Those of the network."""
        return self.net.parameters()

    def modules(self) -> Iterator[torch.nn.Module]:
        """The network and every module inside it."""
        return self.net.modules()

    def to(self, device: torch.device | str) -> Reference:
        """Move the network; returns the reference."""
        self.net.to(device)
        return self


# timm's own weights


def architecture(name: str) -> str:
    """timm's network behind a name with or without a tag of its weights, e.g. "resnet50.a1_in1k".

    Raises:
        NoReference: when timm has no such network.
    """
    import timm

    bare = name.removeprefix("timm/")
    network, _, tag = bare.partition(".")
    if not NAME.fullmatch(bare) or not timm.is_model(network):
        raise NoReference(f"timm {timm.__version__} has no network {name!r}", "unknown", name=name)
    if tag and bare not in timm.list_pretrained(network + ".*"):
        raise NoReference(f"timm has no weights {name!r}", "unknown", name=name)
    return bare


def memory_limit() -> int:
    """The most bytes of weights a reference may have on this machine."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return MAX_WEIGHT_BYTES
    return min(MAX_WEIGHT_BYTES, memory // MEMORY_SHARE)


def pretrained(name: str, tqdm_class: type | None = None, cache_dir: str | None = None) -> Reference:
    """A timm network with timm's pretrained weights.

    Args:
        name: timm's, with or without a tag; without one, timm's default tag is used.
        tqdm_class: progress bar of the download.
        cache_dir: where the download is kept, instead of the Hub's cache.

    Raises:
        NoReference: when it is unknown, too large, has no weights, or they cannot be downloaded.
    """
    import timm

    from resnet_hub.models.calibration import Calibration

    bare = architecture(name)
    facts, preprocess = _outline(bare)
    _check_size(facts)
    if not facts.origin:
        message = f"timm has no pretrained weights for {bare} on the Hub"
        raise NoReference(message, "no_weights", **_size(facts))
    file = _download(facts, tqdm_class, cache_dir)
    # Without `custom_load`, older timm reads any file of a network published in JAX's format as JAX's.
    overlay = {"file": str(file), "custom_load": False}
    net: Any = timm.create_model(bare, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    return Reference(net, facts, preprocess, class_names(net.num_classes), Calibration())


def _outline(name: str) -> tuple[Facts, Preprocess]:
    """What a timm network is and its preprocessing, without allocating or downloading its weights."""
    import timm
    import torch

    from resnet_hub.geometry import counted_macs

    with torch.device("meta"):
        net: Any = timm.create_model(name, pretrained=False)
    preprocess = Preprocess.from_pretrained_cfg(net.pretrained_cfg)
    facts = Facts(
        name=name,
        family=next((kind for start, kind in FAMILIES.items() if name.startswith(start)), ""),
        weights="pretrained",
        origin=net.pretrained_cfg.get("hf_hub_id") or "",
        parameters=sum(p.numel() for p in net.parameters()),
        macs=counted_macs(net, preprocess.input_size),
        input_size=preprocess.input_size[1:],
    )
    return facts, preprocess


def _size(facts: Facts) -> dict[str, Any]:
    """The facts that every error about a known network carries."""
    return {"parameters": facts.parameters, "macs": facts.macs, "name": facts.name}


def _check_size(facts: Facts) -> None:
    held, limit = 4 * facts.parameters, memory_limit()
    if held > limit:
        megabytes = {"megabytes": held // 10**6, "most": limit // 10**6}
        message = "{name} has {megabytes:,} MB of weights; at most {most:,} MB are loaded here"
        raise NoReference(
            message.format(name=facts.name, **megabytes), "too_large", **_size(facts), **megabytes
        )


def _download(facts: Facts, tqdm_class: type | None, cache_dir: str | None) -> Path:
    from resnet_hub.hub.fetch import CheckpointError, HubUnreachable, fetch_checkpoint

    try:
        return fetch_checkpoint(facts.origin, tqdm_class=tqdm_class, cache_dir=cache_dir).weights
    except CheckpointError as error:
        message = f"timm's weights for {facts.name} cannot be loaded: {error}"
        code = "unreachable" if isinstance(error, HubUnreachable) else "unusable"
        raise NoReference(message, code, why=error, **_size(facts)) from error


def class_names(count: int) -> tuple[str, ...]:
    """ImageNet's names for 1000 classes, as our own networks get them, otherwise numbers."""
    from resnet_hub.config import ModelConfig
    from resnet_hub.hub.load import read_labels

    return read_labels({}, ModelConfig(name="reference", num_classes=count))


# Our weights in timm's parts


def copied(ours: Network, source: str) -> Reference:
    """timm's counterpart of one of our models, with our weights in it.

    Args:
        source: where our model was loaded from.

    Raises:
        NoReference: when timm's parts cannot make this network.
    """
    from resnet_hub.interop.counterpart import base_name, counterpart, has_counterpart, stock_name
    from resnet_hub.interop.counterpart import replaced as replaced_parts
    from resnet_hub.models.initialise import SkipRandomFill

    config = ours.config
    if not has_counterpart(config, "timm"):
        raise NoReference(f"timm has no counterpart of {config.name}", "no_counterpart", name=config.name)
    with SkipRandomFill():
        net = counterpart(config, "timm").eval()
    net.load_state_dict(ours.state_dict())
    facts = replace(
        facts_of(ours, source),
        name=stock_name(config) or "ResNet",
        weights="copied",
        built_from=base_name(config),
        replaced=tuple(replaced_parts(config)),
    )
    return Reference(net, facts, ours.preprocess, ours.labels, ours.calibration)


def own(ours: Network, source: str) -> Reference:
    """Another of our models, to stand beside the first.

    Args:
        source: where it was loaded from.
    """
    return Reference(ours, facts_of(ours, source), ours.preprocess, ours.labels, ours.calibration)


def facts_of(ours: Network, source: str) -> Facts:
    """What one of our models is.

    Args:
        source: where it was loaded from.
    """
    from resnet_hub.geometry import totals, trace

    size = ours.preprocess.input_size[1:]
    return Facts(
        name=ours.config.name,
        family="",
        weights="ours",
        origin=source,
        parameters=sum(p.numel() for p in ours.parameters()),
        macs=totals(trace(ours.config, size)).macs,
        input_size=size,
        revision=ours.revision,
    )


def is_same_network(config: ModelConfig, name: str) -> bool:
    """Whether timm builds the network of our configuration under this name, with or without a tag."""
    from resnet_hub.interop.counterpart import is_stock, stock_name

    stock = stock_name(config)
    if getattr(config, "stem", "") == "deep":  # timm's other networks with this stem are wider
        stock = "resnet50c" if stock == "resnet50" else None
    return is_stock(config, "timm") and stock == name.removeprefix("timm/").partition(".")[0]
