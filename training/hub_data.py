"""`--data hf://OWNER/NAME` and `--data photos.tar`: a data set brought onto the disk as class folders, once.

What the `datasets` library reads (parquet, image folders, archives) is written out as files, so that
training, streaming and every list of images go on as with any folder.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from PIL import Image
from tqdm import tqdm

from resnet_hub.errors import Refusal, first_line, listed
from resnet_hub.files import whole_folder
from resnet_hub.folders import is_no_data, part_named, subfolders, zip_name
from training.distributed import rank

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?(?:#(\w+))?")
TARS, ZIPS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"), (".zip",)
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)
LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "category")
UNLABELLED = -1
MOST_NAME = 100  # characters of a class's folder


def is_remote(data: str) -> bool:
    """Whether `data` is a data set on the Hub or an archive."""
    return data.startswith(SCHEME) or data.lower().endswith((*TARS, *ZIPS))


def dataset_id(data: str) -> str | None:
    """OWNER/NAME of a data set on the Hub; None for any other."""
    found = ADDRESS.fullmatch(data)
    return found[1] if found else None


def local_folder(data: str) -> Path:
    """The data set as a folder on this disk.

    Args:
        data: hf://OWNER/NAME[@REVISION][#LABEL_COLUMN], or the path of a tar or zip file of class folders.

    Raises:
        Refusal: when it is not there, holds no labelled images, or the `datasets` package is missing.
    """
    return _from_hub(data) if data.startswith(SCHEME) else _from_archive(Path(data))


def _cache(name: str) -> Path:
    return Path(constants.HF_HUB_CACHE).parent / "resnet_hub_data" / name


def _fill(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder of the cache, unless another run does so meanwhile."""
    try:
        with whole_folder(folder) as scratch:
            write(scratch)
    except Refusal:
        if not folder.is_dir():
            raise


# Archives


def _from_archive(file: Path) -> Path:
    if not file.is_file():
        raise Refusal(f"--data {file}: there is no such file")
    state = file.stat()
    known_by = f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"
    folder = _cache(f"{file.name.partition('.')[0]}-{zlib.crc32(known_by.encode()):08x}")
    if not folder.is_dir():
        try:
            _fill(folder, partial(_extract, file))
        except (*DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's
                raise
            raise Refusal(f"--data {file}: not a whole archive ({error}); copy it again") from error
        except RuntimeError as error:  # zipfile's: encrypted, or packed in a way that it does not know
            raise Refusal(f"--data {file}: {error}; unpack it yourself and give the folder") from error
    return _inside(folder)


def _extract(file: Path, folder: Path) -> None:
    if file.name.lower().endswith(ZIPS):
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                info.filename = zip_name(info)
                archive.extract(info, folder)  # which takes ".." and drive letters out of names
        return
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")  # refuses links and names that lead out


def _inside(folder: Path) -> Path:
    """The folder that holds the classes or parts, below any that only wrap them."""
    while True:
        inner = subfolders(folder)
        files = [each for each in folder.iterdir() if each.is_file() and not is_no_data(each.name)]
        if len(inner) != 1 or files or not subfolders(inner[0]) or part_named(inner[0].name):
            return folder
        folder = inner[0]


# The Hub


def _from_hub(data: str) -> Path:
    found = ADDRESS.fullmatch(data)
    if not found:
        raise Refusal(f"--data {data}: give hf://OWNER/NAME, hf://OWNER/NAME@REVISION or ...#LABEL_COLUMN")
    repo, revision, column = found.groups()
    try:
        import datasets
    except ImportError as error:
        raise Refusal(f"--data {data} needs the datasets package: pip install -e '.[datasets]'") from error
    snapshot = _snapshot(repo, revision)
    folder = _cache("--".join(filter(None, [*repo.split("/"), snapshot.name[:12], column])))
    if not folder.is_dir():
        try:
            parts = datasets.load_dataset(str(snapshot), cache_dir=str(folder.with_name("arrow")))
        except Exception as error:  # pyarrow's, fsspec's and its own errors
            why = first_line(error)
            raise Refusal(f"--data {data}: the datasets library cannot read it ({why})") from error
        _fill(folder, partial(_write, parts, column, data))
    return folder


def _snapshot(repo: str, revision: str | None) -> Path:
    """The repository's files in the Hub cache, in a folder named after the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=revision))
    except RepositoryNotFoundError as error:
        message = f"there is no data set {repo} on the Hub, or it is private and needs `hf auth login`"
        raise Refusal(message) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Refusal(f"the data set {repo} could not be downloaded ({first_line(error)})") from error


def _write(parts: Any, column: str | None, data: str, folder: Path) -> None:
    """Each image as a file of its class: below train/, val/ and test/, or of one part alone at the top."""
    named = {part: parts[name] for name in parts if (part := part_named(name))}
    if "train" not in named:
        raise Refusal(f"--data {data} has the parts {listed(parts)}; one has to be called train")
    for part, rows in named.items():
        top = folder if len(named) == 1 else folder / part
        for name, number, image in _images(rows, column, data):
            (top / name).mkdir(parents=True, exist_ok=True)
            (top / name / f"{number:07d}{_suffix(image)}").write_bytes(image)


def _images(rows: Any, column: str | None, data: str) -> Iterator[tuple[str, int, bytes]]:
    """(folder of the class, number, file) of each labelled image."""
    import datasets

    shown = next((n for n, f in rows.features.items() if isinstance(f, datasets.Image)), None)
    labels = [n for n, f in rows.features.items() if n != shown and _is_label(f)]
    label = column or next((n for n in (*LABEL_COLUMNS, *labels[:1]) if n in labels), None)
    if shown is None or label not in labels:
        what = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in rows.features.items())
        raise Refusal(f"--data {data} has the columns {what}; one of images and one of labels are needed")
    folder_of = _folders(rows.features[label], rows[label])
    rows = rows.cast_column(shown, datasets.Image(decode=False)).select_columns([shown, label])
    for number, row in enumerate(tqdm(rows, data, leave=False, disable=rank() > 0)):
        image, name = row[shown], folder_of.get(row[label])
        if image and name:
            yield name, number, image["bytes"] or Path(image["path"]).read_bytes()


def _is_label(feature: Any) -> bool:
    return hasattr(feature, "int2str") or getattr(feature, "dtype", "") == "string"


def _folders(feature: Any, values: Any) -> dict[Any, str]:
    """Label -> the folder's name: the class name as a file system takes it, told apart where cut."""
    if hasattr(feature, "int2str"):
        names = {i: name for i, name in enumerate(feature.names) if i != UNLABELLED}
    else:
        names = {value: value for value in set(values) if value}
    return {value: _as_folder(name) for value, name in names.items()}


def _as_folder(name: str) -> str:
    safe = re.sub(r"[/\\\x00-\x1f]", "_", name).strip()
    safe = f"_{safe}" if not safe or is_no_data(safe) or part_named(safe) else safe
    is_kept = safe == name and len(name) <= MOST_NAME and len(name.encode()) <= 2 * MOST_NAME
    return safe if is_kept else f"{safe[: MOST_NAME // 2]}-{zlib.crc32(name.encode()):08x}"


def _suffix(image: bytes) -> str:
    try:
        return f".{(Image.open(BytesIO(image)).format or 'png').lower()}"
    except (OSError, Image.DecompressionBombError):
        return ".jpg"  # training names and leaves out what it cannot read
