"""Pooling: a grid or a photo, pooled by maximum and average, and again after a shift by one pixel."""

import numpy as np
from markupsafe import Markup
from PIL import Image

from resnet_hub.lab import pooling
from resnet_hub.ui.lab.form import Choice, Grid, Slider, Switch, Upload, Values
from resnet_hub.ui.lab.pieces import Topic, map_figure, pixels, row, says, sentence, word
from resnet_hub.ui.lab.trained import photo
from resnet_hub.ui.shared.errors import refusal
from resnet_hub.ui.shared.html import figure
from resnet_hub.ui.shared.text import percent, say

EDGE = ((0, 0, 0, 9, 0, 0),) * 6  # a vertical edge as an edge detector answers it
PHOTO_SIDE = 96
KINDS = ("max", "average")


def draw(language: str, values: Values) -> list[Markup]:
    window = {name: values[name] for name in ("kernel", "stride", "padding")}
    if 2 * values["padding"] > values["kernel"]:
        raise refusal("lab_pooling_padded")
    if values["input"] == "grid":
        return draw_grid(language, np.array(values["grid"]), window, values["shift"])
    return draw_photo(language, photo_pixels(values["photo"]), window, values["shift"])


def draw_grid(language: str, grid: np.ndarray, window: dict[str, int], shift: bool) -> list[Markup]:
    """Input, maximum and average of the grid; with a shift, the same of the shifted grid below."""
    kept = {kind: pooling.pool(grid, kind, **window) for kind in KINDS}
    maps = [map_figure(language, "input", grid, faint=~kept["max"].used, digits=0)]
    maps += [map_figure(language, kind, out.values, side=110) for kind, out in kept.items()]
    global_average = f"{pooling.pool(grid, 'global').values.item():.2f}"
    text = says(
        language, "pooling", average=global_average, highest=grid.max(), ignored=ignored(language, kept)
    )
    if not shift:
        return [row(*maps, size="small"), text]
    moved = {kind: pooling.shift_test(grid, kind, **window) for kind in KINDS}
    again = [map_figure(language, "shifted", moved["max"].moved, digits=0)]
    for kind, pair in moved.items():
        again.append(map_figure(language, kind, pair.after, marked=pair.before != pair.after, side=110))
    changed = [after_shift(language, moved), sentence(say(language, "lab_pooling_marked"))]
    return [row(*maps, size="small"), row(*again, size="small"), text, *changed]


def draw_photo(language: str, photo: np.ndarray, window: dict[str, int], shift: bool) -> list[Markup]:
    """A photo (3, H, W) pooled channel by channel."""
    if min(photo.shape[1:]) + 2 * window["padding"] < window["kernel"]:
        raise refusal("lab_pooling_thin")
    kept = {kind: pooling.pool(photo, kind, **window) for kind in KINDS}
    height, width = photo.shape[1:]
    shown = [pixel_figure(photo, word(language, "input_size", height=height, width=width))]
    for kind, out in kept.items():
        size = "×".join(map(str, out.values.shape[1:]))
        shown.append(pixel_figure(out.values, say(language, "comma").join([word(language, kind), size])))
    mean = ", ".join(f"{value:.0f}" for value in pooling.pool(photo, "global").values.ravel())
    pieces = [row(*shown), says(language, "pooling_photo", colour=mean, ignored=ignored(language, kept))]
    if shift:
        moved = {kind: pooling.shift_test(photo, kind, **window) for kind in KINDS}
        again = [pixel_figure(moved["max"].moved, word(language, "shifted"))]
        again += [pixel_figure(pair.after, word(language, kind)) for kind, pair in moved.items()]
        pieces.insert(1, row(*again))
        pieces.append(after_shift(language, moved))
    return pieces


def ignored(language: str, kept: dict[str, pooling.Pooled]) -> str:
    """The shares of the values that change no result, in words."""
    shares = {kind: percent(out.dropped, 0) for kind, out in kept.items()}
    who = "both" if kept["average"].dropped else "some" if kept["max"].dropped else "none"
    return say(language, f"lab_pooling_ignores_{who}", **shares)


def after_shift(language: str, moved: dict[str, pooling.Shifted]) -> Markup:
    changed = {f"{kind}_changed": percent(pair.changed, 0) for kind, pair in moved.items()}
    return says(language, "pooling_shift", **changed)


def photo_pixels(path: str) -> np.ndarray:
    """The visitor's image, else the example, small: (3, H, W), 0 to 255."""
    image = photo(path)
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return np.asarray(image).transpose(2, 0, 1)


def pixel_figure(values: np.ndarray, caption: str) -> Markup:
    return figure(pixels(Image.fromarray(values.transpose(1, 2, 0).round().astype(np.uint8))), caption)


TOPICS = {
    "pooling": Topic(
        (
            Choice(name="input", value="grid", options=("grid", "photo")),
            Slider(name="kernel", value=2, least=1, most=4),
            Slider(name="stride", value=2, least=1, most=4),
            Slider(name="padding", value=0, least=0, most=2),
            Switch(name="shift", value=False),
            Grid(name="grid", value=EDGE, when=("input", "grid")),
            Upload(name="photo", value="", when=("input", "photo")),
        ),
        draw,
    ),
}
