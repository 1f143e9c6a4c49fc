"""Networks run for their answers alone: measuring, and the features under a new head.

Where a command was told an engine, or may choose one, that is `resnet_hub.engine`'s. While a run trains, its
validation and its features always take the folded network, never the winner of a race, so that a resumed run
computes the same bits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_hub.engine import Engine, engine_for, is_chosen, prepare, shape_of
from resnet_hub.engine.backends import DTYPES
from resnet_hub.engine.fused import fused
from resnet_hub.models.base import Network

LEAST = 64  # images from which folding pays
PRECISION_OF = {dtype: name for name, dtype in DTYPES.items()}


def runner(net: nn.Module, images: int, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """What maps inputs to `net`'s answers while its weights stay as they are now.

    Args:
        net: in eval mode.
        images: how many are to come.
        shape: of one: (C, H, W), or (F,) for features.
    """
    if is_chosen(net) and tuple(shape) == shape_of(net):
        return engine_for(net, images)
    is_small_job = images < LEAST or len(shape) < 3
    if is_small_job or next(net.parameters()).device.type != "cpu":
        return net
    return folded(net)


def folded(net: nn.Module) -> Engine:
    """A copy of a network in eval mode with its batch norms folded."""
    return Engine("fused", "fp32", fused(net))


def headless(model: Network) -> nn.Module:
    """A copy of the network that returns what would enter its classifier: (N, C, H, W) -> (N, F)."""
    body = copy.deepcopy(model)
    assert model.classifier_name is not None, "a network to be fine-tuned has a classifier"
    body.set_submodule(model.classifier_name, nn.Identity())
    return body.eval()


@torch.no_grad()
def feature_engine(
    model: Network, device: torch.device, engine: str = "auto", dtype: torch.dtype | None = None
) -> Engine:
    """The engine that computes `model`'s features (see `headless`), in `dtype`; None is float32.

    Raises:
        Refusal: for a named engine that is not installed or does not run this network.
    """
    body = headless(model).to(device).to(memory_format=torch.channels_last)
    kind = PRECISION_OF[dtype or torch.float32]
    if engine != "auto":
        return prepare(body, (model.config.in_chans, *model.preprocess.input_size[1:]), engine, kind)
    if dtype is None:
        return folded(body)
    return Engine("eager", kind, torch.autocast(device.type, dtype)(body.forward))
