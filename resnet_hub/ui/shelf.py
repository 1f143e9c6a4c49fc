"""The models a page offers, and the few kept in memory between clicks.

A visitor can name a public Hub repository where that is allowed, but never a directory: those are loaded only
where whoever runs the page offers them.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from resnet_hub.errors import Refusal
from resnet_hub.hub import commit_of
from resnet_hub.hub.client import bounded
from resnet_hub.hub.fetch import (
    REPO_ID,
    CheckpointError,
    HubUnreachable,
    fetch_card,
    fetch_checkpoint,
    shipped_config,
    shipped_names,
)
from resnet_hub.onnx_file import OnnxFile, is_onnx_file
from resnet_hub.predict import DEFAULT_MODEL
from resnet_hub.ui.limits import Limits
from resnet_hub.ui.shared.text import say

if TYPE_CHECKING:
    from resnet_hub.interop.reference import Reference
    from resnet_hub.predict import Timing

IMAGENET_MEGABYTES = {"timm/resnet18.a1_in1k": 47, "timm/resnet34.a1_in1k": 87, "timm/resnet50.a1_in1k": 102}
CARD_SECONDS = 20
OWN = "own"  # instead of a timm name: one of our models
MOST_COMPUTING = 100  # models whose turns are remembered
MOST_WAITING = 2  # photos for a model that a visitor brought, beside those at once
DEFAULT_LIMITS = Limits()

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TooLarge(Refusal):
    """A repository that a visitor named and that is larger than `Limits.typed_bytes`."""

    def __init__(self, source: str, size: int, most: int) -> None:
        facts = {"model": source, "megabytes": size // 10**6, "most": most // 10**6}
        message = "{model} has {megabytes} MB; at most {most} MB are downloaded for a visitor".format(**facts)
        super().__init__(message, "model_too_large", **facts)


CROWDED = {
    "loading_full": "too many models are being loaded; try again in a minute",
    "model_busy": "this model is busy with others' photos; try again in a minute",
}


class Crowded(Refusal):
    """Too many visitors wait, for reasons by their code in `CROWDED`."""

    def __init__(self, code: str) -> None:
        super().__init__(CROWDED[code], code)


class Turns:
    """Lets a few work at once and a few more wait; turns everybody else away.

    Args:
        at_once: how many work.
        waiting: how many wait for one of these.
        seconds: how long they wait.
        code: why others are turned away.
    """

    def __init__(self, at_once: int, waiting: int, seconds: float, code: str = "loading_full") -> None:
        self._working = BoundedSemaphore(at_once)
        self._inside = BoundedSemaphore(at_once + waiting)
        self._seconds, self._code = seconds, code

    @contextmanager
    def take(self) -> Iterator[None]:
        """Raises Crowded, at once where too many wait, or where the turn does not come in time."""
        if not self._inside.acquire(blocking=False):
            raise Crowded(self._code)
        try:
            if not self._working.acquire(timeout=self._seconds):
                raise Crowded(self._code)
            try:
                yield
            finally:
                self._working.release()
        finally:
            self._inside.release()


class Recent(Generic[Key, Value]):
    """At most `most` values, the least recently used dropped first; safe to use from many threads.

    Args:
        most_bytes: that they may hold together by `weigh`; the last one used stays, however large.
    """

    def __init__(
        self, most: int, most_bytes: int | None = None, weigh: Callable[[Value], int] = lambda value: 0
    ) -> None:
        self._most, self._most_bytes, self._weigh = most, most_bytes, weigh
        self._bytes: dict[Key, int] = {}
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()
        # A lock for each key, gone with the last thread that makes or awaits its value.
        self._making: WeakValueDictionary[Key, Lock] = WeakValueDictionary()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key; made once, however many threads ask for it at the same time."""
        with suppress(KeyError):  # without waiting for another's download
            return self._touch(key)
        with self._lock:
            making = self._making.setdefault(key, Lock())
        with making:
            with suppress(KeyError):
                return self._touch(key)
            value = make()
            self.put(key, value)
            return value

    def peek(self, key: Key, otherwise: Value) -> Value:
        """The value of a key, or another where it has none."""
        with self._lock:
            return self._values.get(key, otherwise)

    def _touch(self, key: Key) -> Value:
        with self._lock:
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Key, value: Value) -> None:
        """Keep a value, as the most recently used."""
        weight = self._weigh(value)
        with self._lock:
            self._values[key], self._bytes[key] = value, weight
            self._values.move_to_end(key)
            while len(self._values) > 1 and self._is_full():
                del self._bytes[self._values.popitem(last=False)[0]]

    def _is_full(self) -> bool:
        too_heavy = self._most_bytes is not None and sum(self._bytes.values()) > self._most_bytes
        return len(self._values) > self._most or too_heavy

    def items(self) -> list[tuple[Key, Value]]:
        """(key, value) of all, the most recently used last."""
        with self._lock:
            return list(self._values.items())


