"""`python -m training.bench [MODEL ...]`: training speed, beside the usual script and the ideal.

Each variant runs in a process of its own, in turn, on the same noise images: the usual script (eager fp32,
PIL transforms, DataLoader workers, as in kuangliu/pytorch-cifar), our trainer, our trainer on two processes,
and the ideal: our training step on one batch that is already a tensor. On a CPU the seconds are those that
its processors worked for it, so that other programs slow nothing; where they ran, it says so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from resnet_hub import create_model
from resnet_hub.command import number_up_to, program_name, run_command
from resnet_hub.errors import Refusal
from resnet_hub.models.flags import network_name
from training.augment import Feed, epoch_order
from training.command import choose_kernels
from training.data import ImageSet, whole_image
from training.distributed import any_process, available_cores, process_group, rank, wait, world_size
from training.engine import Trainer, keep_freed_memory, micro_batches
from training.recipes import Recipe

BATCH, IMAGES = 128, 50_000
QUIET = 0.05  # share of the processors that other programs may take
RECIPE = Recipe(epochs=1, batch_size=BATCH)
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


def noise_images() -> ImageSet:
    """Noise, as many images and as large as CIFAR-10's."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, 10, (IMAGES,), generator=draw)
    return ImageSet(images, labels, tuple("abcdefghij"), "noise")


