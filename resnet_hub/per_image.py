"""Answers image by image, as a table for a spreadsheet: the worst first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from resnet_hub.errors import Refusal
from resnet_hub.files import write_whole

JOINT = ";"  # between the labels of an image that has several


class Answer(NamedTuple):
    """A network's answer for one image; its fields are the columns of the table.

    Args:
        file: its path.
        true: the class it is known to show; None where nobody said.
        predicted: the most probable class.
        share: its calibrated probability.
        loss: cross entropy, -log of the true class's probability; None without one.
        familiar: whether it resembles the training images; None where no threshold was measured.
    """

    file: str
    true: str | None
    predicted: str
    share: float
    loss: float | None
    familiar: bool | None


def worst_first(answers: Iterable[Answer]) -> list[Answer]:
    """By falling loss; then those without a true class, the least sure first."""
    return sorted(answers, key=lambda each: (each.loss is None, -(each.loss or 0.0), each.share))


def write_csv(path: Path, answers: Iterable[Answer]) -> None:
    """Write the table, worst first, with a line of names above.

    Raises:
        Refusal: when it cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Answer._fields)
    table.writerows(map(_cells, worst_first(answers)))
    # A file name may hold bytes that are no text; they come back as they were.
    write_whole(path, text.getvalue().encode(errors="surrogateescape"))


def _cells(answer: Answer) -> list[str]:
    familiar = {None: "", True: "yes", False: "no"}[answer.familiar]
    loss = "" if answer.loss is None else f"{answer.loss:.6f}"
    return [answer.file, answer.true or "", answer.predicted, f"{answer.share:.6f}", loss, familiar]


def check_csv(path: Path | None) -> None:
    """Notice before the work that a table could not be written.

    Raises:
        Refusal: for a folder, or a path in a folder that is not there.
    """
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise Refusal(f"--csv {path}: give a file path in a folder that exists")
