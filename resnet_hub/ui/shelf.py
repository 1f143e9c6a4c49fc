"""The models a page offers, and the few kept in memory between clicks.

Knows nothing of gradio components. A visitor can name a public Hub repository where that is allowed, and
never a directory: those are only loaded where whoever runs the page has offered them.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from resnet_hub.hub.fetch import REPO_ID, HubUnreachable, download_size, fetch_card, shipped_names
from resnet_hub.predict import DEFAULT_MODEL
from resnet_hub.ui.shared.text import say

IMAGENET_MEGABYTES = {"timm/resnet18.a1_in1k": 47, "timm/resnet34.a1_in1k": 87, "timm/resnet50.a1_in1k": 102}
MOST_LOADED = 4
MOST_TYPED_BYTES = 700_000_000  # of a repository a visitor names; VGG-16 has 554 MB
LOCKS = 16


class TooLarge(ValueError):
    """A repository that a visitor named and that is larger than one may be; `args` are its bytes."""


class Shelf:
    """Loads models on demand and keeps the most recently used ones.

    Args:
        added: repository ids or directories offered beside the shipped checkpoints and ImageNet's.
        device: where models live, "auto", "cpu", "cuda" or "mps".
        only: the repository ids that may be loaded from the Hub; None allows any public one.
    """

    def __init__(
        self, added: tuple[str, ...] = (), device: str = "auto", only: tuple[str, ...] | None = None
    ) -> None:
        self.takes_any = only is None
        from_hub = IMAGENET_MEGABYTES if only is None else only
        self.shipped = shipped_names()
        self.offered = list(dict.fromkeys([DEFAULT_MODEL, *added, *self.shipped, *from_hub]))
        self.device = device
        self._loaded: OrderedDict = OrderedDict()
        self._lock = Lock()
        # One lock a model would grow with every name a visitor thinks of.
        self._loading = [Lock() for _ in range(LOCKS)]

    def allows(self, source: str) -> bool:
        """Whether a visitor may have this model."""
        if source in self.offered:
            return True
        return self.takes_any and bool(REPO_ID.fullmatch(source)) and not Path(source).exists()

    @property
    def offers_imagenet(self) -> bool:
        """Whether timm's ImageNet models are among those offered."""
        return not IMAGENET_MEGABYTES.keys().isdisjoint(self.offered)

    def loaded(self) -> list[str]:
        """The models in memory, the one used last first."""
        with self._lock:
            return list(reversed(self._loaded))

    def choices(self, language: str) -> list[tuple[str, str]]:
        """(text, source) of every offered model."""
        return [(self._describe(language, source), source) for source in self.offered]

    def _describe(self, language: str, source: str) -> str:
        if source in self.shipped:
            return say(language, "offered_shipped", name=source)
        if source in IMAGENET_MEGABYTES:
            megabytes = IMAGENET_MEGABYTES[source]
            return say(language, "offered_imagenet", name=source, megabytes=megabytes)
        return source

    def get(self, source: str, tqdm_class: type | None = None):
        """The model, loaded once however many visitors ask at the same time.

        Raises:
            KeyError: when it is not allowed.
            resnet_hub.fetch.CheckpointError: when it cannot be had.
        """
        if not self.allows(source):
            raise KeyError(source)
        model = self._held(source)
        if model is not None:  # without waiting for another's download
            return model
        with self._loading[hash(source) % LOCKS]:
            model = self._held(source)
            if model is None:
                model = self._load(source, tqdm_class)
                with self._lock:
                    self._loaded[source] = model
                    while len(self._loaded) > MOST_LOADED:
                        self._loaded.popitem(last=False)
            return model

    def _held(self, source: str):
        """The model if it is in memory, now the one used last; else None."""
        with self._lock:
            if source in self._loaded:
                self._loaded.move_to_end(source)
            return self._loaded.get(source)

    def in_memory(self) -> list[tuple[str, Any]]:
        """(source, model) of those that need no loading, the most recently used last."""
        with self._lock:
            return list(self._loaded.items())

    def megabytes(self, source: str) -> float | None:
        """Size of the download; None where there is none or the Hub is out of reach.

        Raises:
            TooLarge: for a repository that is not offered and larger than `MOST_TYPED_BYTES`.
            resnet_hub.fetch.CheckpointError: when it cannot be had.
        """
        if source in self.loaded():
            return None
        try:
            size = download_size(source, token=self._token(source), cache_counts=source in self.offered)
        except HubUnreachable:  # it may be in the cache
            return None
        if source not in self.offered and size > MOST_TYPED_BYTES:
            raise TooLarge(size)
        return size / 1e6 if size else None

    def card(self, source: str) -> str | None:
        """The model card of a loaded model, of the very commit its weights are from; None without one.

        Raises:
            KeyError: when it is not loaded.
            resnet_hub.fetch.CheckpointError: when the card cannot be had.
        """
        with self._lock:
            model = self._loaded[source]
        commit = None if model.revision in ("shipped", "local") else model.revision
        with self._cache(source) as cache:
            return fetch_card(source, revision=commit, token=self._token(source), cache_dir=cache)

    def _token(self, source: str) -> bool | None:
        """The stored access token for what is offered, none for what a visitor names: theirs is not ours."""
        return None if source in self.offered else False

    def _load(self, source: str, tqdm_class: type | None):
        from resnet_hub.device import pick_device
        from resnet_hub.hub.load import from_pretrained

        where = {"token": self._token(source), "tqdm_class": tqdm_class}
        with self._cache(source) as cache:
            return from_pretrained(source, cache_dir=cache, **where).to(pick_device(self.device))

    def _cache(self, source: str) -> AbstractContextManager[str | None]:
        """Where downloads go: what a visitor names leaves nothing on the disk, nor is it read from the
        owner's cache, which may hold private models."""
        return nullcontext() if source in self.offered else TemporaryDirectory()


