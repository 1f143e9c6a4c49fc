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
        self._loading = {source: Lock() for source in self.offered}

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
            KeyError: when it is not offered.
            resnet_hub.hub.CheckpointError: when it cannot be had.
        """
        with self._loading[source]:
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


def on_gpu(function: Callable) -> Callable:
    """Mark a function for ZeroGPU, which lends a GPU to each call; elsewhere it stays as it is."""
    if not os.environ.get("SPACES_ZERO_GPU"):
        return function
    import spaces

    return spaces.GPU(function)
