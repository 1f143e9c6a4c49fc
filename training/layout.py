"""How a data set lies in folders: its parts and classes, what is left out, what is refused."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from resnet_hub.command import printable
from resnet_hub.errors import Refusal, listed
from resnet_hub.folders import (
    composed,
    counted_by_suffix,
    files_below,
    holds_image,
    image_files,
    is_image,
    is_no_data,
    only_sorts,
    part_named,
    subfolders,
)

TEST_ONE_IN = 7  # of a folder without parts
HELD_ALIKE = 2  # sub-folders that two "classes" share, from which they are parts of a split
MOST_COMPARED = 200  # classes


class DataError(Refusal):
    """A data set that cannot be used; the message is one line for a person."""


class ClassFolders(NamedTuple):
    """Class names, and the images below each class folder."""

    classes: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]


def is_called_like_a_part(root: Path) -> bool:
    """Whether this is a folder of classes called like a part of a data set, "test" for instance."""
    return not parts_of(root) and part_named(root.resolve().name) is not None


def parts_of(root: Path) -> dict[str, Path]:
    """{"train", "val" or "test": its folder} of a data set; empty where `root` itself holds the classes.

    A folder called like a part is one where it, or another one called so, holds folders; otherwise it is a
    class ("train" beside "bus"), or an empty folder that means nothing.

    Raises:
        DataError: for two folders of one part, and for class folders beside a part.
    """
    folders = subfolders(root)
    named = [(part, folder) for folder in folders if (part := part_named(folder.name))]
    if not any(subfolders(folder) for _, folder in named):
        return {}
    parts: dict[str, Path] = {}
    for part, folder in named:
        if part in parts:
            raise DataError(f"{parts[part]} and {folder} are both the {part} part; keep one of them")
        parts[part] = folder
    others = [folder.name for folder in folders if not part_named(folder.name) and holds_image(folder)]
    if others and "train" not in parts:
        there = listed(folder.name for folder in parts.values())
        raise DataError(
            f"{root} holds class folders ({listed(others)}) beside {there}; move them into {root / 'train'}, "
            f"or take {there} away: a part of the images is then kept for the test"
        )
    return parts


def class_folders(folder: Path) -> list[Path]:
    """The folders of a part or data set that are classes; an empty one called like a part is none."""
    return [each for each in subfolders(folder) if part_named(each.name) is None or holds_image(each)]


def find_classes(folder: Path) -> ClassFolders:
    """The classes of a folder with one sub-folder a class, and their images however deep they lie.

    Raises:
        DataError: when there is no class folder, a name that is no text, or two that look the same.
    """
    folders = class_folders(folder)
    if not folders:
        raise DataError(f"{folder} has no class folders; {_why_no_classes(folder)}")
    for each in folders:
        if printable(each.name) != each.name:
            shown = each.name.encode(errors="backslashreplace").decode()
            raise DataError(f"{folder}: the folder {shown} has a name that is not readable text; rename it")
    named = sorted((composed(each.name), each) for each in folders)
    names = tuple(name for name, _ in named)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{folder} holds two folders for {listed(twice)}, whose names differ in how Unicode writes them "
            "alone; merge them"
        )
    return ClassFolders(names, tuple(tuple(image_files(each)) for _, each in named))


def _why_no_classes(folder: Path) -> str:
    expected = f"expected {folder}/<class>/<image>.jpg"
    if not folder.is_dir():
        return f"there is no such folder; {expected}"
    if loose := sum(is_image(file) for file in folder.iterdir()):
        return f"its {loose:,} images lie in no sub-folder that names their class; {expected}"
    return expected


def is_test(root: Path, files: Sequence[Path]) -> list[bool]:
    """Which images of one class are for the test where there are no parts: one in seven by its name.

    Of two or more images at least one is, and at least one is not.
    """
    sums = [name_sum(root, file) for file in files]
    chosen = [number % TEST_ONE_IN == 0 for number in sums]
    if len(files) > 1 and len(set(chosen)) == 1:
        chosen[sums.index(min(sums))] ^= True
    return chosen


def name_sum(root: Path, file: Path) -> int:
    """A checksum of a file's path below a data set; a multiple of `TEST_ONE_IN` is for the test."""
    return zlib.crc32(file.relative_to(root).as_posix().encode(errors="surrogateescape"))


