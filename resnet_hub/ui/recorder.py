"""Counts of what Classify did since the start, by model and revision, in memory of bounded size.

They hold no image, label or address of a visitor; `operations.py` shows them. With a folder, each day's
counts are kept there across restarts (SQLite).
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_hub.errors import Refusal
from resnet_hub.ui.memory import Watch, resident
from resnet_hub.ui.shelf import Recent

if TYPE_CHECKING:
    from resnet_hub.models.calibration import Calibration

KEPT = 1000  # answers of each model that percentiles are taken from
MOST_MODELS = 100
PERCENTILES = (50, 95, 99)
LATENCY = "latency_seconds"
MOST_ROWS = 400  # of the table of days
TALLIES = ("answered", "failed", "refused", "flagged", "firm", "top")  # of a day; `top` adds up shares
STEP = 1.1  # latencies of a day are kept in classes this much apart
TROUBLE = {"hub_unreachable", "hub_slow", "model_failed"}  # said to the visitor, but no fault of theirs
TABLES = (
    """CREATE TABLE IF NOT EXISTS days (day TEXT, model TEXT, revision TEXT, answered INTEGER,
    failed INTEGER, flagged INTEGER, top REAL, PRIMARY KEY (day, model, revision))""",
    """CREATE TABLE IF NOT EXISTS latencies (day TEXT, model TEXT, revision TEXT, class INTEGER,
    count INTEGER, PRIMARY KEY (day, model, revision, class))""",
)
LATER = ("refused", "firm")  # columns that a first version did not have
COUNT_DAY = f"""INSERT INTO days (day, model, revision, {", ".join(TALLIES)})
VALUES (?, ?, ?{", ?" * len(TALLIES)}) ON CONFLICT DO UPDATE SET
{", ".join(f"{name} = {name} + excluded.{name}" for name in TALLIES)}"""
COUNT_LATENCY = """INSERT INTO latencies VALUES (?, ?, ?, ?, 1)
ON CONFLICT DO UPDATE SET count = count + 1"""
READ_DAYS = f"""SELECT day, model, revision, {", ".join(TALLIES)} FROM days
ORDER BY day DESC, model LIMIT ?"""
READ_LATENCIES = """SELECT class, count FROM latencies WHERE day = ? AND model = ? AND revision = ?
ORDER BY class"""


@dataclass
class Counts:
    """One model's answers: how many, and the `seconds` the latest took."""

    seconds: deque = field(default_factory=lambda: deque(maxlen=KEPT))
    answered: int = 0
    failed: int = 0
    refused: int = 0
    flagged: int = 0
    firm: int = 0
    top: float = 0.0


@dataclass(frozen=True)
class Line:
    """One model at one moment; latencies in seconds, None before the first answer."""

    model: str
    revision: str
    requests: int
    a_minute: float
    latencies: tuple[float | None, ...]
    counts: Counts

    @property
    def errors(self) -> float:
        return self.counts.failed / max(self.requests, 1)

    @property
    def refusals(self) -> float:
        return self.counts.refused / max(self.requests, 1)

    @property
    def flagged(self) -> float:
        return self.counts.flagged / max(self.counts.answered, 1)


class Day(NamedTuple):
    """One model on one day (UTC); `top` adds up the top shares of its answers."""

    day: str
    model: str
    revision: str
    answered: int
    failed: int
    refused: int
    flagged: int
    firm: int
    top: float
    latencies: tuple[float | None, ...] = ()

    def share(self, tally: str) -> float:
        """ "flagged", "firm" or "top" of an answer, on average."""
        return getattr(self, tally) / max(self.answered, 1)


