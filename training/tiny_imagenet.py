"""Tiny ImageNet as it is distributed: 200 classes of 64x64 images, for research use (ImageNet's terms)."""

from __future__ import annotations

from pathlib import Path

from resnet_hub.errors import Refusal

CLASSES = "wnids.txt"


def is_tiny_imagenet(root: Path) -> bool:
    """Whether `root` is the unpacked archive."""
    return (root / CLASSES).is_file()


def find_files(root: Path, part: str) -> tuple[list[tuple[Path, str]], tuple[str, ...]]:
    """((file, class name) of each image, all class names) of a part, "train" or "test".

    The test part is the published validation set, `val/`: the labels of `test/` were never published. A class
    is called by the first of its words, with its WordNet id where two classes share that.

    Raises:
        Refusal: when a file is missing.
    """
    try:
        names = class_names((root / CLASSES).read_text().split(), (root / "words.txt").read_text())
        if part == "test":
            lines = (root / "val" / "val_annotations.txt").read_text().splitlines()
            pairs = [line.split()[:2] for line in lines if line]
            found = [(root / "val" / "images" / file, names[wnid]) for file, wnid in pairs]
        else:
            folders = {name: root / "train" / wnid / "images" for wnid, name in names.items()}
            found = [(file, name) for name, folder in folders.items() for file in sorted(folder.iterdir())]
    except (OSError, KeyError, ValueError) as error:
        raise Refusal(
            f"{root} looks like Tiny ImageNet, but is not whole ({error}); unpack it again"
        ) from error
    return found, tuple(sorted(names.values()))


def class_names(wnids: list[str], words: str) -> dict[str, str]:
    """{WordNet id: readable name}, from the lines "id<TAB>first word, others" of `words.txt`."""
    known = dict(line.split("\t", 1) for line in words.splitlines() if "\t" in line)
    first = {wnid: known.get(wnid, wnid).split(",")[0].strip() for wnid in wnids}
    many = [*first.values()]
    return {wnid: name if many.count(name) == 1 else f"{name} ({wnid})" for wnid, name in first.items()}
