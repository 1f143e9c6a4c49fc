"""The lab's topics in the order of the page; they draw what `resnet_hub.lab` computes."""

from resnet_hub.ui.lab.pieces import Topic
from resnet_hub.ui.lab.topics import (
    batchnorm,
    branches,
    cost,
    dropout,
    exercises,
    film,
    gradients,
    heads,
    looking,
    networks,
    pooling,
    products,
    receptive,
    residual,
    scaling,
    skips,
    timeline,
    transfer,
)

MODULES = (
    pooling, heads, receptive, looking, residual, branches, gradients, products, batchnorm, dropout, film,
    cost, skips, scaling, networks, timeline, transfer, exercises,
)  # fmt: skip
TOPICS: dict[str, Topic] = {name: topic for module in MODULES for name, topic in module.TOPICS.items()}
