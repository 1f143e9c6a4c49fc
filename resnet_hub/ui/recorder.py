"""Counts of what Classify did since the start, by model and revision, in memory of bounded size.

They hold no image, label or address of a visitor; `operations.py` shows them. With a folder, each day's
counts are kept there across restarts (SQLite).
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from resnet_hub.errors import Refusal
from resnet_hub.ui.memory import Watch, resident
from resnet_hub.ui.shelf import Recent

KEPT = 1000  # answers of each model that percentiles are taken from
MOST_MODELS = 100
PERCENTILES = (50, 95, 99)
MOST_DAYS = 400
DAYS = """CREATE TABLE IF NOT EXISTS days (day TEXT, model TEXT, revision TEXT, answered INTEGER,
failed INTEGER, flagged INTEGER, top REAL, PRIMARY KEY (day, model, revision))"""
COUNT_DAY = """INSERT INTO days VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
answered = answered + excluded.answered, failed = failed + excluded.failed,
flagged = flagged + excluded.flagged, top = top + excluded.top"""
READ_DAYS = """SELECT day, model, revision, answered, failed, 1.0 * flagged / MAX(answered, 1),
top / MAX(answered, 1) FROM days ORDER BY day DESC, model LIMIT ?"""


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


class Day(NamedTuple):
    """One model on one day (UTC); `share` is the mean top share of its answers."""

    day: str
    model: str
    revision: str
    answered: int
    failed: int
    flagged: float
    share: float


def opened(folder: Path) -> sqlite3.Connection:
    """The counts kept in a folder.

    Raises:
        Refusal: when it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        days = sqlite3.connect(folder / "operations.sqlite", check_same_thread=False)
        days.execute(DAYS)
        days.commit()
    except (OSError, sqlite3.Error) as error:
        raise Refusal(
            f"--operations-dir {folder} cannot be written ({error}); name another folder"
        ) from error
    return days


def metrics(recorder: Recorder) -> str:
    """Everything since the start in Prometheus' text format."""
    kinds = {"answers": "counter", "errors": "counter", "flagged": "counter", "latency_seconds": "gauge"}
    found: dict[str, list[str]] = {name: [] for name in kinds}
    for line in recorder.lines():
        names = f'model="{quoted(line.model)}",revision="{quoted(line.revision)}"'
        failed = round(line.errors * line.requests)
        counts = {"answers": line.requests - failed, "errors": failed}
        counts["flagged"] = round(line.flagged * counts["answers"])
        for name, count in counts.items():
            found[name].append(f"resnet_hub_{name}_total{{{names}}} {count}")
        for share, seconds in zip(PERCENTILES, line.latencies, strict=True):
            if seconds is not None:
                label = f'{names},quantile="{share / 100}"'
                found["latency_seconds"].append(f"resnet_hub_latency_seconds{{{label}}} {seconds:.6f}")
    texts = [
        f"# TYPE resnet_hub_{name}{'_total' * (kind == 'counter')} {kind}" for name, kind in kinds.items()
    ]
    lines = [line for text, name in zip(texts, kinds, strict=True) for line in (text, *found[name])]
    about = {"start_time_seconds": recorder.started, "memory_bytes": resident()}
    lines += [line for name, value in about.items() for line in
              (f"# TYPE resnet_hub_{name} gauge", f"resnet_hub_{name} {value:.0f}")]  # fmt: skip
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A label's value as Prometheus reads it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Recorder:
    """Counts answers and failures; safe to use from many threads.

    Args:
        folder: where each day's counts are kept; None forgets them at the end.

    Raises:
        Refusal: when the folder cannot be written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.started, self.watch = time.time(), Watch()
        self._days = None if folder is None else opened(folder)
        self._counts: Recent[tuple[str, str], Counts] = Recent(MOST_MODELS)
        self._lock = Lock()

    def answered(
        self, model: str, revision: str, seconds: float, flagged: bool, share: float | None = None
    ) -> None:
        """One image was classified in `seconds`, from the request to the answer, with this top share."""
        with self._lock:
            self._count_day(model, revision, answered=1, flagged=int(flagged), top=share or 0.0)
            counts = self._of(model, revision)
            counts.answered += 1
            counts.flagged += flagged
            counts.seconds.append(seconds)

    def failed(self, model: str, revision: str) -> None:
        """One request ended in an error; revision "" where the model was never loaded."""
        with self._lock:
            self._count_day(model, revision, failed=1)
            self._of(model, revision).failed += 1

    @contextmanager
    def failures(self, model: str, revision: str = "") -> Iterator[None]:
        """Count whatever is raised inside as one failure."""
        try:
            yield
        except Exception:
            self.failed(model, revision)
            raise

    def _count_day(
        self, model: str, revision: str, answered: int = 0, failed: int = 0, flagged: int = 0, top: float = 0
    ) -> None:
        if self._days is None:
            return
        key = (time.strftime("%Y-%m-%d", time.gmtime()), model, revision)
        with suppress(sqlite3.Error), self._days:  # a full disk stops the counting, not the page
            self._days.execute(COUNT_DAY, (*key, answered, failed, flagged, top))

    def days(self) -> list[Day]:
        """Every day's figures by model, the latest first; empty without a folder."""
        if self._days is None:
            return []
        with self._lock:
            return [Day(*row) for row in self._days.execute(READ_DAYS, (MOST_DAYS,))]

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
