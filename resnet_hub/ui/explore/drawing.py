"""A design's feature maps as SVG, shrinking from the image to the last stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from resnet_hub.geometry.advice import LEAST_POSITIONS
from resnet_hub.ui.shared.chart import BLUE, GREEN, ORANGE, WIDTH, svg, text

MOST_HEIGHT = 400  # of a map
LETTER, BOLD = 7.0, 7.7  # the width of a digit in the widest of the fonts, 11 units high
GAP = 6
COLOURS = {"A": BLUE, "B": GREEN}


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
        name, size, channels = map(len, self.labels)
        labels = max(LETTER * name, BOLD * size, LETTER * channels)
        return max(labels, self.size[1] * scale + self.depth) + GAP


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
    return max(WIDTH, sum(each.room(0) for each in maps))


def shrinking_maps(maps: Sequence[Map], scale: float, colour: str, title: str) -> Markup:
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
    colour = ORANGE if min(each.size) < LEAST_POSITIONS else colour
    back = each.depth * 0.7
    left, top = middle - (width + back) / 2, floor - height
    right = left + width
    faces = (
        f'<path d="M{left:.1f} {top:.1f}l{back:.1f} {-back:.1f}h{width:.1f}l{-back:.1f} {back:.1f}z"'
        f' fill="{colour}" fill-opacity=".6"/>'
        f'<path d="M{right:.1f} {top:.1f}l{back:.1f} {-back:.1f}v{height:.1f}l{-back:.1f} {back:.1f}z"'
        f' fill="{colour}" fill-opacity=".8"/>'
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
    """The positions of a map, where they are large enough to see."""
    if max(size) > 64 or width / size[1] < 2:
        return ""
    down = "".join(f"M{left + i * width / size[1]:.1f} {top:.1f}v{height:.1f}" for i in range(1, size[1]))
    across = "".join(f"M{left:.1f} {top + i * height / size[0]:.1f}h{width:.1f}" for i in range(1, size[0]))
    return f'<path d="{down}{across}" stroke="#fff" stroke-opacity=".45" stroke-width=".5"/>'