def check_layout(root: Path) -> None:
    """Notice before training what would be missed after it.

    Raises:
        DataError: for a part or class that is missing or empty, a split taken for classes, classes that lie
            one level too deep, and parts with different classes.
    """
    parts = parts_of(root)
    if not parts:
        return _check_flat(root if root.is_dir() else root / "train")
    if "train" not in parts:
        there = listed(folder.name for folder in parts.values())
        raise DataError(
            f"{root} has {there} but no train part; put the training images into {root / 'train'}"
        )
    if len(parts) == 1:
        train = parts["train"].name
        raise DataError(
            f"{root} has {train}/ but neither test/ nor val/; figures are measured on one of them"
        )
    found = {part: find_classes(folder) for part, folder in parts.items()}
    _check_classes(parts["train"], found["train"])
    for part in parts.keys() - {"train"}:
        for one, other in (("train", part), (part, "train")):
            if more := [repr(n) for n in found[one].classes if n not in found[other].classes]:
                raise DataError(
                    f"{parts[one]} has classes {listed(more)} that are not in {parts[other]}; "
                    "every part needs a folder for every class"
                )
    for part, folder in parts.items():
        refuse_empty(found[part], folder)


def _check_flat(root: Path) -> None:
    found = find_classes(root)
    _check_classes(root, found)
    refuse_empty(found, root)
    if single := [name for name, files in zip(*found, strict=True) if len(files) == 1]:
        raise DataError(
            f"{root}: {listed(single)} has one image; a class needs two, one to learn from and one to "
            "measure on"
        )


def refuse_empty(found: ClassFolders, folder: Path) -> None:
    """Raises DataError where a class has no image."""
    if empty := [name for name, files in zip(*found, strict=True) if not files]:
        there = [each for each in class_folders(folder) if composed(each.name) in empty]
        left = [file.name for each in there for file in files_below(each)]
        seen = f" (what lies there, {listed(left, 3)}, is not an image that can be read)" if left else ""
        raise DataError(
            f"{folder} holds no image of {listed(empty)}{seen}; put some there, or remove the folder"
        )


def _check_classes(folder: Path, found: ClassFolders) -> None:
    """Refuse what is no set of class folders: one folder only, or the parts of a split."""
    inner = {composed(each.name): inner_folders(each) for each in class_folders(folder)}
    if len(found.classes) == 1:
        (name,), (path,) = found.classes, class_folders(folder)
        if any(map(part_named, inner[name])):
            raise DataError(f"{folder} holds one folder, {name}, with the parts in it; use {path}")
        if len(inner[name]) > 1:
            raise DataError(
                f"{folder} holds one folder, {name}, and the classes seem to lie in it "
                f"({listed(inner[name])}): one level too deep; use {path}, or move them up"
            )
        raise DataError(f"{folder} holds one class, {name}; a network needs two or more to tell apart")
    deep = [name for name in found.classes if len(inner[name]) >= HELD_ALIKE][:MOST_COMPARED]
    for one, other in combinations(deep, 2):
        shared = [name for name in inner[one] if name in inner[other]]
        if shared in (inner[one], inner[other]) and not only_sorts(shared):
            raise DataError(
                f"{folder}: {one} and {other} hold the same folders ({listed(shared)}), like the parts of a "
                "split; name them train and test, or, if they are classes, put the images into them directly"
            )


def refuse_shared(what: str, files: Sequence[Path], others: Collection[Path], whose: str) -> None:
    """Refuse images of other things, those of the flag `what`, that are among `others`, those of `whose`.

    Args:
        others: resolved paths.

    Raises:
        DataError: with how many, and one of them.
    """
    if shared := [file for file in files if file.resolve() in others]:
        raise DataError(
            f"{what}: {len(shared):,} of its {len(files):,} images belong to {whose} ({shared[0]}); give "
            "images that are not among them"
        )


def inner_folders(folder: Path) -> list[str]:
    """Names of the sub-folders that hold images."""
    return [each.name for each in subfolders(folder) if holds_image(each)]


def left_out(root: Path) -> list[Path]:
    """The files below a data set that are not used, hidden ones and those that are no data aside."""
    return [
        name
        for file in files_below(root)
        if not is_no_data(name := file.relative_to(root)) and not is_image(file)
    ]


def left_out_words(root: Path, most: int = 5) -> str:
    """What `left_out` found, counted by suffix; empty where it is nothing."""
    counted = counted_by_suffix(left_out(root))
    if not counted:
        return ""
    kinds = (f"{len(names):,} {suffix or 'without a suffix'}" for suffix, names in counted.items())
    names = [name for of_suffix in counted.values() for name in of_suffix]
    return f"left out, because they are not images: {listed(kinds)} ({listed(names, most)})"