def opened(folder: Path) -> sqlite3.Connection:
    """The counts kept in a folder.

    Raises:
        Refusal: when it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        days = sqlite3.connect(folder / "operations.sqlite", check_same_thread=False)
        for table in TABLES:
            days.execute(table)
        known = {column for _, column, *_ in days.execute("PRAGMA table_info(days)")}
        for column in LATER:
            if column not in known:
                days.execute(f"ALTER TABLE days ADD COLUMN {column} INTEGER DEFAULT 0")
        days.commit()
    except (OSError, sqlite3.Error) as error:
        raise Refusal(
            f"--operations-dir {folder} cannot be written ({error}); name another folder"
        ) from error
    return days


def metrics(recorder: Recorder) -> str:
    """Everything since the start in Prometheus' text format."""
    names = {"answered": "answers", "failed": "errors", "refused": "refusals", "flagged": "flagged",
             "firm": "firm", "top": "top_share"}  # fmt: skip
    found: dict[str, list[str]] = {name: [] for name in (*(f"{n}_total" for n in names.values()), LATENCY)}
    for line in recorder.lines():
        labels = f'model="{quoted(line.model)}",revision="{quoted(line.revision)}"'
        for tally, name in names.items():
            found[f"{name}_total"].append(f"{{{labels}}} {getattr(line.counts, tally):.12g}")
        for share, seconds in zip(PERCENTILES, line.latencies, strict=True):
            if seconds is not None:
                found[LATENCY].append(f'{{{labels},quantile="{share / 100}"}} {seconds:.6f}')
    parts = {part: held() for part, held in recorder.parts.items()}
    found["memory_part_bytes"] = [f'{{part="{part}"}} {held:.0f}' for part, held in parts.items()]
    found["start_time_seconds"] = [f" {recorder.started:.0f}"]
    found["memory_bytes"] = [f" {resident():.0f}"]
    lines = []
    for name, values in found.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# TYPE resnet_hub_{name} {kind}", *(f"resnet_hub_{name}{value}" for value in values)]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A label's value as Prometheus reads it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Recorder:
    """Counts answers, errors and refusals; safe to use from many threads.

    Args:
        folder: where each day's counts are kept; None forgets them at the end.
        log: called with each event as a dictionary of plain values.

    Raises:
        Refusal: when the folder cannot be written.
    """

    def __init__(
        self, folder: Path | None = None, log: Callable[[dict[str, Any]], None] = lambda event: None
    ) -> None:
        self.started, self.watch = time.time(), Watch()
        self.parts: dict[str, Callable[[], int]] = {}  # name -> bytes it holds
        # what each model's card says of itself
        self.cards: Recent[tuple[str, str], Calibration | None] = Recent(MOST_MODELS)
        self._days = None if folder is None else opened(folder)
        self._log = log
        self._counts: Recent[tuple[str, str], Counts] = Recent(MOST_MODELS)
        self._lock = Lock()

    def expects(self, model: str, revision: str, calibration: Calibration) -> None:
        """Remember what a model's card states, to compare the answers with."""
        self.cards.put((model, revision), calibration)

    def answered(
        self,
        model: str,
        revision: str,
        seconds: float,
        flagged: bool,
        share: float | None = None,
        firm: bool = False,
    ) -> None:
        """One image was classified in `seconds`, from the request to the answer, with this top share."""
        tallies = {"answered": 1, "flagged": int(flagged), "firm": int(firm), "top": share or 0.0}
        facts = {"flagged": flagged, "firm": firm, "top": share}
        self._count(model, revision, "answer", tallies, seconds, **facts)

    def failed(self, model: str, revision: str, error: Exception | None = None) -> None:
        """One request ended in an error, or was refused; revision "" where the model was never loaded."""
        reason = getattr(error, "reason", error)
        is_refused = isinstance(reason, Refusal) and reason.code not in TROUBLE
        kind, tally = ("refusal", "refused") if is_refused else ("error", "failed")
        code = getattr(reason, "code", "") or type(reason).__name__
        self._count(model, revision, kind, {tally: 1}, code=code)

    @contextmanager
    def failures(self, model: str, revision: str = "") -> Iterator[None]:
        """Count whatever is raised inside as one failure or refusal."""
        try:
            yield
        except Exception as error:
            self.failed(model, revision, error)
            raise

    def _count(
        self,
        model: str,
        revision: str,
        event: str,
        tallies: Mapping[str, float],
        seconds: float | None = None,
        **facts: Any,
    ) -> None:
        with self._lock:
            counts = self._counts.get((model, revision), Counts)
            for name, value in tallies.items():
                setattr(counts, name, getattr(counts, name) + value)
            if seconds is not None:
                counts.seconds.append(seconds)
            self._count_day(model, revision, tallies, seconds)
        if seconds is not None:
            facts["seconds"] = round(seconds, 4)
        self._log({"event": event, "model": model, "revision": revision, **facts})

    def _count_day(
        self, model: str, revision: str, tallies: Mapping[str, float], seconds: float | None
    ) -> None:
        if self._days is None:
            return
        key = (time.strftime("%Y-%m-%d", time.gmtime()), model, revision)
        with suppress(sqlite3.Error), self._days:  # a full disk stops the counting, not the page
            self._days.execute(COUNT_DAY, (*key, *(tallies.get(name, 0) for name in TALLIES)))
            if seconds is not None:
                self._days.execute(COUNT_LATENCY, (*key, latency_class(seconds)))

    def days(self) -> list[Day]:
        """The last `MOST_ROWS` figures by day and model, the latest first; empty without a folder."""
        if self._days is None:
            return []
        with self._lock:
            rows = self._days.execute(READ_DAYS, (MOST_ROWS,)).fetchall()
            return [Day(*row)._replace(latencies=self._latencies(row[:3])) for row in rows]

    def _latencies(self, key: tuple) -> tuple[float | None, ...]:
        classes = self._days.execute(READ_LATENCIES, key).fetchall() if self._days else []
        return tuple(percentile_of(classes, share) for share in PERCENTILES)

    def lines(self) -> list[Line]:
        """Every model's figures since the start."""
        minutes = max(time.time() - self.started, 1e-9) / 60
        with self._lock:
            return [_line(*key, replace(counts), minutes) for key, counts in self._counts.items()]


def _line(model: str, revision: str, counts: Counts, minutes: float) -> Line:
    requests = counts.answered + counts.failed + counts.refused
    latencies = tuple(percentile(sorted(counts.seconds), each) for each in PERCENTILES)
    return Line(model, revision, requests, requests / minutes, latencies, counts)


def latency_class(seconds: float) -> int:
    """The class of a latency; its upper end is `STEP ** class` milliseconds."""
    return max(0, math.ceil(math.log(max(seconds * 1000, 1), STEP)))


def percentile_of(classes: list[tuple[int, int]], share: float) -> float | None:
    """Nearest-rank percentile in seconds from ordered (class, count); at most `STEP` times too high."""
    rank = max(math.ceil(share / 100 * sum(count for _, count in classes)), 1)
    for each, count in classes:
        if (rank := rank - count) <= 0:
            return STEP**each / 1000
    return None


def json_line(event: dict[str, Any]) -> None:
    """One event as a line of JSON on stdout."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with suppress(OSError):  # a full disk behind it stops the log, not the page
        print(json.dumps({"time": moment} | event), flush=True)


def percentile(ordered: list[float], share: float) -> float | None:
    """Nearest-rank percentile of sorted values: the least that `share` percent do not exceed, if any."""
    return ordered[max(math.ceil(share / 100 * len(ordered)), 1) - 1] if ordered else None
