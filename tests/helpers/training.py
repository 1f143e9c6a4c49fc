"""Small data sets made on the spot, and a linear head, and the comparison of weights bit by bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from training.data import ImageSet
from training.engine import Trainer


def noise_set(count: int, side: int = 12, classes: int | None = None) -> ImageSet:
    """Noise images; labels count up, and start again after `classes`."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=draw)
    classes = classes or count
    return ImageSet(images, torch.arange(count) % classes, tuple(map(str, range(classes))), "noise")


def noise_image(
    low: int, high: int, size: tuple[int, int] = (16, 16)
) -> Callable[[np.random.Generator], Image.Image]:
    """A function that draws an image of (width, height) with pixels of `low` to `high` - 1."""
    return lambda draw: Image.fromarray(draw.integers(low, high, (*size[::-1], 3), dtype=np.uint8))


def image_folders(
    root: Path, counts: Mapping[str, int], classes: Mapping[str, Callable[[np.random.Generator], Image.Image]]
) -> Path:
    """Write `root`/part/class/00.png ... for each part's count, and return `root`."""
    draw = np.random.default_rng(0)
    for part, count in counts.items():
        for name, make in classes.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                make(draw).save(folder / f"{i:02}.png")
    return root


@contextmanager
def signal_after_each_step(number: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Let this process get a signal after each step that a trainer takes."""
    step = Trainer.train_step

    def step_and_signal(trainer, *batches):
        step(trainer, *batches)
        os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step_and_signal)
        yield


class Head(nn.Module):
    """A linear classifier of images (N, 3, side, side) into three classes; its gradient has a closed form."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * side * side, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))


def same_weights(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether two state dicts have the same names and bits."""
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())
