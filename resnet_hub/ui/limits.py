"""What one visitor, and all of them together, may ask of the machine: every limit of the app in one table.

The defaults suit a public page on 2 cores and 16 GB. Each is changed by `app.py --limit NAME=VALUE` or by the
environment variable `RESNET_HUB_NAME`; `app.py --limits` prints the table.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace

from resnet_hub.errors import Refusal
from resnet_hub.preprocess import MAX_BYTES, MAX_DECODED, MAX_PIXELS, MAX_SCANS

PREFIX = "RESNET_HUB_"
# Of the library, for every caller of `load_image`; shown with the app's own.
LIBRARY = {
    "image_pixels": (MAX_PIXELS, "pixels of a baseline JPEG, which can be decoded at half its size"),
    "decoded_pixels": (MAX_DECODED, "pixels decoded for one image; the limit for every other format"),
    "jpeg_scans": (MAX_SCANS, "scans of a progressive JPEG; each costs as much as decoding the image"),
}


def limit(default: int, about: str, least: int = 1):
    """A field with what it bounds and its smallest value."""
    return field(default=default, metadata={"about": about, "least": least})


@dataclass(frozen=True)
class Limits:
    """The app's limits; each field's metadata says what it bounds.

    Raises:
        Refusal: for a value below the field's least.
    """

    upload_bytes: int = limit(MAX_BYTES, "bytes of one uploaded file")
    upload_request_bytes: int = limit(400_000_000, "bytes of one upload of many files")
    uploads_a_minute: int = limit(
        600, "uploads from one address in a minute, a folder's files each; a proxy may be one address for all"
    )
    uploads_held_bytes: int = limit(2_000_000_000, "bytes of all uploads on the disk; more are refused")
    upload_seconds: int = limit(600, "seconds after which an uploaded file is deleted")
    sweep_seconds: int = limit(60, "seconds between two clean-ups of old uploads")
    request_bytes: int = limit(
        16_000_000, "bytes of any other request, an image inside a data: address included", 100_000
    )
    request_items: int = limit(20_000, "commas, colons and brackets of a request's JSON", 1_000)
    waiting: int = limit(48, "events waiting in the queue; more are turned away")
    at_once: int = limit(4, "photos classified at once by one model")
    decode_seconds: int = limit(10, "seconds that one image may take to decode")
    decode_waiting: int = limit(2, "images slow to decode that wait for the one before them")
    load_seconds: int = limit(180, "seconds that downloading a model may take, and waiting for its turn")
    loading: int = limit(2, "models downloaded or read at once")
    loading_waiting: int = limit(6, "visitors waiting for a model to load; more are turned away")
    models: int = limit(4, "models in memory, and as many references")
    models_bytes: int = limit(1_000_000_000, "bytes of the models in memory, and as many of references")
    typed_bytes: int = limit(700_000_000, "bytes of a repository a visitor names; VGG-16 has 554 MB")
    sessions: int = limit(5000, "visitors whose last answer is kept; the least recent is dropped first")
    sessions_bytes: int = limit(400_000_000, "bytes of all those answers")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least = getattr(self, each.name), each.metadata["least"]
            if not isinstance(value, int) or value < least:
                raise Refusal(f"limit {each.name}={value}: give a whole number, at least {least}")

    def with_values(self, texts: Mapping[str, str]) -> Limits:
        """These limits with some changed, from texts by name.

        Raises:
            Refusal: for an unknown name or a value that is not allowed.
        """
        known = [each.name for each in fields(self)]
        for name, text in texts.items():
            if name not in known:
                raise Refusal(f"there is no limit {name[:40]!r}; `app.py --limits` prints all")
            if not text.isdecimal() or len(text) > 15:
                raise Refusal(f"limit {name}={text[:40]}: give a whole number")
        return replace(self, **{name: int(text) for name, text in texts.items()})


def read_limits(flags: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> Limits:
    """The limits that the environment and then the flags ("NAME=VALUE") ask for.

    Raises:
        Refusal: for an unknown name or a value that is not allowed.
    """
    names = {f"{PREFIX}{each.name.upper()}": each.name for each in fields(Limits)}
    asked = {name: environment[variable] for variable, name in names.items() if environment.get(variable)}
    for flag in flags:
        name, _, value = flag.partition("=")
        asked[name.strip()] = value.strip()
    return Limits().with_values(asked)


def table(limits: Limits) -> str:
    """Every limit, one per line: name, value, what it bounds."""
    rows = [(each.name, getattr(limits, each.name), each.metadata["about"]) for each in fields(limits)]
    rows += [(name, value, f"{about} (fixed)") for name, (value, about) in LIBRARY.items()]
    return "\n".join(f"{name:21}{value:>15,}  {about}" for name, value, about in rows)
