"""What an epoch shows of each image: its order, crops, flips and stronger changes, mixtures of two.

Every random choice is a function of (seed, epoch, image index), or for mixtures of the micro-batch's number,
never of a process, so a resumed run, or the same run spread over more processes, sees the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.preprocess import Preprocess
from training.batched import BATCHED
from training.data import DataError, FolderSet, Images, ImageSet, normalise, random_part, sent
from training.metrics import balanced_draw
from training.multilabel import is_multi
from training.recipes import Recipe

CPU = torch.device("cpu")
ONE_BY_ONE = {  # name -> how torchvision.transforms.v2 makes it for images of (H, W)
    "resized_crop": lambda v2, size: random_part(size),
    "trivial": lambda v2, size: v2.TrivialAugmentWide(),  # arXiv 2103.10158
    "rand": lambda v2, size: v2.RandAugment(),  # arXiv 1909.13719
    "jitter": lambda v2, size: v2.ColorJitter(0.3, 0.3, 0.3, 0.05),
}


def random_key(seed: int, *numbers: int) -> int:
    """One seed for `torch.manual_seed` out of several numbers."""
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (1 << 62)
    return seed


def epoch_draws(count: int, pad: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """An epoch's order of the images (N,), and by position the corner (2, N) each one's crop is cut at."""
    draw = torch.Generator().manual_seed(seed * 100_003 + epoch + 1)
    order = torch.randperm(count, generator=draw)
    return order, torch.randint(0, 2 * pad + 1, (2, count), generator=draw)


def epoch_order(count: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The positions of each step's batch; the short last one is left out unless it is the only one."""
    order, _ = epoch_draws(count, 0, seed, epoch)
    steps = max(count // batch_size, 1)
    return list(order[: steps * batch_size].split(batch_size))


class Views:
    """What one epoch shows of images, by their positions.

    An image's crop and flip depend on (seed, epoch, its index). The flip alternates: a first random side
    for each image, the other one in the next epoch, so two epochs show both
    (https://github.com/KellerJordan/cifar10-airbench).

    Args:
        device: where the images are augmented: bytes travel, and are widened there.
    """

    def __init__(
        self,
        count: int,
        recipe: Recipe,
        size: tuple[int, ...],
        seed: int,
        epoch: int,
        device: torch.device = CPU,
    ) -> None:
        self.key, self.device = random_key(seed, epoch), device
        border = recipe.crop_padding if "crop" in recipe.augment else 0
        pad = max(round(border * min(size) / 32), 1) if border else 0
        self.pad = min(pad, min(size) - 1)  # reflecting needs more pixels than the border has
        first_side = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.5
        flips = "flip" in recipe.augment
        flip = first_side ^ (epoch % 2 == 1) if flips else torch.zeros(count, dtype=torch.bool)
        _, shift = epoch_draws(count, self.pad, seed, epoch)
        self.flip, self.shift = flip.to(device), shift.to(device)
        draw = torch.Generator().manual_seed(random_key(seed, epoch, 5))
        self.draws = {
            name: torch.rand(each.draws, count, generator=draw).to(device)
            for name, each in BATCHED.items()
            if name in recipe.augment
        }
        self.one_by_one = _composed(recipe.augment, size)

    def crop_seeds(self, index: Tensor) -> list[int]:
        """For positions (B,): the seeds of their photos' random crops."""
        return [random_key(self.key, random_key(i, 7)) for i in index.tolist()]

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """uint8 (B, C, H, W) and their positions (B,) -> what is shown of them, uint8 (B, C, H, W)"""
        images, at = sent(images, self.device), sent(index, self.device)
        if self.pad:
            images = self._cropped(images, at)
        images = torch.where(self.flip[at].view(-1, 1, 1, 1), images.flip(3), images)
        if self.one_by_one is not None:
            pairs = zip(images, index.tolist(), strict=True)
            images = torch.stack([self._drawn(self.one_by_one, image, i) for image, i in pairs])
        for name, draws in self.draws.items():
            images = BATCHED[name].change(images, draws[:, at])
        return images

    def _cropped(self, images: Tensor, at: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = F.pad(images.float(), (self.pad,) * 4, mode="reflect").to(torch.uint8)
        crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, shifts, shifts, H, W), a view
        top, left = self.shift[:, at]
        return crops[torch.arange(len(at), device=images.device), :, top, left]

    def _drawn(self, change: Callable, image: Tensor, number: int) -> Tensor:
        torch.manual_seed(random_key(self.key, number))
        return change(image)


def _composed(chosen: Sequence[str], size: tuple[int, ...]) -> Callable | None:
    names = [name for name in ONE_BY_ONE if name in chosen]
    if not names:
        return None
    from torchvision.transforms import v2

    return v2.Compose([ONE_BY_ONE[name](v2, size) for name in names])


def _mixer(recipe: Recipe, classes: int) -> Callable | None:
    kinds = {"MixUp": recipe.mixup, "CutMix": recipe.cutmix}
    if not any(kinds.values()):
        return None
    from torchvision.transforms import v2

    made = [getattr(v2, kind)(alpha=a, num_classes=classes) for kind, a in kinds.items() if a]
    return v2.RandomChoice(made)


class Feed:
    """The training images as the network gets them: augmented, normalised, resized, on its device."""

    def __init__(
        self,
        data: Images,
        preprocess: Preprocess,
        recipe: Recipe,
        seed: int,
        device: torch.device,
    ) -> None:
        if device.type == "cuda" and isinstance(data, ImageSet):  # augmentation there keeps a GPU busy
            data = replace(data, images=data.images.to(device))
        if isinstance(data, FolderSet):
            data = replace(data, keeps_workers=True)  # from one epoch to the next
        self.data, self.preprocess, self.recipe = data, preprocess, recipe
        self.seed, self.device = seed, device
        if recipe.balance == "sampler" and is_multi(data.labels):
            raise ValueError("--balance sampler needs images of one class each; give --balance weights")
        colours = [name for name in ("trivial", "rand", "jitter") if name in recipe.augment]
        if colours and len(data.shape) == 3 and data.shape[0] not in (1, 3):
            raise ValueError(
                f"--augment {','.join(colours)} changes colours, and there are {data.shape[0]} channels"
            )
        self.mixer = _mixer(recipe, len(data.classes))

    def end_workers(self) -> None:
        """End the processes that read, until the next epoch."""
        if isinstance(self.data, FolderSet):
            self.data.end_workers()

    def drawn(self, epoch: int) -> Tensor | None:
        """The image shown at each place of an epoch; None where each is shown at its own."""
        if self.recipe.balance != "sampler":
            return None
        key = random_key(self.seed, epoch, 7)
        return balanced_draw(self.data.labels, len(self.data.classes), key)

    def _views(self, epoch: int) -> Views:
        """What an epoch shows; whole photos are cut where they are read, not here."""
        left = tuple(n for n in self.recipe.augment if not (self.data.whole and n == "resized_crop"))
        recipe = replace(self.recipe, augment=left)
        return Views(len(self.data), recipe, self.data.shape[1:], self.seed, epoch, self.device)

    def batches(
        self, epoch: int, numbered: list[tuple[int, Tensor]], side: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each (number, positions) of a micro-batch: inputs (B, C, h, w), targets, labels (B,).

        Args:
            side: short side in pixels the images are resized to.

        Yields:
            Targets are labels (B,), or shares (B, classes) where images are mixed.

        Raises:
            DataError: when none of a micro-batch can be read.
        """
        are_images = len(self.data.shape) == 3
        views = self._views(epoch) if are_images else None
        drawn = self.drawn(epoch)
        seeds = [views.crop_seeds(places) for _, places in numbered] if views and self.data.whole else None
        fetched = self.data.fetch([index if drawn is None else drawn[index] for _, index in numbered], seeds)
        for (number, places), (images, index) in zip(numbered, fetched, strict=True):
            # An image that is drawn several times is shown differently each time.
            shown = index if drawn is None else places[torch.isin(drawn[places], index)]
            if not len(index):
                raise DataError(f"no image of a micro-batch of {self.data.source} can be read")
            with torch.random.fork_rng(devices=[]):
                images = images if views is None else views(images, shown)
                x = normalise(images, self.preprocess, self.device)
                labels = targets = sent(self.data.labels[index], self.device)
                if self.mixer is not None:
                    torch.manual_seed(random_key(self.seed, epoch, number, 2))
                    x, targets = self.mixer(x, labels)
            yield (resized(x, side) if are_images else x), targets, labels


def resized(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) with a short side of `side` pixels."""
    height, width = x.shape[-2:]
    if side == min(height, width):
        return x
    size = (side * height // min(height, width), side * width // min(height, width))
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
