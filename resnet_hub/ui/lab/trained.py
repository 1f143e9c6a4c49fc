"""The trained networks and the images that topics of the lab run."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image

from resnet_hub.hub.fetch import shipped_names
from resnet_hub.preprocess import load_image
from resnet_hub.ui.shared.page import FOLDER, uploaded_path

if TYPE_CHECKING:
    from resnet_hub.models.base import Network

DEFAULT = "resnet20_cifar10"
TRAINED = (DEFAULT, *(name for name in shipped_names() if name != DEFAULT))
EXAMPLE = FOLDER / "cat.jpg"  # which every shipped ResNet of ten or more classes knows


@lru_cache(4)
def trained(name: str) -> Network:
    """A shipped network."""
    from resnet_hub import from_pretrained

    return from_pretrained(name)


def photo(path: str) -> Image.Image:
    """The visitor's image, else the example.

    Raises:
        ImageError: where it cannot be read, or is no upload.
    """
    return load_image(uploaded_path(path) if path else EXAMPLE)


def crop(model: Network, path: str) -> Image.Image:
    """The image as a network gets it."""
    return model.preprocess.crop(photo(path))
