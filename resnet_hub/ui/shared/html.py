"""HTML from jinja2 templates: every value is escaped unless it is markup already.

A tab's own templates lie beside its `page.py`; the pieces all tabs share are the macros of `macros.html`, for
templates to import and here as functions.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from resnet_hub.ui.shared.images import data_url
from resnet_hub.ui.shared.text import name_of, percent, say

UI = Path(__file__).parents[1]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(UI),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,  # an upgrade is for the next start: templates and code belong together
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"say": say, "name_of": name_of}
    environment.filters |= {"percent": percent, "data_url": data_url}
    return environment


def render(template: str, **values: Any) -> Markup:
    """The template `<tab>/<name>.html` below `ui/` with `values` filled in, escaped."""
    return Markup(_environment().get_template(template).render(**values))


def _macro(name: str, *values: Any) -> Markup:
    return getattr(_environment().get_template("shared/macros.html").module, name)(*values)


def figure(content: str, caption: str = "", kind: str = "", above: bool = False) -> Markup:
    """A drawing or image (as markup) with its caption below it, or above; `kind` is its CSS class."""
    return _macro("figure", content, caption, kind, above)


def notice(text: str, kind: str = "") -> Markup:
    """A line set apart; `kind` is "fine", "note", "wrong" or "" and gives its colour."""
    return _macro("notice", text, kind)


def alert(text: str) -> Markup:
    """What went wrong, read out by screen readers."""
    return _macro("alert", text)


def waiting(text: str) -> Markup:
    """What stands where nothing has been asked for yet."""
    return _macro("waiting", text)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], kind: str = "") -> Markup:
    """A table that scrolls sideways by itself on a narrow screen; the first column names the row.

    Args:
        rows: cells as text, as markup, or as {"text": ..., "kind": CSS class}.
        kind: CSS class of the table's frame.
    """
    return _macro("table", heads, rows, kind)


def download_url(kind: str, text: str) -> str:
    """A text of a media type as a file inside its own address, so that nothing is stored for it."""
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
