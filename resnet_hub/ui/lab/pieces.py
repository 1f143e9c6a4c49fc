"""What a topic shows, piece by piece: charts, maps, tables and the sentences that read them out.

Each function gives markup; a topic's `draw` lists them from top to bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from resnet_hub.ui.lab.form import Control, Values
from resnet_hub.ui.shared.chart import Bar, Line, bars, heat, lines
from resnet_hub.ui.shared.html import figure, render
from resnet_hub.ui.shared.images import data_url
from resnet_hub.ui.shared.text import say


@dataclass(frozen=True)
class Topic:
    """One idea of the course.

    Args:
        controls: what a visitor can move.
        draw: language and the controls' values -> pieces; raises ValueError where they cannot be computed.
        study: the measured study behind the topic's claim.
    """

    controls: tuple[Control, ...]
    draw: Callable[[str, Values], list[Markup]]
    study: str | None = None


def word(language: str, key: str, **facts: Any) -> str:
    return say(language, f"lab_word_{key}", **facts)


def sentence(text: str) -> Markup:
    """A sentence under a drawing."""
    return render("lab/pieces.html", piece="says", text=text)


def says(language: str, key: str, **facts: Any) -> Markup:
    """The sentence that reads a drawing out: the text `lab_<key>_says`."""
    return sentence(say(language, f"lab_{key}_says", **facts))


def pixels(image: Image.Image) -> Markup:
    """An image whose every pixel can be seen."""
    return render("lab/pieces.html", piece="pixels", url=data_url(image))


def row(*figures: Markup, size: str = "") -> Markup:
    """Figures side by side; `size` is "small" for three on a phone, "large" for one, "" between."""
    return render("lab/pieces.html", piece="row", figures=figures, size=size)


def map_figure(language: str, key: str, values: np.ndarray, **more: Any) -> Markup:
    """A feature map as `heat` draws it, under its name."""
    return figure(heat(values, word(language, key), **more), word(language, key))


def line_chart(
    language: str,
    axes: tuple[str, str],
    series: Mapping[str, Sequence[float]],
    *,
    log: bool = True,
    first: int = 1,
) -> Markup:
    """Curves under what their values are; `axes` are the words for the vertical and horizontal one."""
    title, x_title = (word(language, axis) for axis in axes)
    named = [Line(name, values) for name, values in series.items()]
    return figure(lines(named, title, x_title, log=log, first=first), title, above=True)


def bar_chart(language: str, axis: str, values: Sequence[Bar], **more: Any) -> Markup:
    """Bars under what their lengths are."""
    title = word(language, axis)
    return figure(bars(values, title, **more), title, above=True)
