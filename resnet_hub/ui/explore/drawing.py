"""Rows of a network -> SVG: its maps as they shrink, and curves along its depth.

Strings only, so that a drawing costs a millisecond and the browser draws it, in any language and theme: text
takes the page's colour. Knows nothing of gradio, of torch or of what a design means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from resnet_hub.geometry.advice import LEAST_POSITIONS

WIDTH = 400  # of nearly every drawing, in its own units; a phone shows one unit as 0.9 pixels
MOST_HEIGHT = 400  # of a map
LETTER = 6.2  # the widest a character of the 11-unit font comes out, nearly
GAP = 6
PLOT_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 210, 34, 26, 12, 30
COLOURS = {"A": "#3b82d6", "B": "#009e73"}  # readable on white and on black
WARNING = "#d55e00"


@dataclass(frozen=True)
class Map:
    """A feature map to draw: its name, channels and (height, width)."""

    name: str
    channels: int
    size: tuple[int, int]

    @property
    def labels(self) -> list[str]:
        height, width = self.size
        size = f"{height}²" if height == width >= 1000 else f"{height}×{width}"  # else labels would touch
        return [self.name, size, f"{self.channels} ch"]

    @property
    def depth(self) -> float:
        """How far the box reaches back: channels count by their logarithm, or 3 beside 2048 would vanish."""
        return 1.5 * math.log2(self.channels + 1)

    def room(self, scale: float) -> float:
        """Width on the drawing, labels included."""
        return max(LETTER * max(map(len, self.labels)), self.size[1] * scale + self.depth) + GAP


def common_scale(designs: Sequence[Sequence[Map]]) -> float:
    """The largest scale, in units a position, at which each of the designs fits into its frame."""
    low, high = 0.0, float(WIDTH)
    for _ in range(30):
        scale = (low + high) / 2
        fits = all(
            sum(each.room(scale) for each in maps) <= frame_width(maps)
            and max(each.size[0] for each in maps) * scale <= MOST_HEIGHT
            for maps in designs
        )
        low, high = (scale, high) if fits else (low, scale)
    return low


def frame_width(maps: Sequence[Map]) -> float:
    """Width of a design's drawing: as all others, or as wide as its labels take."""
    return max(WIDTH, sum(LETTER * max(map(len, each.labels)) + each.depth + GAP for each in maps))


def shrinking_maps(maps: Sequence[Map], scale: float, colour: str, title: str) -> str:
    """Boxes from the image to the last stage, to scale; what advice calls too small is marked."""
    floor = max(each.size[0] * scale + each.depth for each in maps) + 20
    rooms = [each.room(scale) for each in maps]
    width = frame_width(maps)
    spare = (width - sum(rooms)) / len(maps)
    parts, x = [], 0.0
    for each, room in zip(maps, rooms, strict=True):
        parts.append(_box(each, scale, x + (room + spare) / 2, floor, colour))
        x += room + spare
    return svg(floor + 30, title, parts, width)


def _box(each: Map, scale: float, middle: float, floor: float, colour: str) -> str:
    height, width = (max(side * scale, 0.5) for side in each.size)
    colour = WARNING if min(each.size) < LEAST_POSITIONS else colour
    back = each.depth * 0.7
    left, top = middle - (width + back) / 2, floor - height
    right = left + width
    faces = (
        f'<path d="M{left:.1f} {top:.1f}l{back:.1f} {-back:.1f}h{width:.1f}l{-back:.1f} {back:.1f}z"'
        f' fill="{colour}" fill-opacity=".45"/>'
        f'<path d="M{right:.1f} {top:.1f}l{back:.1f} {-back:.1f}v{height:.1f}l{-back:.1f} {back:.1f}z"'
        f' fill="{colour}" fill-opacity=".65"/>'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
    )
    name, size, channels = each.labels
    return (
        faces
        + text(middle, floor + 13, size, weight="600")
        + text(middle, floor + 26, channels, opacity=0.75)
        + text(middle, 10, name)
        + _grid(left, top, width, height, each.size)
    )


def _grid(left: float, top: float, width: float, height: float, size: tuple[int, int]) -> str:
    """The positions of a map, where they are large enough to be told apart."""
    if max(size) > 64 or width / size[1] < 2:
        return ""
    down = "".join(f"M{left + i * width / size[1]:.1f} {top:.1f}v{height:.1f}" for i in range(1, size[1]))
    across = "".join(f"M{left:.1f} {top + i * height / size[0]:.1f}h{width:.1f}" for i in range(1, size[0]))
    return f'<path d="{down}{across}" stroke="#fff" stroke-opacity=".45" stroke-width=".5"/>'