def size_of(model: Any) -> int:
    """Bytes of the weights and statistics of a network, or of a reference's, or of an ONNX file."""
    if isinstance(model, OnnxFile):
        return model.size
    net = getattr(model, "net", model)
    return sum(each.numel() * each.element_size() for each in (*net.parameters(), *net.buffers()))


class Shelf:
    """Loads models on demand and keeps the most recently used ones.

    Args:
        added: repository ids or directories offered beside the shipped checkpoints and ImageNet's.
        device: where models live, "auto", "cpu", "cuda" or "mps".
        only: the repository ids that may be loaded from the Hub; None allows any public one.
        limits: how many models are kept, and how large a visitor's may be.
        engine: what runs them, and the precision; see `resnet_hub.engine.choose`.
    """

    def __init__(
        self,
        added: tuple[str, ...] = (),
        device: str = "auto",
        only: tuple[str, ...] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        engine: tuple[str, str] = ("auto", "auto"),
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.takes_any = only is None
        from_hub = IMAGENET_MEGABYTES if only is None else only
        self.shipped = shipped_names()
        self.owners = dict.fromkeys([DEFAULT_MODEL, *added, *self.shipped])
        self.offered = list(dict.fromkeys([*self.owners, *from_hub]))
        # Who offers an ONNX file may want no torch in memory before somebody chooses a network that needs it.
        self.first = next(filter(is_onnx_file, self.offered), DEFAULT_MODEL)
        self.device = device
        self._computing: Recent[str, Turns] = Recent(MOST_COMPUTING)
        self._turns = Turns(limits.loading, limits.loading_waiting, limits.load_seconds)
        self.grids = BoundedSemaphore(1)  # many photos, one visitor after the other
        self._models: Recent[str, Any] = Recent(limits.models, limits.models_bytes, size_of)

    def allows(self, source: str) -> bool:
        """Whether a visitor may use this model."""
        if source in self.offered:
            return True
        return (
            self.takes_any
            and not is_onnx_file(source)
            and bool(REPO_ID.fullmatch(source))
            and not Path(source).exists()
        )

    @property
    def offers_imagenet(self) -> bool:
        """Whether timm's ImageNet models are among those offered."""
        return not IMAGENET_MEGABYTES.keys().isdisjoint(self.offered)

    def loaded(self) -> list[str]:
        """Sources of the models in memory, the most recently used first."""
        return [source for source, _ in reversed(self.in_memory())]

    def choices(self, language: str) -> list[tuple[str, str]]:
        """(text, source) of every offered model."""
        return [(self._describe(language, source), source) for source in self.offered]

    def choices_or_none(self, language: str) -> list[tuple[str, str]]:
        """The same after no model at all, which is ""."""
        return [(say(language, "no_model"), ""), *self.choices(language)]

    def _describe(self, language: str, source: str) -> str:
        if source in self.shipped:
            return say(language, "offered_shipped", name=source, classes=shipped_config(source).num_classes)
        if source in IMAGENET_MEGABYTES:
            megabytes = IMAGENET_MEGABYTES[source]
            return say(language, "offered_imagenet", name=source, megabytes=megabytes)
        return source

    def get(
        self, source: str, tqdm_class: type | None = None, announce: Callable[[int], None] = lambda size: None
    ):
        """The model, loaded once however many visitors ask at the same time.

        Args:
            announce: called with the bytes of a download before it begins.

        Raises:
            KeyError: when it is not allowed.
            TooLarge: for a repository that is not offered and larger than `Limits.typed_bytes`.
            resnet_hub.hub.fetch.CheckpointError: when it cannot be loaded.
        """
        if not self.allows(source):
            raise KeyError(source)
        return self._models.get(source, lambda: self._load(source, tqdm_class, announce))

    def computing(self, source: str) -> AbstractContextManager[None]:
        """To be held while a photo is classified; each model has its own, so that a heavy one holds up nobody
        else's. For one that the owner did not put there few may wait: they take places from everybody.

        Raises:
            Crowded: where too many wait already, or the turn does not come in time.
        """
        waiting = self.places if source in self.owners else MOST_WAITING
        bounds = (self.limits.at_once, waiting, self.limits.load_seconds, "model_busy")
        return self._computing.get(source, lambda: Turns(*bounds)).take()

    def turn(self, source: str) -> AbstractContextManager[None]:
        """To be held while a model is asked for: a slow download must not hold up who needs none.

        Raises:
            Crowded: where too many wait already.
        """
        is_ready = source in self.shipped or any(source == name for name, _ in self.in_memory())
        return nullcontext() if is_ready else self._turns.take()

    @property
    def places(self) -> int:
        """How many of one event run at once: those who wait for a model never hold the last places."""
        return self.limits.at_once + self.limits.loading + self.limits.loading_waiting

    @property
    def many_at_once(self) -> dict[str, Any]:
        """Of events that wait for `grids`: one event's places for all, since each place holds a thread."""
        return {"concurrency_limit": self.places, "concurrency_id": "grids"}

    def in_memory(self) -> list[tuple[str, Any]]:
        """(source, model) of those that need no loading, the most recently used last."""
        return self._models.items()

    def held(self) -> int:
        """Bytes of the models in memory."""
        return sum(size_of(model) for _, model in self.in_memory())

    def card(self, source: str) -> str | None:
        """The card of a shipped or a loaded model, from the commit its weights are from; None without one.

        Raises:
            KeyError: when it is neither.
            resnet_hub.hub.fetch.CheckpointError: when the card cannot be downloaded.
        """
        if source in self.shipped:
            return fetch_card(source)
        if is_onnx_file(source):
            return None
        model = dict(self.in_memory())[source]
        commit = commit_of(model.revision)
        with self._cache(source) as cache, bounded(seconds=CARD_SECONDS):
            return fetch_card(source, revision=commit, token=self._token(source), cache_dir=cache)

    def _token(self, source: str) -> bool | None:
        """The stored access token for what is offered, none for what a visitor names."""
        return None if source in self.offered else False

    def _load(self, source: str, tqdm_class: type | None, announce: Callable[[int], None]):
        if is_onnx_file(source):  # one that whoever runs the page offers: no repository is named like a file
            return OnnxFile(source)
        from resnet_hub.hub.bounds import OWN, VISITORS
        from resnet_hub.hub.load import load_checkpoint

        def check(size: int) -> None:
            if source not in self.offered and size > self.limits.typed_bytes:
                raise TooLarge(source, size, self.limits.typed_bytes)
            announce(size)

        with self._cache(source) as cache, bounded(seconds=self.limits.load_seconds):
            checkpoint = fetch_checkpoint(
                source,
                token=self._token(source),
                cache_dir=cache,
                tqdm_class=tqdm_class,
                before_download=check,
            )
            bounds = OWN if source in self.offered else VISITORS
            return self.ready(load_checkpoint(checkpoint, bounds))

    def ready(self, model: Any) -> Any:
        """A model or a reference on the page's device and engine.

        Raises:
            Refusal: when this machine has no such device, or the engine does not run the model.
        """
        from resnet_hub.device import pick_device
        from resnet_hub.engine import choose

        model = model.to(pick_device(self.device))
        # ZeroGPU forks a process for each call, which would prepare an engine and forget it.
        engine = ("eager", "auto") if is_zero_gpu() and self.engine[0] == "auto" else self.engine
        choose(model, *engine, serving=True)
        return model

    def _cache(self, source: str) -> AbstractContextManager[str | None]:
        """Where downloads go: what a visitor names is not kept on the disk, nor read from the owner's cache,
        which may hold private models."""
        return nullcontext() if source in self.offered else TemporaryDirectory()


class ReferenceKey(NamedTuple):
    """timm's network `name` with its own weights; or `COUNTERPART` with those of our model `source`, or that
    model itself where `name` is `OWN`.
    """

    name: str
    source: str | None = None
    revision: str | None = None


class References:
    """timm's networks beside the models of a shelf, at most as many."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.seconds: dict[tuple, Timing] = {}  # measured latencies
        limits = shelf.limits
        self._models: Recent[tuple, Reference] = Recent(limits.models, limits.models_bytes, size_of)
        # Of all visitors: two comparisons together would hold twice as many networks as memory has room for.
        self.comparing = BoundedSemaphore(1)
        self._turns = Turns(1, limits.loading_waiting, limits.load_seconds)

    def turn(self, names: Iterable[str]) -> AbstractContextManager[None]:
        """To be held while references are asked for and compared, as `Shelf.turn`.

        Raises:
            Crowded: where too many wait already.
        """
        from resnet_hub.interop.reference import COUNTERPART

        theirs = (key[0] for key, _ in self.in_memory())
        offered = {*self.shelf.offered} & {*self.shelf.loaded()}  # of what visitors name a copy is loaded
        ready = {COUNTERPART, *self.shelf.shipped, *offered, *theirs}
        return nullcontext() if ready.issuperset(names) else self._turns.take()

    def allows(self, key: tuple) -> bool:
        """Whether a visitor may use this reference: where models are listed, one of those or suggested."""
        name, source, _ = key
        return source is not None or self.shelf.takes_any or self._is_listed(name)

    def _is_listed(self, name: str) -> bool:
        from resnet_hub.interop.reference import SUGGESTED

        bare = name.removeprefix("timm/")
        return bare in SUGGESTED or f"timm/{bare}" in self.shelf.offered

    def get(self, key: tuple, tqdm_class: type | None = None) -> Reference:
        """The reference, loaded once however many visitors ask at the same time.

        Raises:
            KeyError: when it is not allowed.
            resnet_hub.interop.reference.NoReference: when it cannot be loaded.
        """
        if not self.allows(key):
            raise KeyError(key)
        return self._models.get(key, lambda: self._load(key, tqdm_class))

    def in_memory(self) -> list[tuple[tuple, Reference]]:
        """(key, reference) of those that need no loading, the most recently used last."""
        return self._models.items()

    def key(self, name: str, source: str, tqdm_class: type | None = None) -> ReferenceKey:
        """Load timm's network of that name, or a copy of ours where timm's weights are out of reach; its key.

        Raises:
            resnet_hub.interop.reference.NoReference: when neither is possible.
            Refusal: for an ONNX file, which only answers.
        """
        from resnet_hub.interop.reference import COUNTERPART, NoReference, is_same_network

        ours = self.shelf.get(source)
        copy = ReferenceKey(COUNTERPART, source, ours.revision)
        key = copy if name == COUNTERPART else ReferenceKey(name)
        if name in self.shelf.offered:
            key = ReferenceKey(OWN, name, self._ours(name, tqdm_class).revision)
        if not self.allows(key):
            raise NoReference(f"{name} is not offered here", "not_offered", name=name)
        try:
            self.get(key, tqdm_class)
        except NoReference as error:
            if error.code != "unreachable" or not is_same_network(ours.config, name):
                raise
            self.get(key := copy)
        return key

    def _ours(self, name: str, tqdm_class: type | None) -> Any:
        from resnet_hub.interop.reference import NoReference

        if is_onnx_file(name):
            raise Refusal(
                f"{name} is an ONNX file, which gives answers only; choose a checkpoint",
                "model_only_answers",
                model=name,
            )
        try:
            return self.shelf.get(name, tqdm_class)
        except CheckpointError as error:
            code = "unreachable" if isinstance(error, HubUnreachable) else "unusable"
            raise NoReference(f"{name} cannot be loaded: {error}", code, name=name, why=error) from error

    def _load(self, key: tuple, tqdm_class: type | None) -> Reference:
        from resnet_hub.interop.reference import copied, own, pretrained

        name, source, _ = key
        if source is not None and name == OWN:
            return own(self.shelf.get(source), source)
        if source is not None:
            return self.shelf.ready(copied(self.shelf.get(source), source))
        # As of our models, what a visitor names leaves nothing on the disk.
        within = bounded(seconds=self.shelf.limits.load_seconds)
        with nullcontext() if self._is_listed(name) else TemporaryDirectory() as cache, within:
            return self.shelf.ready(pretrained(name, tqdm_class, cache))


def is_zero_gpu() -> bool:
    """Whether this is a Space that borrows a GPU for each call."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def on_gpu(function: Callable) -> Callable:
    """Mark a function for ZeroGPU, which lends a GPU to each call; elsewhere it stays as it is."""
    if not is_zero_gpu():
        return function
    import spaces

    return spaces.GPU(function)
