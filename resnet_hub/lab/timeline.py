"""From LeNet to the Vision Transformer: years and errors, with their sources. Sizes are in `family.py`."""

from __future__ import annotations

from typing import NamedTuple


class Milestone(NamedTuple):
    """A network of the history: `top5_error` (percent) of its ILSVRC entry, `ours` its name here."""

    key: str
    name: str
    year: int
    top5_error: float | None
    ours: str | None
    source: str


# Errors: the classification results of each year at https://image-net.org/challenges/LSVRC/, by ensembles;
# ResNet's is of six networks of different depth, two of them ResNet-152 (section 4.1).
MILESTONES = (
    Milestone("lenet5", "LeNet-5", 1998, None, "lenet5", "LeCun et al. 1998"),
    Milestone("alexnet", "AlexNet", 2012, 16.4, "alexnet", "Krizhevsky et al. 2012"),
    Milestone("vgg", "VGG", 2014, 7.3, "vgg16", "arXiv 1409.1556"),
    Milestone("googlenet", "GoogLeNet", 2014, 6.7, None, "arXiv 1409.4842"),
    Milestone("resnet", "ResNet", 2015, 3.57, "resnet152", "arXiv 1512.03385"),
    Milestone("wrn", "WRN-28-10", 2016, None, "wrn28_10_cifar", "arXiv 1605.07146"),
    Milestone("densenet", "DenseNet", 2016, None, None, "arXiv 1608.06993"),
    Milestone("efficientnet", "EfficientNet", 2019, None, None, "arXiv 1905.11946"),
    Milestone("vit", "ViT", 2020, None, None, "arXiv 2010.11929"),
)
