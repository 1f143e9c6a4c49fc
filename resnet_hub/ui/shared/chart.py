"""Numbers -> SVG: line charts, bars, grids of numbers, and the primitives of any other drawing.

A drawing is a string, text in the page's own colour, so that it costs a millisecond and suits every language
and theme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

WIDTH = 400  # of nearly every drawing, in its own units; a phone shows one unit as 0.9 pixels
BLUE, GREEN, ORANGE, PINK, YELLOW = "#3b82d6", "#009e73", "#d55e00", "#cc79a7", "#e69f00"
PALETTE = (BLUE, ORANGE, GREEN, PINK, YELLOW, "#56b4e9", "#999999")  # Okabe and Ito, on white and on black
DASHES = ("", "6 3", "2 3", "9 3 2 3")  # so that colour alone never distinguishes two lines
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 230, 48, 10, 14, 34
LEAST_SHOWN = 1e-12  # what a logarithmic axis shows instead of zero, unless a value is smaller
MOST_POINTS = 60  # of a line whose points say their values

# Primitives


def svg(height: float, title: str, parts: Sequence[str], width: float = WIDTH) -> Markup:
    """A drawing of `parts`; `title` is what a screen reader says."""
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" font-family="system-ui, sans-serif" font-size="11">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def text(
    x: float,
    y: float,
    words: str,
    anchor: str = "middle",
    weight: str = "400",
    opacity: float = 1,
    fill: str = "currentColor",
    size: float = 11,
) -> str:
    """Words at (x, y), `size` units high."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'font-size="{size:.1f}" fill="{fill}" fill-opacity="{opacity}">{escape(words)}</text>'
    )


def rule(path: str, colour: str = "currentColor", opacity: float = 0.15, dash: str = "") -> str:
    """A thin line along an SVG path, faint unless told otherwise."""
    return f'<path d="{path}" stroke="{colour}" stroke-opacity="{opacity}" stroke-dasharray="{dash}"/>'


def standalone(drawing: str) -> str:
    """A drawing as a file of its own: black on white, whatever the viewer's theme."""
    head, _, body = str(drawing).partition(">")
    return f'{head} color="#111"><rect width="100%" height="100%" fill="#fff"/>{body}'


# Line charts


@dataclass(frozen=True)
class Line:
    """Values over successive whole numbers.

    Args:
        low, high: shade a spread around the values.
        ends: the smallest and largest last value, as a whisker: bands of many lines would hide each other.
        level: a value to compare them with, dotted.
        colour: instead of the palette's next.
    """

    name: str
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    level: float | None = None
    colour: str = ""
    ends: tuple[float, float] | None = None

    @property
    def extent(self) -> list[float]:
        """Everything the axis has to hold."""
        level = () if self.level is None else (self.level,)
        return [*self.values, *(self.low or ()), *(self.high or ()), *level, *(self.ends or ())]


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


