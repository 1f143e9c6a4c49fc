"""What is fitted on held-out images so that a network's probabilities mean what they say, and how surely."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.models.calibration import FOLDS, UNDECIDED, Calibration
from training.data import Images
from training.engine import predict_logits
from training.multilabel import class_thresholds, is_multi
from training.unknown import Z, interval

TEMPERATURE_SPREAD = 0.5  # of log T, before any image was seen
HOTTEST = 20.0  # its inverse is the coldest
FAMILIAR_SHARE = 0.95  # share of images like the held-out ones that the energy threshold calls familiar
FEWEST_FOR_THRESHOLD = math.ceil(1 / (1 - FAMILIAR_SHARE) - 1 - 1e-9)  # held-out images
FIRM_RIGHT = 0.9  # share of firm answers to the validation images that is right
LEAST_FIRM = 0.5  # below it another class may be as probable


class Temperature(NamedTuple):
    """A temperature with its 95 % interval; 1 without one where fitting made no answer better."""

    value: float = 1.0
    interval: tuple[float, float] | None = None


def binary_cross_entropy(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    """torch's, with labels of whatever type the logits have."""
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction=reduction)


def fit_temperature(logits: Tensor, labels: Tensor, cost: Callable = F.cross_entropy) -> Temperature:
    """The temperature under which the labels of (N, C) logits are most probable (Guo et al., arXiv
    1706.04599), with a prior around 1, so that few images move it little.

    Returns:
        The mode of the posterior of log T with a normal prior, and the interval of its Laplace approximation.
    """
    log_t = torch.zeros((), dtype=torch.double, requires_grad=True)
    logits, labels = logits.double(), labels.double() if labels.is_floating_point() else labels
    optimizer = torch.optim.LBFGS([log_t], max_iter=50, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def loss() -> Tensor:
        misfit = cost(logits / log_t.exp(), labels, reduction="sum")
        return misfit + log_t**2 / (2 * TEMPERATURE_SPREAD**2)

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(step)
    (slope,) = torch.autograd.grad(loss(), log_t, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, log_t)
    most = math.log(HOTTEST)
    middle = min(max(log_t.item(), -most), most)
    reach = Z / math.sqrt(max(curvature.item(), TEMPERATURE_SPREAD**-2))
    return Temperature(math.exp(middle), (math.exp(middle - reach), math.exp(middle + reach)))


def useful_temperature(logits: Tensor, labels: Tensor, cost: Callable = F.cross_entropy) -> Temperature:
    """`fit_temperature`, or 1 where images that it was not fitted on are no more probable with it.

    Each of `FOLDS` parts is judged by the temperature of the others.
    """
    if len(labels) < FOLDS:
        return Temperature()
    fold = torch.arange(len(labels)) % FOLDS
    gain = 0.0
    for part in range(FOLDS):
        here = fold == part
        value = fit_temperature(logits[~here], labels[~here], cost).value
        before, after = (cost(logits[here] / t, labels[here], reduction="sum") for t in (1, value))
        gain += (before - after).item()
    return fit_temperature(logits, labels, cost) if gain > 0 else Temperature()


def energy_threshold(energy: Tensor) -> tuple[float, list[float]] | None:
    """The energy below which an image is unfamiliar, and the false alarms to expect: share, lowest, highest.

    Below the k-th lowest of N validation images lies a share of all images that is Beta(k, N + 1 - k)
    distributed, whatever the energies' distribution; k is the largest whose mean, k / (N + 1), is at most
    1 - `FAMILIAR_SHARE`.

    Returns:
        None where N is too small for any.
    """
    count = len(energy)
    k = math.floor((1 - FAMILIAR_SHARE) * (count + 1) + 1e-9)
    if not k:
        return None
    share = (torch.arange(20_000, dtype=torch.double) + 0.5) / 20_000
    density = (k - 1) * share.log() + (count - k) * (
        1 - share
    ).log()  # of Beta(k, N + 1 - k), but for a factor
    below = density.softmax(0).cumsum(0)
    ends = share[torch.searchsorted(below, torch.tensor([0.025, 0.975], dtype=torch.double))]
    return energy.sort().values[k - 1].item(), [k / (count + 1), *ends.tolist()]


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error: |confidence - accuracy| in bins of confidence, weighted by count."""
    confidence, predicted = probabilities.max(1)
    correct = (predicted == labels).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add_(0, which, confidence - correct)
    return (gaps.abs().sum() / len(labels)).item()


def calibrate(model, held_out: Images, batch_size: int | None = None) -> tuple[Calibration, dict[str, Any]]:
    """Temperature and thresholds from held-out images alone, and what a card says of the fit.

    Returns:
        The calibration, without what the images are too few for; their number, the temperature's interval,
        the false alarms to expect, how many answers are firm and which share of them is right; of images with
        several labels the fewest and most that show a class.
    """
    several = is_multi(held_out.labels)
    if not len(held_out):
        undecided = (UNDECIDED,) * len(held_out.classes) if several else ()
        return Calibration(class_thresholds=undecided), {"images": 0}
    logits, labels = predict_logits(model, held_out, model.preprocess, batch_size=batch_size)
    if several:
        fit = useful_temperature(logits, labels, binary_cross_entropy)
        temperature = round(fit.value, 4)
        shares = (logits / temperature).sigmoid()
        calibration = Calibration(temperature, class_thresholds=class_thresholds(shares, labels))
        shown = labels.sum(0)
        range_shown = [int(shown.min()), int(shown.max())]
        return calibration, {"images": len(labels), "temperature": fit.interval, "shown": range_shown}
    fit, energy = useful_temperature(logits, labels), logits.logsumexp(1)
    found = energy_threshold(energy)
    said: dict[str, Any] = {"images": len(labels), "temperature": fit.interval}
    said["false_alarms"] = found and found[1]
    fitted: dict[str, Any] = {"temperature": round(fit.value, 4)}
    if found is not None:
        familiar = energy >= (threshold := round(found[0], 4))
        share, predicted = (logits / fitted["temperature"]).softmax(1).max(1)
        right = predicted == labels
        firm = firm_threshold(share[familiar], right[familiar])
        is_firm = familiar & (share >= (2 if firm is None else firm))
        if is_firm.any():
            said["firm"] = [int(is_firm.sum()), *interval(right[is_firm])]
        fitted |= {"energy_threshold": threshold, "firm_threshold": firm}
    return Calibration(**fitted), said


def firm_threshold(share: Tensor, right: Tensor) -> float | None:
    """The lowest top probability, `LEAST_FIRM` at least, from which answers are right often enough.

    Args:
        share, right: (N,) top probability of each validation image that is familiar, and whether it is right.

    Returns:
        None where no threshold makes `FIRM_RIGHT` of the answers right.
    """
    order = share.argsort(descending=True)
    right_so_far = right[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    good = (right_so_far >= FIRM_RIGHT).nonzero()
    return max(share[order[good[-1]]].item(), LEAST_FIRM) if len(good) else None
