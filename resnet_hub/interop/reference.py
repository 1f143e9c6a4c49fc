"""timm's networks as references: found by name, filled with weights, run beside one of ours.

A reference has timm's own pretrained weights or, where they cannot be had, ours copied into its counterpart.
Knows nothing of a page; torch and timm are imported when a reference is asked for.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from resnet_hub.geometry import counted_macs, totals, trace
from resnet_hub.preprocess import Preprocess, load_image

COUNTERPART = "counterpart"  # in the place of a timm name: the same network as ours, out of timm's parts
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?")  # never a directory, never another kind of repository
MOST_WEIGHTS = 2 << 30  # bytes
MEMORY_SHARE = 8  # a reference may take one part in this many of the machine's memory; a page keeps four
SUGGESTED = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnet50d",
    "resnetv2_50", "resnext50_32x4d", "seresnet50", "convnext_tiny", "efficientnet_b0", "efficientnet_b2",
    "mobilenetv3_large_100", "densenet121", "vit_tiny_patch16_224", "vit_small_patch16_224",
    "vit_base_patch16_224", "deit_small_patch16_224",
)  # fmt: skip
# Which of ImageNet's 1000 classes each of CIFAR-10's ten is. ImageNet has no deer,
# and by https://www.cs.toronto.edu/~kriz/cifar.html a pickup is neither an automobile nor a truck.
CIFAR_OF_IMAGENET = {
    "airplane": [404, 895],
    "automobile": [436, 468, 511, 609, 627, 656, 661, 751, 817],
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)],
    "cat": [*range(281, 286)],
    "deer": [],
    "dog": [*range(151, 269)],
    "frog": [30, 31, 32],
    "horse": [339],
    "ship": [403, 484, 510, 554, 625, 628, 724, 780, 814, 833, 871, 914],
    "truck": [555, 569, 675, 864, 867],
}  # fmt: skip


class NoReference(ValueError):
    """A reference that cannot be had; `code` is "unknown", "not_offered", "no_counterpart", "too_large",
    "no_weights", "unreachable" or "unusable", and `facts` are for a page that says it in another language.
    """

    def __init__(self, message: str, code: str, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts


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


def architecture(name: str) -> str:
    """timm's network behind a name with or without a tag of its weights, e.g. "resnet50.a1_in1k".

    Raises:
        NoReference: when timm has no such network.
    """
    import timm

    bare = name.removeprefix("timm/")
    if not NAME.fullmatch(bare) or not timm.is_model(bare.partition(".")[0]):
        raise NoReference(f"timm {timm.__version__} has no network {name!r}", "unknown", name=name)
    tag = bare.partition(".")[2]
    if tag and bare not in timm.list_pretrained(bare.partition(".")[0] + ".*"):
        raise NoReference(f"timm has no weights {name!r}", "unknown", name=name)
    return bare


def _outline(build) -> tuple[Any, int]:
    """A network without memory and its number of parameters."""
    import torch

    with torch.device("meta"):
        net = build().eval()
    return net, sum(p.numel() for p in net.parameters())


def _family(name: str) -> str:
    kinds = {"efficientnet": "efficientnet", "tf_efficientnet": "efficientnet", "vit": "vit", "deit": "vit"}
    return next((kind for start, kind in kinds.items() if name.startswith(start)), "")


def memory_limit() -> int:
    """The most bytes of weights a reference may have on this machine."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return MOST_WEIGHTS
    return min(MOST_WEIGHTS, memory // MEMORY_SHARE)


def pretrained(name: str, tqdm_class: type | None = None, cache_dir: str | None = None):
    """A timm network with timm's pretrained weights, in eval mode, ready for `resnet_hub.predict.classify`.

    Args:
        name: timm's, with or without a tag; the default tag is timm's.
        tqdm_class: progress bar of the download.
        cache_dir: where it goes, instead of the Hub's cache.

    Raises:
        NoReference: when it is unknown, too large, has no weights, or they cannot be downloaded.
    """
    import timm

    bare = architecture(name)
    outline, parameters = _outline(lambda: timm.create_model(bare, pretrained=False))
    cfg = outline.pretrained_cfg
    preprocess = Preprocess.from_pretrained_cfg(cfg)
    facts = Facts(
        name=bare,
        family=_family(bare),
        weights="pretrained",
        origin=cfg.get("hf_hub_id") or "",
        parameters=parameters,
        macs=counted_macs(outline, preprocess.input_size),
        input_size=preprocess.input_size[1:],
    )
    size = {"parameters": parameters, "macs": facts.macs, "name": bare}
    if 4 * parameters > memory_limit():
        megabytes = {"megabytes": 4 * parameters // 10**6, "most": memory_limit() // 10**6}
        raise NoReference(
            f"{bare} has {megabytes['megabytes']:,} MB of weights; {megabytes['most']:,} MB is the most that "
            "is loaded here",
            "too_large",
            **size | megabytes,
        )
    if not facts.origin:
        raise NoReference(f"timm has no pretrained weights for {bare} on the Hub", "no_weights", **size)
    file = _downloaded(facts.origin, size, tqdm_class, cache_dir)
    # Older versions of timm read any file of a network that was published in JAX's format as one of JAX's.
    overlay = {"file": str(file), "custom_load": False}
    net = timm.create_model(bare, pretrained=True, pretrained_cfg_overlay=overlay)
    return _ready(net, facts, preprocess, _labels(net.num_classes))


def _downloaded(repo_id: str, size: dict, tqdm_class: type | None, cache_dir: str | None) -> Path:
    from resnet_hub.hub.fetch import CheckpointError, HubUnreachable, fetch_checkpoint

    try:
        return fetch_checkpoint(repo_id, tqdm_class=tqdm_class, cache_dir=cache_dir).weights
    except CheckpointError as error:
        message = f"timm's weights for {size['name']} cannot be had: {error}"
        code = "unreachable" if isinstance(error, HubUnreachable) else "unusable"
        raise NoReference(message, code, why=str(error), **size) from error


def copied(ours, source: str):
    """timm's counterpart of one of our models, with our weights in it.

    Raises:
        NoReference: when timm's parts do not make this network.
    """
    from resnet_hub.interop.counterpart import (
        counterpart,
        has_counterpart,
        library_name,
        replaced,
        stock_name,
    )

    config = ours.config
    if not has_counterpart(config, "timm"):
        raise NoReference(f"timm has no counterpart of {config.name}", "no_counterpart", name=config.name)
    outline, parameters = _outline(lambda: counterpart(config, "timm"))
    facts = Facts(
        name=stock_name(config) or "ResNet",
        family="",
        weights="copied",
        origin=source,
        parameters=parameters,
        macs=counted_macs(outline, ours.preprocess.input_size),
        input_size=ours.preprocess.input_size[1:],
        built_from=library_name(config),
        replaced=tuple(replaced(config)),
    )
    net = counterpart(config, "timm")
    net.load_state_dict(ours.state_dict())
    net = _ready(net, facts, ours.preprocess, ours.labels)
    net.calibration = ours.calibration
    return net


def _ready(net, facts: Facts, preprocess: Preprocess, labels: tuple[str, ...]):
    from resnet_hub.models.calibration import Calibration

    net.facts, net.preprocess, net.labels, net.calibration = facts, preprocess, labels, Calibration()
    return net.eval()


def _labels(count: int) -> tuple[str, ...]:
    """ImageNet's names for 1000 classes, as `hub.read_labels` gives them to ours, otherwise numbers."""
    from resnet_hub.config import ModelConfig
    from resnet_hub.hub.load import read_labels

    return read_labels({}, ModelConfig(name="reference", num_classes=count))


def facts_of(ours, source: str) -> Facts:
    """The same of one of our models."""
    size = ours.preprocess.input_size[1:]
    return Facts(
        name=ours.config.name,
        family="",
        weights="ours",
        origin=source,
        parameters=sum(p.numel() for p in ours.parameters()),
        macs=totals(trace(ours.config, size)).macs,
        input_size=size,
    )


# An image through both


@dataclass(frozen=True)
class Answer:
    """What one network makes of one image.

    Args:
        facts: what the network is.
        labels: its classes.
        probabilities: one for each, calibrated where the model is.
        seen: the image it saw, before normalisation.
        logits: one for each class.
        seconds: its time in the network, the first stage to the last logit.
    """

    facts: Facts
    labels: tuple[str, ...]
    probabilities: list[float]
    seen: Image.Image
    logits: list[float]
    seconds: float

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        order = sorted(range(len(self.labels)), key=lambda i: -self.probabilities[i])[:count]
        return [(self.labels[i], self.probabilities[i]) for i in order]


@dataclass(frozen=True)
class Beside:
    """A reference's answer beside ours.

    Args:
        answer: the reference's.
        space: "same" labels, "mapped" (ImageNet's onto CIFAR-10's) or "other".
        theirs: the reference's probability of each of our labels; empty where labels cannot be compared.
        same_input: whether both saw the same pixels, normalised the same way.
        logits: (largest absolute difference, the same over the largest logit) for one input into
            corresponding networks of the same labels; None otherwise.
        stages: (module, the same relative difference of its map) where the networks correspond.
    """

    answer: Answer
    space: str
    theirs: list[float]
    same_input: bool
    logits: tuple[float, float] | None
    stages: list[tuple[str, float]]

    def agrees(self, ours: Answer) -> bool | None:
        """Whether both have the same first guess; None where labels cannot be compared."""
        return guess(ours.labels, self.theirs) == ours.top(1)[0][0] if self.theirs else None


def guess(labels: Sequence[str], probabilities: Sequence[float]) -> str:
    """The most probable label; "" where most of the probability is on none of them (ImageNet's espresso)."""
    best = max(range(len(labels)), key=probabilities.__getitem__)
    return labels[best] if sum(probabilities) > 0.5 else ""


def label_space(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """How two label spaces relate: "same", "mapped" or "other"."""
    if tuple(ours) == tuple(theirs):
        return "same"
    is_imagenet = len(theirs) == 1000 and theirs[0].startswith("tench")
    return "mapped" if is_imagenet and set(ours) == set(CIFAR_OF_IMAGENET) else "other"


def in_our_labels(ours: Sequence[str], theirs: Sequence[str], probabilities: Sequence[float]) -> list[float]:
    """A reference's probability of each of our labels; [] where the label spaces have nothing in common."""
    space = label_space(ours, theirs)
    if space == "same":
        return list(probabilities)
    if space == "mapped":
        return [sum(probabilities[i] for i in CIFAR_OF_IMAGENET[label]) for label in ours]
    return []


def is_same_network(config, name: str) -> bool:
    """Whether timm builds the network of our configuration under this name, with or without a tag."""
    from resnet_hub.interop.counterpart import is_library_s_own, stock_name

    stock = stock_name(config)
    if getattr(config, "stem", "") == "deep":
        stock = {"resnet50": "resnet50c"}.get(stock)  # timm's other networks with this stem are wider
    return is_library_s_own(config, "timm") and stock == name.removeprefix("timm/").partition(".")[0]


def corresponds(ours, theirs) -> bool:
    """Whether both run alike up to the classifier, so that maps can be compared one by one."""
    return theirs.facts.weights == "copied" or is_same_network(ours.config, theirs.facts.name)


def side_by_side(ours, source: str, references: Sequence, image) -> tuple[Answer, list[Beside]]:
    """One image through our model and through each reference, each with its own preprocessing.

    Args:
        ours: a `Network` in eval mode.
        source: where it was loaded from.
        references: from `pretrained` or `copied`.
        image: anything `load_image` reads.

    Raises:
        ImageError: for an image that cannot be read.
    """
    photo = load_image(image)
    answer, maps = _answered(ours, facts_of(ours, source), photo, _staged)
    return answer, [_beside(ours, answer, maps, theirs, photo) for theirs in references]


def _beside(ours, answer: Answer, maps: list, theirs, photo: Image.Image) -> Beside:
    from resnet_hub.interop.parity import difference

    alike = corresponds(ours, theirs)
    same_input = theirs.preprocess == ours.preprocess
    found, their_maps = _answered(theirs, theirs.facts, photo, _staged_timm if alike else _unstaged)
    their_logits = found.logits
    if alike and not same_input:  # the difference of networks, not of images
        again, their_maps = _answered(theirs, theirs.facts, photo, _staged_timm, ours.preprocess)
        their_logits = again.logits
    space = label_space(answer.labels, found.labels)
    import torch

    return Beside(
        answer=found,
        space=space,
        theirs=in_our_labels(answer.labels, found.labels, found.probabilities),
        same_input=same_input,
        logits=difference(torch.tensor(answer.logits), torch.tensor(their_logits))
        if alike and space == "same"
        else None,
        stages=[
            (info["module"], difference(a, b)[1])
            for info, a, b in zip(ours.feature_info, maps, their_maps, strict=False)
        ]
        if alike
        else [],
    )


# Stage by stage without hooks: a hook on a model that two visitors share would see both.


def _staged(model, pixels):
    maps = model.features(pixels)
    return model.head(maps[-1]), maps


def _staged_timm(net, pixels):
    last, maps = net.forward_intermediates(pixels)
    return net.forward_head(last), maps[1:]  # the first is the stem's


def _unstaged(net, pixels):
    return net(pixels), []


def _answered(
    model, facts: Facts, photo: Image.Image, run, preprocess: Preprocess | None = None
) -> tuple[Answer, list]:
    from resnet_hub.predict import evaluation

    preprocess = preprocess or model.preprocess
    crop = preprocess.crop(photo)
    device = next(model.parameters()).device
    pixels = preprocess.normalise(crop)[None].to(device)
    with evaluation(model):
        started = time.perf_counter()
        logits, maps = run(model, pixels)
        logits = logits[0].float().cpu()
        seconds = time.perf_counter() - started
        probabilities = (logits / model.calibration.temperature).softmax(0).tolist()
    return Answer(facts, model.labels, probabilities, crop, logits.tolist(), seconds), maps


@dataclass(frozen=True)
class Row:
    """First guesses for one of several images.

    Args:
        ours: (label, probability).
        theirs: the same of each reference, in our labels; None where the label spaces cannot be compared,
            and "" as the label where most of the probability is on none of ours.
    """

    ours: tuple[str, float]
    theirs: list[tuple[str, float] | None]


def many(ours, references: Sequence, images: Sequence) -> list[Row]:
    """Several images through our model and every reference, in batches.

    Raises:
        ImageError: for the first image that cannot be read.
    """
    from resnet_hub.predict import classify

    photos = [load_image(image) for image in images]
    columns = [
        _guesses(ours.labels, net, classify(net, photos, top_k=len(net.labels)))
        if net.labels
        else [None] * len(photos)  # a headless network
        for net in references
    ]
    said = [prediction.top[0] for prediction in classify(ours, photos, top_k=1)]
    return [Row(first, [column[i] for column in columns]) for i, first in enumerate(said)]


def _guesses(labels: Sequence[str], net, predictions: Sequence) -> list[tuple[str, float] | None]:
    found = []
    for prediction in predictions:
        by_class = dict(zip(prediction.class_indices, (share for _, share in prediction.top), strict=True))
        mapped = in_our_labels(labels, net.labels, [by_class[i] for i in range(len(net.labels))])
        best = guess(labels, mapped) if mapped else None
        found.append(None if best is None else (best, mapped[labels.index(best)] if best else sum(mapped)))
    return found


def latency(net, size: Sequence[int], seconds: float = 1.0, least: int = 3) -> float:
    """Median seconds of one image (C, H, W) in a warm network: `least` runs, or up to 15 in `seconds`."""
    import torch

    from resnet_hub.predict import evaluation

    device = next(net.parameters()).device
    pixels = torch.zeros(1, *size, device=device)
    runs: list[float] = []
    with evaluation(net):
        net(pixels).cpu()
        until = time.perf_counter() + seconds
        while len(runs) < least or (time.perf_counter() < until and len(runs) < 15):
            started = time.perf_counter()
            net(pixels).cpu()
            runs.append(time.perf_counter() - started)
    return median(runs)
