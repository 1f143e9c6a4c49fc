"""`python -m training.check DIR`: find problems in a data set before training on it.

Copies within and across its parts, images a class, sizes and shapes, what a centre crop loses. With
`--weights`, by the features of a network, the labels and images least like their neighbours too.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from resnet_hub.command import printable, program_name, run_command
from resnet_hub.device import add_device_flags, pick_device
from resnet_hub.errors import Refusal, listed
from resnet_hub.files import write_whole
from resnet_hub.geometry import times
from resnet_hub.preprocess import ImageError, load_image
from training import doubts
from training.layout import DataError, check_layout, find_classes, is_test, left_out_words, parts_of
from training.tiny_imagenet import find_files, is_tiny_imagenet

SECONDS = 2.0  # for comparing files at the start of a run
MOST = 20  # images on a contact sheet
NAMED = 5  # files in a line of the report


@dataclass(frozen=True)
class Labelled:
    """The images of a data set: file, part and class of each."""

    files: tuple[Path, ...]
    parts: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """What was read of one image: (width, height), PIL's mode, and what it is compared by."""

    size: tuple[int, int]
    mode: str
    look: doubts.Look


def labelled(root: Path) -> Labelled:
    """Every image of a data set, as training divides it.

    Raises:
        DataError: when it holds no classes.
    """
    found: list[tuple[Path, str, str]] = []
    if is_tiny_imagenet(root):
        for part in ("train", "test"):
            found += [(file, part, name) for file, name in find_files(root, part)[0]]
    elif parts := parts_of(root):
        for part, folder in sorted(parts.items(), key=lambda pair: ("train", "val", "test").index(pair[0])):
            for name, files in zip(*find_classes(folder), strict=True):
                found += [(file, part, name) for file in files]
    else:
        for name, files in zip(*find_classes(root), strict=True):
            tested = is_test(root, files)
            found += [
                (file, "test" if test else "train", name) for file, test in zip(files, tested, strict=True)
            ]
    found.sort(key=lambda each: ("train", "val", "test").index(each[1]))
    files, in_parts, classes = zip(*found, strict=True) if found else ((), (), ())
    return Labelled(files, in_parts, classes)


# At the start of each run


def summary(root: Path) -> list[str]:
    """Lines for the start of a run: what is left out, and files that are in two parts or have two labels.

    Takes two seconds at most; what could not be compared by then is not.
    """
    images = labelled(root)
    copies, is_all = doubts.same_bytes(images.files, SECONDS)
    lines = [left_out_words(root), *_copy_lines(images, copies, "byte for byte", root)]
    if copies and not is_all:
        lines.append("not all files were compared")
    lines = [line for line in lines if line]
    if copies:
        lines.append(f"python -m training.check {root} says more")
    return lines


def _copy_lines(images: Labelled, copies: Sequence[doubts.Copy], how: str, root: Path) -> list[str]:
    lines = []
    for (part, before), pairs in sorted(doubts.between(copies, images.parts).items()):
        total = images.parts.count(part)
        where = "in it before" if part == before else f"in {before}"
        names = (f"{_name(images.files[c.image], root)} = {_name(images.files[c.of], root)}" for c in pairs)
        lines.append(
            f"{part} images that are {how} {where}: {len(pairs):,} of {total:,} ({listed(names, NAMED)})"
        )
    torn = [c for c in copies if images.classes[c.image] != images.classes[c.of]]
    if torn:
        names = (f"{_name(images.files[c.image], root)} = {_name(images.files[c.of], root)}" for c in torn)
        lines.append(f"images that are {how} in two classes: {len(torn):,} ({listed(names, NAMED)})")
    return lines


