"""What a page says when something cannot be done: one translator, and one way to raise it.

`explain` gives the sentence, to be shown inside the page; `refuse` gives the error to raise, shown as a
toast. Gradio renders toasts as HTML, and sentences quote what visitors typed, so toasts are escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

from resnet_hub.errors import Refusal
from resnet_hub.interop.reference import NoReference
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.shared.text import TEXT, say, short

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
    """The error in the page's language, as plain text; in English, marked as details, where no text fits.

    Args:
        error: a `Refusal`, whose `code` names a text and whose facts fill it; or any other error.
        facts: what the error does not know and its text says.
    """
    prefix = next((prefix for kind, prefix in PREFIXES.items() if isinstance(error, kind)), "")
    key = prefix + getattr(error, "code", "")
    if key not in TEXT:
        return say(language, "error_details", details=details(error))
    facts |= getattr(error, "facts", {})
    return say(language, key, **{name: readable(name, fact) for name, fact in facts.items()})


def readable(name: str, fact: Any) -> Any:
    """A fact as a visitor reads it."""
    return READABLE[name](fact) if name in READABLE and isinstance(fact, int) else fact


def details(error: Exception) -> str:
    """An error's own words to put into a sentence: at most 500 characters, without the full stop."""
    return str(error)[:500].rstrip(".")


def refusal(key: str, **facts: Any) -> Refusal:
    """What a visitor asked in vain, for `explain` to say in the page's language."""
    return Refusal(say("en", key, **facts), key, **facts)


def refuse(language: str, reason: Exception | str, **facts: Any) -> gr.Error:
    """The error to raise for what a visitor asked in vain; it is not logged as a fault of the app.

    Args:
        reason: an error to explain, or the key of a text with its `facts`.
    """
    said = say(language, reason, **facts) if isinstance(reason, str) else explain(language, reason)
    return gr.Error(html.escape(said, quote=False), print_exception=False)


def inform(language: str, key: str, seconds: float = 5, **facts: Any) -> None:
    """Show a text as a toast for some seconds."""
    gr.Info(html.escape(say(language, key, **facts), quote=False), duration=seconds)