class UsualImages(Dataset):
    """Images as the usual script reads them, one by one with PIL."""

    def __init__(self, data: ImageSet) -> None:
        from torchvision import transforms as T

        self.arrays, self.labels = data.images.permute(0, 2, 3, 1).contiguous().numpy(), data.labels
        self.augment = T.Compose(
            [
                T.RandomCrop(32, padding=4),
                T.RandomHorizontalFlip(),
                T.ToTensor(),
                T.Normalize((0.5,) * 3, (0.25,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        from PIL import Image

        return self.augment(Image.fromarray(self.arrays[i])), self.labels[i]


def usual(model: str, device: torch.device, compiled: bool) -> Iterator[int]:
    """The usual script; yields the number of images of each step."""
    from torch.utils.data import DataLoader

    net = create_model(model, num_classes=10, input_size=32, in_chans=3).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    net.train()
    for x, labels in DataLoader(UsualImages(noise_images()), BATCH, shuffle=True, num_workers=2):
        x, labels = x.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        yield len(labels)


def ours(model: str, device: torch.device, compiled: bool) -> Iterator[int]:
    """One epoch of our trainer; yields the number of images of each step over all processes."""
    trainer = _trainer(model, device, compiled)
    order = epoch_order(IMAGES, BATCH, 0, 0)
    batches = trainer.feed.batches(0, micro_batches(order, 1), 32)
    trainer.net.train()
    for index in order:
        trainer.train_step(batches)
        trainer.read_sums()
        yield len(index)


def ideal(model: str, device: torch.device, compiled: bool) -> Iterator[int]:
    """Our training step on one batch that is already a tensor."""
    trainer = _trainer(model, device, compiled)
    x = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,), device=device)
    trainer.net.train()
    for _ in range(IMAGES // BATCH):
        trainer.train_step(iter([(x, labels, labels)]))
        trainer.read_sums()
        yield BATCH


def _trainer(model: str, device: torch.device, compiled: bool) -> Trainer:
    keep_freed_memory()
    choose_kernels(device, deterministic=False)
    net = create_model(model, num_classes=10, input_size=32, in_chans=3)
    feed = Feed(noise_images(), whole_image((32, 32)), RECIPE, 0, device)
    return Trainer(net, RECIPE, feed, seed=0, device=device, compiled=compiled)


VARIANTS: dict[str, Callable[..., Iterator[int]]] = {
    "usual": usual,
    "ours": ours,
    "two_processes": ours,
    "ideal": ideal,
}


class Times(NamedTuple):
    """Seconds: on the clock; of this process and its workers; of all programs on its processors."""

    clock: float
    own: float
    all: float

    @classmethod
    def now(cls) -> Times:
        workers = sum(map(processor_seconds, multiprocessing.active_children()))
        return cls(time.perf_counter(), time.process_time() + workers, machine_seconds())


def processor_seconds(process: multiprocessing.process.BaseProcess) -> float:
    """What a process has used of the processors so far; 0 where the system does not say."""
    with suppress(OSError):
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def machine_seconds() -> float:
    """What all programs have used so far of the processors that this one may use; 0 where the system does not
    say."""
    with suppress(OSError):
        lines = map(str.split, Path("/proc/stat").read_text().splitlines())
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        used = [[*map(int, numbers)] for name, *numbers in lines if name in ours]
        ticks = sum(user + nice + system + irq + soft for user, nice, system, _, _, irq, soft, *_ in used)
        return ticks / os.sysconf("SC_CLK_TCK")
    return 0.0


class Speed(NamedTuple):
    """Images a second, and the share of the processors that other programs took meanwhile, 0 to 1."""

    images: float
    others: float


def speed_between(images: int, before: Times, after: Times, cores: int, processes: int = 1) -> Speed:
    """The speed over some steps, by the processor seconds they took of `cores`; 0 cores count by the clock.

    Args:
        processes: this one and others like it that take the steps together.
    """
    clock, own, everything = (end - start for end, start in zip(after, before, strict=True))
    own *= processes
    others = max(everything - own, 0.0) / (clock * available_cores())
    return Speed(images / (own / cores if cores and own else clock), others)


def run_steps(steps: Iterator[int], seconds: float, device: torch.device, warm_up: int = 3) -> Speed:
    """The speed over the steps that fit into `seconds`, after `warm_up` steps; on a CPU by processor seconds,
    which other programs do not lengthen."""
    for _ in range(warm_up):
        next(steps)
    seen, before = 0, Times.now()
    for count in steps:
        seen += count
        after, workers = Times.now(), len(multiprocessing.active_children())  # while they are there
        if any_process([after.clock - before.clock > seconds], device)[0]:
            break
    used = min(available_cores(), world_size() * torch.get_num_threads() + workers)
    return speed_between(seen, before, after, used if device.type == "cpu" else 0, world_size())


def measure(variant: str, model: str, options: argparse.Namespace) -> Speed:
    """The speed of one variant in a fresh process.

    Raises:
        Refusal: when the process fails.
    """
    launcher: tuple[str, ...] = ("-m",)
    threads = {}
    if variant == "two_processes":
        launcher, threads = TWO_PROCESSES, {"OMP_NUM_THREADS": str(max((os.cpu_count() or 2) // 2, 1))}
    flags = ["--variant", variant, "--seconds", str(options.seconds), "--device", options.device]
    command = [sys.executable, *launcher, "training.bench", model, *flags, *["--compile"] * options.compile]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Refusal(f"{variant} of {model} failed: {said[-1]}")
    return Speed(*map(float, done.stdout.split()[-2:]))


def measure_here(options: argparse.Namespace) -> None:
    """Print the speed of `options.variant` in this process."""
    with process_group(torch.device(options.device)) as device:
        steps = VARIANTS[options.variant](options.models[0], device, options.compile)
        speed = run_steps(steps, options.seconds, device)
        if rank() == 0:
            print(*speed)
        wait()


def measure_all(options: argparse.Namespace) -> None:
    """Print the median images a second of every variant of every network."""
    names = [name for name in VARIANTS if name != "two_processes" or options.device == "cpu"]
    results = {}
    for model in options.models:
        speeds: dict[str, list[Speed]] = {name: [] for name in names}
        for name in tqdm(names * options.rounds, model, file=sys.stderr):
            speeds[name].append(measure(name, model, options))
        results[model] = {name: statistics.median(each.images for each in v) for name, v in speeds.items()}
        say_when_busy(model, max(each.others for values in speeds.values() for each in values))
    lines = [as_line(model, speeds) for model, speeds in results.items()]
    print(json.dumps(results, indent=2) if options.json else "\n".join(lines))


def say_when_busy(model: str, others: float) -> None:
    """Warn where other programs took a share of the processors that tells on the speeds."""
    if others > QUIET:
        print(f"{model}: the machine was not quiet, other programs took {others:.0%} of it", file=sys.stderr)


def as_line(model: str, speeds: dict[str, float]) -> str:
    """The speeds of one network, each also as a multiple of the usual script's."""
    shown = "  ".join(
        f"{name} {speed:.0f} ({speed / speeds['usual']:.2f}x)" for name, speed in speeds.items()
    )
    return f"{model}: images/s  {shown};  ours/ideal {speeds['ours'] / speeds['ideal']:.2f}"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        program_name("training.bench"), description="Training speed, beside the usual script and the ideal."
    )
    words = "see resnet_hub.list_models()"
    usual = ["resnet20_cifar"]
    parser.add_argument("models", nargs="*", type=network_name, default=usual, metavar="MODEL", help=words)
    parser.add_argument("--seconds", type=float, default=20, help="measured for each variant and round")
    parser.add_argument("--rounds", type=number_up_to(99), metavar="N", default=2, help="1 to 99")
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="ours and the ideal through torch.compile")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse_arguments(arguments)
    action = measure_here if options.variant else measure_all
    return run_command("training.bench", lambda: action(options))


if __name__ == "__main__":
    sys.exit(main())
