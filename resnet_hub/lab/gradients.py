"""The size of the gradient of each layer's weights at initialisation, in real networks of any depth.

Every number is computed by autograd, none by a formula.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

from resnet_hub.lab.bounds import one_of, within

ACTIVATIONS = ("relu", "tanh", "sigmoid", "none")
MOST_DEPTH = 110
WIDTH, SIDE, IMAGES = 16, 8, 8
REGISTERED = ("resnet20_cifar", "plain20_cifar", "resnet56_cifar", "plain56_cifar")


@dataclass(frozen=True)
class GradientFlow:
    """Norms of the loss's gradient with respect to each convolution's weights, first layer first."""

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
        cosines: of the angle between them; negative where the branch counteracts the shortcut.
    """

    shortcut: tuple[float, ...]
    branch: tuple[float, ...]
    cosines: tuple[float, ...]


def conv_stack(depth: int, skip: bool, activation: str, batch_norm: bool, seed: int):
    """A network of `depth` 3x3 convolutions at 16 channels, in pairs; `skip` adds each pair's input to it.

    A pair is act(x + BN(conv(act(BN(conv(x)))))), the basic block of arXiv 1512.03385, without stages. He
    initialisation (fan in) whatever the activation, as a beginner would leave it.
    """
    import torch
    from torch import nn

    class ConvStack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            draw = torch.Generator().manual_seed(seed)
            channels = [3] + [WIDTH] * depth
            pairs = list(itertools.pairwise(channels))
            self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=not batch_norm) for i, o in pairs)
            self.norms = nn.ModuleList(nn.BatchNorm2d(o) if batch_norm else nn.Identity() for _, o in pairs)
            self.head = nn.Linear(WIDTH, 10)
            for conv in self.convs:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=draw)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
            nn.init.normal_(self.head.weight, std=WIDTH**-0.5, generator=draw)
            nn.init.zeros_(self.head.bias)
            self.act = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}.get(
                activation, lambda x: x
            )

        def forward(self, x):
            self.joins = []  # (input, sum) of each pair
            kept = x = self.act(self.norms[0](self.convs[0](x)))
            for i in range(1, depth):
                x = self.norms[i](self.convs[i](x))
                if i % 2 == 0 and skip:
                    self.joins.append((kept, x := x + kept))
                x = self.act(x)
                kept = x if i % 2 == 0 else kept
            return self.head(x.mean((2, 3)))

    return ConvStack()


@lru_cache(256)
def gradient_flow(
    depth: int, *, skip: bool, activation: str = "relu", batch_norm: bool = True, seed: int = 0
) -> GradientFlow:
    """Gradient norms of a freshly initialised stack of `depth` convolutions, first layer first.

    Args:
        depth: 2 to 110 convolutions.
        skip: add each pair's input to its output.
        activation: relu, tanh, sigmoid or none.
    """
    within("depth", depth, 2, MOST_DEPTH)
    one_of("activation", activation, ACTIVATIONS)
    model = conv_stack(depth, skip, activation, batch_norm, seed)
    return GradientFlow(_norms(model, list(model.convs), SIDE, IMAGES, seed))


@lru_cache(256)
def plus_one(depth: int, *, activation: str = "relu", batch_norm: bool = True, seed: int = 0) -> PlusOne:
    """The two terms of the gradient at each block of a residual stack; arguments as for `gradient_flow`."""
    import torch

    within("depth", depth, 3, MOST_DEPTH)
    one_of("activation", activation, ACTIVATIONS)
    model = conv_stack(depth, True, activation, batch_norm, seed)
    with torch.inference_mode(False), torch.enable_grad():
        loss = _loss(model, SIDE, IMAGES, seed)
        inputs, sums = zip(*model.joins, strict=True)
        gradients = [g.flatten() for g in torch.autograd.grad(loss, [*inputs, *sums])]
    wholes, shortcuts = gradients[: len(inputs)], gradients[len(inputs) :]
    branches = [whole - part for whole, part in zip(wholes, shortcuts, strict=True)]
    cosines = (torch.cosine_similarity(*pair, dim=0).item() for pair in zip(shortcuts, branches, strict=True))
    norms = (tuple(part.norm().item() for part in parts) for parts in (shortcuts, branches))
    return PlusOne(*norms, tuple(cosines))


@lru_cache(16)
def registered_flow(name: str, seed: int = 0) -> GradientFlow:
    """Gradient norms of one of the paper's CIFAR networks on random 32x32 images, first layer first."""
    import torch

    from resnet_hub.models.build import create_model

    one_of("name", name, REGISTERED)
    model, draw = create_model(name).train(), torch.Generator().manual_seed(seed)
    convs = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    for conv in convs:  # as the model initialises itself, but from our own seed
        torch.nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=draw)
    torch.nn.init.normal_(model.fc.weight, std=model.fc.in_features**-0.5, generator=draw)
    torch.nn.init.zeros_(model.fc.bias)
    return GradientFlow(_norms(model, convs, 32, 4, seed))


def _norms(model, convs: list, side: int, images: int, seed: int) -> tuple[float, ...]:
    """Norm of d(cross entropy)/d(weight) for each convolution."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        loss = _loss(model, side, images, seed)
        gradients = torch.autograd.grad(loss, [conv.weight for conv in convs])
    return tuple(gradient.norm().item() for gradient in gradients)


def _loss(model, side: int, images: int, seed: int):
    """Cross entropy on random images with random labels."""
    import torch

    draw = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(images, 3, side, side, generator=draw)
    labels = torch.randint(10, (images,), generator=draw)
    return torch.nn.functional.cross_entropy(model(x), labels)
