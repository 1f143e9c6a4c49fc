"""One visitor's questions are answered one after another, whatever the others ask meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from resnet_hub.ui.shelf import Recent

REMEMBERED = 600  # visitors


@dataclass
class Visitor:
    """The latest question that came, and the latest that was answered."""

    asked: float = 0.0
    answered: float = 0.0
    lock: Lock = field(default_factory=Lock)


class Visitors:
    """Whose turn it is, by session; the one that was away longest is forgotten."""

    def __init__(self) -> None:
        self._visitors: Recent[str, Visitor] = Recent(REMEMBERED)

    @contextmanager
    def turn(self, session: str | None, order: float, *, skips: bool = False) -> Iterator[bool]:
        """Wait for a visitor's earlier questions; yields whether this one is still worth an answer.

        Args:
            order: the question's number, as the browser counts them.
            skips: a later question makes this one worthless even before that is answered.
        """
        visitor = self._visitors.get(session or "", Visitor)
        visitor.asked = max(visitor.asked, order)
        with visitor.lock:
            is_wanted = order >= (visitor.asked if skips else visitor.answered)
            yield is_wanted
            if is_wanted:
                visitor.answered = max(visitor.answered, order)