@dataclass(frozen=True)
class Curve:
    """One design's values along its depth, the first the image's, and a level to compare them with."""

    name: str
    values: Sequence[float]
    level: float

    @property
    def colour(self) -> str:
        return COLOURS[self.name]


def curves(lines: Sequence[Curve], title: str, x_title: str) -> str:
    """Values of 1 and more over the number of layers, on a logarithmic axis; the level is dotted."""
    most = max(max(*line.values, line.level) for line in lines)
    octaves = max(1, math.ceil(math.log2(most)))
    length = max(len(line.values) for line in lines) - 1
    across = (WIDTH - LEFT - RIGHT) / length
    up = (PLOT_HEIGHT - TOP - BOTTOM) / octaves
    parts = [*_axes(octaves, up, length, across), text((LEFT + WIDTH - RIGHT) / 2, PLOT_HEIGHT - 3, x_title)]
    for line in lines:
        parts.append(_curve(line, up, across))
    return svg(PLOT_HEIGHT, title, parts)


def _y(value: float, up: float) -> float:
    return PLOT_HEIGHT - BOTTOM - up * math.log2(max(value, 1))


def _axes(octaves: int, up: float, length: int, across: float) -> list[str]:
    parts = []
    for octave in range(0, octaves + 1, 1 if octaves < 8 else 2):
        y = _y(2**octave, up)
        line = f'd="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"'
        parts.append(f'<path {line} stroke="currentColor" stroke-opacity=".15"/>')
        parts.append(text(LEFT - 4, y + 4, str(2**octave), anchor="end", opacity=0.75))
    for layer in (0, length // 2, length):
        parts.append(text(LEFT + layer * across, PLOT_HEIGHT - BOTTOM + 13, str(layer), opacity=0.75))
    return parts


def _curve(line: Curve, up: float, across: float) -> str:
    points = [(LEFT + i * across, _y(value, up)) for i, value in enumerate(line.values)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    level, (x, y) = _y(line.level, up), points[-1]
    return (
        f'<path d="M{LEFT} {level:.1f}H{WIDTH - RIGHT}" stroke="{line.colour}" stroke-dasharray="2 4"/>'
        f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="2.2" stroke-linejoin="round"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.colour}"/>'
        + text(x + 6, y + 4, line.name, anchor="start", weight="700", fill=line.colour)
    )


def decades(rows: Sequence[tuple[str, float]], tolerance: float, title: str) -> str:
    """A bar for each relative difference, from 1e-8 to 1 by powers of ten."""
    left, right, step = 60, WIDTH - 62, 24
    floor = TOP + step * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * min(max(math.log10(value) / 8 + 1, 0.01), 1)

    parts = []
    for power in range(-8, 1, 2):
        at = x(10.0**power)
        parts.append(f'<path d="M{at:.1f} {TOP}V{floor}" stroke="currentColor" stroke-opacity=".15"/>')
        parts.append(text(at, floor + 14, f"1e{power}" if power else "1", opacity=0.75))
    at = x(tolerance)
    parts.append(f'<path d="M{at:.1f} {TOP}V{floor}" stroke="{WARNING}" stroke-dasharray="3 3"/>')
    for i, (name, value) in enumerate(rows):
        y = TOP + step * i + 5
        parts.append(text(left - 6, y + 10, name, anchor="end"))
        if value == 0:
            parts.append(text(left + 5, y + 11, "0", anchor="start", weight="600"))
            continue
        colour = COLOURS["B"] if value <= tolerance else COLOURS["A"]
        parts.append(
            f'<rect x="{left}" y="{y}" width="{x(value) - left:.1f}" height="14" rx="2" fill="{colour}"/>'
        )
        parts.append(text(x(value) + 5, y + 11, f"{value:.1e}", anchor="start", weight="600"))
    return svg(floor + 20, title, parts)


def standalone(svg: str) -> str:
    """A drawing as a file of its own: black on white, whatever the viewer's theme."""
    head, _, body = svg.partition(">")
    return f'{head} color="#111"><rect width="100%" height="100%" fill="#fff"/>{body}'


def svg(height: float, title: str, parts: Sequence[str], width: float = WIDTH) -> str:
    return (
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
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{fill}" fill-opacity="{opacity}">{escape(words)}</text>'
    )