def axis(values: Sequence[float], base: int | None) -> Axis:
    """An axis that holds all values: powers of `base`, or steps of 1, 2 or 5 times a power of ten."""
    least, most = min(values), max(values)
    if base:
        floor = min([LEAST_SHOWN, *(value for value in values if value > 0)])
        first, last = (math.log(max(value, floor), base) for value in (least, most))
        low, high = math.floor(first + 1e-9), max(math.floor(first) + 1, math.ceil(last - 1e-9))
        every = -(-(high - low) // 6)
        return Axis(tuple(float(base) ** power for power in range(low, high + every, every)), True)
    rough = max(most - least, 1e-9) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
    bottom, top = math.floor(least / step), max(math.floor(least / step) + 1, math.ceil(most / step - 1e-9))
    return Axis(tuple(step * i for i in range(bottom, top + 1)), False)


def number(value: float) -> str:
    """A few digits for a tick or a bar: "0.25", "1e-6", "13,781"."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def lines(
    series: Sequence[Line],
    title: str,
    x_title: str,
    *,
    log: bool = False,
    base: int | None = None,
    first: int = 1,
    beside: Sequence[Line] = (),
) -> Markup:
    """One curve for each line over a common axis, named above; a point says its value under the mouse.

    Args:
        log: powers of ten on the vertical axis; `base=2` for powers of two.
        first: the number of the first point.
        beside: lines of a chart next to this one, which gets the same axis.
    """
    everything = [value for each in (*series, *beside) for value in each.extent]
    scale, length = axis(everything, base or (10 if log else None)), max(len(each.values) for each in series)
    across = (WIDTH - LEFT - RIGHT) / max(1, length - 1)
    styles = [_style(i, each.colour) for i, each in enumerate(series)]
    legend, room = _legend([each.name for each in series], styles)
    parts = [*_frame(scale, length, across, first), text((LEFT + WIDTH) / 2, HEIGHT - 4, x_title)]
    parts += [_line(each, scale, across, *style) for each, style in zip(series, styles, strict=True)]
    parts += [_points(each, scale, across, first) for each in series if length <= MOST_POINTS]
    return svg(HEIGHT + room, title, [*legend, f'<g transform="translate(0 {room})">{"".join(parts)}</g>'])


def _style(i: int, colour: str) -> tuple[str, str]:
    """Colour and dashes of line i; 28 differ."""
    turn, place = divmod(i, len(PALETTE))
    return colour or PALETTE[place], DASHES[(place + turn) % len(DASHES)]


def _legend(names: Sequence[str], styles: Sequence[tuple[str, str]]) -> tuple[list[str], float]:
    """Names with a piece of their line, as many a row as fit; and the height they take."""
    parts, x, y = [], 4.0, 12
    for name, (colour, dash) in zip(names, styles, strict=True):
        width = 34 + sum(11 if ord(letter) > 0x2E80 else 6.4 for letter in name)
        if x > 4 and x + width > WIDTH:
            x, y = 4.0, y + 16
        stroke = f'stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"'
        parts.append(f'<path d="M{x:.0f} {y - 4}h20" {stroke}/>' + text(x + 25, y, name, anchor="start"))
        x += width
    return parts, y + 6


def _frame(scale: Axis, length: int, across: float, first: int) -> list[str]:
    parts = []
    for tick in scale.ticks:
        y = scale.height(tick)
        parts.append(rule(f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}"))
        parts.append(text(LEFT - 5, y + 4, number(tick), anchor="end", opacity=0.8))
    for i in sorted({0, (length - 1) // 2, length - 1}):
        parts.append(text(LEFT + i * across, HEIGHT - BOTTOM + 14, str(first + i), opacity=0.8))
    return parts


def _points(line: Line, scale: Axis, across: float, first: int) -> str:
    """An unseen circle on each point, whose title the browser shows."""
    return "".join(
        f'<circle cx="{LEFT + i * across:.1f}" cy="{scale.height(value):.1f}" r="7" fill-opacity="0">'
        f"<title>{escape(line.name)}, {first + i}: {number(value)}</title></circle>"
        for i, value in enumerate(line.values)
    )


def _line(line: Line, scale: Axis, across: float, colour: str, dash: str) -> str:
    def path(values: Sequence[float]) -> list[str]:
        return [f"{LEFT + i * across:.1f} {scale.height(v):.1f}" for i, v in enumerate(values)]

    points, behind = path(line.values), ""
    if line.low and line.high:
        around = "L".join([*path(line.low), *reversed(path(line.high))])
        behind = f'<path d="M{around}Z" fill="{colour}" fill-opacity=".15"/>'
    if line.ends:
        x, *ys = LEFT + (len(points) - 1) * across, *(scale.height(each) for each in line.ends)
        caps = "".join(f"M{x - 4:.1f} {y:.1f}h8" for y in ys)
        behind += rule(f"M{x:.1f} {ys[0]:.1f}V{ys[1]:.1f}{caps}", colour, 1)
    if line.level is not None:
        behind += rule(f"M{LEFT} {scale.height(line.level):.1f}H{WIDTH - RIGHT}", colour, 1, "2 4")
    if len(points) == 1:
        cx, cy = points[0].split()
        return f'{behind}<circle cx="{cx}" cy="{cy}" r="3.5" fill="{colour}"/>'
    style = f'fill="none" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"'
    return f'{behind}<path d="M{"L".join(points)}" {style} stroke-linejoin="round"/>'


# Bars and grids


Bar = tuple[str, float, str]  # name, length, words after it


def bars(
    values: Sequence[Bar],
    title: str,
    *,
    parts_of: Sequence[Sequence[float]] = (),
    colours: Sequence[str] = PALETTE,
) -> Markup:
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
) -> Markup:
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
            parts.append(text(x + cell / 2, y + cell / 2 + 4, words, size=min(12.0, cell / 2.4)))
    return svg(height * cell, title, parts, side)


def cut_image(address: str, across: int, title: str) -> Markup:
    """A square image, by its address, cut into `across` by `across` squares."""
    side = 300.0
    step = side / across
    cuts = "".join(f"M{i * step:.1f} 0v{side}M0 {i * step:.1f}h{side}" for i in range(1, across))
    parts = [
        f'<image href="{address}" width="{side}" height="{side}"/>',
        f'<path d="{cuts}" stroke="#fff" stroke-width="1.2"/>',
    ]
    return svg(side, title, parts, side)


def decades(rows: Sequence[tuple[str, float]], tolerance: float, title: str) -> Markup:
    """A bar for each relative difference, from 1e-8 to 1 by powers of ten."""
    left, right, step = 60, WIDTH - 62, 24
    floor = TOP + step * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * min(max(math.log10(value) / 8 + 1, 0.01), 1)

    parts = []
    for power in range(-8, 1, 2):
        at = x(10.0**power)
        parts.append(rule(f"M{at:.1f} {TOP}V{floor}"))
        parts.append(text(at, floor + 14, f"1e{power}" if power else "1", opacity=0.75))
    parts.append(rule(f"M{x(tolerance):.1f} {TOP}V{floor}", ORANGE, 1, "3 3"))
    for i, (name, value) in enumerate(rows):
        y = TOP + step * i + 5
        parts.append(text(left - 6, y + 10, name, anchor="end"))
        if value == 0:
            parts.append(text(left + 5, y + 11, "0", anchor="start", weight="600"))
            continue
        colour = GREEN if value <= tolerance else BLUE
        parts.append(
            f'<rect x="{left}" y="{y}" width="{x(value) - left:.1f}" height="14" rx="2" fill="{colour}"/>'
        )
        parts.append(text(x(value) + 5, y + 11, f"{value:.1e}", anchor="start", weight="600"))
    return svg(floor + 20, title, parts)
