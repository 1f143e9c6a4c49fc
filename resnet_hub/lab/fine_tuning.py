"""Fine-tuning: which mode suits a data set, which parameters then learn and how fast, and the command to run.

`training.transfer` applies these rules and the Lab explains them; parameters are counted without torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.errors import Refusal
from resnet_hub.geometry import Row, trace
from resnet_hub.lab.bounds import one_of, within
from resnet_hub.lab.family import RESNETS
from resnet_hub.models.registry import model_config

Rates = tuple[tuple[str, float], ...]  # (pattern, share of the recipe's rate; 0 freezes), first match wins
MODES = ("feature", "partial", "full")
FEW, SOME = 1_000, 10_000  # training images up to which the head alone learns, and the last stage with it
HEAD_RATE = 1e-3  # of AdamW, for the new classifier; every other rate is a share of it
FAR_SHARE = 0.3  # of it, for every layer, where early layers have much to learn too


def mode_for(images: int, similar: bool = True) -> str:
    """The mode for a number of training images; `full` for images unlike those of the pretraining (`--far`).

    Pretrained features fit such images less well: only `full` at one rate learned 220 of them
    (training/results/small_sets.md).
    """
    return MODES[(images > FEW) + (images > SOME)] if similar else "full"


def mode_rates(mode: str, config: ModelConfig, head: str, similar: bool = True) -> Rates:
    """(pattern, share of the head's rate) of a mode.

    Args:
        similar: the images are like those of the pretraining; if not, `full` teaches early layers as fast as
            late ones.

    The shares follow absolute rates of 1e-3 for the head; 1e-5 for the last stage alone, or 1e-6 (stem and
    first stage), 1e-5 and 1e-4 (last stage) for the whole network, where `bn1` learns like `conv1`.
    """
    new = (re.escape(head), 1.0)
    if mode == "feature":
        return (new, ("", 0.0))
    if mode == "full" and not similar:
        return (("", FAR_SHARE),)
    if not isinstance(config, ResNetConfig):
        body = {"partial": (), "full": (("", 0.1),)}[mode]
        if not body:
            raise Refusal(f"--mode partial is for residual networks; give {config.name} feature or full")
        return (new, *body)
    last = len(config.depths)
    final = rf"(layer{last}|bn)\."  # pre-activation networks end in a batch norm of their own
    if mode == "partial":
        return (new, (final, 0.01), ("", 0.0))
    middle = "".join(map(str, range(2, last)))
    return (new, (final, 0.1), *([(rf"layer[{middle}]\.", 0.01)] if middle else []), ("", 0.001))


def share_of_each(names: Iterable[str], rates: Rates) -> dict[str, float]:
    """The share of the recipe's rate that each parameter learns with; the first pattern that matches counts.

    Raises:
        ValueError: for a parameter that no pattern matches, or a pattern that decides for no parameter.
    """
    shares, idle = {}, {pattern for pattern, _ in rates}
    for name in names:
        pattern, share = next(((p, s) for p, s in rates if re.match(p, name)), (None, 0.0))
        if pattern is None:
            raise Refusal(f"no pattern matches parameter {name}; patterns: {[p for p, _ in rates]}")
        shares[name] = share
        idle.discard(pattern)
    if idle:
        layers = dict.fromkeys(name.partition(".")[0] for name in shares)
        raise Refusal(f"patterns {sorted(idle)} decide for no parameter; the layers are {', '.join(layers)}")
    return shares


@dataclass(frozen=True)
class Advice:
    """How to fine-tune on a data set.

    Args:
        mode: feature, partial or full.
        rates: (stages, learning rate) in the network's order; 0 where frozen.
        trainable, total: parameters.
        command: what to run.
    """

    mode: str
    rates: tuple[tuple[str, float], ...]
    trainable: int
    total: int
    command: str


def advise(images: int, classes: int, similar: bool, network: str = "resnet50") -> Advice:
    """Choose how to fine-tune an ImageNet network.

    Args:
        images: training images in all, 1 to 10,000,000.
        classes: 2 to 10,000.
        similar: the images are photographs of things, like ImageNet's; not scans, charts or microscopy.
        network: one of `RESNETS`.

    Raises:
        ValueError: for a number out of range, or another network.
    """
    within("images", images, 1, 10_000_000)
    within("classes", classes, 2, 10_000)
    one_of("network", network, RESNETS)
    config, mode = model_config(network, num_classes=classes), mode_for(images, similar)
    far = "" if similar else " --far"
    rows = [row for row in trace(config) if row.params]
    rates = mode_rates(mode, config, "fc", similar)
    shares = share_of_each((f"{row.name}." for row in rows), rates)
    learnt = [(row, shares[f"{row.name}."]) for row in rows]
    return Advice(
        mode,
        tuple((stage, share * HEAD_RATE) for stage, share in _by_stage(learnt)),
        sum(row.params for row, share in learnt if share),
        sum(row.params for row in rows),
        f"python -m training.transfer --weights timm/{network} --data FOLDER --mode {mode}{far} --out RUN",
    )


def _by_stage(learnt: list[tuple[Row, float]]) -> list[tuple[str, float]]:
    """("stem", share), ("layer1", share) ...: a whole stage learns at one rate."""
    return [key for key, _ in groupby((row.stage, share) for row, share in learnt)]
