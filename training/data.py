"""Data sets held in memory as uint8 tensors, the held-out split, and augmentation of whole batches.

Every random choice is a function of (seed, epoch, image index) alone, so a resumed run, or the same run
spread over more processes, sees the same pictures. Knows nothing of networks.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from resnet_hub.preprocess import ImageError, Preprocess, load_image

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}


class DataError(ValueError):
    """A data set that cannot be used; the message is one line for a person."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures (N, 3, H, W) uint8 with labels (N,) int64 and the class names they index."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> ImageSet:
        """The pictures at `index`, in that order."""
        return ImageSet(self.images[index], self.labels[index], self.classes, self.source)


def load_data(data: str, part: str, size: tuple[int, int]) -> ImageSet:
    """The `train` or `test` part of `data`: "cifar10" (torchvision downloads it) or an image folder.

    Raises:
        DataError: when it is missing, offline, or holds no class folder.
    """
    return _torchvision_cifar10(part) if data == "cifar10" else load_folder(Path(data) / part, size)


def _torchvision_cifar10(part: str) -> ImageSet:
    from torchvision.datasets import CIFAR10

    root = Path(torch.hub.get_dir()).parent / "data"
    try:
        data = CIFAR10(root, train=part == "train", download=True)
    except Exception as error:  # torchvision lets urllib's, tarfile's and its own errors through
        raise DataError(
            f"CIFAR-10 is not in {root} and could not be downloaded ({error}); "
            "go online once, or give --data an image folder with train/ and test/"
        ) from error
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(data.targets), tuple(data.classes), "CIFAR-10 (torchvision)")


def load_folder(folder: Path, size: tuple[int, int]) -> ImageSet:
    """One sub-folder a class, every picture resized on its short side and cropped to `size` (H, W).

    Broken files are listed on stderr and left out.

    Raises:
        DataError: when there is no class folder or no readable picture.
    """
    folders = sorted(d for d in folder.iterdir() if d.is_dir()) if folder.is_dir() else []
    if not folders:
        raise DataError(f"{folder} has no class folders; expected {folder}/<class>/<picture>.jpg")
    files = [(file, label) for label, of_class in enumerate(folders) for file in picture_files(of_class)]
    images, kept = read_pictures([file for file, _ in files], size, str(folder))
    labels = torch.tensor([files[i][1] for i in kept])
    return ImageSet(images, labels, tuple(d.name for d in folders), str(folder))


def load_pictures(folder: Path, size: tuple[int, int]) -> ImageSet:
    """Every picture below `folder`, without classes (each label is 0)."""
    images, kept = read_pictures(picture_files(folder), size, str(folder))
    return ImageSet(images, torch.zeros(len(kept), dtype=torch.long), ("",), str(folder))


def picture_files(folder: Path) -> list[Path]:
    """Files below `folder` that are named like pictures, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def read_pictures(files: list[Path], size: tuple[int, int], what: str) -> tuple[Tensor, list[int]]:
    """(pictures uint8 (N, 3, H, W), positions in `files` of those that could be read)."""
    fit = Preprocess(input_size=(3, *size), crop_pct=1.0)

    def read(file: Path) -> np.ndarray | str:
        try:
            return np.asarray(fit.crop(load_image(file)))
        except ImageError as error:
            return f"left out {file}: {error}"

    with ThreadPoolExecutor() as pool:
        pictures = list(tqdm(pool.map(read, files), f"reading {what}", len(files), file=sys.stderr))
    for message in (p for p in pictures if isinstance(p, str)):
        print(message, file=sys.stderr)
    kept = [i for i, picture in enumerate(pictures) if not isinstance(picture, str)]
    if not kept:
        raise DataError(f"{what} holds no readable picture")
    return torch.from_numpy(np.stack([pictures[i] for i in kept])).permute(0, 3, 1, 2).contiguous(), kept


def split_held_out(labels: Tensor, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """(training, held-out) indices; the held-out part takes each class in proportion."""
    if not 0 < held_out < len(labels):
        raise DataError(f"cannot hold out {held_out} of {len(labels)} pictures; give 1 to {len(labels) - 1}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[torch.argsort(labels[order], stable=True)]
    every = torch.linspace(0, len(labels) - 1, held_out).round().long()
    is_held = torch.zeros(len(labels), dtype=torch.bool)
    is_held[every] = True
    return by_class[~is_held].sort().values, by_class[is_held].sort().values


def normalise(images: Tensor, preprocess: Preprocess, device: torch.device) -> Tensor:
    """uint8 (N, 3, H, W) -> normalised float32, channels last."""
    mean = torch.tensor(preprocess.mean, device=device).view(1, -1, 1, 1) * 255
    std = torch.tensor(preprocess.std, device=device).view(1, -1, 1, 1) * 255
    pixels = images.to(device, torch.float32).sub_(mean).div_(std)
    return pixels.contiguous(memory_format=torch.channels_last)


class EpochBatches:
    """One epoch's shuffled, augmented batches: random crop from a reflected border, then flip.

    A picture's crop and flip depend on (seed, epoch, its index). The flip alternates: a first random side
    for each picture, the other one in the next epoch, so two epochs show both
    (https://github.com/KellerJordan/cifar10-airbench).
    """

    def __init__(self, data: ImageSet, batch_size: int, seed: int, epoch: int, pad: int = 4) -> None:
        self.data, self.batch_size, self.pad = data, batch_size, pad
        n = len(data)
        first_side = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < 0.5
        self.flip = first_side ^ (epoch % 2 == 1)
        draw = torch.Generator().manual_seed(seed * 100_003 + epoch + 1)
        self.order = torch.randperm(n, generator=draw)
        self.shift = torch.randint(0, 2 * pad + 1, (2, n), generator=draw)

    def __len__(self) -> int:
        return max(len(self.data) // self.batch_size, 1)

    def __iter__(self):
        """Yields (images uint8 (B, 3, H, W), labels (B,)); the short last batch is left out."""
        for step in range(len(self)):
            index = self.order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self.augmented(index), self.data.labels[index]

    def augmented(self, index: Tensor) -> Tensor:
        """The pictures at `index`, cropped and flipped."""
        height, width = self.data.images.shape[-2:]
        padded = F.pad(self.data.images[index].float(), (self.pad,) * 4, mode="reflect").to(torch.uint8)
        crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, 3, shifts, shifts, H, W), a view
        top, left = self.shift[:, index]
        images = crops[torch.arange(len(index)), :, top, left]
        return torch.where(self.flip[index].view(-1, 1, 1, 1), images.flip(3), images)
