"""The lab's topics, one module each, in the order of the page."""

from resnet_hub.ui.lab.pieces import Topic
from resnet_hub.ui.lab.topics import (
    batchnorm,
    bias,
    cost,
    dropout,
    exercises,
    gradients,
    modes,
    patches,
    pooling,
    products,
    residual,
    scaling,
    shapes,
    skips,
    timeline,
    transfer,
)

MODULES = (
    pooling, residual, shapes, gradients, products, batchnorm, modes, bias, dropout, cost, skips, scaling,
    patches, timeline, transfer, exercises,
)  # fmt: skip
TOPICS: dict[str, Topic] = {module.__name__.rpartition(".")[2]: module.TOPIC for module in MODULES}
