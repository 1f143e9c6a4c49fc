"""Data sets: images in memory as uint8 tensors or read from their files as they are needed, and the split.

A folder is read into memory up to a bound and streamed by worker processes above it; both give the same
images.
"""

from __future__ import annotations

import math
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from resnet_hub.errors import Refusal
from resnet_hub.preprocess import ImageError, Preprocess
from resnet_hub.reading import read_crop
from training.distributed import local_rank, wait
from training.tiny_imagenet import find_files as tiny_imagenet
from training.tiny_imagenet import is_tiny_imagenet

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
MOST_IN_THREADS = 5_000  # files
IN_MEMORY_BYTES = 2 << 30  # a folder whose images take more is streamed
PARTS = ("train", "val", "test")
TEST_ONE_IN = 7  # of a folder without parts


class DataError(Refusal):
    """A data set that cannot be used; the message is one line for a person."""


@dataclass(frozen=True)
class ImageSet:
    """Images (N, 3, H, W) uint8 with labels (N,) int64 and the class names they index.

    `images` may also be features (N, F) float32, which training takes as they are.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, H, W), or (F,)"""
        return tuple(self.images.shape[1:])

    def subset(self, index: Tensor) -> ImageSet:
        """The images at `index`, in that order."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each batch of positions: the images, and the positions of those that could be read."""
        for index in batches:
            yield self.images[index], index

    def fingerprint(self) -> str:
        """Differs when images, labels or classes do; a resumed run must see the same."""
        return _checksum(self.classes, self.labels, self.images.contiguous().numpy())


@dataclass(frozen=True)
class FolderSet:
    """Images that stay in their files, resized and cropped as `view` says when read."""

    files: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    view: Preprocess

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.input_size

    def __getitem__(self, index: int) -> tuple[int, np.ndarray | str]:
        return index, _read(self.files[index], self.view)

    def subset(self, index: Tensor) -> FolderSet:
        return replace(self, files=tuple(self.files[i] for i in index.tolist()), labels=self.labels[index])

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """As `ImageSet.fetch`; worker processes read ahead, a broken file is reported and left out, so that a
        batch may be empty."""
        from torch.utils.data import DataLoader

        plan = [index.tolist() for index in batches]
        workers = max((os.cpu_count() or 2) - 1, 1)
        loader = DataLoader(self, batch_sampler=plan, num_workers=workers, collate_fn=self._collated)
        for pixels, index, broken in loader:
            for message in broken:
                tqdm.write(message, file=sys.stderr)
            yield pixels, index

    def _collated(self, read: list[tuple[int, np.ndarray | str]]) -> tuple[Tensor, Tensor, list[str]]:
        index = torch.tensor([i for i, image in read if not isinstance(image, str)], dtype=torch.long)
        whole = [image for _, image in read if not isinstance(image, str)]
        broken = [image for _, image in read if isinstance(image, str)]
        return _stacked(whole) if whole else torch.empty(0, *self.shape, dtype=torch.uint8), index, broken

    def fingerprint(self) -> str:
        """As `ImageSet.fingerprint`, by the files' names and sizes."""
        listed = "\n".join(f"{file} {file.stat().st_size}" for file in self.files)
        return _checksum(self.classes, self.labels, listed.encode())


Images = ImageSet | FolderSet


def _checksum(classes: tuple[str, ...], labels: Tensor, rest: bytes | np.ndarray) -> str:
    sum_ = zlib.crc32(rest, zlib.crc32(repr((classes, labels.tolist())).encode()))
    return f"{len(labels)} images, checksum {sum_:08x}"


def whole_image(size: tuple[int, int], channels: int = 3) -> Preprocess:
    """How training sees images: the short side resized to `size` (H, W), the middle cut out."""
    half = (0.5,) * channels  # what is read here is normalised elsewhere
    return Preprocess(input_size=(channels, *size), crop_pct=1.0, mean=half, std=half)


def load_data(data: str, part: str, view: Preprocess) -> Images:
    """A part of `data` as `find_data` finds it, in memory where it fits."""
    return in_memory(find_data(data, part, view))


