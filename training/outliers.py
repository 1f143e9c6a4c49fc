"""Outlier exposure: learning from images of other things what is not known (arXiv 1812.04606).

A step shows the network some outliers beside its training images and asks for equal shares of every class on
them. Which outliers go with which step follows from the seed, so a resumed run sees the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from resnet_hub.errors import listed
from resnet_hub.folders import composed, image_files
from resnet_hub.preprocess import Preprocess
from training.augment import Feed, random_key
from training.data import DataError, FolderSet, Images, ImageSet, find_data, in_memory, whole_photos
from training.layout import parts_of
from training.recipes import Recipe, flag
from training.tiny_imagenet import is_tiny_imagenet

FLAGS = ("outlier_weight", "outlier_share", "outliers_except", "outlier_jpeg")


def add_outliers_flag(parser: argparse.ArgumentParser) -> None:
    """`--outliers`; how they are used is said by the recipe's fields."""
    words = "images of other things (a data set or any folder), which the network learns to call unfamiliar"
    parser.add_argument("--outliers", type=Path, metavar="DIR", help=words)


def find_outliers(options, recipe: Recipe, view: Preprocess) -> Images | None:
    """The images of `--outliers`, not yet read; None without the flag.

    Raises:
        DataError: when there are none, or a class to leave out is not there.
        ValueError: for flags about outliers where there are none.
    """
    if options.outliers is not None:
        return all_but(options.outliers, recipe.outliers_except, view)
    if given := [flag(name) for name in FLAGS if getattr(options, name) is not None]:
        raise ValueError(f"{', '.join(given)} need --outliers DIR, the images of other things")
    if recipe.outliers_except:
        raise ValueError(
            f"--recipe {options.recipe} learns from images of other things too; give --outliers DIR"
        )
    return None


def read_outliers(
    found: Images | None, recipe: Recipe, workers: int | None, whole: bool = False
) -> Images | None:
    """Those images, in memory where they fit, encoded as the recipe says.

    Args:
        whole: the training images are whole photos, which random crops are cut from. Crops enlarged from what
            the network sees would be less sharp, and so told apart from theirs.
    """
    if found is None:
        return None
    read = in_memory(whole_photos(found) if whole else found, workers)
    return jpeg_encoded(read, recipe.outlier_jpeg) if recipe.outlier_jpeg else read


def facts(options, outliers: Images | None) -> dict:
    """What a card says of the outliers; empty where there are none."""
    if outliers is None:
        return {}
    name = "Tiny ImageNet" if "tiny-imagenet" in outliers.source.lower() else options.outliers.name
    return {"outliers": {"data": name, "images": len(outliers)}}


def all_but(folder: Path, left_out: Sequence[str], view: Preprocess) -> Images:
    """Images of other things: all below `folder`, or the training part of a data set, but for some classes.

    Args:
        left_out: class names; what the network learns, and what is kept to measure it on.

    Raises:
        DataError: when a class is not there, or no image is left.
    """
    is_data_set = is_tiny_imagenet(folder) or "train" in parts_of(folder)
    data = find_data(str(folder), "train", view) if is_data_set else _any_images(folder, view)
    left_out = [composed(name) for name in left_out]
    if missing := sorted(set(left_out) - set(data.classes)):
        raise DataError(f"{folder} has no class {listed(missing, 5)}; it has {listed(data.classes)}")
    kept = torch.tensor([name not in left_out for name in data.classes])[data.labels].nonzero()[:, 0]
    if not len(kept):
        raise DataError(f"{folder} holds no image that is not left out")
    return data.subset(kept)


def _any_images(folder: Path, view: Preprocess) -> FolderSet:
    """Images below `folder`, each labelled by the sub-folder it is in; "" for those in none."""
    files = image_files(folder)
    above = [composed(file.relative_to(folder).parts[0]) if file.parent != folder else "" for file in files]
    classes = tuple(sorted(set(above)))
    labels = torch.tensor([classes.index(name) for name in above], dtype=torch.long)
    return FolderSet(tuple(files), labels, classes, str(folder), view)


def jpeg_encoded(data: Images, quality: int) -> Images:
    """Each image as a JPEG file of its own size and `quality` shows it.

    For outliers beside training images that are such files themselves: without it a network tells the two
    apart by the blocks of the coding, and then calls every other photo unfamiliar.

    Raises:
        DataError: for images that are streamed, or whole photos.
    """
    if not isinstance(data, ImageSet):
        why = "is read whole, for random crops" if data.whole else "does not fit into memory"
        raise DataError(f"{data.source} {why}; give --outlier-jpeg 0")
    from torchvision.io import decode_jpeg, encode_jpeg

    with ThreadPoolExecutor() as pool:
        encoded = list(pool.map(lambda image: decode_jpeg(encode_jpeg(image, quality)), data.images))
    return replace(data, images=torch.stack(encoded))


def positions(
    count: int, share: float, seed: int, epoch: int, numbered: list[tuple[int, Tensor]]
) -> list[tuple[int, Tensor]]:
    """Which of `count` outliers go with each micro-batch: `share` of them for each of its images."""
    drawn = []
    for number, index in numbered:
        draw = torch.Generator().manual_seed(random_key(seed, epoch, number, 3))
        drawn.append((number, torch.randint(count, (max(round(share * len(index)), 1),), generator=draw)))
    return drawn


def outlier_feed(outliers: Images, feed: Feed) -> Feed:
    """The outliers as `feed` shows its own images, but not mixed: they have no labels to mix."""
    recipe = replace(feed.recipe, mixup=0.0, cutmix=0.0, balance="none")
    return Feed(outliers, feed.preprocess, recipe, feed.seed + 1, feed.device)


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Mean cross entropy of (N, C) logits to equal shares of all classes; log C where all are equal."""
    return (logits.logsumexp(1) - logits.mean(1)).mean()
