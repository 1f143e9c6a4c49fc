"""The one kind of error for input that cannot be used, and lists in messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Refusal(ValueError):
    """Input that cannot be used: one English sentence, and a code with facts that a page translates.

    Args:
        message: what was seen, what is allowed and what to do next, in one line.
        code: identifier of the same sentence in the page's texts; "" where only commands meet it.
        facts: what the sentence's placeholders stand for.
    """

    def __init__(self, message: str, code: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts


def first_line(error: BaseException) -> str:
    """An error's first line, for another message; its class where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def listed(names: Iterable[Any], most: int = 8, joint: str = ", ") -> str:
    """Names for a message: the first ones, and how many more there are."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return joint.join(shown[:most]) + more
