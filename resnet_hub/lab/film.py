"""A recorded training, frame by frame: what `training.film` wrote, read back."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_hub.lab.bounds import one_of, within


@dataclass(frozen=True)
class Frame:
    """A network at one moment of its training.

    Args:
        filters: (n, 3, k, k) uint8, the first convolution's, each scaled to 0 to 255.
        maps: (4, h, w) uint8 a stage: the first channels for one image, each scaled to 0 to 255.
        train_loss, val_acc: of the epoch; None before the first.
    """

    filters: np.ndarray
    maps: tuple[np.ndarray, ...]
    train_loss: float | None
    val_acc: float | None


def frame(document: dict[str, Any], network: str, epoch: int) -> Frame:
    """The frame after an epoch; 0 for the network before training.

    Raises:
        ValueError: for a network or epoch that was not recorded.
    """
    one_of("network", network, document["networks"])
    recorded = document["networks"][network]
    within("epoch", epoch, 0, len(recorded["frames"]) - 1)
    shown = recorded["frames"][epoch]
    line = recorded["history"][epoch - 1] if epoch else {}
    maps = tuple(pixels(each) for each in shown["maps"])
    return Frame(pixels(shown["filters"]), maps, line.get("train_loss"), line.get("val_acc"))


def pixels(packed: dict[str, Any]) -> np.ndarray:
    """The bytes of an array, in its shape."""
    data = np.frombuffer(base64.b64decode(packed["data"]), dtype=np.uint8)
    return data.reshape(packed["shape"])
