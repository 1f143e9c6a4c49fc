"""The one check every topic makes of its numbers. Knows nothing of any topic."""

from __future__ import annotations

from collections.abc import Iterable


def within(name: str, value: float, least: float, most: float) -> None:
    """Raises ValueError with the value seen and the values allowed, also for NaN."""
    if not least <= value <= most:
        raise ValueError(f"{name}={value!r} is not allowed; give {least} to {most}")


def one_of(name: str, value: object, allowed: Iterable) -> None:
    """Raises ValueError with the value seen and the values allowed."""
    if value not in (allowed := list(allowed)):
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(map(str, allowed))}")
