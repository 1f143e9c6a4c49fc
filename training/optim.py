"""Optimizers, learning-rate schedules as pure functions, and which parameter takes which rate."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.optim import SGD, Adam, AdamW, Optimizer

from resnet_hub.lab.fine_tuning import Rates, share_of_each


def one_cycle(progress: float, warmup: float) -> float:
    """0 -> 1 over the first `warmup` of the run, then a straight line back to 0."""
    return min(_rising(progress, warmup), (1 - progress) / (1 - warmup))


def cosine(progress: float, warmup: float) -> float:
    """0 -> 1 in a straight line, then half a cosine back to 0 (arXiv 1608.03983, without restarts)."""
    falling = 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))
    return _rising(progress, warmup) if progress < warmup else falling


def step(progress: float, warmup: float) -> float:
    """A tenth from half of the run on, a hundredth from three quarters on (arXiv 1512.03385 section 4.2)."""
    return _rising(progress, warmup) * 0.1 ** ((progress >= 0.5) + (progress >= 0.75))


def constant(progress: float, warmup: float) -> float:
    """1 once the rate has risen."""
    return _rising(progress, warmup)


def _rising(progress: float, warmup: float) -> float:
    return min(progress / warmup, 1.0) if warmup else 1.0


SCHEDULES = {"one_cycle": one_cycle, "cosine": cosine, "step": step, "constant": constant}


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
    def step(self, closure=None) -> None:  # type: ignore[override]
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


def freeze(model: nn.Module, rates: Rates) -> dict[str, float]:
    """Stop gradients of every parameter whose share is 0; returns the shares of the others."""
    shares = share_of_each((name for name, _ in model.named_parameters()), rates)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(shares[name] > 0)
    return {name: share for name, share in shares.items() if share}


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Batch norms that learn nothing; under `model.train()` their statistics would still move."""
    norms = (m for m in model.modules() if isinstance(m, BatchNorm) and m.affine)
    return [m for m in norms if not any(p.requires_grad for p in m.parameters())]


def build_optimizers(model: nn.Module, recipe, shares: dict[str, float] | None = None) -> list[Optimizer]:
    """The recipe's optimizers over all parameters, or over those that `shares` gives a share of its rate.

    "muon" is Muon on every convolution but the first and SGD on the rest. Weight decay spares norms and
    biases.
    """
    convs = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    turned = {id(w) for w in convs[1:]} if recipe.optimizer == "muon" else set()
    rates = {id(m.bias): recipe.bias_lr or recipe.lr for m in model.modules() if isinstance(m, BatchNorm)}
    rates |= dict.fromkeys(turned, recipe.muon_lr)
    groups: dict[bool, dict] = {True: defaultdict(list), False: defaultdict(list)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            lr = (shares or {}).get(name, 1.0) * rates.get(id(parameter), recipe.lr)
            groups[id(parameter) in turned][lr, parameter.ndim > 1].append(parameter)
    optimizers: list[Optimizer] = []
    if groups[True]:
        muon = [{"params": parameters, "lr": lr} for (lr, _), parameters in groups[True].items()]
        optimizers.append(Muon(muon, lr=recipe.muon_lr, momentum=recipe.muon_momentum))
    rest = [
        {"params": parameters, "lr": lr, "weight_decay": decays * recipe.weight_decay}
        for (lr, decays), parameters in groups[False].items()
    ]
    return [*optimizers, _first_order(recipe, rest)]


def _first_order(recipe, groups: list[dict]) -> Optimizer:
    if recipe.optimizer in ("sgd", "muon"):
        return SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    return {"adam": Adam, "adamw": AdamW}[recipe.optimizer](groups, lr=recipe.lr)


def set_lr_factor(optimizers: list[Optimizer], factor: float) -> None:
    """Set every group's rate to its first rate times `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def whitening_filters(patches: Tensor, count: int, floor: float = 5e-3) -> Tensor:
    """`count` filters that make patches (N, C, k, k) of zero mean white: each principal direction over the
    square root of its variance, and its negative, strongest first (cifar10-airbench, arXiv 2404.00498)."""
    flat = patches.flatten(1)
    variance, directions = torch.linalg.eigh(flat.T @ flat / len(flat))
    filters = (directions / (variance + floor).sqrt()).T.flip(0)
    pairs = torch.stack([filters, -filters], dim=1).flatten(0, 1)
    return pairs[:count].unflatten(1, patches.shape[1:])
