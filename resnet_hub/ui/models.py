"""The models a page offers, and the few kept in memory between clicks.

Knows nothing of gradio components. Only what is offered can be loaded, so a visitor cannot name a directory.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from resnet_hub.predict import DEFAULT_MODEL
from resnet_hub.ui.text import say

IMAGENET_MEGABYTES = {"timm/resnet18.a1_in1k": 47, "timm/resnet34.a1_in1k": 87, "timm/resnet50.a1_in1k": 102}
MOST_LOADED = 4
LOCKS = 16


class Shelf:
    """Loads offered models on demand and keeps the most recently used ones.

    Args:
        added: repository ids or directories offered beside the shipped checkpoint and ImageNet's.
        device: where models live, "auto", "cpu", "cuda" or "mps".
    """

    def __init__(self, added: tuple[str, ...] = (), device: str = "auto") -> None:
        self.offered = list(dict.fromkeys([DEFAULT_MODEL, *added, *IMAGENET_MEGABYTES]))
        self.device = device
        self._loaded: OrderedDict = OrderedDict()
        self._lock = Lock()
        # One lock a model would grow with every name a visitor thinks of.
        self._loading = [Lock() for _ in range(LOCKS)]

    def allows(self, source: str) -> bool:
        """Whether a visitor may have this model."""
        return source in self.offered

    def choices(self, language: str) -> list[tuple[str, str]]:
        """(text, source) of every offered model."""
        return [(self._describe(language, source), source) for source in self.offered]

    def _describe(self, language: str, source: str) -> str:
        if source == DEFAULT_MODEL:
            return say(language, "offered_shipped", name=source)
        if source in IMAGENET_MEGABYTES:
            megabytes = IMAGENET_MEGABYTES[source]
            return say(language, "offered_imagenet", name=source, megabytes=megabytes)
        return source

    def get(self, source: str, tqdm_class: type | None = None):
        """The model, loaded once however many visitors ask at the same time.

        Raises:
            KeyError: when it is not allowed.
            resnet_hub.hub.CheckpointError: when it cannot be had.
        """
        if not self.allows(source):
            raise KeyError(source)
        with self._loading[hash(source) % LOCKS]:
            with self._lock:
                if source in self._loaded:
                    self._loaded.move_to_end(source)
                    return self._loaded[source]
            model = self._load(source, tqdm_class)
            with self._lock:
                self._loaded[source] = model
                while len(self._loaded) > MOST_LOADED:
                    self._loaded.popitem(last=False)
            return model

    def in_memory(self) -> list[tuple[str, Any]]:
        """(source, model) of those that need no loading, the most recently used last."""
        with self._lock:
            return list(self._loaded.items())

    def _load(self, source: str, tqdm_class: type | None):
        from resnet_hub.device import pick_device
        from resnet_hub.models.registry import from_pretrained

        return from_pretrained(source, tqdm_class=tqdm_class).to(pick_device(self.device))


class References(Shelf):
    """timm's networks beside the models of a shelf, kept within the same bound.

    A key is (timm's name, None) with timm's weights, or (COUNTERPART, source) with one of our models'.
    """

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(device=shelf.device)
        self.shelf = shelf
        self.seconds: dict[tuple, float] = {}  # measured latencies

    def allows(self, source: tuple) -> bool:
        return True  # what timm does not know is refused where it is looked up

    def key(self, name: str, source: str, tqdm_class: type | None = None) -> tuple:
        """Load timm's network of that name, or our weights in it where timm's are out of reach; its key.

        Raises:
            resnet_hub.reference.NoReference: when neither can be had.
        """
        from resnet_hub.reference import COUNTERPART, NoReference, is_same_network

        key = (COUNTERPART, source) if name == COUNTERPART else (name, None)
        try:
            self.get(key, tqdm_class)
        except NoReference as error:
            if error.code != "unreachable" or not is_same_network(self.shelf.get(source).config, name):
                raise
            self.get(key := (COUNTERPART, source))
        return key

    def _load(self, source: tuple, tqdm_class: type | None):
        from resnet_hub.device import pick_device
        from resnet_hub.reference import copied, pretrained

        name, ours = source
        net = pretrained(name, tqdm_class) if ours is None else copied(self.shelf.get(ours), ours)
        return net.to(pick_device(self.device))


def on_gpu(function: Callable) -> Callable:
    """Mark a function for ZeroGPU, which lends a GPU to each call; elsewhere it stays as it is."""
    if not os.environ.get("SPACES_ZERO_GPU"):
        return function
    import spaces

    return spaces.GPU(function)
