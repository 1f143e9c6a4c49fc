"""From LeNet to the Vision Transformer: years, errors and sizes, and the time of one image on this machine.

Each fact has its source; parameters and multiply-adds of the library's own networks are computed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from resnet_hub.geometry import totals, trace
from resnet_hub.lab.bounds import one_of
from resnet_hub.lab.family import measure


class Milestone(NamedTuple):
    """A network; `top5_error` is that of its ILSVRC entry in percent, `ours` its name in this library."""

    key: str
    name: str
    year: int
    top5_error: float | None
    ours: str | None
    source: str


# Errors: each year's classification results of ensembles, https://image-net.org/challenges/LSVRC/
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
    """Parameters, and multiply-adds for one image at the network's own size."""

    params: int
    macs: int


@lru_cache(16)
def size(name: str) -> Size:
    """A network's size, from its layers."""
    sums = totals(trace(name))
    return Size(sums.params, sums.macs)


@lru_cache(8)
def latency(name: str) -> float:
    """Seconds for one 224x224 image on this machine's CPU, measured as in the family guide, but with a single
    run where one takes long, as a visitor is waiting.

    Raises:
        ValueError: for a network outside `FAMILY`.
    """
    one_of("name", name, FAMILY)
    return measure(name, "cpu", least=1)
