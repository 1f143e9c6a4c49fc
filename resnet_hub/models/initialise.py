"""How weights start: He's initialisation, or nothing where a checkpoint is about to fill them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWING = Lock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's generator of the CPU as after `torch.manual_seed(seed)`, and leave it as it was.

    One thread at a time: all of them share that generator. Those of GPUs stay seeded.
    """
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def kaiming_fan_out(module: nn.Module) -> None:
    """He initialisation of a convolution's weight, as torchvision's (arXiv 1502.01852)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class SkipRandomFill(TorchFunctionMode):
    """Build a network without drawing random weights, which a checkpoint replaces anyway.

    torch's meta device would do the same, but its first use imports 900 modules: 1.5 s of a first click.
    """

    SKIPPED: ClassVar = {
        Tensor.normal_, Tensor.uniform_,
        nn.init.normal_, nn.init.uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_,
    }  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor as it is instead of filling it."""
        if func in self.SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
