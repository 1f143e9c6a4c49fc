"""Images in class folders -> predictions with their true classes, wrong ones first.

Reads a zip or a folder as a visitor uploads it: nothing is unpacked to disk, and names, files and bytes are
bounded before a byte is read.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any, NamedTuple

from PIL import Image

from resnet_hub.command import printable
from resnet_hub.errors import Refusal
from resnet_hub.folders import classes_of, composed, is_no_data, zip_name
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.predict import Prediction, classify, classify_crops
from resnet_hub.preprocess import ImageError, load_image
from resnet_hub.reading import Crop, ahead
from resnet_hub.ui.shared.errors import refusal
from resnet_hub.ui.shared.page import MOST_PATH, uploaded_path

MOST_FILES, MOST_BYTES = 200, 60_000_000
MOST_ENTRIES = 1000  # of a zip, with folders and what file managers hide in it
ENTRY = b"PK\x01\x02"  # what each begins with in a zip's directory
THUMBNAIL = 72  # pixels
AT_ONCE = 2  # photos in memory at their full size
ENCRYPTED = 0x1  # a bit of a zip entry's flags
BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


class Item(NamedTuple):
    """One image file: its class folder, its bytes or path, or why it cannot be read, and its whole name."""

    true: str
    source: bytes | str | Refusal
    name: str = ""


@dataclass(frozen=True)
class Predicted:
    """One image with its true and its predicted class; not scored where the model lacks the true one."""

    true: str
    label: str
    probability: float
    right: bool
    thumbnail: Image.Image
    name: str = ""
    scored: bool = True
    certainty: str | None = None


@dataclass(frozen=True)
class Grid:
    """One model's predictions; `unknown`: classes it does not have, `skipped`: why files were not read,
    `revision`: of its weights.
    """

    model: str
    predictions: tuple[Predicted, ...]
    unknown: tuple[str, ...]
    skipped: tuple[ImageError | Refusal, ...]
    revision: str | None = None

    @property
    def scored(self) -> list[Predicted]:
        """Those whose class the model has."""
        return [each for each in self.predictions if each.scored]

    @property
    def right(self) -> int:
        return sum(each.right for each in self.predictions)

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that are scored, of which there must be one."""
        of_class: dict[str, list[bool]] = defaultdict(list)
        for each in self.scored:
            of_class[each.true].append(each.right)
        return fmean(map(fmean, of_class.values()))


def from_zip(path: str | Path) -> list[Item]:
    """The images of a zip of class folders, read in memory.

    Raises:
        Refusal: for a file that is not a zip, needs a password or is too large; sizes are checked before
            anything is unpacked.
    """
    try:
        # Counted before zipfile makes an object of each, hidden ones and folders included.
        if (entries := Path(path).read_bytes().count(ENTRY)) > MOST_ENTRIES:
            raise refusal("grid_too_many_entries", seen=entries, most=MOST_ENTRIES)
        with zipfile.ZipFile(path) as archive:
            named = [(zip_name(info), info) for info in archive.infolist() if not info.is_dir()]
            named = [(name, info) for name, info in named if not is_no_data(name)]
            check(len(named), sum(info.file_size for _, info in named))
            if any(info.flag_bits & ENCRYPTED for _, info in named):
                raise refusal("grid_password")
            classes = classes_of([name for name, _ in named])
            return [
                zipped_item(archive, true, name, info)
                for true, (name, info) in zip(classes, named, strict=True)
                if true is not None
            ]
    except Refusal:
        raise
    except BAD_ZIP as error:
        raise refusal("grid_bad_zip") from error


def zipped_item(archive: zipfile.ZipFile, true: str, name: str, info: zipfile.ZipInfo) -> Item:
    """An image of a zip, or why that one cannot be read."""
    if points_elsewhere(name):
        return Item(true, refusal("grid_unsafe", name=name[:80]), name)
    try:
        return Item(true, unpacked(archive, info), name)
    except BAD_ZIP:
        return Item(true, refusal("grid_damaged", name=name[:80]), name)


def unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A file of a zip; no more is decompressed than its header admits.

    Raises:
        zipfile.BadZipFile: for methods other than deflate, whose reader zipfile does not bound.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"compressed by method {info.compress_type}")
    with archive.open(info) as file:
        return file.read(info.file_size)  # read() would unpack a gigabyte and cut it then


