"""An image through a design: what that may cost, and the feature maps each stage makes of it.

The cost is bounded by arithmetic before anything is built; torch is imported only then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_hub.config import ModelConfig
from resnet_hub.errors import Refusal
from resnet_hub.geometry import BYTES, first_centres, stages_with_maps, totals
from resnet_hub.hub.fetch import shipped_config
from resnet_hub.models.build import build_network
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.predict import stage_maps
from resnet_hub.preprocess import load_image
from resnet_hub.ui.explore.designs import Design
from resnet_hub.ui.shared.errors import refusal
from resnet_hub.ui.shared.images import data_url, viridis
from resnet_hub.ui.shared.text import memory, short
from resnet_hub.ui.shelf import Shelf

# 93 G took 4 s of one core and 0.5 GB (wide_resnet50_2 at 640); the bytes count all maps at once, which a run
# does not hold.
MOST_MACS, MOST_BYTES = 100_000_000_000, 2_000_000_000
CHANNELS, MOST_SIDE = 4, 96  # maps shown of each stage, and pixels a side they are sent with


@dataclass(frozen=True)
class StageMaps:
    """The first channels of the map that leaves a stage, as addresses of images.

    Args:
        field, jump: receptive field of a position, and how far apart two are, in pixels of the input.
        start: middle of the first position's field, in pixels of the input.
    """

    name: str
    channels: int
    size: tuple[int, int]
    images: list[str]
    field: int
    jump: int
    start: float


@dataclass(frozen=True)
class Run:
    """An image's maps in one design, kept so that another language needs no second run.

    Args:
        source: where trained weights come from, None for random ones.
        trained_size: (height, width) those weights were trained on.
        seen: address of the image as the network saw it.
        photo: the folder of the uploaded file, which Gradio names after what is in it; "" without one.
    """

    config: ModelConfig
    source: str | None
    trained_size: tuple[int, int] | None
    seen: str
    stages: list[StageMaps]
    photo: str = ""


def too_costly(name: str, design: Design | Refusal) -> Refusal | None:
    """Why a design is not run, said before anything of it is built; None when it may run."""
    if isinstance(design, Refusal):
        return refusal("run_impossible", name=name)
    cost = totals(design.rows)
    held = cost.params * BYTES + cost.activation_bytes  # all maps at once: more than a run ever holds
    if cost.macs <= MOST_MACS and held <= MOST_BYTES:
        return None
    most = {"most_macs": short(MOST_MACS), "most_memory": memory(MOST_BYTES)}
    return refusal("run_too_much", name=name, macs=short(cost.macs), memory=memory(held), **most)


def trained(shelf: Shelf, config: ModelConfig, preferred: str = ""):
    """A model whose weights are this very design's, else None: `preferred`, or an offered one, as far as they
    ship or are in memory.
    """
    held = {source: model for source, model in reversed(shelf.in_memory()) if not isinstance(model, OnnxFile)}
    shipped = filter(shelf.shipped.__contains__, shelf.offered)  # the default first
    for source in (preferred, *shipped, *filter(shelf.offered.__contains__, held)):
        if source in held and body(held[source].config) == body(config):
            return held[source]
        if source in shelf.shipped and body(shipped_config(source)) == body(config):
            return shelf.get(source)
    return None


def body(config: ModelConfig) -> dict[str, Any]:
    """Everything that decides what the weights before the head are and do."""
    head = ("name", "num_classes", "input_size", "drop_rate")
    values = {field: value for field, value in config.to_dict().items() if field not in head}
    return values | {"maxpool": getattr(config, "has_maxpool", None)}


def fresh(config: ModelConfig):
    """The design with random weights, the same ones every time."""
    from resnet_hub.models.initialise import seeded

    with seeded(0):
        return build_network(config).eval()


def run(shelf: Shelf, design: Design, photo: str | bytes, preferred: str = "") -> Run:
    """One image through one design.

    Args:
        preferred: the model to take, if the design is its own.

    Raises:
        ImageError: for an image that cannot be read.
    """
    from resnet_hub.device import pick_device

    config = design.config
    image = load_image(photo)
    model = trained(shelf, config, preferred)
    source, size = (None, None) if model is None else (model.source, model.preprocess.input_size[1:])
    model = model or fresh(config).to(pick_device(shelf.device))
    seen = replace(model.preprocess, input_size=(config.in_chans, *config.input_size)).crop(image)
    maps = stage_maps(model, seen, CHANNELS)
    names = stages_with_maps(design.rows)
    middles = {name: pixel + 0.5 for name, pixel in first_centres(design.rows).items()}
    found = [
        StageMaps(s.name, s.out_channels, s.out_size, images, s.receptive_field, s.jump, middles[s.name])
        for s, channels in zip(names, maps, strict=True)
        if (images := [data_url(shaded(channel)) for channel in channels])
    ]
    folder = Path(photo).parent.name if isinstance(photo, str) else ""
    return Run(config, source, size, data_url(reduced(seen)), found, folder)


def shaded(channel: np.ndarray) -> Image.Image:
    """A channel (h, w) from its lowest to its highest value in viridis; even where all are equal."""
    span = float(channel.max() - channel.min())
    return reduced(viridis((channel - channel.min()) / span if span > 0 else np.full_like(channel, 0.5)))


def reduced(image: Image.Image) -> Image.Image:
    """At most MOST_SIDE pixels a side, so that a page of maps stays small."""
    factor = -(-max(image.size) // MOST_SIDE)
    return image.reduce(factor) if factor > 1 else image
