"""Batch normalisation: the spread of activations along depth, train and eval mode, and the redundant bias.

Every number is computed by torch's own layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from resnet_hub.lab.bounds import one_of, within

if TYPE_CHECKING:
    import torch

MOST_DEPTH, WIDTH, SIDE, IMAGES = 60, 128, 8, 8
BORDERS = ("circular", "zeros")
ORDERS = ("conv-BN-ReLU", "conv-ReLU-BN")


@dataclass(frozen=True)
class Spread:
    """Standard deviation of each layer's input to its ReLU, first layer first."""

    stds: tuple[float, ...]


@dataclass(frozen=True)
class Modes:
    """One batch norm after a number of batches.

    Args:
        train, evaluated: (mean, std) of its output for the last batch, in the two modes.
        running_mean, running_var: its running statistics afterwards; they start at 0 and 1.
    """

    train: tuple[float, float]
    evaluated: tuple[float, float]
    running_mean: float
    running_var: float


@dataclass(frozen=True)
class Bias:
    """The effect of a bias added to a convolution.

    Args:
        with_norm: largest change of the output in this order of layers.
        without_norm: the same without batch norm.
        gradient: largest gradient of a loss with respect to the bias; rounding error where it is redundant.
    """

    with_norm: float
    without_norm: float
    gradient: float


@dataclass(frozen=True)
class Effects:
    """What batch norm does, measured on one convolution and a batch norm after it.

    Args:
        rescaled: largest change of the output when the convolution's weights are multiplied by 10.
        gradient: norm of the weights' gradient then, over the norm before: a tenth, so that
            steps shrink by themselves.
        biased: largest change of the output when 3 is added to the convolution's output.
        noise: standard deviation of one image's output over 100 batches of other images.
    """

    rescaled: float
    gradient: float
    biased: float
    noise: float


def normalise(x: float, mean: float, std: float, gamma: float = 1.0, beta: float = 0.0) -> float:
    """gamma * (x - mean) / sqrt(std^2 + eps) + beta, by torch's own layer in eval mode (arXiv 1502.03167)."""
    import torch

    for name, value, least, most in (
        ("x", x, -20, 20), ("mean", mean, -10, 10), ("std", std, 0.1, 10), ("gamma", gamma, -5, 5),
        ("beta", beta, -10, 10),
    ):  # fmt: skip
        within(name, value, least, most)
    norm = torch.nn.BatchNorm1d(1).eval()
    kept = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": std**2}
    norm.load_state_dict({k: torch.tensor([float(v)]) for k, v in kept.items()}, strict=False)
    return norm(torch.tensor([[float(x)]])).item()


@lru_cache(32)
def effects(batch: int, seed: int = 0) -> Effects:
    """Measure the effects with batches of `batch` images, 2 to 64."""
    import torch
    from torch.nn import functional as F

    within("batch", batch, 2, 64)
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(100, batch, 4, 4, 4, generator=draw)
    images[:, 0] = images[0, 0]  # the image that all batches share
    weight, target = (
        torch.randn(4, 4, 3, 3, generator=draw) * 0.25,
        torch.randn(batch, 4, 4, 4, generator=draw),
    )

    def out(x: torch.Tensor, weight: torch.Tensor, bias: float = 0.0) -> torch.Tensor:
        return F.batch_norm(F.conv2d(x, weight, padding=1) + bias, None, None, training=True)

    with torch.inference_mode(False), torch.enable_grad():
        norms, outs = [], []
        for scale in (1, 10):
            scaled = (weight * scale).requires_grad_()
            outs.append(out(images[0], scaled))
            (gradient,) = torch.autograd.grad((outs[-1] - target).square().mean(), scaled)
            norms.append(gradient.norm().item())
    with torch.no_grad():
        plain, biased = out(images[0], weight), out(images[0], weight, 3.0)
        shared = torch.stack([out(each, weight)[0] for each in images])
    return Effects(
        rescaled=(outs[1] - outs[0]).abs().max().item(),
        gradient=norms[1] / norms[0],
        biased=(biased - plain).abs().max().item(),
        noise=shared.std(0).mean().item(),
    )


