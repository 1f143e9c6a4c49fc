"""How fast each engine answers, over the eager network: the engines take turns, so that all meet the same
machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

NETWORKS = ("resnet18", "resnet50", "resnet18_tiny_imagenet", "resnet20_cifar10")
BATCHES = (1, 16, 64)
LEAST_RUNS = 3
PHOTOS, CLASSES = 200, 4
SIZES = ((1200, 900), (2000, 1500), (2800, 2100), (4000, 3000))  # 1 to 12 megapixels


def engines(seconds: float) -> dict[str, dict[str, Any]]:
    """Milliseconds an image of every engine that is installed, by network and batch, and over eager.

    Args:
        seconds: for each network and batch.
    """
    from resnet_hub.engine import ENGINES, is_installed, prepare, shape_of

    found: dict[str, dict[str, Any]] = {}
    for name in NETWORKS:
        model = network(name)
        made = {each: prepare(model, shape_of(model), each) for each in ENGINES[1:] if is_installed(each)}
        for batch in BATCHES:
            times = batches_in_turn(made, batch, shape_of(model), seconds)
            eager = times["eager"]
            row = {each: f"{1000 * t / batch:.1f} ms ({t / eager:.2f})" for each, t in times.items()}
            found[f"{name}, batch {batch}"] = row
        prepared = {each: f"{engine.prepared_in:.1f} s" for each, engine in made.items()}
        found[f"{name}, preparation"] = prepared
    return found


def network(name: str) -> Any:
    """A shipped checkpoint, or a network with random weights, which cost what trained ones do."""
    from resnet_hub import create_model, from_pretrained
    from resnet_hub.hub.fetch import shipped_names

    return from_pretrained(name) if name in shipped_names() else create_model(name).eval()


def batches_in_turn(
    runs: Mapping[str, Callable[[Any], object]], batch: int, shape: tuple[int, ...], seconds: float
) -> dict[str, float]:
    """Median seconds of a batch of images (C, H, W) on each engine."""
    import torch

    pixels = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return in_turn({name: partial(run, pixels) for name, run in runs.items()}, seconds)


def in_turn(
    acts: Mapping[str, Callable[[], object]], seconds: float, least: int = LEAST_RUNS
) -> dict[str, float]:
    """Median seconds of each act, in turns for so long and at least so often, so that what slows the machine
    meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for act in acts.values():
        act()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or min(map(len, times.values())) < least:
        for name, act in acts.items():
            started = time.perf_counter()
            act()
            times[name].append(time.perf_counter() - started)
    return {name: median(each) for name, each in times.items()}


def files(seconds: float) -> dict[str, dict[str, Any]]:
    """Milliseconds of `classify()` from a small JPEG file, eager and by the engine that is chosen."""
    from resnet_hub.engine import choose
    from resnet_hub.predict import Prediction, classify

    found: dict[str, dict[str, Any]] = {}
    data = photo((640, 480), 0)
    for name in NETWORKS[2:]:
        acts: dict[str, Callable[[], list[Prediction]]] = {}
        for engine in ("eager", "auto"):
            model = network(name)
            choose(model, engine)
            acts[engine] = partial(classify, model, [data])
            acts[engine]()  # the second call prepares
        times = in_turn(acts, 2 * seconds)
        row = {engine: f"{1000 * t:.1f} ms ({t / times['eager']:.2f})" for engine, t in times.items()}
        found[name] = row | {"chosen": acts["auto"]()[0].engine}
    return found


def photo(size: tuple[int, int], seed: int) -> bytes:
    """A JPEG with the edges, gradients and noise of a photo."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + random.normal(0, 6, (size[1], size[0], 1)).astype(np.int16)
    buffer = BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def features(count: int = PHOTOS) -> dict[str, dict[str, Any]]:
    """Seconds for the features of generated photos through ResNet-50: read whole and one after another in
    batches through the eager network, against what `training.transfer` does."""
    with TemporaryDirectory() as folder:
        paths = []
        for i in range(count):
            path = Path(folder, f"{i}.jpg")
            path.write_bytes(photo(SIZES[i % len(SIZES)], i % 16))
            paths.append(path)
        model = network("resnet50")
        plain, eager = timed_once(lambda: plainly(model, paths))
        ours, fast = timed_once(lambda: by_engine(model, paths))
    apart = float(np.abs(plain - ours).max() / np.abs(plain).max())
    return {
        f"{count} photos": {
            "before": f"{eager:.1f} s",
            "now": f"{fast:.1f} s",
            "ratio": f"{fast / eager:.2f}",
            "features apart": f"{apart:.1e}",
        }
    }


def timed_once(act: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """What something returns, and the seconds it takes."""
    started = time.perf_counter()
    found = act()
    return found, time.perf_counter() - started


def plainly(model: Any, paths: list[Path]) -> np.ndarray:
    """Features (N, F) as they were computed before: whole photos into memory by threads, batches of 64."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from resnet_hub.preprocess import load_image

    body, preprocess = headless(model), model.preprocess
    with ThreadPoolExecutor() as pool, torch.inference_mode():
        crops = list(pool.map(lambda path: preprocess.crop(load_image(path)), paths))
        batches = [crops[i : i + 64] for i in range(0, len(crops), 64)]
        return np.concatenate([body(normalised(preprocess, batch)).numpy() for batch in batches])


def by_engine(model: Any, paths: list[Path]) -> np.ndarray:
    """Features (N, F) by the engine, photos read ahead of it."""
    import torch

    from resnet_hub.engine import prepare, shape_of
    from resnet_hub.reading import ahead

    preprocess, found, waiting = model.preprocess, [], []
    run = prepare(headless(model), shape_of(model), "fused")
    with torch.inference_mode():
        for crop in ahead(preprocess.load, paths):
            waiting.append(crop)
            if len(waiting) == 16:
                found.append(run(normalised(preprocess, waiting)).numpy())
                waiting = []
        if waiting:
            found.append(run(normalised(preprocess, waiting)).numpy())
    return np.concatenate(found)


def headless(model: Any) -> Any:
    """A copy of a network without its classifier."""
    import copy

    from torch import nn

    body = copy.deepcopy(model)
    body.set_submodule(model.classifier_name, nn.Identity())
    return body.eval()


def normalised(preprocess: Any, crops: list[Image.Image]) -> Any:
    """The crops as a batch (N, C, H, W)."""
    import torch

    return torch.stack([preprocess.normalise(crop) for crop in crops])
