"""Numbers -> SVG for the lab and the results: lines, bars and grids of numbers.

Strings only, text in the page's own colour. Knows nothing of gradio, of torch or of any topic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resnet_hub.ui.explore.drawing import WARNING, WIDTH, svg, text

BLUE, GREEN, ORANGE, PINK, YELLOW = "#3b82d6", "#009e73", WARNING, "#cc79a7", "#e69f00"
PALETTE = (BLUE, ORANGE, GREEN, PINK, YELLOW, "#56b4e9", "#999999")  # Okabe and Ito, on white and on black
DASHES = ("", "6 3", "2 3", "9 3 2 3")  # so that no line is told by its colour alone
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 230, 48, 10, 14, 34
LEAST_SHOWN = 1e-12  # what a logarithmic axis calls zero


@dataclass(frozen=True)
class Line:
    """Values over 1, 2, 3 ...; `low` and `high` shade a spread around them."""

    name: str
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Axis:
    """Values to heights between the first and the last of `ticks`; logarithmic where `log`."""

    ticks: tuple[float, ...]
    log: bool

    def height(self, value: float) -> float:
        low, high, here = (self._scaled(each) for each in (self.ticks[0], self.ticks[-1], value))
        return HEIGHT - BOTTOM - (here - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self.ticks[0])) if self.log else value


def axis(values: Sequence[float], log: bool) -> Axis:
    """An axis that holds all values: powers of ten, or steps of 1, 2 or 5 times one."""
    least, most = min(values), max(values)
    if log:
        low, high = (math.log10(max(value, LEAST_SHOWN)) for value in (least, most))
        low, high = math.floor(low), max(math.floor(low) + 1, math.ceil(high))
        step = -(-(high - low) // 6)
        return Axis(tuple(10.0**power for power in range(low, high + step, step)), True)
    rough = max(most - least, 1e-9) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
    low, high = math.floor(least / step), max(math.floor(least / step) + 1, math.ceil(most / step - 1e-9))
    return Axis(tuple(step * i for i in range(low, high + 1)), False)


def number(value: float) -> str:
    """A few digits for a tick or a bar: "0.25", "1e-6", "13,781"."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def lines(series: Sequence[Line], title: str, x_title: str, *, log: bool = False, first: int = 1) -> str:
    """One curve for each line over a common axis, named above; `first` is the first point's number."""
    everything = [v for each in series for vs in (each.values, each.low or (), each.high or ()) for v in vs]
    scale, length = axis(everything, log), max(len(each.values) for each in series)
    across = (WIDTH - LEFT - RIGHT) / max(1, length - 1)
    legend, room = _legend([each.name for each in series])
    parts = [*_frame(scale, length, across, first), text((LEFT + WIDTH) / 2, HEIGHT - 4, x_title)]
    for i, each in enumerate(series):
        parts.append(_line(each, scale, across, *_style(i)))
    return svg(HEIGHT + room, title, [*legend, f'<g transform="translate(0 {room})">{"".join(parts)}</g>'])


def _style(i: int) -> tuple[str, str]:
    """Colour and dashes of line i; 28 differ."""
    turn, colour = divmod(i, len(PALETTE))
    return PALETTE[colour], DASHES[(colour + turn) % len(DASHES)]


def _legend(names: Sequence[str]) -> tuple[list[str], float]:
    """Names with a piece of their line, as many a row as fit; and the height they take."""
    parts, x, y = [], 4.0, 12
    for i, name in enumerate(names):
        width = 34 + sum(11 if ord(letter) > 0x2E80 else 6.4 for letter in name)
        if x > 4 and x + width > WIDTH:
            x, y = 4.0, y + 16
        colour, dash = _style(i)
        stroke = f'stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"'
        parts.append(f'<path d="M{x:.0f} {y - 4}h20" {stroke}/>' + text(x + 25, y, name, anchor="start"))
        x += width
    return parts, y + 6


