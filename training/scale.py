"""`python -m training.scale`: what an ImageNet run takes, estimated from two rates measured here.

Measured are training steps of the network at full image size, and decoding of JPEG files as large as
ImageNet's. The rest is arithmetic on the published recipe.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from resnet_hub import create_model, model_config, trace
from resnet_hub.command import program_name, run_command
from resnet_hub.device import add_device_flags, pick_device, pick_precision
from resnet_hub.geometry import totals
from resnet_hub.models.flags import network_name
from resnet_hub.preprocess import Preprocess, load_image
from training.augment import Feed
from training.command import choose_kernels
from training.data import ImageSet
from training.engine import Trainer, keep_freed_memory, training_flops
from training.recipes import Recipe
from training.record import command_line, hardware

IMAGES, EPOCHS = 1_281_167, 90  # ILSVRC 2012's training set; the epochs of arXiv 1706.02677
WIDTH, HEIGHT, BYTES = 500, 375, 110_000  # its average image; 138 GB in all
DAYS = (1, 7)


def trained_per_second(
    model: str, device: torch.device, dtype: torch.dtype | None, batch: int, steps: int
) -> float:
    """Images a second of training steps at the network's own size, on images in memory."""
    size = model_config(model).input_size
    recipe = Recipe(epochs=1, batch_size=batch)
    images = torch.randint(0, 256, (2 * batch, 3, *size), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(2 * batch) % 1000, tuple(map(str, range(1000))), "noise")
    feed = Feed(data, Preprocess(input_size=(3, *size)), recipe, 0, device)
    net = create_model(model, num_classes=1000)
    trainer = Trainer(net, recipe, feed, seed=0, device=device, amp_dtype=dtype)
    batches = feed.batches(0, [(i, torch.arange(batch)) for i in range(steps + 2)], min(size))
    times = []
    for _ in tqdm(range(steps + 2), "training steps", leave=False):
        started = time.perf_counter()
        trainer.train_step(batches)
        trainer.read_sums()
        times.append(time.perf_counter() - started)
    return batch / statistics.median(times[2:])


def decodes_per_second(seconds: float = 5.0) -> float:
    """JPEG files a second that one core decodes and crops to 224x224."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 6, WIDTH // 6, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, "jpeg", quality=96)
    preprocess, count, started = Preprocess(), 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        preprocess.crop(load_image(file.getvalue()))
        count += 1
    return count / passed


def report(model: str, speed: float, decoding: float, device_name: str, precision: str, command: str) -> str:
    """The estimate as Markdown.

    Args:
        model: a name of `list_models()`.
        speed: images trained a second.
        decoding: JPEG files decoded a second by one core.
        device_name, precision, command: what `speed` was measured with.
    """
    shape = (3, *model_config(model).input_size)
    flops = training_flops(create_model(model), shape, torch.device("cpu"))
    seen = IMAGES * EPOCHS
    days = seen / speed / 86_400
    lines = [
        f"# {model} on ImageNet, estimated from one machine",
        "",
        f"`{command}` on {device_name}, torch {torch.__version__}, {precision}: "
        f"**{speed:,.1f} images/s** of training, **{decoding:,.0f} JPEG files/s** decoded by one core.",
        "",
        f"{IMAGES:,} images x {EPOCHS} epochs = {seen:,} at {flops / 1e9:,.1f} GFLOPs each (torch's "
        f"counter, forward and backward): {seen * flops / 1e18:,.2f} EFLOPs. This machine would need "
        f"{days:,.0f} days.",
        "",
        "| days | images/s | TFLOP/s | machines like this | MB/s read | cores to decode |",
        "|---|---|---|---|---|---|",
        *(needed(days, speed, decoding, flops) for days in DAYS),
        "",
        *notes(4 * totals(trace(model)).params),
    ]
    return "\n".join([*lines, ""])


def needed(days: int, speed: float, decoding: float, flops: float) -> str:
    """The row of the table for a run of `days`."""
    rate = IMAGES * EPOCHS / (days * 86_400)
    return (
        f"| {days} | {rate:,.0f} | {rate * flops / 1e12:,.1f} | {rate / speed:,.1f} | "
        f"{rate * BYTES / 1e6:,.0f} | {rate / decoding:,.1f} |"
    )


def notes(gradient_bytes: int) -> list[str]:
    """What the table leaves out."""
    return [
        f"- Reading: {BYTES / 1000:.0f} KB an image on average, 138 GB in all, which fits on a local "
        "disk, or in the memory of a large server, after the first epoch.",
        f"- Network: each step all-reduces {gradient_bytes / 1e6:,.0f} MB of gradients; a ring sends that "
        "about twice through every link, whatever the number of machines.",
        "- Several machines: `torchrun --nnodes=N --nproc-per-node=GPUS --rdzv-endpoint=HOST:PORT -m "
        "training.cifar ...`; `--batch-size` counts all processes. Above 8,192, accuracy falls without "
        "further care (arXiv 1706.02677). Scaling over machines was not measured here.",
        "- Another machine: run the command there. The table is arithmetic on the two rates above.",
    ]


def measure_and_report(options: argparse.Namespace, command: str) -> None:
    """Measure both rates and print the estimate."""
    device = pick_device(options.device)
    keep_freed_memory()
    choose_kernels(device, deterministic=False)
    decoding = decodes_per_second()
    dtype = pick_precision(options.precision, device)
    speed = trained_per_second(options.model, device, dtype, options.batch_size, options.steps)
    precision = str(dtype or torch.float32).removeprefix("torch.")
    print(report(options.model, speed, decoding, hardware(device), precision, command))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        program_name("training.scale"),
        description="What an ImageNet run takes, estimated from two rates measured here.",
    )
    parser.add_argument("model", nargs="?", type=network_name, default="resnet50", metavar="MODEL")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    add_device_flags(parser)
    options = parser.parse_args(arguments)
    command = command_line("training.scale", arguments)
    return run_command("training.scale", lambda: measure_and_report(options, command))


if __name__ == "__main__":
    sys.exit(main())
