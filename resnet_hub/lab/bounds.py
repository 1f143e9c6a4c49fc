"""The checks that every topic makes of its arguments."""

from __future__ import annotations

from collections.abc import Iterable

from resnet_hub.errors import Refusal


def within(name: str, value: float, least: float, most: float) -> None:
    """Raises ValueError unless `least` <= `value` <= `most`; NaN is never within."""
    if not least <= value <= most:
        raise Refusal(f"{name}={value!r} is not allowed; give {least} to {most}")


def one_of(name: str, value: object, allowed: Iterable) -> None:
    """Raises ValueError unless `value` is one of `allowed`."""
    if value not in (allowed := list(allowed)):
        raise Refusal(f"{name}={value!r} is not known; choose one of {', '.join(map(str, allowed))}")