class References(Shelf):
    """timm's networks beside the models of a shelf, kept within the same bound.

    A key is (timm's name, None, None) with timm's weights, or (COUNTERPART, source, revision) with one of our
    models'.
    """

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(device=shelf.device)
        self.shelf = shelf
        self.seconds: dict[tuple, float] = {}  # measured latencies

    def allows(self, source: tuple) -> bool:
        """Where only listed models may be loaded, timm's suggested ones may too, and no other of timm's."""
        name, ours, _ = source
        return ours is not None or self.shelf.takes_any or self._is_listed(name)

    def _is_listed(self, name: str) -> bool:
        from resnet_hub.interop.reference import SUGGESTED

        bare = name.removeprefix("timm/")
        return bare in SUGGESTED or f"timm/{bare}" in self.shelf.offered

    def key(self, name: str, source: str, tqdm_class: type | None = None) -> tuple:
        """Load timm's network of that name, or our weights in it where timm's are out of reach; its key.

        Raises:
            resnet_hub.reference.NoReference: when neither can be had.
        """
        from resnet_hub.interop.reference import COUNTERPART, NoReference, is_same_network

        ours = self.shelf.get(source)
        copy = (COUNTERPART, source, ours.revision)
        key = copy if name == COUNTERPART else (name, None, None)
        if not self.allows(key):
            raise NoReference(f"{name} is not offered here", "not_offered", name=name)
        try:
            self.get(key, tqdm_class)
        except NoReference as error:
            if error.code != "unreachable" or not is_same_network(ours.config, name):
                raise
            self.get(key := copy)
        return key

    def _load(self, source: tuple, tqdm_class: type | None):
        from resnet_hub.device import pick_device
        from resnet_hub.interop.reference import copied, pretrained

        name, ours, _ = source
        if ours is not None:
            return copied(self.shelf.get(ours), ours).to(pick_device(self.device))
        # As of our models, what a visitor names leaves nothing on the disk.
        with nullcontext() if self._is_listed(name) else TemporaryDirectory() as cache:
            return pretrained(name, tqdm_class, cache).to(pick_device(self.device))


def on_gpu(function: Callable) -> Callable:
    """Mark a function for ZeroGPU, which lends a GPU to each call; elsewhere it stays as it is."""
    if not os.environ.get("SPACES_ZERO_GPU"):
        return function
    import spaces

    return spaces.GPU(function)
