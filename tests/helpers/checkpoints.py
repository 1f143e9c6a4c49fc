"""Networks with lively weights, inputs for them, and what refusing a checkpoint looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_hub import create_model, from_pretrained
from resnet_hub.hub.fetch import CheckpointError
from resnet_hub.models.base import Network


def lively(model: Network, seed: int = 0) -> Network:
    """`model` in eval mode with nothing left at its initial value, batch-norm statistics included."""
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                values.data.uniform_(0.5, 1.5, generator=draw)
            for values in (module.bias, module.running_mean):
                values.data.normal_(0, 0.1, generator=draw)
            module.num_batches_tracked.fill_(7)
    return model.eval()


def tiny(**overrides) -> Network:
    return lively(create_model("resnet20_cifar", **overrides))


def images(model, count: int = 2) -> torch.Tensor:
    sides = model.config.input_size
    size = sides if model.fixed_input_size else [min(side, 64) for side in sides]
    return torch.randn(count, model.config.in_chans, *size, generator=torch.Generator().manual_seed(1))


def logits(model, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


def photo(width: int = 90, height: int = 70) -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8))


def refusal(source, **options) -> str:
    """The one line with which `source` is refused."""
    with pytest.raises(CheckpointError) as caught:
        from_pretrained(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


class Bomb:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)
