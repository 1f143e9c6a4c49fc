"""The lab's topics in the order of the page; they draw what `resnet_hub.lab` computes."""

from resnet_hub.ui.lab.pieces import Topic
from resnet_hub.ui.lab.topics import (
    batchnorm,
    cost,
    dropout,
    exercises,
    gradients,
    networks,
    pooling,
    products,
    residual,
    scaling,
    skips,
    timeline,
    transfer,
)

MODULES = (
    pooling, residual, gradients, products, batchnorm, dropout, cost, skips, scaling, networks, timeline,
    transfer, exercises,
)  # fmt: skip
TOPICS: dict[str, Topic] = {name: topic for module in MODULES for name, topic in module.TOPICS.items()}
