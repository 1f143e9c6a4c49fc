"""Which engine is the fastest for a network on this device: those that agree take turns on the clock."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from resnet_hub.engine import HALF_SHARE, TOLERANCE, Engine, batch_size, is_installed
from resnet_hub.engine.backends import Run, build, has_fast_half, seconds
from resnet_hub.errors import Refusal

PROBES = 8  # images that answers are compared on
MARGIN = 0.97  # of the time of the engine before it that another one must stay below


def named(net: nn.Module, shape: tuple[int, ...], engine: str, precision: str) -> Engine:
    """The engine asked for.

    Raises:
        Refusal: when it is not installed, does not run this network, or in fp32 answers otherwise.
    """
    started = time.perf_counter()
    run = build(engine, net, shape, precision)
    made = Engine(engine, precision, run, prepared_in=time.perf_counter() - started)
    if precision == "fp32" and engine != "eager":
        pixels = probes(shape, next(net.parameters()).device)[:: PROBES - 1]
        apart = difference(answers(net, pixels), answers(made, pixels))
        if not apart <= TOLERANCE:
            raise Refusal(
                f"--engine {engine} gives other answers than the network itself (logits differ by "
                f"{apart:.1e}, at most {TOLERANCE:.0e} is allowed); give --engine eager"
            )
    return made


def fastest(
    net: nn.Module, shape: tuple[int, ...], precision: str, names: Iterable[str], images: int
) -> Engine:
    """The fastest of the engines `names` whose answers agree, for batches of `images`; eager otherwise.

    Args:
        precision: the only one that is tried; "auto" tries those that this device has and in which the
            network's answers were measured to be those of float32.
    """
    device = next(net.parameters()).device
    pixels, wanted = probes(shape, device), None
    entrants: list[Engine] = []
    for name, kind in pairs(precision, names, device, measured_halves(net)):
        try:
            started = time.perf_counter()
            entrant = Engine(name, kind, build(name, net, shape, kind))
            entrant = replace(entrant, prepared_in=time.perf_counter() - started)
            wanted = answers(net, pixels) if wanted is None else wanted
            if agrees(wanted, answers(entrant, pixels), kind):
                entrants.append(entrant)
        except Refusal:
            continue
    return winner(entrants or [Engine("eager", "fp32", net)], pixels[:1].repeat(images, 1, 1, 1))


def measured_halves(net: nn.Module) -> tuple[str, ...]:
    """The half precisions that a network's calibration names."""
    return getattr(getattr(net, "calibration", None), "half_precisions", ())


def pairs(
    precision: str, names: Iterable[str], device: torch.device, halves: tuple[str, ...]
) -> list[tuple[str, str]]:
    """(engine, precision) of every candidate, the plainest first."""
    kinds = [precision]
    if precision == "auto":
        kinds = ["fp32", *(kind for kind in halves if has_fast_half(kind, device))]
    return [(name, kind) for kind in kinds for name in names if is_installed(name)]


def winner(entrants: list[Engine], pixels: Tensor) -> Engine:
    """The fastest; one that is hardly faster than a plainer one before it does not count."""
    taken = seconds(entrants, pixels)
    best = 0
    for i, mine in enumerate(taken):
        best = i if mine < MARGIN * taken[best] else best
    return replace(entrants[best], image_seconds=taken[best] / len(pixels))


def answers(run: Run, pixels: Tensor) -> Tensor:
    """Float32 logits (1 + N, classes): of the first image alone, which may run on other code, and of all."""
    batch = batch_size(tuple(pixels.shape[1:]), len(pixels))
    return torch.cat([run(part) for part in (pixels[:1], *pixels.split(batch))]).float()


def agrees(wanted: Tensor, found: Tensor, precision: str) -> bool:
    """Whether an engine's logits (N, classes) are near enough to the network's own."""
    if precision == "fp32":
        return difference(wanted, found) <= TOLERANCE
    ours, theirs = wanted.softmax(1), found.float().softmax(1)
    moved = (ours.max(1).values - theirs.max(1).values).abs().max().item()
    # Where two classes are as probable as each other either may come first.
    lost = (ours.max(1).values - ours.gather(1, theirs.argmax(1, keepdim=True))[:, 0]).max().item()
    return max(moved, lost) <= HALF_SHARE


def difference(wanted: Tensor, found: Tensor) -> float:
    """The largest difference of two sets of logits over the largest logit; NaN where either has one."""
    scale = wanted.float().abs().max().clamp(min=1e-6)
    return ((wanted.float() - found.float()).abs().max() / scale).item()


def probes(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Images (PROBES, C, H, W) that look like normalised photos, and one of noise."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(PROBES, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    noise = torch.randn(PROBES, channels, height, width, generator=generator)
    share = torch.linspace(0, 1, PROBES).view(-1, 1, 1, 1) ** 2
    return ((1 - share) * smooth + share * noise).to(device)
