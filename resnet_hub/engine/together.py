"""Callers of one network at the same moment share a batch.

Nobody waits for company: who comes while the network is free runs at once, and those who come meanwhile are
the next batch. So batches form under load only, and one network's callers never wait for another's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Event, Lock
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MOST = 8  # images in a shared batch
STEADY = 0.2  # weight of the newest measurement
RETRIED = 50  # turns after which batches that were slower are tried again


class Request:
    """One caller's image (1, C, H, W), and later its logits or what went wrong."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self.turn = Event()  # set when there is an answer, or when it is this caller's turn to run a batch
        self.logits: Tensor | None = None
        self.error: BaseException | None = None

    def has_answer(self) -> bool:
        """Whether somebody else ran it."""
        return self.logits is not None or self.error is not None


class Together:
    """Runs one network for many threads, one batch at a time.

    Args:
        most: images in a batch; it falls to one while shared batches are measured to be slower an image, and
            some are tried again now and then.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._waiting: deque[Request] = deque()
        self._is_busy = False
        self._lock = Lock()
        self._seconds: dict[bool, float] = {}  # an image, in shared batches and alone
        self._turns = 0

    def __call__(self, run: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        """Logits (N, classes) of pixels (N, C, H, W); several images are a batch already.

        Raises:
            Exception: what `run` raised for the batch.
        """
        if len(pixels) != 1:
            return run(pixels)
        mine = Request(pixels)
        with self._lock:
            self._waiting.append(mine)
            is_first, self._is_busy = not self._is_busy, True
        if not is_first:
            mine.turn.wait()
        if not mine.has_answer():
            self._run_batch(run)
        if mine.error is not None:
            raise mine.error
        assert mine.logits is not None, "a batch answers all of its callers"
        return mine.logits

    def _run_batch(self, run: Callable[[Tensor], Tensor]) -> None:
        """The oldest requests, the caller's first; then it is the next one's turn."""
        with self._lock:
            self._turns += 1
            most, batch = self._size(), [self._waiting.popleft()]
            while self._waiting and len(batch) < most and fits(batch[0], self._waiting[0]):
                batch.append(self._waiting.popleft())
        try:
            self._answer(run, batch)
        except BaseException as error:
            for each in batch:
                each.error = error
        finally:
            with self._lock:
                self._is_busy = bool(self._waiting)
                following = [*batch[1:], *list(self._waiting)[:1]]
            for each in following:
                each.turn.set()

    def _answer(self, run: Callable[[Tensor], Tensor], batch: list[Request]) -> None:
        import torch

        pixels = torch.cat([each.pixels for each in batch]) if len(batch) > 1 else batch[0].pixels
        started = perf_counter()
        logits = run(pixels)
        taken, is_shared = (perf_counter() - started) / len(batch), len(batch) > 1
        known = self._seconds.get(is_shared, taken)
        self._seconds[is_shared] = known + STEADY * (taken - known)
        for each, row in zip(batch, logits.split(1), strict=True):
            each.logits = row

    def _size(self) -> int:
        """How many images the next batch may have."""
        alone, shared = self._seconds.get(False), self._seconds.get(True)
        is_slower = alone is not None and shared is not None and shared > alone
        return 1 if is_slower and self._turns % RETRIED else self._most


def fits(one: Request, other: Request) -> bool:
    """Whether two requests can be in one batch."""
    return one.pixels.shape == other.pixels.shape and one.pixels.device == other.pixels.device
