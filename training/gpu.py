"""`python -m training.gpu [MODEL ...]`: what training reaches on a GPU, and whether its promises hold there.

For each network: images a second in float32 and in the precision that `auto` chooses, compiled or not, beside
the ideal; and of evaluation, with its peak memory. Then whether two runs with --deterministic end in the same
bits, and what a step of Muon costs. It was written and reviewed on a CPU, where it runs too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from resnet_hub import create_model
from resnet_hub.command import program_name, run_command
from resnet_hub.device import pick_device, pick_precision
from resnet_hub.models.flags import network_name
from resnet_hub.preprocess import Preprocess
from training.augment import Feed, epoch_order
from training.command import choose_kernels
from training.data import ImageSet, whole_image
from training.engine import Trainer, keep_freed_memory, micro_batches, predict_logits
from training.optim import Muon
from training.recipes import Recipe

Batch = tuple[Tensor, Tensor, Tensor]  # inputs, targets, labels
Figures = Iterator[tuple[str, Any]]  # what was measured, and the figure


def noise(count: int, side: int) -> ImageSet:
    """Noise images of ten classes."""
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 10, tuple("abcdefghij"), "noise")


def view_of(data: ImageSet) -> Preprocess:
    """The images as they are."""
    _, height, width = data.shape
    return whole_image((height, width))


def synchronised(device: torch.device) -> float:
    """The time, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def a_second(device: torch.device, work: Callable[[], int], seconds: float) -> float:
    """How much `work`, which returns what it did, is done a second, after a first call."""
    work()
    done, started = 0, synchronised(device)
    while synchronised(device) - started < seconds:
        done += work()
    return done / (synchronised(device) - started)


def new_trainer(model: str, data: ImageSet, batch: int, device: torch.device, **more: Any) -> Trainer:
    """A trainer of `model` on crops and flips."""
    torch.manual_seed(0)
    net = create_model(model, num_classes=10, input_size=data.shape[1], in_chans=3)
    recipe = Recipe(epochs=1, batch_size=batch)
    return Trainer(net, recipe, Feed(data, view_of(data), recipe, 0, device), seed=0, device=device, **more)


def training_speeds(model: str, options: argparse.Namespace, device: torch.device) -> Figures:
    """Images a second, ours and the ideal, by precision and compilation."""
    data = noise(options.images, options.side)
    auto = pick_precision("auto", device)
    for dtype in dict.fromkeys((None, auto)):
        for compiled in (False, True) if options.compile else (False,):
            one = new_trainer(model, data, options.batch, device, amp_dtype=dtype, compiled=compiled)
            one.net.train()
            name = f"{str(dtype or torch.float32).removeprefix('torch.')}{' compiled' * compiled}"
            yield f"training {name}", a_second(device, partial(_epoch, one), options.seconds)
            again = partial(_epoch, one, next(_batches(one)))
            yield f"ideal {name}", a_second(device, again, options.seconds)


def _epoch(one: Trainer, batch: Batch | None = None) -> int:
    """The images of an epoch's steps, or of as many on one batch that is already made."""
    batches = _batches(one) if batch is None else repeat(batch)
    order = _order(one)
    for _ in order:
        one.train_step(batches)
    one.read_sums()
    return sum(map(len, order))


def _batches(one: Trainer) -> Iterator[Batch]:
    return one.feed.batches(0, micro_batches(_order(one), 1), min(one.feed.data.shape[1:]))


def _order(one: Trainer) -> list[Tensor]:
    return epoch_order(len(one.feed.data), one.recipe.batch_size, 0, 0)


def evaluation_speed(model: str, options: argparse.Namespace, device: torch.device) -> Figures:
    """Images a second of evaluation in both precisions, and its peak memory in GB (on CUDA)."""
    data = noise(options.images, options.side)
    net = create_model(model, num_classes=10, input_size=options.side, in_chans=3)
    net = net.to(device).to(memory_format=torch.channels_last).eval()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for dtype in dict.fromkeys((None, pick_precision("auto", device))):
        name = f"evaluation {str(dtype or torch.float32).removeprefix('torch.')}"

        def once(dtype: torch.dtype | None = dtype) -> int:
            return len(predict_logits(net, data, view_of(data), dtype=dtype)[1])

        yield name, a_second(device, once, options.seconds)
    if device.type == "cuda":
        yield "evaluation peak GB", torch.cuda.max_memory_allocated(device) / 1e9


def same_bits(model: str, options: argparse.Namespace, device: torch.device) -> bool:
    """Whether two runs of one epoch with deterministic kernels end in the same weights."""
    choose_kernels(device, deterministic=True)
    data, ends = noise(options.images, options.side), []
    for _ in range(2):
        one = new_trainer(model, data, options.batch, device, amp_dtype=pick_precision("auto", device))
        one.net.train()
        _epoch(one)
        ends.append([value.cpu() for value in one.net.state_dict().values()])
    choose_kernels(device, deterministic=False)
    return all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def muon_milliseconds(model: str, options: argparse.Namespace, device: torch.device) -> float:
    """What a step of Muon on all convolutions but the first takes."""
    net = create_model(model).to(device)
    weights = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)][1:]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = Muon(weights, lr=0.1)
    return 1000 / a_second(device, lambda: optimizer.step() or 1, options.seconds)


def figures(model: str, options: argparse.Namespace, device: torch.device) -> Figures:
    """Every figure of a network, as soon as it is measured."""
    yield from training_speeds(model, options, device)
    yield from evaluation_speed(model, options, device)
    yield "same bits with --deterministic", same_bits(model, options, device)
    yield "Muon ms a step", muon_milliseconds(model, options, device)


def report(options: argparse.Namespace) -> None:
    """Print every figure as it is measured, and all of them as JSON at the end."""
    device = pick_device(options.device)
    keep_freed_memory()
    choose_kernels(device, deterministic=False)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "options": vars(options)}
    for model in options.models:
        results[model] = {}
        for what, value in figures(model, options, device):
            print(f"{model:18} {what:32} {value if isinstance(value, bool) else f'{value:,.1f}'}", flush=True)
            results[model][what] = value
    print(json.dumps(results, default=str))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        program_name("training.gpu"),
        description="Measure training speed on a GPU, and check what is promised there.",
    )
    usual = ["resnet8_cifar", "resnet20_cifar", "resnet18_cifar"]
    parser.add_argument("models", nargs="*", type=network_name, default=usual, metavar="MODEL")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--images", type=int, default=20_000, help="number of noise images")
    parser.add_argument("--batch", type=int, default=512, help="images per step")
    parser.add_argument("--seconds", type=float, default=5, help="seconds per measurement")
    parser.add_argument("--compile", action="store_true", help="through torch.compile as well")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse_arguments(arguments)
    return run_command("training.gpu", lambda: report(options))


if __name__ == "__main__":
    sys.exit(main())
