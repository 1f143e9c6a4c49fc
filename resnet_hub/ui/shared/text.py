"""The page's sentences: `say(language, key, **facts)`.

Each tab keeps its own in `ui/<tab>/text.toml`, English and Japanese side by side under one key; what
the shipped networks know is named in `labels.toml`.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

LANGUAGES = {"en": "English", "ja": "日本語"}
# "ja-JP;q=0.9"
WISH = re.compile(r"\s*([a-z]+)(?:-[a-z0-9-]*)?\s*(?:;\s*q=([01](?:\.\d*)?)\s*)?", re.IGNORECASE)


def read_texts(folder: Path) -> dict[str, dict[str, str]]:
    """Every `text.toml` below `folder` as one table: key -> {"en": ..., "ja": ...}.

    Raises:
        ValueError: for a key that two files define.
    """
    texts: dict[str, dict[str, str]] = {}
    for file in sorted(folder.glob("*/text.toml")):
        own = tomllib.loads(file.read_text(encoding="utf-8"))
        if twice := texts.keys() & own.keys():
            raise ValueError(f"{file}: {sorted(twice)} are defined elsewhere too")
        texts |= own
    return texts


def read_labels(file: Path) -> dict[str, dict[str, str]]:
    """`labels.toml` as texts: the label "potter's wheel" is `class_potter_s_wheel`."""
    names = tomllib.loads(file.read_text(encoding="utf-8"))
    return {f"class_{identifier(label)}": {"en": label, "ja": name} for label, name in names.items()}


def identifier(name: str) -> str:
    """A name as a part of a text's key: lower case, "_" for everything but letters and digits."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")


TEXT = read_texts(Path(__file__).parents[1]) | read_labels(Path(__file__).with_name("labels.toml"))


def say(language: str, key: str, **facts) -> str:
    """The text of `key` in a language ("en" or "ja"), with `facts` filled in."""
    return unbroken(TEXT[key][known_language(language)].format(**facts))


def unbroken(text: str) -> str:
    """Text in which no line ends between a number and its "%", or what it counts in Japanese."""
    return re.sub(r"(?<=\d) (?=%|[^\x00-\x7f])", "\N{NO-BREAK SPACE}", text)


@lru_cache(maxsize=4096)  # a panel names every class a network knows, and a stranger's network may know many
def name_of(language: str, kind: str, name: str) -> str:
    """A label or data name in a language; itself where the table has no translation.

    The text of the arm "without, rate 0.5" is `arm_without_rate_0_5`.
    """
    key = f"{kind}_{identifier(name)}"
    return say(language, key) if key in TEXT else name


def joined(language: str, sentences: Iterable[str]) -> str:
    """Sentences after one another, with the space between them that a language has."""
    return ("" if language == "ja" else " ").join(each for each in sentences if each)


def first_sentence(text: str) -> str:
    """A text up to its first full stop or question mark."""
    return re.split(r"(?<=。)|(?<=[.?])\s", text, maxsplit=1)[0]


def percent(share: float, digits: int = 1) -> str:
    """0.873 -> "87.3 %" """
    return f"{100 * share:.{digits}f} %"


def revision(language: str, name: str) -> str:
    """Which weights answered: "built in", "commit 1a2b3c4d5e6f"."""
    key = f"revision_{name}"
    return say(language, key) if key in TEXT else say(language, "revision_commit", commit=name[:12])


def short(number: float) -> str:
    """4089184256 -> "4.09 G" """
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
    return f"{number:.0f}"


def memory(number: int) -> str:
    """Bytes with their unit."""
    return f"{short(number)}B" if number >= 1000 else f"{number} B"


def csv_text(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV in which no spreadsheet takes a text for a formula."""
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([safe_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return written.getvalue()


def safe_cell(cell: str) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def known_language(language: str | None) -> str:
    """A language that a page or a program asked for; English where we do not speak it."""
    return language if language in [*LANGUAGES] else "en"


def language_of(accept_language: str | None) -> str:
    """The language a browser prefers among ours, from its Accept-Language (RFC 9110 section 12.5.4)."""
    wishes = filter(None, map(WISH.fullmatch, (accept_language or "").split(",")))
    ours = [(float(wish[2] or 1), wish[1].lower()) for wish in wishes if wish[1].lower() in LANGUAGES]
    quality, language = max(ours, key=lambda wish: wish[0], default=(0.0, "en"))
    return language if quality > 0 else "en"
