"""Data sets: images in memory as uint8 tensors or read from their files as they are needed, and the split.

A folder is read into memory up to a bound and streamed by worker processes above it; both give the same
images.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from resnet_hub.errors import listed
from resnet_hub.folders import ARRAY, composed
from resnet_hub.geometry import times
from resnet_hub.preprocess import ImageError, Preprocess, load_image
from training.distributed import available_cores, cores_of_each, first_on_machine, local_rank, read_once
from training.layout import DataError, check_layout, find_classes, is_test, parts_of
from training.multilabel import is_multi, strata
from training.tiny_imagenet import find_files as tiny_imagenet
from training.tiny_imagenet import is_tiny_imagenet

if TYPE_CHECKING:
    from training.label_table import LabelTable

MOST_IN_THREADS = 5_000  # files
IN_MEMORY_BYTES = 2 << 30  # a folder whose images take more is streamed
SAMPLED = 25  # photos by whose size that of all is estimated
READ_AHEAD_BYTES = 1 << 30  # of a folder that is streamed, unless a batch for each worker takes more
DOWNLOADS = {  # what torchvision downloads: its class, what cards call it, (channels, height, width)
    "cifar10": ("CIFAR10", "CIFAR-10", (3, 32, 32)),
    "mnist": ("MNIST", "MNIST", (1, 28, 28)),
    "fashion-mnist": ("FashionMNIST", "Fashion-MNIST", (1, 28, 28)),
}
DATA = (  # what --data takes
    f"{', '.join(DOWNLOADS)}; a folder with train/ and test/ or val/, or of class folders; a .tar or .zip "
    "file of one; hf://OWNER/NAME[@REVISION][#LABEL_COLUMN]"
)
WHOLE_SIDE = 1.5  # short side of a whole photo over that of the crops, which are small parts of it


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) uint8 with labels (N,) int64 and the class names they index, or labels (N, classes)
    of 0 and 1 where an image may show several.

    `images` may also be features (N, F) float32, which training takes as they are. `files` are theirs, where
    each came in one.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    files: tuple[Path, ...] = ()
    whole: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (F,)"""
        return tuple(self.images.shape[1:])

    def subset(self, index: Tensor) -> ImageSet:
        """The images at `index`, in that order."""
        files = tuple(self.files[i] for i in index.tolist()) if self.files else ()
        return replace(self, images=self.images[index], labels=self.labels[index], files=files)

    def fetch(
        self, batches: Iterable[Tensor], seeds: Iterable[list[int]] | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        """For each batch of positions: the images, and the positions of those that could be read.

        Args:
            seeds: for each batch of whole photos, the seed of each one's random crop; the photos themselves
                without. Images that are not whole photos are not cut.
        """
        for index in batches:
            yield self.images[sent(index, self.images.device)], index

    def fingerprint(self) -> str:
        """Differs when images, labels or classes do; a resumed run must see the same."""
        return _checksum(self.classes, self.labels, self.images.contiguous().numpy().data)


@dataclass(frozen=True)
class PhotoSet:
    """Whole photos in memory, uint8 (C, h, w) each of its own size, from which crops of `view`'s are cut."""

    photos: tuple[Tensor, ...]
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    view: Preprocess
    files: tuple[Path, ...] = ()
    whole: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the crops"""
        return self.view.input_size

    def subset(self, index: Tensor) -> PhotoSet:
        """As `ImageSet.subset`."""
        photos = tuple(self.photos[i] for i in index.tolist())
        return replace(self, photos=photos, labels=self.labels[index])

    def fetch(
        self, batches: Iterable[Tensor], seeds: Iterable[list[int]] | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        """As `ImageSet.fetch`, photos that are not cut as a list."""
        for index, of_each in zip(batches, repeat(()) if seeds is None else seeds, strict=False):
            photos = [self.photos[i] for i in index.tolist()]
            cut = [random_crop(photo, self.view, seed) for photo, seed in zip(photos, of_each, strict=False)]
            yield (torch.stack(cut) if cut else photos), index

    def fingerprint(self) -> str:
        """As `ImageSet.fingerprint`."""
        sums = [zlib.crc32(photo.numpy().data) for photo in self.photos]
        return _checksum(self.classes, self.labels, repr(sums).encode())


@dataclass(frozen=True)
class FolderSet:
    """Images that stay in their files, resized and cropped as `view` says when read.

    Args:
        whole: they are read whole, with a short side `WHOLE_SIDE` times that of `view`, or their own.
        workers: processes that read; None for all of this process's cores but one.
        keeps_workers: they stand by for the next `fetch`; otherwise they end with the last batch.
    """

    files: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    view: Preprocess
    whole: bool = False
    workers: int | None = None
    keeps_workers: bool = False
    _kept: dict[tuple, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.view.input_size

    def __getitem__(self, drawn: tuple[int, int | None]) -> tuple[int, np.ndarray | str]:
        index, seed = drawn
        read = _read(self.files[index], self.view, self.whole)
        if seed is None or isinstance(read, str):
            return index, read
        return index, random_crop(_as_tensor(read), self.view, seed).permute(1, 2, 0).numpy()

    def subset(self, index: Tensor) -> FolderSet:
        return replace(self, files=tuple(self.files[i] for i in index.tolist()), labels=self.labels[index])

    def fetch(
        self, batches: Iterable[Tensor], seeds: Iterable[list[int]] | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        """As `ImageSet.fetch`, or as `PhotoSet.fetch` where they are whole; worker processes read ahead and
        cut, a broken file is reported and left out, so that a batch may be empty.

        Kept workers serve one `fetch` at a time; a second one starts its own.
        """
        if seeds is not None:
            random_part(self.shape[1:])  # imported here, once, and not by every worker
        are_whole = self.whole and seeds is None
        drawn = zip(batches, repeat(repeat(None)) if seeds is None else seeds, strict=False)
        plan = [list(zip(index.tolist(), of_each, strict=False)) for index, of_each in drawn]
        with self._loader(plan, are_whole) as loader:
            for pixels, index, broken in loader:
                for message in broken:
                    tqdm.write(message, file=sys.stderr)
                shown = [_as_tensor(image) for image in pixels] if are_whole else torch.from_numpy(pixels)
                yield shown, torch.tensor(index, dtype=torch.long)

    @contextmanager
    def _loader(self, plan: list[list[tuple[int, int | None]]], are_whole: bool) -> Iterator[Iterable]:
        """torch's loader of (position, seed) batches: the kept one, if it is free and reads as far ahead."""
        from torch.utils.data import DataLoader

        batch_bytes = max(map(len, plan), default=0) * self.bytes_of_each(are_whole)
        workers = max(cores_of_each() - 1, 1) if self.workers is None else self.workers
        how = are_whole, _read_ahead(batch_bytes, workers) if workers else None
        loader = self._kept.pop(how, None)
        if loader is not None:
            loader.batch_sampler[:] = plan
        else:
            loader = DataLoader(
                replace(self),  # type: ignore[arg-type]  # the sampler gives pairs
                batch_sampler=plan,
                num_workers=workers,
                collate_fn=_listed if are_whole else partial(_in_one, shape=self.shape),
                prefetch_factor=how[1],
                worker_init_fn=_apart,
                persistent_workers=self.keeps_workers and workers > 0,
            )
        try:
            yield loader
        finally:
            self.end_workers()
            if self.keeps_workers:
                self._kept[how] = loader

    def end_workers(self) -> None:
        """End those that stand by."""
        self._kept.clear()

    def bytes_of_each(self, are_whole: bool) -> float:
        """What an image takes once it is read; a whole photo is taken to be 1.5 times as long as its short
        side."""
        return self.shape[0] * 1.5 * _whole_side(self.view) ** 2 if are_whole else math.prod(self.shape)

    def are_photos(self) -> bool:
        """Whether the files are images of one or three channels, and no arrays."""
        return self.shape[0] in (1, 3) and not any(file.suffix.lower() == ARRAY for file in self.files)

    def fingerprint(self) -> str:
        """As `ImageSet.fingerprint`, by the files' sizes and where they lie in the data set."""
        found = [(os.path.relpath(file, self.source), file.stat().st_size) for file in self.files]
        return _checksum(self.classes, self.labels, repr(found).encode())


Images = ImageSet | PhotoSet | FolderSet
Read = list[tuple[int, np.ndarray | str]]  # each file's position, and its image or what is wrong with it


def _apart(worker: int) -> None:
    """Let a worker end with the process it reads for, not by what their group is sent: a request to stop."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
        with suppress(ImportError):  # torch's own means, a private one
            from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

            _prctl_pr_set_pdeathsig(signal.SIGKILL)  # does nothing but on Linux


def _listed(read: Read) -> tuple[list[np.ndarray], list[int], list[str]]:
    """Images of any size (h, w, C), their positions, what is wrong with the others.

    Arrays, not tensors: those would cross through shared memory, of which a container has 64 MB, and numpy's
    go through a pipe.
    """
    good = [(i, image) for i, image in read if not isinstance(image, str)]
    broken = [image for _, image in read if isinstance(image, str)]
    return [image for _, image in good], [i for i, _ in good], broken


def _in_one(read: Read, shape: tuple[int, ...]) -> tuple[np.ndarray, list[int], list[str]]:
    """As `_listed`, the images of one `shape` (C, H, W) stacked."""
    images, index, broken = _listed(read)
    return _stacked(images).numpy() if images else np.empty((0, *shape), np.uint8), index, broken


def _read_ahead(batch_bytes: float, workers: int) -> int:
    """How many batches each worker reads ahead: four, or fewer where they take much memory."""
    return min(max(int(READ_AHEAD_BYTES / max(batch_bytes * workers, 1)), 1), 4)


def _checksum(classes: tuple[str, ...], labels: Tensor, rest: bytes | memoryview) -> str:
    sum_ = zlib.crc32(rest, zlib.crc32(repr((classes, labels.tolist())).encode()))
    return f"{len(labels)} images, checksum {sum_:08x}"


def whole_image(
    size: tuple[int, int], channels: int = 3, crop_mode: str = "center", mean: tuple[float, ...] = ()
) -> Preprocess:
    """How training sees images: as large as `size` (H, W) allows, framed as `crop_mode` says.

    Args:
        mean: the colour of the borders of "border"; what is read here is normalised elsewhere.
    """
    half = (0.5,) * channels
    return Preprocess((channels, *size), crop_pct=1.0, crop_mode=crop_mode, mean=mean or half, std=half)


def load_data(data: str | LabelTable, part: str, view: Preprocess, workers: int | None = None) -> Images:
    """A part of `data` as `find_data` finds it, in memory where it fits, read by so many processes."""
    return in_memory(find_data(data, part, view), workers)


def find_data(data: str | LabelTable, part: str, view: Preprocess) -> Images:
    """A part of `data`, "train" or "test"; images in folders are found, not yet read.

    Args:
        data: one of `DOWNLOADS`, unless a folder here has that name; a folder with train/ and test/ (or
            val/), or of class folders, of which one file in seven, by its name's checksum, is the test part;
            or images that a table labels.
        view: what is resized and cropped; a network is measured with its own.

    Raises:
        DataError: when it is missing, offline, or holds no class folder.
    """
    if not isinstance(data, str):
        return data.images(part, view)
    if is_download(data):
        *_, shape = DOWNLOADS[data]
        if view.input_size != shape:
            channels, size = shape[0], shape[1:]
            raise DataError(
                f"{data} has images of {times(shape)}, not {times(view.input_size)}; give --in-chans "
                f"{channels} and --input {times(size)}, or the images in a folder"
            )
        return _downloaded(data, part)
    root = Path(data)
    if is_tiny_imagenet(root):
        found, classes = tiny_imagenet(root, part)
        labels = torch.tensor([classes.index(name) for _, name in found], dtype=torch.long)
        return FolderSet(tuple(file for file, _ in found), labels, classes, str(root), view)
    if parts := parts_of(root):
        if (folder := parts.get(part) or (parts.get("val") if part == "test" else None)) is None:
            raise DataError(f"{root} holds {listed(each.name for each in parts.values())} but no {part} part")
        return find_images(folder, view)
    return find_images(root if root.is_dir() else root / part, view, part)


def val_for_test(data: str | LabelTable) -> bool:
    """Whether the val part of a folder or table is its test part, for want of another."""
    if not isinstance(data, str):
        return data.val_for_test
    if is_download(data):
        return False
    parts = parts_of(Path(data))
    return is_tiny_imagenet(Path(data)) or ("val" in parts and "test" not in parts)


def is_download(data: str) -> bool:
    """Whether a data set of torchvision's is meant; a folder of that name here comes first, which is said."""
    is_here = data in DOWNLOADS and Path(data).is_dir()
    if is_here:
        _say_once(f"--data {data} is the folder {Path(data).resolve()}, not torchvision's data set")
    return data in DOWNLOADS and not is_here


def usual_shape(data: str | LabelTable) -> tuple[int, int, int]:
    """(channels, height, width) that small images are read at where nobody asks for another."""
    known = data if isinstance(data, str) and is_download(data) else "cifar10"
    return DOWNLOADS[known][2]


@cache
def _say_once(message: str) -> None:
    if local_rank() == 0:
        print(message, file=sys.stderr)


def check_parts(data: str | LabelTable) -> None:
    """Notice before training what would be missed after it, as `check_layout` does."""
    if not isinstance(data, str):
        data.check()
    elif is_folder(data):
        check_layout(Path(data))


def is_folder(data: str) -> bool:
    """Whether `data` names a folder that is laid out by parts or classes, not a data set of its own form."""
    return not is_download(data) and not is_tiny_imagenet(Path(data))


def _downloaded(name: str, part: str) -> ImageSet:
    from torchvision import datasets

    kind, title, (channels, height, width) = DOWNLOADS[name]
    root = Path(torch.hub.get_dir()).parent / "data"
    try:
        with first_on_machine():
            data = getattr(datasets, kind)(root, train=part == "train", download=True)
    except Exception as error:  # torchvision lets urllib's, tarfile's and its own errors through
        raise DataError(
            f"{title} is not in {root} and could not be downloaded ({error}); "
            "go online once, or give --data an image folder with train/ and test/"
        ) from error
    pixels = torch.as_tensor(data.data).view(-1, height, width, channels)
    images, labels = pixels.permute(0, 3, 1, 2).contiguous(), torch.as_tensor(data.targets)
    return ImageSet(images, labels, tuple(data.classes), f"{title} (torchvision)")


def find_images(folder: Path, view: Preprocess, part: str = "") -> FolderSet:
    """The images of a folder with one sub-folder a class, however deep in it.

    Args:
        part: "train" or "test" for the images of a folder without parts that are kept for it; "" for all.

    Raises:
        DataError: when there is no class folder.
    """
    classes, files = find_classes(folder)
    found: list[tuple[Path, int]] = []
    for i, of_class in enumerate(files):
        tests = is_test(folder, of_class) if part else [False] * len(of_class)
        wanted = part == "test"
        found += [(file, i) for file, tested in zip(of_class, tests, strict=True) if tested == wanted]
    labels = torch.tensor([i for _, i in found], dtype=torch.long)
    return FolderSet(tuple(file for file, _ in found), labels, classes, str(folder), view)


def in_memory(data: Images, workers: int | None = None) -> Images:
    """The images read, broken files listed on stderr and left out, or as they are where that would take
    more than `IN_MEMORY_BYTES`.

    Args:
        workers: processes that read, now or later; None for those that `data` names.

    Raises:
        DataError: when there is no readable image.
    """
    if not isinstance(data, FolderSet) or not len(data):
        return data
    data = data if workers is None else replace(data, workers=workers)
    too_many = len(data) * data.bytes_of_each(data.whole) > IN_MEMORY_BYTES
    if too_many and data.whole:  # unless they are small, which are not enlarged
        too_many = len(data) * _whole_bytes(data) > IN_MEMORY_BYTES
    if too_many:
        return data
    if data.whole:
        read = read_once(lambda: _read_whole(data))
        if read is None:
            return data
        photos, index = read
        return PhotoSet(tuple(photos), data.labels[index], data.classes, data.source, data.view)
    images, index = read_once(lambda: _read_all(data))
    files = tuple(data.files[i] for i in index.tolist())
    return ImageSet(images, data.labels[index], data.classes, data.source, files)


def whole_photos(data: Images) -> Images:
    """The images, to be read whole where they are photos of which the network sees the middle."""
    if isinstance(data, FolderSet) and data.are_photos():
        return replace(data, whole=data.view.crop_mode == "center")
    return data


def _whole_bytes(data: FolderSet) -> float:
    """What a whole photo takes on average, by some of them."""
    some = data.files[:: max(len(data) // SAMPLED, 1)]
    read = [_read(file, data.view, whole=True) for file in some]
    sizes = [image.nbytes for image in read if not isinstance(image, str)]
    return sum(sizes) / max(len(sizes), 1)


def _read_whole(data: FolderSet) -> tuple[list[Tensor], Tensor] | None:
    """(photos, positions of those that could be read); None once they take more than `IN_MEMORY_BYTES`."""
    photos: list[Tensor] = []
    positions: list[Tensor] = []
    taken = 0
    for some, index in _read_alone(data, 25):
        photos += some
        positions.append(index)
        taken += sum(photo.nbytes for photo in some)
        if taken > IN_MEMORY_BYTES:
            return None
    if not photos:
        raise DataError(f"{data.source} holds no readable image")
    return photos, torch.cat(positions)


def _read_all(data: FolderSet) -> tuple[Tensor, Tensor]:
    """(images, positions of those that could be read)."""
    if len(data) > MOST_IN_THREADS:
        return _read_by_processes(data)
    images, kept = read_images(data.files, data.view, data.source)
    return images, torch.tensor(kept, dtype=torch.long)


def _read_by_processes(data: FolderSet) -> tuple[Tensor, Tensor]:
    """As `read_images`: decoding small files holds the interpreter's lock, so many need processes."""
    read = list(_read_alone(data, 250))
    return torch.cat([pixels for pixels, _ in read]), torch.cat([index for _, index in read])


def _read_alone(data: FolderSet, size: int) -> Iterator[tuple[Any, Tensor]]:
    """All images, `size` at a time, on all cores: the other processes of this run wait meanwhile."""
    if data.workers is None:
        data = replace(data, workers=max(available_cores() - 1, 1))
    batches = torch.arange(len(data)).split(size)
    yield from tqdm(data.fetch(batches), f"reading {data.source}", len(batches), file=sys.stderr)


def read_images(files: Sequence[Path], view: Preprocess, what: str) -> tuple[Tensor, list[int]]:
    """(images uint8 (N, C, H, W), positions in `files` of those that could be read)."""
    with ThreadPoolExecutor() as pool:
        reading = pool.map(lambda file: _read(file, view), files)
        images = list(tqdm(reading, f"reading {what}", len(files), file=sys.stderr))
    for message in (p for p in images if isinstance(p, str)):
        print(message, file=sys.stderr)
    kept = [i for i, image in enumerate(images) if not isinstance(image, str)]
    if not kept:
        raise DataError(f"{what} holds no readable image")
    return _stacked([images[i] for i in kept]), kept


def _read(file: Path, view: Preprocess, whole: bool = False) -> np.ndarray | str:
    """The image (H, W, C), or what is wrong with it."""
    try:
        read = _load_whole(file, view) if whole else view.load(file)
        return np.atleast_3d(np.asarray(read))
    except ImageError as error:
        return f"left out {file}: {error}"


def _load_whole(file: Path, view: Preprocess) -> Image.Image:
    least = math.ceil(2 * _whole_side(view))  # what is left to resize hides how it was decoded
    return load_image(file, then=partial(_whole, view=view), least_side=least)


def _whole_side(view: Preprocess) -> float:
    return WHOLE_SIDE * max(view.input_size[1:])


def _whole(image: Image.Image, view: Preprocess) -> Image.Image:
    """All of the image, with a short side of `WHOLE_SIDE` times the view's, never enlarged."""
    channels = view.input_size[0]
    scale = min(_whole_side(view) / min(image.size), 1.0)
    size = [max(round(side * scale), 1) for side in image.size]
    how = Image.Resampling[view.interpolation.upper()]
    return image.convert("L" if channels == 1 else "RGB").resize(size, how)


def random_part(size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """torchvision's random part of an image (C, h, w) at (H, W), drawn from torch's generator."""
    from torchvision.transforms import v2

    return v2.RandomResizedCrop(size, scale=(0.35, 1.0), antialias=True)


def random_crop(photo: Tensor, view: Preprocess, seed: int) -> Tensor:
    """(C, h, w) -> a random part of it (C, H, W), which depends on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return random_part(view.input_size[1:])(photo)


def _as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _stacked(images: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def with_classes(data: Images, labels: tuple[str, ...], several: bool = False) -> Images:
    """The same images, with labels that count the classes in another order.

    Args:
        labels: all of the data's classes and maybe more, each once.
        several: whether the model answers for each class by itself.

    Raises:
        DataError: for data with a class that is not among them, or images with several where there is one
            answer.
    """
    if data.classes == labels and is_multi(data.labels) == several:
        return data
    if is_multi(data.labels) and not several:
        raise DataError(f"{data.source} has images with no label or several, and the model gives one answer")
    known = [composed(name) for name in labels]
    if others := [repr(name) for name in data.classes if known.count(name) != 1]:
        raise DataError(
            f"{data.source} has classes that the model does not have: {listed(others)}; it has "
            f"{listed(map(repr, labels))}"
        )
    place = torch.tensor([known.index(name) for name in data.classes])
    if not several:
        return replace(data, labels=place[data.labels], classes=labels)
    of_each = data.labels if is_multi(data.labels) else F.one_hot(data.labels, len(data.classes)).float()
    placed = torch.zeros(len(data), len(labels))
    placed[:, place] = of_each
    return replace(data, labels=placed, classes=labels)


def split_held_out(labels: Tensor, held_out: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """(training, held-out) indices; the held-out part takes each class in proportion.

    Args:
        held_out: how many, 0 for none; None means a tenth, 5,000 at most, and none where no class has two.
    """
    if held_out is None:
        can_spare = len(labels) > 0 and torch.bincount(strata(labels)).max() > 1
        held_out = min(max(len(labels) // 10, 1), 5000) if can_spare else 0
    if not 0 <= held_out < len(labels):
        raise DataError(f"cannot hold out {held_out} of {len(labels)} images; give 0 to {len(labels) - 1}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    labels = strata(labels)
    by_class = order[torch.argsort(labels[order], stable=True)]
    few = min(held_out, len(labels) - held_out)  # places of the smaller part are far enough apart to differ
    every = torch.linspace(0, len(labels) - 1, few).round().long()
    is_held = torch.full((len(labels),), few < held_out)
    is_held[every] = few == held_out
    _keep_one_of_each(labels[by_class], is_held)
    return by_class[~is_held].sort().values, by_class[is_held].sort().values


def _keep_one_of_each(labels: Tensor, is_held: Tensor) -> None:
    """Exchange images so that no class is held out whole, while there is a class that can spare one."""
    counts = torch.bincount(labels, minlength=0)
    kept = torch.bincount(labels[~is_held], minlength=len(counts))
    for name in ((counts > 0) & (kept == 0)).nonzero()[:, 0].tolist():
        richest = int(kept.argmax())
        if kept[richest] < 2:
            return
        given = ((labels == richest) & ~is_held).nonzero()[0, 0]
        is_held[(labels == name).nonzero()[0, 0]], is_held[given] = False, True
        kept[richest], kept[name] = kept[richest] - 1, 1


def split_record(train: Images, held_out: Images) -> list:
    """What a run notes of its split to know it again: how many images each part has, and a checksum of the
    names and sizes of the files held out."""
    sizes = [file.stat().st_size if file.exists() else 0 for file in held_out.files]
    names = [f"{f.parent.name}/{f.name} {size}" for f, size in zip(held_out.files, sizes, strict=True)]
    return [len(train), len(held_out), f"{zlib.crc32(repr(names).encode()):08x}"]


def measured_preprocess(data: Images, crop_mode: str = "center", most: int = 10_000) -> Preprocess:
    """The whole image, normalised by channel means and deviations of `most` training images or all (of a
    random crop of each whole photo); with borders, which are made in the colour of the mean, that of
    `whole_image`."""
    channels, height, width = data.shape
    if crop_mode == "border":
        return whole_image((height, width), channels, crop_mode)
    batches = torch.arange(0, len(data), max(len(data) // most, 1)).split(250)
    seeds = [index.tolist() for index in batches] if data.whole else None
    counts = torch.zeros(channels, 256, dtype=torch.double)
    for pixels, _ in data.fetch(batches, seeds):
        values = pixels.transpose(0, 1).flatten(1)  # (C, N*H*W) uint8
        counts += torch.stack([torch.bincount(channel, minlength=256) for channel in values])
    levels = torch.arange(256, dtype=torch.double) / 255
    mean = (counts @ levels) / counts.sum(1)
    std = ((counts @ levels**2) / counts.sum(1) - mean**2).clamp(min=0).sqrt()
    std[std < 1e-4] = 1.0  # of a channel that is the same everywhere, an alpha channel for instance
    return Preprocess(
        input_size=(channels, height, width),
        crop_pct=1.0,
        crop_mode=crop_mode,
        mean=tuple(round(m, 4) for m in mean.tolist()),
        std=tuple(round(s, 4) for s in std.tolist()),
    )


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device. A GPU reads them by itself, from pinned memory; it is waited for when other
    memory is copied, or when indices on a CPU pick from its tensors."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def normalise(images: Tensor, preprocess: Preprocess, device: torch.device) -> Tensor:
    """uint8 (N, C, H, W) -> normalised float32, channels last; features (N, F) stay as they are."""
    if images.is_floating_point():
        return sent(images, device)
    mean, std = (_of_channels(tuple(values), device) for values in (preprocess.mean, preprocess.std))
    pixels = sent(images, device).to(torch.float32).sub_(mean).div_(std)  # bytes travel, not floats
    return pixels.contiguous(memory_format=torch.channels_last)


@cache
def _of_channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(1, C, 1, 1) for pixels of 0 to 255; kept on the device, because making it there waits for a GPU."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1) * 255
