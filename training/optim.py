"""Optimizers, learning-rate schedules as pure functions, and which parameter takes which rate."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.optim import SGD, Adam, AdamW, Optimizer

from resnet_hub.lab.fine_tuning import Rates, share_of_each

IN_STAGE = re.compile(r"layer\d+\.\d+")  # a block


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


def orthogonalise(matrices: Tensor, steps: int = 3) -> Tensor:
    """(..., rows, columns) -> about the nearest matrices with singular values 1, by a quintic Newton-Schulz
    iteration whose coefficients trade exactness for speed (https://kellerjordan.github.io/posts/muon/).

    After 3 steps small singular values are still well below 1; 5 took twice the time and trained no better.
    On CUDA in bfloat16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class CombinedOptimizer:
    """Optimizers as one: `GradScaler` leaves out the step of all where a gradient of any is no number, which
    clipping by the norm of all gradients would spread.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict]:
        """Those of all optimizers."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        """A step of each."""
        for optimizer in self.optimizers:
            optimizer.step()


class Muon(Optimizer):
    """Nesterov momentum whose step is orthogonalised, for convolutions that a batch norm follows.

    torch.optim.Muon takes matrices only and decays weights; here each filter bank (out, in, kH, kW) is a
    matrix (out, in*kH*kW) kept at norm sqrt(out), which the batch norm makes free, so `lr` is the turn of the
    weights a step. Banks of one shape are turned together. Source: cifar10-airbench `airbench94_muon.py`.
    """

    def __init__(self, params, lr: float, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for weights in alike.values():
                steps = torch.stack([self._nesterov(weight, group["momentum"]) for weight in weights])
                turns = orthogonalise(steps.flatten(2)).view_as(steps)
                for weight, turn in zip(weights, turns, strict=True):
                    weight.mul_(len(weight) ** 0.5 / weight.norm()).add_(turn, alpha=-group["lr"])

    def _nesterov(self, weight: Tensor, momentum: float) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        velocity = state["momentum_buffer"]
        velocity.mul_(momentum).add_(weight.grad)
        return velocity.mul(momentum).add_(weight.grad)


def layer_shares(names: Sequence[str], decay: float) -> dict[str, float]:
    """The share of the rate of each parameter: 1 in the last layer, `decay` times less a block further down.

    A block is one of a stage ("layer2.0"), else a module; `names` are in the network's order. Source: BEiT,
    arXiv 2106.08254.
    """
    block = {name: found[0] if (found := IN_STAGE.match(name)) else name.rpartition(".")[0] for name in names}
    depth = {each: i for i, each in enumerate(dict.fromkeys(block.values()))}
    return {name: decay ** (len(depth) - 1 - depth[block[name]]) for name in names}


def drop_paths(net: nn.Module, share: float) -> None:
    """Leave out residual branches by chance while training: `share` of the last block's, of earlier ones in
    proportion to their place (arXiv 1603.09382).

    Raises:
        ValueError: for a network without shortcuts.
    """
    from torchvision.ops import stochastic_depth

    ends = [m for name, m in net.named_modules() if branch_end(net, name)]
    if not ends:
        raise ValueError("--drop-path leaves out residual branches, and this network has none")
    for i, end in enumerate(ends, start=1):
        p = share * i / len(ends)
        end.register_forward_hook(lambda m, _, out, p=p: stochastic_depth(out, p, "row", m.training))


def branch_end(net: nn.Module, name: str) -> bool:
    """Whether a module's output is what a block adds to its shortcut."""
    block, _, own = name.rpartition(".")
    if not IN_STAGE.fullmatch(block):
        return False
    names = [child for child, _ in net.get_submodule(block).named_children()]
    last = [child for child in names if child.startswith(("bn", "conv"))][-1]
    return own == last and not getattr(net.get_submodule(block), "is_plain", False)


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
