"""Counts of what Classify did since the start, by model and revision, in memory of bounded size.

They hold no image, label or address of a visitor; `operations.py` shows them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from resnet_hub.ui.shelf import Recent

KEPT = 1000  # answers of each model that percentiles are taken from
MOST_MODELS = 100
PERCENTILES = (50, 95, 99)


@dataclass
class Counts:
    """One model's answers: how many, and the `seconds` the latest took."""

    seconds: deque = field(default_factory=lambda: deque(maxlen=KEPT))
    answered: int = 0
    failed: int = 0
    flagged: int = 0


@dataclass(frozen=True)
class Line:
    """One model at one moment; latencies in seconds, None before the first answer."""

    model: str
    revision: str
    requests: int
    a_minute: float
    latencies: tuple[float | None, ...]
    errors: float
    flagged: float


class Recorder:
    """Counts answers and failures; safe to use from many threads."""

    def __init__(self) -> None:
        self.started = time.time()
        self._counts: Recent[tuple[str, str], Counts] = Recent(MOST_MODELS)
        self._lock = Lock()

    def answered(self, model: str, revision: str, seconds: float, flagged: bool) -> None:
        """One image was classified in `seconds`, from the request to the answer."""
        with self._lock:
            counts = self._of(model, revision)
            counts.answered += 1
            counts.flagged += flagged
            counts.seconds.append(seconds)

    def failed(self, model: str, revision: str) -> None:
        """One request ended in an error; revision "" where the model was never loaded."""
        with self._lock:
            self._of(model, revision).failed += 1

    @contextmanager
    def failures(self, model: str, revision: str = "") -> Iterator[None]:
        """Count whatever is raised inside as one failure."""
        try:
            yield
        except Exception:
            self.failed(model, revision)
            raise

    def _of(self, model: str, revision: str) -> Counts:
        return self._counts.get((model, revision), Counts)

    def lines(self) -> list[Line]:
        """Every model's figures since the start."""
        minutes = max(time.time() - self.started, 1e-9) / 60
        with self._lock:
            return [_line(*key, counts, minutes) for key, counts in self._counts.items()]


def _line(model: str, revision: str, counts: Counts, minutes: float) -> Line:
    requests = counts.answered + counts.failed
    return Line(
        model,
        revision,
        requests,
        requests / minutes,
        tuple(percentile(sorted(counts.seconds), each) for each in PERCENTILES),
        counts.failed / requests,
        counts.flagged / max(counts.answered, 1),
    )


def percentile(ordered: list[float], share: float) -> float | None:
    """Nearest-rank percentile of sorted values: the least that `share` percent do not exceed, if any."""
    return ordered[max(math.ceil(share / 100 * len(ordered)), 1) - 1] if ordered else None
