"""A trained network with one block switched off, so that only its shortcut is left (Veit et al., arXiv
1605.06431): a residual network keeps part of its accuracy, a plain one falls to about chance.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet_hub.errors import Refusal
from resnet_hub.lab.bounds import one_of

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from resnet_hub.models.base import Network


@dataclass(frozen=True)
class Answer:
    """A network's answer with one block switched off.

    Args:
        block: its name, "layer1.0"; "" for the whole network.
        label, probability: the most probable class, calibrated.
        kept: probability of the class that the whole network answers.
    """

    block: str
    label: str
    probability: float
    kept: float


def block_names(model: Network) -> list[str]:
    """The blocks that can be switched off, first to last.

    Raises:
        ValueError: for a network that is not made of basic blocks or bottlenecks.
    """
    from resnet_hub.models.resnet import BasicBlock, Bottleneck

    names = [name for name, module in model.named_modules() if isinstance(module, (BasicBlock, Bottleneck))]
    if not names:
        raise Refusal(f"{model.config.name} has no basic blocks or bottlenecks to switch off; give a ResNet")
    return names


@contextmanager
def without(model: Network, block: str) -> Iterator[None]:
    """Let one block return its shortcut alone; "" changes nothing.

    A plain block has none: its input passes on, zero-padded where the shape changes, as in the residual twin.

    Raises:
        ValueError: for a block that the network does not have.
    """
    from torch.nn import Conv2d
    from torch.nn import functional as F

    from resnet_hub.models.resnet import ZeroPadShortcut

    def shortcut_only(module: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        (x,) = inputs
        if module.downsample is not None:
            return F.relu(module.downsample(x))
        if x.shape == out.shape:
            return F.relu(x)
        stride = math.prod(conv.stride[0] for conv in module.modules() if isinstance(conv, Conv2d))
        return F.relu(ZeroPadShortcut(x.shape[1], out.shape[1], stride)(x))

    one_of("block", block, ["", *block_names(model)])
    if not block:
        yield
        return
    hook = model.get_submodule(block).register_forward_hook(shortcut_only)
    try:
        yield
    finally:
        hook.remove()


def answers(model: Network, crop: Image.Image) -> list[Answer]:
    """The network's answer to an image, whole and with each block switched off.

    Args:
        crop: the network's input image, as `model.preprocess.crop` makes it.
    """
    from resnet_hub.predict import evaluation

    model = copy.deepcopy(model)  # others may be running it
    pixels = model.preprocess.normalise(crop)[None].to(next(model.parameters()).device)
    found: list[Answer] = []
    for block in ["", *block_names(model)]:
        with evaluation(model), without(model, block):
            shares = model.calibration.probabilities(model(pixels)[0].float())
        best = int(shares.argmax())
        first = found[0].label if found else model.labels[best]
        kept = shares[model.labels.index(first)].item()
        found.append(Answer(block, model.labels[best], shares[best].item(), kept))
    return found
