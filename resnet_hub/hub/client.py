"""What the Hub, or whoever answers in its place, may send: bounded in bytes, unpacked, and in time.

huggingface_hub unpacks a compressed answer whole and waits for each byte anew. Inside `bounded` every answer
of its client is counted while it arrives; outside, the client is as it was.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any

from huggingface_hub import set_client_factory

from resnet_hub.errors import Refusal

MOST_ANSWER = 32 << 20  # bytes; a list of 100,000 files with their hashes has 25 MB
PIECE = 1 << 20  # bytes unpacked at once
PACKED = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class TooMuch(Refusal):
    """An answer above its bound."""


class TooSlow(Refusal):
    """An answer that was not there in time."""


@dataclass(frozen=True)
class Bound:
    """Of every answer: `most` bytes once unpacked, all there before `until` (`time.monotonic`), if ever."""

    most: int
    until: float | None


_BOUND: ContextVar[Bound | None] = ContextVar("bound", default=None)
_INSTALLING = Lock()


@contextmanager
def bounded(most: int = MOST_ANSWER, seconds: float | None = None) -> Iterator[None]:
    """Bound each answer that huggingface_hub reads inside, in this thread.

    Args:
        most: bytes of one answer, once unpacked.
        seconds: until the last byte of the last answer; an outer, earlier end stays.

    Raises:
        TooMuch: from the call that reads such an answer.
        TooSlow: likewise.
    """
    install()
    outer = _BOUND.get()
    ends = [end for end in (outer and outer.until, seconds and time.monotonic() + seconds) if end]
    before = _BOUND.set(Bound(most, min(ends, default=None)))
    try:
        yield
    finally:
        _BOUND.reset(before)


@dataclass(frozen=True)
class Hooking:
    """A factory of clients with the two hooks, around one that huggingface_hub or somebody set."""

    former: Callable[[], Any]

    def __call__(self) -> Any:
        """A new client."""
        return hooked(self.former())


def install() -> None:
    """Have huggingface_hub's clients hooked, whoever makes them."""
    from huggingface_hub.utils import _http  # no public name says which factory is set

    with _INSTALLING:
        if not isinstance(factory := _http._GLOBAL_CLIENT_FACTORY, Hooking):
            set_client_factory(Hooking(factory))


def hooked(client: Any) -> Any:
    """An httpx client that asks for answers as they are and counts what comes."""
    packages: Iterator[Any] = (
        sys.modules.get(each.__module__.partition(".")[0]) for each in type(client).__mro__
    )
    httpx = next(package for package in packages if hasattr(package, "SyncByteStream"))  # or httpx2
    counting = stream_class(httpx.SyncByteStream)

    def on_request(request: Any) -> None:
        if _BOUND.get() is not None:
            check_time(_BOUND.get())
            request.headers["Accept-Encoding"] = "identity"

    def on_response(response: Any) -> None:
        if (bound := _BOUND.get()) is not None:
            packed = response.headers.pop("Content-Encoding", "identity").strip().lower()
            if packed != "identity":
                response.headers.pop("Content-Length", None)  # of the packed bytes
            response.stream = counting(response.stream, packed, bound)

    hooks = client.event_hooks
    hooks["request"].append(on_request)
    hooks["response"].append(on_response)
    client.event_hooks = hooks
    return client


def stream_class(base: type) -> type:
    """A stream of httpx's kind that counts."""

    class Counted(base):
        def __init__(self, stream: Any, packed: str, bound: Bound) -> None:
            self.stream, self.packed, self.bound = stream, packed, bound

        def __iter__(self) -> Iterator[bytes]:
            return counted(self.stream, self.packed, self.bound)

        def close(self) -> None:
            self.stream.close()

    return Counted


def counted(pieces: Any, packed: str, bound: Bound) -> Iterator[bytes]:
    """The bytes of an answer, unpacked.

    Raises:
        TooMuch: beyond the bound, or for a packing that was not asked for and cannot be bounded.
        TooSlow: at the end of its time.
    """
    unpack = unpacker(packed)
    seen = 0
    for piece in pieces:
        check_time(bound)
        for plain in unpack(piece):
            seen += len(plain)
            if seen > bound.most:
                raise TooMuch(f"the answer has more than {bound.most:,} bytes; look at the endpoint or proxy")
            yield plain


def check_time(bound: Bound | None) -> None:
    """Raises TooSlow once the time is over."""
    if bound is not None and bound.until is not None and time.monotonic() > bound.until:
        raise TooSlow("the answer takes too long; try again later", "hub_slow")


def unpacker(packed: str) -> Callable[[bytes], Iterator[bytes]]:
    """A function from packed bytes to pieces of at most PIECE unpacked ones."""
    if packed == "identity":
        return lambda piece: iter((piece,))
    if packed not in PACKED:
        raise TooMuch(f"the answer is packed with {packed[:20]!r}, unasked; look at the endpoint or proxy")
    engine = zlib.decompressobj(PACKED[packed])

    def unpack(piece: bytes) -> Iterator[bytes]:
        try:
            while piece:
                yield engine.decompress(piece, PIECE)
                piece = engine.unconsumed_tail
        except zlib.error as error:
            raise TooMuch("the answer is packed and damaged; look at the endpoint or proxy") from error

    return unpack