def find_data(data: str, part: str, view: Preprocess) -> Images:
    """A part of `data`, "train" or "test"; images in folders are found, not yet read.

    Args:
        data: "cifar10" (torchvision downloads it), a folder with train/ and test/ (or val/), or a folder of
            class folders, of which every seventh file, by its name's checksum, is the test part.
        view: what is resized and cropped; a network is measured with its own.

    Raises:
        DataError: when it is missing, offline, or holds no class folder.
    """
    if data == "cifar10":
        _, height, width = view.input_size
        if (height, width) != (32, 32):
            raise DataError(f"cifar10 has 32x32 images, not {height}x{width}; give them in a folder")
        return _torchvision_cifar10(part)
    root = Path(data)
    if is_tiny_imagenet(root):
        found, classes = tiny_imagenet(root, part)
        labels = torch.tensor([classes.index(name) for _, name in found], dtype=torch.long)
        return FolderSet(tuple(file for file, _ in found), labels, classes, str(root), view)
    if any((root / name).is_dir() for name in PARTS) or not _class_folders(root):
        return find_images((part == "test" and _test_folder(root)) or root / part, view)
    return find_images(root, view, lambda file: _is_test(root, file) == (part == "test"))


def _test_folder(root: Path) -> Path | None:
    return next((root / name for name in ("test", "val") if (root / name).is_dir()), None)


def check_parts(data: str) -> None:
    """Notice before training what would be missed after it.

    Raises:
        DataError: when `data` has no test part, one with other classes, or a class without test images.
    """
    root = Path(data)
    if data == "cifar10" or not root.is_dir() or is_tiny_imagenet(root):
        return
    if (root / "train").is_dir():
        if _test_folder(root) is None:
            raise DataError(
                f"{root} has train/ but neither test/ nor val/; figures are measured on one of them"
            )
        for part in (root / name for name in ("val", "test") if (root / name).is_dir()):
            train_classes, classes = ([d.name for d in _class_folders(f)] for f in (root / "train", part))
            if train_classes != classes:
                raise DataError(f"{root / 'train'} has classes {train_classes}, {part} {classes}")
    test = find_data(data, "test", whole_image((1, 1)))
    counts = torch.bincount(test.labels, minlength=len(test.classes)).tolist()
    empty = [name for name, count in zip(test.classes, counts, strict=True) if not count]
    if empty:
        raise DataError(f"{root}: no image of {', '.join(empty)} in the test part; put some into {root}/test")


def _is_test(root: Path, file: Path) -> bool:
    return zlib.crc32(file.relative_to(root).as_posix().encode()) % TEST_ONE_IN == 0


def _class_folders(folder: Path) -> list[Path]:
    return sorted(d for d in folder.iterdir() if d.is_dir()) if folder.is_dir() else []


def _torchvision_cifar10(part: str) -> ImageSet:
    from torchvision.datasets import CIFAR10

    root = Path(torch.hub.get_dir()).parent / "data"
    if local_rank() > 0:
        wait()  # the first process of a machine downloads
    try:
        data = CIFAR10(root, train=part == "train", download=True)
    except Exception as error:  # torchvision lets urllib's, tarfile's and its own errors through
        raise DataError(
            f"CIFAR-10 is not in {root} and could not be downloaded ({error}); "
            "go online once, or give --data an image folder with train/ and test/"
        ) from error
    finally:
        if local_rank() == 0:
            wait()
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(data.targets), tuple(data.classes), "CIFAR-10 (torchvision)")


def find_images(
    folder: Path, view: Preprocess, keep: Callable[[Path], bool] = lambda file: True
) -> FolderSet:
    """The images of a folder with one sub-folder a class.

    Raises:
        DataError: when there is no class folder.
    """
    folders = _class_folders(folder)
    if not folders:
        raise DataError(f"{folder} has no class folders; expected {folder}/<class>/<image>.jpg")
    found = [(file, i) for i, of_class in enumerate(folders) for file in image_files(of_class) if keep(file)]
    files, labels = [file for file, _ in found], torch.tensor([i for _, i in found], dtype=torch.long)
    classes = tuple(d.name for d in folders)
    return FolderSet(tuple(files), labels, classes, str(folder), view)


