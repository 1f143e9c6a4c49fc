"""From LeNet to the Vision Transformer: years, errors, sizes and, measured here, how long one picture takes.

Facts are data with their sources; parameters and multiply-adds of the library's own networks are computed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from resnet_hub.geometry import totals, trace
from resnet_hub.lab.bounds import one_of


class Milestone(NamedTuple):
    """A network of the history; `top5_error` in percent, of its ILSVRC entry; `ours` is its name here."""

    key: str
    name: str
    year: int
    top5_error: float | None
    ours: str | None
    source: str


# Errors: the classification results of each year at https://image-net.org/challenges/LSVRC/, by ensembles.
MILESTONES = (
    Milestone("lenet5", "LeNet-5", 1998, None, "lenet5", "LeCun et al. 1998"),
    Milestone("alexnet", "AlexNet", 2012, 16.4, "alexnet", "Krizhevsky et al. 2012"),
    Milestone("vgg", "VGG", 2014, 7.3, "vgg16", "arXiv 1409.1556"),
    Milestone("googlenet", "GoogLeNet", 2014, 6.7, None, "arXiv 1409.4842"),
    Milestone("resnet", "ResNet-152", 2015, 3.57, "resnet152", "arXiv 1512.03385"),
    Milestone("wrn", "WRN-28-10", 2016, None, "wrn28_10_cifar", "arXiv 1605.07146"),
    Milestone("densenet", "DenseNet", 2016, None, None, "arXiv 1608.06993"),
    Milestone("efficientnet", "EfficientNet", 2019, None, None, "arXiv 1905.11946"),
    Milestone("vit", "ViT", 2020, None, None, "arXiv 2010.11929"),
)
FAMILY = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


class Size(NamedTuple):
    """Parameters, and multiply-adds for one picture of the network's own size."""

    params: int
    macs: int


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one 224x224 picture on this machine, fp32, the fastest of `runs` after a first one."""

    milliseconds: float
    runs: int


@lru_cache(16)
def size(name: str) -> Size:
    """A network's size, from its layers."""
    sums = totals(trace(name))
    return Size(sums.params, sums.macs)


@lru_cache(8)
def latency(name: str, runs: int = 2) -> Latency:
    """Build a network with random weights and time it; the time does not depend on the weights.

    Raises:
        ValueError: for a network that is none of `FAMILY`.
    """
    import torch

    from resnet_hub.models.build import build_network
    from resnet_hub.models.registry import model_config

    one_of("name", name, FAMILY)
    config = model_config(name)
    with torch.device("meta"):  # no time for drawing weights that nobody reads
        model = build_network(config)
    model = model.to_empty(device="cpu").eval()
    picture, seconds = torch.ones(1, 3, 224, 224), []
    with torch.inference_mode():
        for parameter in [*model.parameters(), *model.buffers()]:
            parameter.fill_(0.01)
        for _ in range(runs + 1):
            started = time.perf_counter()
            model(picture)
            seconds.append(time.perf_counter() - started)
    return Latency(1000 * min(seconds[1:]), runs)
