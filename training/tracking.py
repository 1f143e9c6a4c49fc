"""Figures of a run as they come: `--tensorboard`, `--trackio`, `--wandb`, where the package is installed.

trackio has the interface of wandb, so both are one class.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from resnet_hub.errors import Refusal
from training.distributed import rank

Log = Callable[[str, float, int], None]  # name, value, images seen
PROJECT = "resnet_hub"


class Tracked:
    """One run in trackio or wandb; `finish` sends what is left."""

    def __init__(self, package: str, options: Any) -> None:
        self.package = import_module(package)
        project = os.environ.get(f"{package.upper()}_PROJECT", PROJECT)
        config = {"command": options.command, "recipe": options.recipe, "seed": options.seed}
        self.package.init(project=project, name=options.out.absolute().name, config=config, resume="allow")

    def __call__(self, name: str, value: float, images: int) -> None:
        self.package.log({name: value}, step=images)

    def finish(self) -> None:
        """End the run there."""
        self.package.finish()


def _tensorboard(options: Any) -> Log:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(options.out / "tensorboard").add_scalar


TRACKERS: dict[str, Callable[[Any], Log]] = {
    "tensorboard": _tensorboard,
    "trackio": lambda options: Tracked("trackio", options),
    "wandb": lambda options: Tracked("wandb", options),
}


def check(options: Any) -> None:
    """Notice before the work that a package is missing.

    Raises:
        Refusal: saying which one to install.
    """
    for name in TRACKERS:
        if getattr(options, name) and find_spec(name) is None:
            raise Refusal(f"--{name} needs the package: pip install {name}")


@contextmanager
def tracked(options: Any) -> Iterator[Log]:
    """Yields what writes to everything that the flags ask for, on rank 0; afterwards the runs there end."""
    logs = [make(options) for name, make in TRACKERS.items() if rank() == 0 and getattr(options, name)]

    def log(name: str, value: float, images: int) -> None:
        for each in logs:
            each(name, value, images)

    try:
        yield log
    finally:
        for each in logs:
            if isinstance(each, Tracked):
                each.finish()
