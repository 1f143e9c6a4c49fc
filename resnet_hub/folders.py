"""What in a folder is an image, what is no data, which part a folder is, which class a file belongs to.

One rule for training, the Results tab and predict. Nothing is opened here; names are all it knows.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from zipfile import ZipInfo

from resnet_hub.command import printable

# Names of files by the format that PIL reads them as; its plugins' own, which a test compares.
SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif", ".avifs"),
}
HEIF_SUFFIXES = (".heic", ".heif", ".heics", ".heifs", ".hif")  # read where pillow-heif is installed
ARRAY = ".npy"  # images of any number of channels
SUFFIXES = frozenset(suffix for names in SUFFIXES_OF.values() for suffix in names) | {*HEIF_SUFFIXES, ARRAY}
PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
PART_OF = {name: part for part, names in PARTS.items() for name in names}
NO_DATA = frozenset(  # what systems and programs leave beside photos, in small letters
    ("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "lost+found",
     "$recycle.bin", "system volume information", "#recycle")
)  # fmt: skip
DATE = re.compile(r"[\d\W_]*\d[\d\W_]*")  # "2023", "2023-05", "01"
MOST_DEEP = 20  # folders inside each other that are looked at
NAMES_ARE_UTF_8 = 0x800  # a bit of a zip entry's flags
JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
KEPT_IN = {"images", "image", "imgs", "img", "photos", "jpeg", "jpg", "png"}  # a class's own sub-folder


def is_image(name: str | Path) -> bool:
    """Whether a file is named like an image that can be read."""
    return PurePath(name).suffix.lower() in SUFFIXES


def is_no_data(name: str | Path) -> bool:
    """Whether a file, or a folder above it, is hidden or what systems and programs leave beside photos."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.endswith("~") or part.lower() in NO_DATA
        for part in PurePath(name).parts
    )


def zip_name(info: ZipInfo) -> str:
    """A file's path inside a zip, with "/" between folders.

    Where a zip does not say that names are UTF-8, zipfile takes them for code page 437; macOS writes UTF-8
    all the same, and Japanese Windows Shift-JIS, whose second byte may be a backslash.
    """
    name = info.filename
    if not info.flag_bits & NAMES_ARE_UTF_8 and not name.isascii():
        with suppress(UnicodeError):
            name = _decoded(info.orig_filename.encode("cp437"), info.orig_filename)
    return composed(printable(name.replace("\\", "/")))


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): macOS may write が as か and a mark, others as one letter."""
    return unicodedata.normalize("NFC", name)


def _decoded(raw: bytes, otherwise: str) -> str:
    with suppress(UnicodeDecodeError):
        return raw.decode("utf-8")
    with suppress(UnicodeDecodeError):
        japanese = raw.decode("cp932")
        return japanese if JAPANESE.search(japanese) else otherwise
    return otherwise


def part_named(name: str) -> str | None:
    """ "train", "val" or "test" for a folder called like one; None for any other."""
    return PART_OF.get(name.lower())


def subfolders(folder: Path) -> list[Path]:
    """The folders in one, links to folders among them, sorted; what is no data is left out."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(each for each in found if each.is_dir() and not is_no_data(each.name))


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by path; links are followed, but none into a folder that it is in."""
    return sorted(map(Path, _walk(str(folder), frozenset())))


def _walk(folder: str, above: frozenset[str]) -> Iterator[str]:
    here = os.path.realpath(folder)
    if here in above or not os.path.isdir(folder):  # noqa: PTH112 (half a million files)
        return
    with os.scandir(folder) as entries:
        for each in entries:
            if each.is_symlink() and not os.path.exists(each.path):  # noqa: PTH110
                continue  # to nothing, or to itself
            if each.is_dir():
                if is_no_data(each.name) and not os.access(each.path, os.R_OK | os.X_OK):
                    continue  # lost+found, for instance
                yield from _walk(each.path, above | {here})
            elif each.is_file():
                yield each.path


def image_files(folder: Path) -> list[Path]:
    """The images below a folder, sorted."""
    return sorted(map(Path, _images(folder)))


def holds_image(folder: Path) -> bool:
    """Whether an image lies below a folder."""
    return next(_images(folder), None) is not None


def _images(folder: Path) -> Iterator[str]:
    top = len(os.path.join(folder, ""))  # noqa: PTH118 (a drive's root ends in its separator)
    walked = _walk(str(folder), frozenset())
    return (file for file in walked if is_image(file) and not is_no_data(file[top:]))


def classes_of(
    names: Sequence[str], is_known: Callable[[str], bool] = lambda folder: False
) -> list[str | None]:
    """The class folder of each file, by its path from the top of an archive or an upload; None without one.

    It is the first folder from the top that is a known class. Where none is known, it is the first one that
    holds files itself, or whose sub-folders only sort what is in it: by date, by number, the same ones in
    several classes. Folders around the classes, and parts of a data set, are passed.

    Args:
        names: paths with "/" between folders.
        is_known: whether a folder's name means a class, of a model for instance.
    """
    above = [PurePath(name).parts[:-1][:MOST_DEEP] for name in names]
    inside: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in set(above):
        for deep in range(len(path)):
            inside[path[:deep]].add(path[deep])
    parents = Counter((len(folder), name) for folder, names_in in inside.items() for name in names_in)

    def is_class(folder: tuple[str, ...]) -> bool:
        alike = [name for name in inside[folder] if parents[len(folder), name] > 1]
        return (bool(alike) and part_named(folder[-1]) is None) or only_sorts(inside[folder])

    classes = {folder for folder in [*inside] if folder and is_class(folder)} | {*above}
    return [_class_in(folders, classes, is_known) for folders in above]


def _class_in(
    folders: tuple[str, ...], classes: set[tuple[str, ...]], is_known: Callable[[str], bool]
) -> str | None:
    known = [name for name in folders if is_known(name)]
    first = [name for i, name in enumerate(folders) if folders[: i + 1] in classes]
    return next(iter([*known, *first]), None)


def only_sorts(names: Iterable[str]) -> bool:
    """Whether folders called so sort the images of one class: dates, numbered batches, "images"."""
    names = {name.lower() for name in names}
    stems = {re.sub(r"[\d\W_]+", "", name) for name in names}
    is_numbered = len(names) > 1 and len(stems) == 1 and all(re.search(r"\d", name) for name in names)
    return is_numbered or all(DATE.fullmatch(name) or name in KEPT_IN for name in names)


def counted_by_suffix(files: Iterable[str | Path]) -> dict[str, list[str]]:
    """{suffix: names of the files that have it}, the most frequent first; "" for files without one."""
    by_suffix = defaultdict(list)
    for file in files:
        by_suffix[PurePath(file).suffix.lower()].append(str(file))
    return dict(sorted(by_suffix.items(), key=lambda pair: (-len(pair[1]), pair[0])))