def in_memory(data: Images) -> Images:
    """The images read, broken files listed on stderr and left out, or as they are where that would take
    more than `IN_MEMORY_BYTES`.

    Raises:
        DataError: when there is no readable image.
    """
    if isinstance(data, ImageSet) or len(data) * math.prod(data.shape) > IN_MEMORY_BYTES:
        return data
    if len(data) > MOST_IN_THREADS:
        images, kept = _read_by_processes(data)
    else:
        images, kept = read_images(data.files, data.view, data.source)
    return ImageSet(images, data.labels[kept], data.classes, data.source)


def _read_by_processes(data: FolderSet) -> tuple[Tensor, Tensor]:
    """As `read_images`: decoding small files holds the interpreter's lock, so many need processes."""
    batches = torch.arange(len(data)).split(250)
    read = list(tqdm(data.fetch(batches), f"reading {data.source}", len(batches), file=sys.stderr))
    return torch.cat([pixels for pixels, _ in read]), torch.cat([index for _, index in read])


def image_files(folder: Path) -> list[Path]:
    """Files below `folder` that are named like images, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


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


def _read(file: Path, view: Preprocess) -> np.ndarray | str:
    """The image (H, W, C), or what is wrong with it."""
    try:
        return np.atleast_3d(np.asarray(read_crop(file, view)))
    except ImageError as error:
        return f"left out {file}: {error}"


def _stacked(images: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def split_held_out(labels: Tensor, held_out: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """(training, held-out) indices; the held-out part takes each class in proportion.

    Args:
        held_out: how many; None means a tenth, 5,000 at most.
    """
    if held_out is None:
        held_out = min(max(len(labels) // 10, 1), 5000)
    if not 0 < held_out < len(labels):
        raise DataError(f"cannot hold out {held_out} of {len(labels)} images; give 1 to {len(labels) - 1}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[torch.argsort(labels[order], stable=True)]
    few = min(held_out, len(labels) - held_out)  # places of the smaller part are far enough apart to differ
    every = torch.linspace(0, len(labels) - 1, few).round().long()
    is_held = torch.full((len(labels),), few < held_out)
    is_held[every] = few == held_out
    return by_class[~is_held].sort().values, by_class[is_held].sort().values


def measured_preprocess(data: Images, most: int = 10_000) -> Preprocess:
    """The whole image, normalised by channel means and deviations of `most` training images or all."""
    index = torch.arange(0, len(data), max(len(data) // most, 1))
    counts = torch.zeros(3, 256, dtype=torch.double)
    for pixels, _ in data.fetch(index.split(250)):
        channels = pixels.transpose(0, 1).flatten(1)  # (3, N*H*W) uint8
        counts += torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    values = torch.arange(256, dtype=torch.double) / 255
    mean = (counts @ values) / counts.sum(1)
    std = ((counts @ values**2) / counts.sum(1) - mean**2).sqrt()
    return Preprocess(
        input_size=data.shape,
        crop_pct=1.0,
        mean=tuple(round(m, 4) for m in mean.tolist()),
        std=tuple(round(s, 4) for s in std.tolist()),
    )


def normalise(images: Tensor, preprocess: Preprocess, device: torch.device) -> Tensor:
    """uint8 (N, 3, H, W) -> normalised float32, channels last; features (N, F) stay as they are."""
    if images.is_floating_point():
        return images.to(device)
    mean = torch.tensor(preprocess.mean, device=device).view(1, -1, 1, 1) * 255
    std = torch.tensor(preprocess.std, device=device).view(1, -1, 1, 1) * 255
    pixels = images.to(device, torch.float32).sub_(mean).div_(std)
    return pixels.contiguous(memory_format=torch.channels_last)
