"""What a network does with images of things it was not trained on: `--unknown`, and the figures of it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from resnet_hub.errors import listed
from resnet_hub.folders import composed, image_files, subfolders
from training.data import DataError, FolderSet, in_memory
from training.engine import predict_logits
from training.layout import refuse_shared

Z = 1.96  # of a 95 % interval


class UnknownSet(NamedTuple):
    """Images of other things: what they show, their folder, and the sub-folders taken; () for all."""

    what: str
    folder: Path
    classes: tuple[str, ...] = ()

    def files(self) -> list[Path]:
        """The images, sorted.

        Raises:
            DataError: when a sub-folder is not there.
        """
        inside = {composed(each.name): each for each in subfolders(self.folder)}
        found = {name: inside.get(composed(name), self.folder / name) for name in self.classes}  # or deeper
        if missing := [name for name, folder in found.items() if not folder.is_dir()]:
            raise DataError(f"--unknown {self.what}: {self.folder} has no folder {listed(missing)}")
        folders = [*found.values()] or [self.folder]
        return [file for folder in folders for file in image_files(folder)]


def add_unknown_flag(parser: argparse.ArgumentParser) -> None:
    """`--unknown`, a list of `UnknownSet`."""
    parser.add_argument(
        "--unknown",
        "--unfamiliar",
        action="append",
        default=[],
        type=unknown_set,
        metavar="[NAME=]DIR[:A,B]",
        help="images of other things (of its sub-folders A and B only), to measure how often they are "
        "noticed; may be repeated",
    )


def check_unknown(
    sets: Sequence[UnknownSet], known: Mapping[str, Collection[Path]] = MappingProxyType({})
) -> None:
    """Notice before training what would be missed after it.

    Args:
        known: the resolved files that are trained or measured on, by the flag that names them.

    Raises:
        DataError: for two sets of one name, a sub-folder that is not there, a set without images, or one with
            some that are known.
    """
    names = [each.what for each in sets]
    for each in sets:
        if names.count(each.what) > 1:
            raise DataError(f"--unknown: two sets are called {each.what!r}; give NAME=DIR with other names")
        if not (files := each.files()):
            raise DataError(f"--unknown {each.what}: {each.folder} holds no image")
        for whose, others in known.items():
            refuse_shared(f"--unknown {each.what}", files, others, whose)


def unknown_set(text: str) -> UnknownSet:
    """ "ants=photos:a,b" -> ("ants", photos, ("a", "b")); without a name the folder's.

    Raises:
        argparse.ArgumentTypeError: when there is no such folder.
    """
    what, _, place = text.rpartition("=")
    folder, classes = place, ""
    if ":" in place and not Path(place).is_dir():
        folder, _, classes = place.rpartition(":")
    if not folder or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{folder or text} is not a folder")
    name = what or Path(folder).resolve().name
    return UnknownSet(name, Path(folder), tuple(filter(None, classes.split(","))))


def measure_unknown(
    model,
    sets: Sequence[UnknownSet],
    logits: Tensor,
    labels: Tensor,
    batch_size: int | None = None,
    workers: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Figures of each set of unknown images, by what they show.

    Args:
        logits, labels: (N, C) and (N,) of the test images, which the network does know.

    Returns:
        For each: "images"; "flagged", the share called unfamiliar, with its 95 % interval; "auroc", how well
        the energy ranks test images above these; "firm", the share answered firmly; "right_unflagged", of
        the answers without a warning on an even mix of both, the share that is right.

    Raises:
        DataError: when the network has no threshold, or a folder no readable image.
    """
    if sets and model.calibration.energy_threshold is None:
        raise DataError("this checkpoint has no threshold for unfamiliar images; leave --unknown out")
    known = answers(model, logits)
    right = logits.argmax(1) == labels
    found = {}
    for each in sets:
        files = tuple(each.files())
        nobody = torch.zeros(len(files), dtype=torch.long)
        there = FolderSet(files, nobody, model.labels, str(each.folder), model.preprocess, workers=workers)
        shown = in_memory(there, workers)
        others, _ = predict_logits(model, shown, model.preprocess, batch_size=batch_size)
        other = answers(model, others)
        unflagged = (~known.flagged).float().mean() + (~other.flagged).float().mean()
        right_share = (right & ~known.flagged).float().mean() / unflagged.clamp(min=1e-9)
        found[each.what] = {
            "images": len(others),
            "flagged": interval(other.flagged),
            "auroc": auroc(known.energy, other.energy),
            "firm": other.firm.float().mean().item(),
            "right_unflagged": right_share.item(),
        }
    return found


class Answers(NamedTuple):
    """Of each image (N,): its energy, whether it is called unfamiliar, whether it is answered firmly."""

    energy: Tensor
    flagged: Tensor
    firm: Tensor


def answers(model, logits: Tensor) -> Answers:
    """What the model's calibration makes of (N, C) logits."""
    energy, share = logits.logsumexp(1), model.calibration.probabilities(logits).max(1).values
    pairs = zip(energy.tolist(), share.tolist(), strict=True)
    certainties = [model.calibration.certainty(*pair) for pair in pairs]
    flagged, firm = (
        torch.tensor([c == kind for c in certainties], dtype=torch.bool) for kind in ("unfamiliar", "firm")
    )
    return Answers(energy, flagged, firm)


def interval(hits: Tensor) -> list[float]:
    """[share, lowest, highest] of booleans (N,): Wilson's 95 % interval (JASA 22, 1927)."""
    count, share = len(hits), hits.float().mean().item()
    middle = share + Z**2 / (2 * count)
    spread = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return [share, *((middle + sign * spread) / (1 + Z**2 / count) for sign in (-1, 1))]


def auroc(known: Tensor, unknown: Tensor) -> float:
    """The chance that a known image scores above an unknown one, ties counted half (Mann and Whitney)."""
    ordered = unknown.sort().values
    below = torch.searchsorted(ordered, known) + torch.searchsorted(ordered, known, right=True)
    return (below.double().mean() / 2 / len(unknown)).item()
