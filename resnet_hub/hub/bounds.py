"""What a checkpoint may ask for before and while it is loaded: header, cost of an image, finite answers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from resnet_hub.config import ModelConfig
from resnet_hub.errors import Refusal
from resnet_hub.geometry import totals, trace
from resnet_hub.models.base import Network
from resnet_hub.models.plans import InputTooSmall

MOST_HEADER = 4 << 20  # bytes of a safetensors file; ResNet-152 has 110 kB
WIDENED = {torch.float32, torch.float16, torch.bfloat16}  # all exact in float32
SIDE = 64  # of the largest image that a loaded network has to answer


@dataclass(frozen=True)
class Bounds:
    """The most that one image may cost.

    Args:
        macs: multiply-adds.
        map_bytes: of one feature map.
        seconds: of the first answer, which is then given at full size; None for any time.
    """

    macs: int
    map_bytes: int
    seconds: float | None = None


OWN = Bounds(10**11, 1 << 28)  # the Explore tab allows as many; ResNet-50 at 1024x1024 takes 9 * 10^10
VISITORS = Bounds(3 * 10**10, 1 << 26, 20.0)  # for what a visitor types; VGG-16 takes 1.6 * 10^10


def check_maps(config: ModelConfig, size: tuple[int, int], bounds: Bounds = OWN) -> None:
    """Refuse an image size that the network cannot take, or that would exhaust memory or take minutes.

    Raises:
        ValueError: naming the size, and the largest map or the cost.
    """
    rows = trace(config, size)
    largest = max(rows, key=lambda row: row.activation_bytes)
    if largest.activation_bytes > bounds.map_bytes:
        raise Refusal(
            f"input_size {size[0]}x{size[1]} makes {largest.name} a map of {largest.activation_bytes:,} "
            f"bytes; {bounds.map_bytes:,} is the most that is loaded, so give a smaller input_size"
        )
    if (macs := totals(rows).macs) > bounds.macs:
        raise Refusal(
            f"input_size {size[0]}x{size[1]} takes {macs:,} multiply-adds an image; {bounds.macs:,} is the "
            "most that is loaded, so give a smaller input_size"
        )


def check_header(path: Path) -> None:
    """Refuse a safetensors file whose header would take long to parse.

    Raises:
        Refusal: naming the length of the header.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER:
        raise Refusal(f"its header has {length:,} bytes; {MOST_HEADER:,} is the most that is read")


def check_count(found: int, wanted: int) -> None:
    """Refuse a file of many more tensors than the network has, before one of them is looked at.

    Raises:
        Refusal: naming both numbers.
    """
    if found > 2 * wanted + 100:
        raise Refusal(f"it holds {found:,} tensors, and the network has {wanted:,}")


def _side_that_fits(config: ModelConfig) -> int:
    """`SIDE`, or the least side of which all the network's maps keep something."""
    try:
        trace(config, SIDE)
    except InputTooSmall as error:
        return error.facts["least"]
    return SIDE


@torch.no_grad()
def check_answers(model: Network, bounds: Bounds = OWN) -> None:
    """Refuse a network in eval mode whose answer to a grey image, black to white, is no number or takes long.

    Raises:
        Refusal: saying which.
    """
    channels = model.config.in_chans
    preprocess = model.preprocess
    height, width = preprocess.input_size[1:]
    if bounds.seconds is None and not model.fixed_input_size:
        side = _side_that_fits(model.config)
        height, width = min(height, side), min(width, side)
    grey = torch.linspace(0, 1, width).expand(channels, height, width)
    if len(preprocess.mean) == channels:
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (preprocess.mean, preprocess.std))
        grey = (grey - mean) / std
    started = time.perf_counter()
    answer = model(grey.unsqueeze(0).contiguous())
    seconds = time.perf_counter() - started
    if not torch.isfinite(answer).all():
        raise Refusal("the network answers a grey image with NaN or infinity; its weights or std are damaged")
    if bounds.seconds is not None and seconds > bounds.seconds:
        raise Refusal(f"one image takes {seconds:.0f} seconds; {bounds.seconds:.0f} is the most here")
