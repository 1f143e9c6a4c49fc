"""What a page says when something cannot be done: one translator, and one way to raise it.

`explain` gives the sentence, to be shown inside the page; `refuse` gives the error to raise, shown as a
toast. Gradio renders toasts as HTML, and sentences quote what visitors typed, so toasts are escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from resnet_hub.command import printable
from resnet_hub.errors import Refusal
from resnet_hub.interop.reference import NoReference
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.shared.text import TEXT, say, short

MOST_QUOTED = 2000  # characters of one fact: a repository's own may have megabytes
# The codes of these libraries are short; any other error's code is the whole key of its text.
PREFIXES = {ImageError: "image_", NoReference: "reference_"}


# How a library's plain numbers read on the page.
READABLE: dict[str, Callable[[int], Any]] = {
    "max_bytes": lambda count: count // 1_000_000,
    "max_pixels": lambda count: count // 1_000_000,
    "parameters": short,
    "macs": short,
}


def explain(language: str, error: Exception, **facts: Any) -> str:
    """The error in the page's language, as plain text.

    Args:
        error: a `Refusal`, whose `code` names a text and whose facts fill it; or any other error.
        facts: what the error does not know and its text says.
    """
    if key_of(error) not in TEXT:
        return say(language, "error_details", details=cause(language, error))
    facts |= getattr(error, "facts", {})
    shown = say(language, key_of(error), **{name: readable(language, name, facts[name]) for name in facts})
    return printable(shown).replace("\n", " ")  # a stranger's text may have any


def key_of(error: Exception) -> str:
    """The key of an error's text; "" or one that no text has for most."""
    prefix = next((prefix for kind, prefix in PREFIXES.items() if isinstance(error, kind)), "")
    return prefix + getattr(error, "code", "")


def cause(language: str, error: Exception) -> str:
    """An error inside another one's sentence. Without a text of its own it has only English words, at most
    500 characters of them, and these are for the English page only.
    """
    if key_of(error) in TEXT:
        return explain(language, error)
    if language != "en":
        return say(language, "only_in_english")
    return printable(str(error)[:500].rstrip(".")) + "."


def readable(language: str, name: str, fact: Any) -> Any:
    """A fact as a visitor reads it."""
    if isinstance(fact, Exception):
        return cause(language, fact)
    if isinstance(fact, str) and len(fact) > MOST_QUOTED:
        return f"{fact[:MOST_QUOTED]}…"
    return READABLE[name](fact) if name in READABLE and isinstance(fact, int) else fact


class Toast(gr.Error):
    """A refusal as Gradio shows it: what a visitor asked in vain, not logged as a fault of the app.

    Args:
        reason: the error that `explain` puts into words.
    """

    def __init__(self, language: str, reason: Exception) -> None:
        shown = html.escape(explain(language, reason), quote=False)
        super().__init__(shown, title=say(language, "error_title"), print_exception=False)
        self.reason = reason


def refusal(key: str, **facts: Any) -> Refusal:
    """What a visitor asked in vain, for `explain` to say in the page's language."""
    return Refusal(say("en", key, **facts), key, **facts)


def refuse(language: str, reason: Exception | str, **facts: Any) -> Toast:
    """The toast to raise for an error, or for the text of a key with its facts."""
    return Toast(language, refusal(reason, **facts) if isinstance(reason, str) else reason)


@contextmanager
def refusing(language: str) -> Iterator[None]:
    """Raise what is refused inside as a toast."""
    try:
        yield
    except Refusal as error:
        raise refuse(language, error) from error


def inform(language: str, key: str, seconds: float = 5, **facts: Any) -> None:
    """Show a text as a toast for some seconds."""
    shown = html.escape(printable(say(language, key, **facts)), quote=False)
    gr.Info(shown, duration=seconds, title=say(language, "info_title"))