@lru_cache(256)
def spread(
    depth: int, batch_norm: bool, gain: float = 1.0, border: str = "circular", seed: int = 0
) -> Spread:
    """Activations of `depth` conv-(BN)-ReLU layers of 128 channels on random images, freshly initialised.

    He's theory, a variance of 2 in every layer on average over draws, is of maps without a border: "circular"
    continues each map at its other side. "zeros" pads as networks do, and on maps of 8x8 costs a share of the
    variance in every layer. With 128 channels a single draw wanders.

    Args:
        depth: 1 to 60.
        gain: 0.5 to 2, the factor on He's initialisation; 1 is right for ReLU.
        border: "circular" or "zeros".
    """
    import torch
    from torch.nn import functional as F

    within("depth", depth, 1, MOST_DEPTH)
    within("gain", gain, 0.5, 2)
    one_of("border", border, BORDERS)
    draw = torch.Generator().manual_seed(seed)
    mode = "circular" if border == "circular" else "constant"
    x = torch.randn(IMAGES, WIDTH, SIDE, SIDE, generator=draw)
    stds = []
    for _ in range(depth):
        weight = torch.randn(WIDTH, WIDTH, 3, 3, generator=draw) * gain * (2 / (9 * WIDTH)) ** 0.5
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode), weight)
        if batch_norm:
            x = F.batch_norm(x, None, None, training=True)
        stds.append(x.std().item())
        x = x.relu()
    return Spread(tuple(stds))


def modes(mean: float, std: float, batches: int, seed: int = 0) -> Modes:
    """Feed batches of 64 values to a batch norm in train mode, then the last one again in both modes.

    Args:
        mean, std: of the values, -10 to 10 and 0.1 to 10.
        batches: 0 to 100; with torch's momentum of 0.1 the running statistics need about 30.
    """
    import torch

    within("mean", mean, -10, 10)
    within("std", std, 0.1, 10)
    within("batches", batches, 0, 100)
    draw = torch.Generator().manual_seed(seed)
    norm = torch.nn.BatchNorm1d(1)
    x = torch.randn(64, 1, generator=draw) * std + mean
    for _ in range(batches):
        norm.train()(x := torch.randn(64, 1, generator=draw) * std + mean)
    kept = [norm.state_dict()[name].item() for name in ("running_mean", "running_var")]
    evaluated = norm.eval()(x)
    trained = norm.train()(x)  # last, as it moves the running statistics once more
    shown = [(y.mean().item(), y.std(correction=0).item()) for y in (trained, evaluated)]
    return Modes(shown[0], shown[1], *kept)


def needless_bias(bias: float, order: str = "conv-BN-ReLU", seed: int = 0) -> Bias:
    """Add the constant `bias` (-10 to 10) to a convolution's output and measure the effect.

    A batch norm right after the convolution subtracts each channel's mean and the bias with it. With a ReLU
    in between, the bias decides what the ReLU cuts off, so it matters.
    """
    import torch
    from torch.nn import functional as F

    within("bias", bias, -10, 10)
    one_of("order", order, ORDERS)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 4, 8, 8, generator=draw)
    weight = torch.randn(4, 4, 3, 3, generator=draw) * 0.25
    target = torch.randn(8, 4, 8, 8, generator=draw)

    def normed(y: torch.Tensor) -> torch.Tensor:
        norm = lambda z: F.batch_norm(z, None, None, training=True)  # noqa: E731
        return norm(y).relu() if order == "conv-BN-ReLU" else norm(y.relu())

    with torch.inference_mode(False), torch.enable_grad():
        shift = torch.full((4,), float(bias), requires_grad=True)
        plain, biased = F.conv2d(x, weight, padding=1), F.conv2d(x, weight, shift, padding=1)
        out = normed(biased)
        (gradient,) = torch.autograd.grad((out - target).square().mean(), shift)
    change = (out - normed(plain)).abs().max().item()
    return Bias(change, (biased.relu() - plain.relu()).abs().max().item(), gradient.abs().max().item())