def _name(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


# The whole look


def read_all(files: Sequence[Path]) -> list[Seen | str]:
    """What was read of each file, or why it cannot be read."""

    def read(file: Path) -> Seen | str:
        try:
            image = load_image(file)
            with Image.open(file) as header:
                mode = header.mode
        except ImageError as error:
            return str(error)
        except OSError:  # PIL alone does not read it: HEIC
            mode = "RGB"
        return Seen(image.size, mode, doubts.look_of(image))

    with ThreadPoolExecutor() as pool:
        return list(tqdm(pool.map(read, files), "reading", len(files), file=sys.stderr, leave=False))


def lost_by_crop(size: tuple[int, int]) -> float:
    """The share of an image (width, height) that a square centre crop of its short side cuts off."""
    return 1 - min(size) / max(size)


def findings(root: Path) -> tuple[Labelled, dict[str, Any], list[dict[str, Any]]]:
    """The images that can be read, figures of the data set, and a row for each image.

    Raises:
        DataError: when no image can be read.
    """
    everything = labelled(root)
    read = read_all(everything.files)
    broken = [
        f"{_name(f, root)} ({s})" for f, s in zip(everything.files, read, strict=True) if isinstance(s, str)
    ]
    kept = [i for i, seen in enumerate(read) if not isinstance(seen, str)]
    if not kept:
        why = f": {broken[0]}" if broken else ""
        raise DataError(f"{root} holds no image that can be looked at{why}")
    images = Labelled(*(tuple(column[i] for i in kept) for column in vars(everything).values()))
    seen = [each for each in read if isinstance(each, Seen)]
    exact, _ = doubts.same_bytes(images.files)
    taken = {copy.image for copy in exact}
    near = [copy for copy in doubts.near_copies([s.look for s in seen]) if copy.image not in taken]
    counts = {
        part: dict(Counter(c for c, p in _pairs(images) if p == part)) for part in dict.fromkeys(images.parts)
    }
    figures = {
        "images": len(images.files),
        "classes": len(set(images.classes)),
        "counts": counts,
        "balance": {part: max(of.values()) / min(of.values()) for part, of in counts.items()},
        "sizes": _spread([s.size for s in seen]),
        "channels": dict(Counter(s.mode for s in seen).most_common()),
        "cropped_away": _spread([lost_by_crop(s.size) for s in seen]),
        "unreadable": broken,
        "exact": _copy_lines(images, exact, "byte for byte", root),
        "near": _copy_lines(images, near, "nearly the same as one", root),
        "refused": why_refused(root, everything, images),
    }
    return images, figures, _rows(root, images, seen, exact, near)


def _pairs(images: Labelled) -> list[tuple[str, str]]:
    return list(zip(images.classes, images.parts, strict=True))


def _spread(values: list) -> dict[str, Any]:
    """Least, middle and most; of sizes by their area."""
    if isinstance(values[0], tuple):
        ordered = sorted(values, key=lambda size: (size[0] * size[1], size))
        ratios = [width / height for width, height in values]
        return {
            "least": ordered[0], "median": ordered[len(ordered) // 2], "most": ordered[-1],
            "aspect": [min(ratios), median(ratios), max(ratios)],
        }  # fmt: skip
    return {"least": min(values), "median": median(values), "most": max(values)}


def _rows(root: Path, images: Labelled, seen: list[Seen], exact: list, near: list) -> list[dict[str, Any]]:
    copies = {name: {c.image: _name(images.files[c.of], root) for c in found} for name, found in
              {"copy_of": exact, "similar_to": near}.items()}  # fmt: skip
    return [
        {
            "file": _name(file, root), "part": part, "class": name,
            "width": s.size[0], "height": s.size[1], "mode": s.mode,
            "cropped_away": round(lost_by_crop(s.size), 4),
            **{key: of.get(i, "") for key, of in copies.items()},
        }
        for i, (file, part, name, s) in enumerate(
            zip(images.files, images.parts, images.classes, seen, strict=True)
        )
    ]  # fmt: skip


def report(root: Path, figures: dict[str, Any]) -> list[str]:
    """The figures in words."""
    lines = [f"{root}: {figures['images']:,} images of {figures['classes']:,} classes"]
    for part, counts in figures["counts"].items():
        ordered = sorted(counts.items(), key=lambda pair: -pair[1])
        shown = listed((f"{name} {count:,}" for name, count in ordered), 12)
        lines.append(
            f"{part}: {sum(counts.values()):,} images, largest class to smallest "
            f"{figures['balance'][part]:.1f} to 1 ({shown})"
        )
    sizes, lost = figures["sizes"], figures["cropped_away"]
    least, middle, most = (times(sizes[name]) for name in ("least", "median", "most"))
    narrow, usual, wide = sizes["aspect"]
    lines += [
        f"sizes: {least} to {most}, half of them up to {middle}; width over height {narrow:.2f} to "
        f"{wide:.2f}, median {usual:.2f}",
        f"channels: {listed((f'{count:,} {mode}' for mode, count in figures['channels'].items()), 8)}",
        f"a square centre crop cuts off {lost['median']:.0%} of the median image, {lost['most']:.0%} at most",
        left_out_words(root),
    ]
    if broken := figures["unreadable"]:
        lines.append(f"images that cannot be read: {len(broken):,} ({listed(broken, NAMED)})")
    copies = [*figures["exact"], *figures["near"]]
    return [line for line in [*lines, *(copies or ["no copies"])] if line]


# With features


def doubted(options: argparse.Namespace, images: Labelled, rows: list[dict[str, Any]]) -> doubts.Doubt:
    """What the features of `--weights` say of each label, added to the rows."""
    from training.data import FolderSet
    from training.transfer import load_weights, read_features

    model = load_weights(options.weights)
    names = tuple(sorted(set(images.classes)))
    labels = torch.tensor([names.index(name) for name in images.classes])
    data = FolderSet(images.files, labels, names, str(options.data), model.preprocess)
    features, read = read_features(model, data, pick_device(options.device))
    if len(read) < len(data):
        raise DataError(
            f"{options.weights} takes {model.config.in_chans} channels and cannot read "
            f"{len(data) - len(read):,} of these images; leave --weights out"
        )
    doubt = doubts.doubts_of(features, labels, len(names))
    for row, own, other, others, distance in zip(rows, *(column.tolist() for column in doubt), strict=True):
        row |= {"own_label": round(own, 3), "other_class": names[int(other)], "other_label": round(others, 3),
                "distance": round(distance, 4)}  # fmt: skip
    return doubt


def contact_sheet(images: Labelled, rows: list[dict[str, Any]], chosen: list[int], side: int = 160) -> bytes:
    """A PNG of the chosen images, titled with their class, and the one that their neighbours have."""
    from training.plots import png, prediction_grid

    shown = [load_image(images.files[i]) for i in chosen]
    for image in shown:
        image.thumbnail((side, side))
    theirs = [rows[i]["other_class"] if rows[i]["other_label"] > rows[i]["own_label"] else images.classes[i]
              for i in chosen]  # fmt: skip
    ours = [images.classes[i] for i in chosen]
    return png(prediction_grid([np.asarray(each) for each in shown], ours, theirs, columns=5))


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """Rows with the same keys as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")


# The command


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program_name("training.check"), description=__doc__.split("\n")[0])
    words = "a folder with train/ and test/ or val/, or of class folders"
    parser.add_argument("data", type=Path, metavar="DIR", help=words)
    parser.add_argument(
        "--weights",
        metavar="SRC",
        help="a network, as for training.transfer, whose features are used to find doubtful labels and "
        "unusual images",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where images.csv and contact sheets go (default: DIR-check)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_device_flags(parser, precision=False)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when everything was looked at, 2 with one line when not."""
    options = parse_arguments(arguments)
    return run_command("training.check", lambda: check(options))


def check(options: argparse.Namespace) -> None:
    """Look at the data set, say what is found, write the files."""
    if options.device not in ("auto", "cpu") and not options.weights:
        raise Refusal(f"--device {options.device} computes the features of --weights; give both, or none")
    root = options.data
    out = options.out or root.resolve().with_name(f"{root.resolve().name}-check")
    images, figures, rows = findings(root)
    lines = report(root, figures)
    if figures["refused"]:
        lines.append(f"training would refuse it: {figures['refused']}")
    sheets: dict[str, list[int]] = {}
    if options.weights and len(rows) > 1:
        doubt = doubted(options, images, rows)
        sheets = {
            "suspicious": doubts.most_suspicious(doubt, MOST),
            "unusual": doubts.most_unusual(doubt, MOST),
        }
        lines.append(_suspicious_line(rows, sheets["suspicious"]))
        lines.append(f"most unusual: {listed((rows[i]['file'] for i in sheets['unusual']), NAMED)}")
    write_whole(out / "images.csv", as_csv(rows))
    for name, chosen in sheets.items():
        if chosen:
            write_whole(out / f"{name}.csv", as_csv([rows[i] for i in chosen]))
            write_whole(out / f"{name}.png", contact_sheet(images, rows, chosen))
    lines.append(
        f"written to {out}: images.csv{''.join(f', {n}.csv, {n}.png' for n, c in sheets.items() if c)}"
    )
    if options.json:
        shown = {name: [rows[i] for i in chosen] for name, chosen in sheets.items()}
        print(json.dumps(figures | shown | {"out": str(out)}, indent=2))
    else:
        print(printable("\n".join(lines)))


def why_refused(root: Path, everything: Labelled, images: Labelled) -> str | None:
    """What training would say to the data set at its start, if anything.

    Args:
        images: those of all that can be read.
    """
    try:
        if not is_tiny_imagenet(root):
            check_layout(root)
    except DataError as error:
        return str(error)
    gone = set(_pairs(everything)) - set(_pairs(images))
    untaught = sorted(name for name, part in gone if part == "train")
    return f"no training image of {listed(untaught)} can be read" if untaught else None


def _suspicious_line(rows: list[dict[str, Any]], chosen: list[int]) -> str:
    if not chosen:
        return "no label disagrees with most of its neighbours'"
    named = (f"{rows[i]['file']} ({rows[i]['other_class']}?)" for i in chosen)
    return f"labels that disagree with their neighbours': {listed(named, NAMED)}"


if __name__ == "__main__":
    sys.exit(main())