def _frame(scale: Axis, length: int, across: float, first: int) -> list[str]:
    parts = []
    for tick in scale.ticks:
        y = scale.height(tick)
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity=".15"/>'
        )
        parts.append(text(LEFT - 5, y + 4, number(tick), anchor="end", opacity=0.8))
    for i in sorted({0, (length - 1) // 2, length - 1}):
        parts.append(text(LEFT + i * across, HEIGHT - BOTTOM + 14, str(first + i), opacity=0.8))
    return parts


def _line(line: Line, scale: Axis, across: float, colour: str, dash: str) -> str:
    def path(values: Sequence[float]) -> list[str]:
        return [f"{LEFT + i * across:.1f} {scale.height(v):.1f}" for i, v in enumerate(values)]

    points, band = path(line.values), ""
    if line.low and line.high:
        around = "L".join([*path(line.low), *reversed(path(line.high))])
        band = f'<path d="M{around}Z" fill="{colour}" fill-opacity=".15"/>'
    if len(points) == 1:
        x, y = points[0].split()
        return f'{band}<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>'
    style = f'fill="none" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"'
    return f'{band}<path d="M{"L".join(points)}" {style} stroke-linejoin="round"/>'


Bar = tuple[str, float, str]  # name, length, words after it


def bars(
    values: Sequence[Bar],
    title: str,
    *,
    parts_of: Sequence[Sequence[float]] = (),
    colours: Sequence[str] = PALETTE,
) -> str:
    """Horizontal bars of (name, value, words after it); `parts_of` cuts each bar into its summands."""
    most, drawn = max(max(value for _, value, _ in values), 1e-30), []
    room = WIDTH - 110
    for i, (name, value, words) in enumerate(values):
        y, x = 8 + 42 * i, 0.0
        drawn.append(text(0, y + 6, name, anchor="start"))
        for part in parts_of[i] if parts_of else (value,):
            wide = room * part / most
            drawn.append(
                f'<rect x="{x:.1f}" y="{y + 11}" width="{max(wide - 1, 0.5):.1f}" height="17" '
                f'fill="{colours[i % len(colours)]}"/>'
            )
            x += wide
        drawn.append(text(x + 5, y + 24, words, anchor="start", weight="600"))
    return svg(42 * len(values) + 8, title, drawn)


def heat(
    values: np.ndarray, title: str, *, faint=None, marked=None, digits: int = 1, side: float = 150
) -> str:
    """A map (h, w) as coloured cells with their numbers; the deeper the blue, the larger.

    Args:
        faint: (h, w), True where a value goes nowhere: its cell is hatched.
        marked: (h, w), True for a thick orange edge.
        side: width of the drawing in its own units.
    """
    height, width = values.shape
    cell = side / width
    low, high = float(values.min()), float(values.max())
    parts = []
    for (i, j), value in np.ndenumerate(values):
        x, y = j * cell, i * cell
        share = (value - low) / (high - low) if high > low else 0.0
        edge = f'stroke="{ORANGE}" stroke-width="3"' if marked is not None and marked[i, j] else ""
        square = f'width="{cell - 3:.1f}" height="{cell - 3:.1f}" rx="2"'
        parts.append(
            f'<rect x="{x + 1.5:.1f}" y="{y + 1.5:.1f}" {square} '
            f'fill="{BLUE}" fill-opacity="{0.08 + 0.62 * share:.2f}" {edge}/>'
        )
        if faint is not None and faint[i, j]:
            parts.append(
                f'<path d="M{x + 3:.1f} {y + cell - 3:.1f}L{x + cell - 3:.1f} {y + 3:.1f}" '
                f'stroke="currentColor" stroke-opacity=".45"/>'
            )
        if cell >= 13:
            words = f"{value:.{digits}f}".removesuffix(".0").replace("-", "−")
            size = f' font-size="{min(12.0, cell / 2.4):.1f}"'
            parts.append(text(x + cell / 2, y + cell / 2 + 4, words).replace("<text", f"<text{size}", 1))
    return svg(height * cell, title, parts, side)
