"""What the app holds in memory: after its start, after every kind of event, after the largest images, and
after thousands of mixed events of many clients."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from resnet_hub.bench.page import Served, serving
from resnet_hub.errors import Refusal
from resnet_hub.preprocess import MAX_DECODED, MAX_PIXELS

REST = 90  # seconds; the process that decodes large images ends after 60, freed pages go back every 20
EACH = 5  # calls of each event, for all threads that answer to have done so
CLIENTS = 32
LARGEST = 4
DESIGNS = ("resnet18", "resnet50", "resnet20_cifar", "plain20_cifar")


def held(process: int) -> float:
    """Megabytes of resident memory of a process and those it started.

    Raises:
        Refusal: where the system has no /proc.
    """
    own = Path("/proc", str(process))
    if not own.is_dir():
        raise Refusal("memory is measured from /proc, which only Linux has")
    children = (own / "task" / str(process) / "children").read_text().split()
    pages = 0
    for pid in (str(process), *children):
        with suppress(OSError):
            pages += int(Path("/proc", pid, "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(ours: Path, image: Path, events: int) -> dict[str, dict[str, Any]]:
    """Megabytes at each of these moments, and over those of the one it is to be compared with.

    Args:
        ours: the app's script.
        image: a photo.
        events: how many mixed events at the end.
    """
    with TemporaryDirectory() as folder, serving(ours) as app:
        started = settled(app)
        for act in kinds(app.address, image):
            for _ in range(EACH):
                act()
        first = settled(app)
        for path in largest(Path(folder)):
            classify_file(app.address, path)
        large = settled(app)
        mixed(app.address, image, events)
        last = settled(app)
    return {
        "after the start": {"MB": started},
        "every event of the API, five times": {"MB": first, "ratio": first / started, "over": "the start"},
        f"{LARGEST} of the largest images": {"MB": large, "ratio": large / first, "over": "before them"},
        f"{events:,} mixed events, {CLIENTS} clients": (
            {"MB": last, "ratio": last / first, "over": "the first"}
        ),
    }


def settled(app: Served) -> float:
    """The memory after a rest."""
    time.sleep(REST)
    return held(app.pid)


def kinds(address: str, image: Path) -> list[Callable[[], object]]:
    """One event of each kind, asked by a client of its own."""
    from gradio_client import Client, handle_file

    from resnet_hub.interop.reference import COUNTERPART
    from resnet_hub.predict import DEFAULT_MODEL

    client, photo = Client(address, verbose=False), handle_file(str(image))
    return [
        lambda: client.predict(photo, api_name="/classify"),
        lambda: client.predict(photo, DEFAULT_MODEL, [COUNTERPART], api_name="/compare"),
        *(lambda design=design: client.predict(design, api_name="/explore") for design in DESIGNS),
    ]


def classify_file(address: str, path: Path) -> None:
    """Have a file classified, and answered.

    Raises:
        gradio_client.exceptions.AppError: where it is refused.
    """
    from gradio_client import Client, handle_file

    Client(address, verbose=False).predict(handle_file(str(path)), api_name="/classify")


def largest(folder: Path) -> list[Path]:
    """JPEGs and PNGs with as many pixels as are allowed."""
    found = []
    for i in range(LARGEST):
        suffix, pixels = (("jpg", MAX_PIXELS), ("png", MAX_DECODED))[i % 2]
        height = int((pixels * 3 / 4) ** 0.5)
        image = Image.effect_mandelbrot((400, 300), (-2, -1.5, 1, 1.5), 50 + i).convert("RGB")
        found.append(folder / f"{i}.{suffix}")
        image.resize((pixels // height, height)).save(found[-1])
    return found


def mixed(address: str, image: Path, events: int) -> None:
    """As many events of every kind by many clients; one that is turned away is asked for no second time."""
    from gradio_client.exceptions import AppError

    def work(number: int) -> None:
        acts = kinds(address, image)
        for i in range(events // CLIENTS):
            with suppress(AppError):
                acts[(i + number) % len(acts)]()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
