"""How to fine-tune: images, classes and likeness in; mode, rates, trainable parameters and the command out.

The rules are `finetune.py`'s, which `training.transfer` applies. Knows nothing of torch: parameters are
counted by geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from resnet_hub.geometry import trace
from resnet_hub.lab.bounds import one_of, within
from resnet_hub.lab.fine_tuning import HEAD_RATE, mode_for, mode_rates, share_of_each
from resnet_hub.lab.timeline import FAMILY
from resnet_hub.models.registry import model_config


@dataclass(frozen=True)
class Advice:
    """What to do with so many images.

    Args:
        mode: feature, partial or full.
        rates: (stages, learning rate) in the network's order; 0 where nothing learns.
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
    """
    within("images", images, 1, 10_000_000)
    within("classes", classes, 2, 10_000)
    one_of("network", network, FAMILY)
    config, mode = model_config(network, num_classes=classes), mode_for(images, similar)
    rows = [row for row in trace(config) if row.params]
    shares = share_of_each((f"{row.name}." for row in rows), mode_rates(mode, config, "fc"))
    learnt = [(row, shares[f"{row.name}."]) for row in rows]
    return Advice(
        mode,
        tuple((stage, share * HEAD_RATE) for stage, share in _by_stage(learnt)),
        sum(row.params for row, share in learnt if share),
        sum(row.params for row in rows),
        f"python -m training.transfer --weights timm/{network} --data FOLDER --mode {mode} --out RUN",
    )


def _by_stage(learnt: list) -> list[tuple[str, float]]:
    """("stem", share), ("layer1", share) ...: all of a stage learns with one rate."""
    return [key for key, _ in groupby((row.stage, share) for row, share in learnt)]
