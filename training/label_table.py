"""`--labels FILE.csv`: which labels each image has, in a table instead of class folders.

The first column names a file below `--data`; the second holds its labels, with ";" or "|" between several, or
each further column is a class and holds 0 or 1. A column "split" or "part" says train, val or test; without
one, one file in seven by its name's checksum is the test part. Where an image has no label or several, the
network learns to answer for each class by itself.
"""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from resnet_hub.command import printable
from resnet_hub.errors import listed
from resnet_hub.folders import SUFFIXES, composed, part_named
from resnet_hub.hub.load import MOST_NAME
from resnet_hub.preprocess import Preprocess
from training.data import FolderSet
from training.layout import TEST_ONE_IN, DataError, name_sum

PART_COLUMNS = ("split", "part", "subset", "set")
FLAGS = {"0", "1", "0.0", "1.0", "true", "false"}
LIKE_FLAGS = FLAGS | {"-1", "-1.0", "", "yes", "no"}
TRUE = {"1", "1.0", "true"}
JOINTS = (";", "|")


@dataclass(frozen=True)
class LabelTable:
    """Images below `root` with their labels, which came from the table `file`.

    Args:
        labels: file -> its labels.
        parts: file -> "train", "val" or "test"; empty where the table does not say.
    """

    root: Path
    file: Path
    labels: dict[Path, tuple[str, ...]]
    parts: dict[Path, str]

    def __str__(self) -> str:
        return str(self.root)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Every label there is, sorted."""
        return tuple(sorted({label for labels in self.labels.values() for label in labels}))

    @cached_property
    def is_multi(self) -> bool:
        """Whether an image may have any number of labels."""
        return any(len(labels) != 1 for labels in self.labels.values())

    @property
    def has_validation(self) -> bool:
        """Whether the table names a validation set beside a test part."""
        return {"val", "test"} <= set(self.parts.values())

    @property
    def val_for_test(self) -> bool:
        """Whether the validation set that the table names is the test part."""
        return "val" in self.parts.values() and not self.has_validation

    def part_of(self, file: Path) -> str:
        """The part an image is in: "val" is the test part where no other is named."""
        if not self.parts:
            return "train" if name_sum(self.root, file) % TEST_ONE_IN else "test"
        part = self.parts[file]
        return "test" if part == "val" and self.val_for_test else part

    def images(self, part: str, view: Preprocess) -> FolderSet:
        """The images of a part, found but not yet read.

        Raises:
            DataError: when there are none.
        """
        files = tuple(file for file in sorted(self.labels) if self.part_of(file) == part)
        if not files:
            raise DataError(f"{self.file} names no image of the {part} part")
        return FolderSet(files, self._encoded(files), self.classes, str(self.root), view)

    def _encoded(self, files: Sequence[Path]) -> Tensor:
        """Class numbers (N,) int64, or (N, C) float32 of 0 and 1 where an image may have any number."""
        place = {name: i for i, name in enumerate(self.classes)}
        if not self.is_multi:
            return torch.tensor([place[self.labels[file][0]] for file in files], dtype=torch.long)
        encoded = torch.zeros(len(files), len(self.classes))
        for row, file in enumerate(files):
            encoded[row, [place[label] for label in self.labels[file]]] = 1.0
        return encoded

    def check(self) -> None:
        """Notice before training what would be missed after it.

        Raises:
            DataError: for fewer than two labels, a label that no training image has, a single-label class
                without a test image, or a label that no checkpoint could hold.
        """
        if len(self.classes) < 2:
            raise DataError(f"{self.file} has {len(self.classes)} label; a network tells two or more apart")
        if odd := [name for name in self.classes if printable(name[:MOST_NAME]) != name]:
            raise DataError(
                f"{self.file}: the label {printable(odd[0])[:40]!r} has characters that cannot be "
                f"shown, or more than {MOST_NAME}; rename it"
            )
        for part in ("train", "test"):
            files = [file for file in self.labels if self.part_of(file) == part]
            if not files:
                raise DataError(f"{self.file} names no image of the {part} part; {self._more_parts()}")
            seen = Counter(label for file in files for label in self.labels[file])
            missing = [name for name in self.classes if not seen[name]]
            if missing and (part == "train" or not self.is_multi):
                raise DataError(
                    f"{self.file}: no image of the {part} part has label {listed(missing)}; "
                    f"{self._more_parts()}"
                )

    def _more_parts(self) -> str:
        return "add some" if self.parts else "add some, or name the parts in a column 'split'"

    def summary(self) -> str:
        """How its images are labelled, where that is not one label each."""
        others = [file for file, labels in self.labels.items() if len(labels) != 1]
        if not others:
            return ""
        named = listed((str(file.relative_to(self.root)) for file in others), 3)
        of_all = f"{len(others):,} of {len(self.labels):,} images"
        return f"each class is answered by itself: {of_all} have no label or several ({named})"


def read_table(file: Path, root: Path) -> LabelTable:
    """The labels in a CSV file.

    Raises:
        DataError: for a file that cannot be read as such a table, or images that are not there.
    """
    head, rows = _rows(file)
    part_column = next((i for i, name in enumerate(head) if name.lower() in PART_COLUMNS and i), None)
    columns = [i for i in range(1, len(head)) if i != part_column]
    if not columns:
        raise DataError(f"{file} has the columns {listed(head)}; expected file,labels (and maybe split)")
    labels_in = (
        _by_column(head, columns) if _are_flags(file, head, rows, columns) else _in_a_cell(rows, columns[0])
    )
    labels: dict[Path, tuple[str, ...]] = {}
    parts: dict[Path, str] = {}
    absent = []
    for row in rows:
        image = _image(root, row[0])
        if image is None:
            absent.append(row[0])
            continue
        labels[image] = tuple(dict.fromkeys([*labels.get(image, ()), *labels_in(row)]))
        if part_column is not None:
            parts[image] = _part(file, row[part_column])
    if absent:
        raise DataError(f"{file} names {len(absent):,} images that are not below {root}: {listed(absent, 5)}")
    return LabelTable(root, file, labels, parts)


def _rows(file: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--labels {file}: {error}; give a CSV file in UTF-8 with file,labels") from error
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in "\t,;" if mark in first), ",")
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    try:
        rows = [[cell.strip() for cell in row] for row in reader if any(map(str.strip, row))]
    except csv.Error as error:  # a quote that nothing closes
        raise DataError(f"{file}, row {reader.line_num}: {error}; look for a stray quotation mark") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise DataError(f"{file} is not a table of images; give a header file,labels and a row per image")
    head, *rows = rows
    if bad := next((i for i, row in enumerate(rows, 2) if len(row) != len(head)), None):
        raise DataError(f"{file}, row {bad}: {len(rows[bad - 2])} columns, the first line has {len(head)}")
    return head, rows


def _are_flags(file: Path, head: list[str], rows: list[list[str]], columns: list[int]) -> bool:
    """Whether each column is a class.

    Raises:
        DataError: where they seem to be, and one of them holds something else than 0 and 1.
    """
    others = [(n, i) for n, row in enumerate(rows, 2) for i in columns if row[i].lower() not in FLAGS]
    if len(columns) == 1 or not others:
        return len(columns) > 1
    if sum(all(row[i].lower() in LIKE_FLAGS for row in rows) for i in columns) > 1:
        n, i = others[0]
        raise DataError(
            f"{file}, row {n}: {head[i]} holds {rows[n - 2][i]!r}; give 0 or 1 in the column of each class, "
            "and leave out columns that are none"
        )
    return False


def _by_column(head: list[str], columns: list[int]) -> Callable[[list[str]], list[str]]:
    return lambda row: [composed(head[i]) for i in columns if row[i].lower() in TRUE]


def _in_a_cell(rows: list[list[str]], column: int) -> Callable[[list[str]], list[str]]:
    joint = next((mark for mark in JOINTS if any(mark in row[column] for row in rows)), None)

    def labels(row: list[str]) -> list[str]:
        cells = row[column].split(joint) if joint else [row[column]]
        return [composed(label) for cell in cells if (label := cell.strip())]

    return labels


def _image(root: Path, name: str) -> Path | None:
    """The file below `root` that a row names: with or without its suffix, by its whole path or the one from
    `root` on, in either Unicode form of its accents."""
    with suppress(ValueError):
        name = str(Path(name).relative_to(root.resolve()))
    forms = dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))])
    named = (root / f"{each}{suffix}" for each in forms for suffix in ("", *sorted(SUFFIXES)))
    return next((file for file in named if file.is_file() and file.is_relative_to(root)), None)


def _part(file: Path, name: str) -> str:
    part = part_named(name)
    if part is None:
        raise DataError(f"{file}: {name!r} is not a part; give train, val or test")
    return part
