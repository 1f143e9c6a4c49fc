"""What makes a data set doubtful: copies, and labels and images unlike their neighbours.

Pure measures; `training/check.py` reads the images and says what was found.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

SIDE = 32  # pixels of the grey image that two are compared by
HASH_SIDE = 8
MOST_BITS = 16  # of 128 in which near duplicates differ
LEAST_ALIKE = 0.98  # correlation of their grey images
MOST_COLOUR = 16  # of 255: how far apart their mean colours are
NEIGHBOURS = 10
CHUNK = 1000  # images compared with all others at once


class Look(NamedTuple):
    """An image as two are compared: difference hash (128,), grey pixels (SIDE * SIDE,), mean colour (3,)."""

    bits: np.ndarray
    grey: np.ndarray
    colour: np.ndarray


class Copy(NamedTuple):
    """An image, by its position, and an earlier one that shows the same."""

    image: int
    of: int


def look_of(image: Image.Image) -> Look:
    """What of an RGB image survives resizing and another encoding.

    The hash says of 8 x 8 places whether the next one to the right, and below, is brighter
    (https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html).
    """
    grey = image.convert("L")
    right = _small(grey, HASH_SIDE + 1, HASH_SIDE)
    below = _small(grey, HASH_SIDE, HASH_SIDE + 1)
    bits = np.concatenate([(np.diff(right, axis=1) > 0).ravel(), (np.diff(below, axis=0) > 0).ravel()])
    flat = _small(grey, SIDE, SIDE).ravel()
    colour = np.asarray(image.resize((1, 1), Image.Resampling.BOX), np.float32)[0, 0]
    return Look(bits, _standardised(flat), colour)


def _small(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Mean 0, length 1; all zeros for an image of one grey."""
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


def same_bytes(files: Sequence[Path], seconds: float | None = None) -> tuple[list[Copy], bool]:
    """Files that are byte for byte an earlier one, and whether all could be compared in that time.

    Only files of one size are read.
    """
    until = None if seconds is None else time.perf_counter() + seconds
    by_size = defaultdict(list)
    for i, file in enumerate(files):
        by_size[file.stat().st_size].append(i)
    digests: dict[int, Hashable] = {}
    for alike in (alike for alike in by_size.values() if len(alike) > 1):
        for i in alike:
            if until is not None and time.perf_counter() > until:
                return _repeated(digests), False
            with suppress(OSError):  # named and left out where the images are read
                digests[i] = hashlib.blake2b(files[i].read_bytes()).digest()
    return _repeated(digests), True


def _repeated(keys: dict[int, Hashable]) -> list[Copy]:
    first: dict[Hashable, int] = {}
    return [Copy(i, first[key]) for i, key in sorted(keys.items()) if first.setdefault(key, i) != i]


def near_copies(looks: Sequence[Look]) -> list[Copy]:
    """Images that show what an earlier one does: resized, encoded again, a little brighter."""
    if not looks:
        return []
    signs = torch.from_numpy(np.stack([look.bits for look in looks])).float().mul(2).sub(1)
    found = []
    for start in range(0, len(looks), CHUNK):
        differ = (signs.shape[1] - signs[start : start + CHUNK] @ signs.T) / 2
        for row, column in (differ <= MOST_BITS).nonzero().tolist():
            if column < start + row and _is_same(looks[start + row], looks[column]):
                found.append(Copy(start + row, column))
    return list({copy.image: copy for copy in reversed(found)}.values())[::-1]


def _is_same(one: Look, other: Look) -> bool:
    is_flat = not one.grey.any() and not other.grey.any()
    return bool(
        (is_flat or float(one.grey @ other.grey) >= LEAST_ALIKE)
        and np.abs(one.colour - other.colour).max() <= MOST_COLOUR
    )


def neighbours(features: Tensor, k: int = NEIGHBOURS) -> Iterator[tuple[Tensor, Tensor]]:
    """For chunks of images: cosine similarity (n, k) and positions (n, k) of the most similar others.

    Args:
        features: (N, F)
    """
    unit = F.normalize(features.float(), dim=1)
    k = min(k, len(unit) - 1)
    for start in range(0, len(unit), CHUNK):
        alike = unit[start : start + CHUNK] @ unit.T
        rows = torch.arange(len(alike))
        alike[rows, start + rows] = -2.0  # not itself
        yield alike.topk(k)


class Doubt(NamedTuple):
    """Of each image (N,): share of its neighbours with its label, the label most of the others have, their
    share, and the mean distance (1 - cosine similarity) to the neighbours."""

    own: Tensor
    other: Tensor
    others: Tensor
    distance: Tensor


def doubts_of(features: Tensor, labels: Tensor, classes: int) -> Doubt:
    """How well each image's label and look agree with its nearest neighbours'.

    Args:
        features: (N, F) of two images or more.
        labels: (N,)
    """
    votes, distance = [], []
    for alike, index in neighbours(features):
        near = F.one_hot(labels[index], classes).float()
        votes.append(near.mean(1))
        distance.append(1 - alike.mean(1))
    share = torch.cat(votes)  # (N, classes)
    own = share.gather(1, labels[:, None])[:, 0]
    others, other = share.scatter(1, labels[:, None], -1.0).max(1)
    return Doubt(own, other, others, torch.cat(distance))


def most_suspicious(doubt: Doubt, most: int) -> list[int]:
    """Images whose neighbours have another label, the most one-sided first."""
    margin = doubt.others - doubt.own
    order = sorted(range(len(margin)), key=lambda i: (-margin[i].item(), doubt.distance[i].item()))
    return [i for i in order if margin[i] > 0][:most]


def most_unusual(doubt: Doubt, most: int) -> list[int]:
    """Images that are far from all others, the farthest first."""
    return doubt.distance.argsort(descending=True)[:most].tolist()


def between(copies: Iterable[Copy], parts: Sequence[str]) -> dict[tuple[str, str], list[Copy]]:
    """Copies by the parts of the image and of the one before it."""
    found = defaultdict(list)
    for copy in copies:
        found[parts[copy.image], parts[copy.of]].append(copy)
    return dict(found)