def from_folder(files: Iterable[dict[str, str]]) -> list[Item]:
    """Uploaded files with the names they have inside the folder, [{"name": "pets/cat/1.jpg", "path": ...}].

    Raises:
        Refusal: as `from_zip`, and for a path that is not an upload.
    """
    files = [each for each in files if not is_no_data(str(each.get("name")))][: MOST_FILES + 1]
    names = [composed(printable(str(each.get("name"))[:MOST_PATH])) for each in files]
    paths = [uploaded_path(each.get("path")) for each in files]
    check(len(names), sum(Path(path).stat().st_size for path in paths if Path(path).is_file()))
    return [
        Item(true, refusal("grid_unsafe", name=name[:80]) if points_elsewhere(name) else path, name)
        for true, name, path in zip(classes_of(names), names, paths, strict=True)
        if true is not None
    ]


def check(count: int, size: int) -> None:
    """Refuse too many files and too many bytes."""
    if count > MOST_FILES:
        raise refusal("grid_too_many", seen=count, most=MOST_FILES)
    if size > MOST_BYTES:
        raise refusal("grid_too_large", most=MOST_BYTES // 1_000_000)


def points_elsewhere(name: str) -> bool:
    """Whether a path leads out of the folder it is in."""
    return ".." in PurePosixPath(name).parts or name.startswith("/") or ":" in name


def known_as(label: str, true: str) -> bool:
    """Whether a folder's name means a model's label: "Tabby_cat" means "tabby, tabby cat"."""
    return meant(true) in names_of(label)


def meant(folder: str) -> str:
    return folder.replace("_", " ").strip().lower()


def names_of(label: str) -> set[str]:
    """A label and each of its synonyms, in small letters."""
    label = composed(label)
    return {label.lower(), *(synonym.strip().lower() for synonym in label.split(","))}


def counted_to_classes(items: Sequence[Item], labels: Sequence[str]) -> list[Item]:
    """The items by the folders that a model's labels name, wherever these lie on the way to a file."""
    known = set().union(*map(names_of, labels))
    found = classes_of([item.name for item in items], lambda folder: meant(folder) in known)
    return [item._replace(true=true or item.true) for item, true in zip(items, found, strict=True)]


class Seen(NamedTuple):
    """What is kept of one image: the network's input, or a file's answer, and what the page shows."""

    seen: Crop | Prediction
    thumbnail: Image.Image


def looked_at(item: Item, model: Any) -> Seen | ImageError | Refusal:
    """One image, decoded once, or why it cannot be read."""
    if isinstance(item.source, Refusal):
        return item.source
    try:
        image = load_image(item.source)
        if isinstance(model, OnnxFile):  # it takes the whole photo, of which two hundred would not fit
            seen = classify(model, [image], top_k=1)[0]
        else:
            seen = model.preprocess.load(image)
    except ImageError as error:
        return error
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return Seen(seen, image)


def answers_of(model: Any, found: Sequence[Seen]) -> list[Prediction]:
    """The answer to each."""
    if isinstance(model, OnnxFile):
        return [each.seen for each in found if isinstance(each.seen, Prediction)]
    return classify_crops(
        model, [each.seen for each in found if not isinstance(each.seen, Prediction)], top_k=1
    )


def predict(model, name: str, items: Sequence[Item]) -> Grid:
    """Classify every image that can be read.

    Raises:
        Refusal: when there is none.
    """
    if not items:
        raise refusal("grid_no_classes")
    items = counted_to_classes(items, model.labels)
    trues = {each.true for each in items}
    lacking = sorted(true for true in trues if not any(known_as(label, true) for label in model.labels))
    read = list(ahead(lambda item: looked_at(item, model), items, AT_ONCE))
    whole = [(item, found) for item, found in zip(items, read, strict=True) if isinstance(found, Seen)]
    answers = answers_of(model, [found for _, found in whole])
    predictions = []
    for (item, found), answer in zip(whole, answers, strict=True):
        (label, probability), scored = answer.top[0], item.true not in lacking
        is_right = label == item.true if item.true in model.labels else known_as(label, item.true)
        right, file = scored and is_right, PurePosixPath(item.name).name[:80]
        said = (label, probability, right, found.thumbnail, file, scored, answer.certainty)
        predictions.append(Predicted(item.true, *said))
    predictions.sort(key=lambda each: (not each.scored, each.right))
    seen = {each.true for each in predictions}
    skipped = tuple(found for found in read if not isinstance(found, Seen))
    unknown = tuple(each for each in lacking if each in seen)
    return Grid(name, tuple(predictions), unknown, skipped, model.revision)
