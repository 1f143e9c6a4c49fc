"""The size of the gradient along depth at initialisation, in real networks of any depth.

Two gradients of one loss: with respect to each layer's activations, which says whether it vanishes or
explodes on its way to the input, and to each layer's weights, which the size of the layer's input enters
too. Every number is computed by autograd in float64: float32 underflows after some twenty sigmoids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from resnet_hub.errors import Refusal
from resnet_hub.lab.bounds import one_of, within

if TYPE_CHECKING:
    import torch

ACTIVATIONS = ("relu", "tanh", "sigmoid", "none")
PLACES = ("activations", "weights")
ORDERS = ("post", "pre")  # of a residual block: arXiv 1512.03385, and arXiv 1603.05027
MOST_DEPTH = 110
SMALLEST = 1e-300  # norm of a gradient that is no zero, in float64
SIDE, IMAGES = 8, 8
REGISTERED = ("resnet20_cifar", "plain20_cifar", "resnet56_cifar", "plain56_cifar")


@dataclass(frozen=True)
class GradientFlow:
    """Norms of the loss's gradient at each layer, first layer first."""

    norms: tuple[float, ...]

    @property
    def first_to_last(self) -> float:
        """Norm at the first layer over norm at the last; above 1 the gradient grows toward the input."""
        return self.norms[0] / self.norms[-1] if self.norms[-1] else float("inf")

    @property
    def factor_a_layer(self) -> float:
        """Mean factor from one layer's norm to that of the layer before it."""
        return self.first_to_last ** (1 / max(1, len(self.norms) - 1))


@dataclass(frozen=True)
class PlusOne:
    """The gradient that reaches each block's input through its shortcut and through its branch.

    With s = x + F(x), dL/dx = dL/ds (the "+1") + F's vector-Jacobian product of dL/ds.

    Args:
        shortcut, branch: norms of the two terms, first block first.
        whole: norms of their sum.
        cosines: of the angle between them; near 0 they are nearly orthogonal.
    """

    shortcut: tuple[float, ...]
    branch: tuple[float, ...]
    whole: tuple[float, ...]
    cosines: tuple[float, ...]


@lru_cache(256)
def gradient_flow(
    depth: int,
    *,
    skip: bool,
    activation: str = "relu",
    batch_norm: bool = True,
    at: str = "activations",
    order: str = "post",
    seed: int = 0,
) -> GradientFlow:
    """Gradient norms of a freshly initialised stack of `depth` convolutions, first layer first.

    Args:
        depth: 2 to 110 convolutions.
        skip: add each pair's input to its output.
        activation: relu, tanh, sigmoid or none.
        at: "activations", the map that leaves each layer, or each convolution's "weights".
        order: of a residual block, "post" (activation after the addition) or "pre".
    """
    import torch

    from resnet_hub.lab.conv_stack import ConvStack

    within("depth", depth, 2, MOST_DEPTH)
    for name, value, allowed in (
        ("activation", activation, ACTIVATIONS), ("at", at, PLACES), ("order", order, ORDERS),
    ):  # fmt: skip
        one_of(name, value, allowed)
    if order == "pre" and not skip:
        raise Refusal("order='pre' is that of a residual block; give skip=True with it")
    model = ConvStack(depth, skip, activation, batch_norm, seed, order)
    with torch.inference_mode(False), torch.enable_grad():
        loss = _loss(model, SIDE, IMAGES, seed)
        return GradientFlow(_norms(loss, model, model.maps, at))


@lru_cache(256)
def plus_one(depth: int, *, activation: str = "relu", batch_norm: bool = True, seed: int = 0) -> PlusOne:
    """The two terms of the gradient at each block of a residual stack; arguments as for `gradient_flow`."""
    import torch
    from torch.nn.functional import normalize

    from resnet_hub.lab.conv_stack import ConvStack

    within("depth", depth, 3, MOST_DEPTH)
    one_of("activation", activation, ACTIVATIONS)
    model = ConvStack(depth, True, activation, batch_norm, seed)
    with torch.inference_mode(False), torch.enable_grad():
        loss = _loss(model, SIDE, IMAGES, seed)
        inputs, sums = zip(*model.joins, strict=True)
        gradients = [g.flatten() for g in torch.autograd.grad(loss, [*inputs, *sums])]
    wholes, shortcuts = gradients[: len(inputs)], gradients[len(inputs) :]
    branches = [whole - part for whole, part in zip(wholes, shortcuts, strict=True)]
    # Scaled to norm 1 first: cosine_similarity takes norms below 1e-8 for 1e-8.
    units = ([normalize(part, dim=0, eps=SMALLEST) for part in parts] for parts in (shortcuts, branches))
    cosines = (torch.dot(*pair).item() for pair in zip(*units, strict=True))
    norms = (tuple(part.norm().item() for part in parts) for parts in (shortcuts, branches, wholes))
    shortcut, branch, whole = norms
    return PlusOne(shortcut, branch, whole, tuple(cosines))


@lru_cache(16)
def registered_flow(name: str, at: str = "activations", seed: int = 0) -> GradientFlow:
    """Gradient norms after each batch norm of one of the paper's CIFAR networks on random 32x32 images: the
    stem's, then both of every block, before the shortcut is added."""
    import torch

    from resnet_hub.models.build import create_model

    one_of("name", name, REGISTERED)
    model, draw = create_model(name).train(), torch.Generator().manual_seed(seed)
    head, maps = model.get_classifier(), []
    assert isinstance(head, torch.nn.Linear)
    convs = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    for conv in convs:  # as the model initialises itself, but from our own seed
        torch.nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=draw)
    torch.nn.init.normal_(head.weight, std=head.in_features**-0.5, generator=draw)
    torch.nn.init.zeros_(head.bias)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda m, x, out: maps.append(out))
    with torch.inference_mode(False), torch.enable_grad():
        loss = _loss(model.double(), 32, 4, seed)
        return GradientFlow(_norms(loss, model, maps, at))


def _norms(
    loss: torch.Tensor, model: torch.nn.Module, maps: list[torch.Tensor], at: str
) -> tuple[float, ...]:
    """Norms of the gradient of the loss at `maps` of the model, or at its convolutions' weights."""
    import torch

    convs = (module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    wanted = maps if at == "activations" else [conv.weight for conv in convs]
    return tuple(gradient.norm().item() for gradient in torch.autograd.grad(loss, wanted))


def _loss(model: torch.nn.Module, side: int, images: int, seed: int) -> torch.Tensor:
    """Cross entropy on random images with random labels."""
    import torch

    draw = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(images, 3, side, side, generator=draw)
    labels = torch.randint(10, (images,), generator=draw)
    return torch.nn.functional.cross_entropy(model(x.double()), labels)
