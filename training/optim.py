"""Optimizers, learning-rate schedules as pure functions, and which parameters take which."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer


def triangular(progress: float, warmup: float) -> float:
    """Learning-rate factor: 0 -> 1 over the first `warmup` of the run, then a straight line back to 0."""
    return min(progress / warmup if warmup else 1.0, (1 - progress) / (1 - warmup))


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """(rows, columns) -> about the nearest matrix with singular values 1, by a quintic Newton-Schulz
    iteration whose coefficients trade exactness for speed (https://kellerjordan.github.io/posts/muon/)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Nesterov momentum whose step is orthogonalised, for convolutions that a batch norm follows.

    torch.optim.Muon takes matrices only and decays weights; here each filter bank (out, in, kH, kW) is a
    matrix (out, in*kH*kW) kept at norm sqrt(out), which the batch norm makes free, so `lr` is the turn of the
    weights a step. Source: cifar10-airbench `airbench94_muon.py`.
    """

    def __init__(self, params, lr: float, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                velocity = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
                velocity.mul_(group["momentum"]).add_(weight.grad)
                nesterov = weight.grad.add(velocity, alpha=group["momentum"])
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                turn = orthogonalise(nesterov.reshape(len(weight), -1)).reshape(weight.shape)
                weight.add_(turn, alpha=-group["lr"])


def build_optimizers(model: nn.Module, recipe) -> list[Optimizer]:
    """SGD with Nesterov momentum alone, or Muon on every convolution but the first with SGD on the rest.

    Weight decay spares norms and biases.
    """
    convs = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    turned = convs[1:] if recipe.optimizer == "muon" else []
    spoken_for = {id(w) for w in turned}
    rest = [p for p in model.parameters() if id(p) not in spoken_for]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    sgd = SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    return [Muon(turned, lr=recipe.muon_lr), sgd] if turned else [sgd]


def set_lr_factor(optimizers: list[Optimizer], factor: float) -> None:
    """Set every group's rate to its first rate times `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
