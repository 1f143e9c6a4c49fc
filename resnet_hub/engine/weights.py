"""Whether a network is still the one that an engine was prepared from."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LOOKED_AT = 8  # values of each tensor


class Parts(NamedTuple):
    """What a network consists of: the layers below it and its parameters and buffers; whether anybody listens
    to a layer, and whether one is in training mode."""

    layers: list[nn.Module]
    tensors: list[Tensor]
    has_hooks: bool
    is_training: bool


class Weights:
    """The tensors, layers and hooks of a network at one moment.

    A change in place raises a tensor's version; one through `.data` does not, so a few values of each tensor
    are compared as well. The tensors themselves are kept, since a new one may get an old one's address.
    """

    def __init__(self, found: Parts) -> None:
        self._parts = found
        self._state = [state(tensor) for tensor in found.tensors]
        self._views = [sample(tensor) for tensor in found.tensors]
        self._values = self._sampled()

    def are_still(self, found: Parts) -> bool:
        """Whether these parts are those of that moment, and have not changed since."""
        return (
            found.has_hooks == self._parts.has_hooks
            and same(found.layers, self._parts.layers)
            and same(found.tensors, self._parts.tensors)
            and [state(tensor) for tensor in found.tensors] == self._state
            and torch.equal(self._sampled(), self._values)
        )

    def _sampled(self) -> Tensor:
        with torch.no_grad():
            return torch.cat(self._views) if self._views else torch.empty(0)


def parts(net: nn.Module) -> Parts:
    """The parts of a network as they are now."""
    layers = list(net.modules())
    tensors = [
        tensor
        for layer in layers
        for tensor in (*layer._parameters.values(), *layer._buffers.values())
        if tensor is not None
    ]
    has_hooks = any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    return Parts(layers[1:], tensors, has_hooks, any(layer.training for layer in layers))


def same(these: list[Any], those: list[Any]) -> bool:
    """Whether two lists hold the very same objects."""
    return len(these) == len(those) and all(a is b for a, b in zip(these, those, strict=True))


def state(tensor: Tensor) -> tuple[int, int]:
    """(version, address); those made in inference mode have no version."""
    return -1 if tensor.is_inference() else tensor._version, tensor.data_ptr()


def sample(tensor: Tensor) -> Tensor:
    """A view of a few values, spread over a tensor."""
    is_dense = tensor.is_contiguous() or (
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )
    flat = tensor.detach().as_strided((tensor.numel() if is_dense else 0,), (1,))
    return flat[:: max(len(flat) // LOOKED_AT, 1)][:LOOKED_AT]
