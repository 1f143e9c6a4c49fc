"""Receptive field: click a position, and see what it depends on by the formula and by the gradient."""

import json

from markupsafe import Markup, escape

from resnet_hub.lab import receptive
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.ui.explore.run import fresh
from resnet_hub.ui.lab.form import Choice, Slider, Upload, Values
from resnet_hub.ui.lab.pieces import Topic, row, says, word
from resnet_hub.ui.lab.trained import DEFAULT, TRAINED, crop, trained
from resnet_hub.ui.shared.chart import ORANGE, svg
from resnet_hub.ui.shared.html import figure
from resnet_hub.ui.shared.images import data_url, viridis
from resnet_hub.ui.shared.text import percent

SIDE = 300  # of each drawing, in its own units
HEAVY = ("vgg16",)  # half a gigabyte of linear layers behind the maps that are looked at
MOST_CELLS = 16  # places to click along one side

NETWORKS = (*TRAINED, *(name for name in list_models() if name not in HEAVY))


def draw(language: str, values: Values) -> list[Markup]:
    name = values["network"]
    model = trained(name) if name in TRAINED else fresh(model_config(name))
    image = crop(model, values["photo"])
    stage = min(values["stage"], len(receptive.stage_names(model.config.name))) - 1
    size = receptive.map_size(model, stage)
    place = tuple(min(values[key] * n // 100, n - 1) for key, n in zip(("down", "across"), size, strict=True))
    found = receptive.field(model, image, stage, *place)
    boxes = ((found.box, "6 3"), (found.inner, ""))
    weights = viridis((found.weights / found.weights.max()) ** 0.5)
    shown = {"click": (image, cells(size, values)), "weights_map": (weights, "")}
    facts = {
        "stage": receptive.stage_names(model.config.name)[stage],
        "row": place[0] + 1,
        "column": place[1] + 1,
        "height": size[0],
        "width": size[1],
        "formal": found.formal,
        "inner": found.inner_side,
        "area": percent(area(found.inner) / area(found.box), 0),
        "image": found.weights.shape[0],
    }
    pieces = [
        figure(
            boxed(data_url(picture), found.weights.shape, boxes, on_top, word(language, key)),
            word(language, key),
        )
        for key, (picture, on_top) in shown.items()
    ]
    kind = "trained" if name in TRAINED else "random"
    return [row(*pieces), says(language, "receptive", **facts), says(language, f"receptive_{kind}")]


def area(box: receptive.Box) -> int:
    """Of (top, left, bottom, right), in pixels."""
    top, left, bottom, right = box
    return (bottom - top) * (right - left)


def boxed(address: str, size: tuple[int, ...], boxes, on_top: str, title: str) -> Markup:
    """An image of (height, width) pixels with boxes on it, each (box, dashes)."""
    height, width = size
    unit = SIDE / width
    parts = [
        f'<image href="{address}" width="{SIDE}" height="{height * unit:.1f}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    ]
    for (top, left, bottom, right), dash in boxes:
        at = f'x="{left * unit + 1.5:.1f}" y="{top * unit + 1.5:.1f}"'
        side = f'width="{(right - left) * unit - 3:.1f}" height="{(bottom - top) * unit - 3:.1f}"'
        for colour, thick in (("#fff", 4.5), (ORANGE, 2.5)):
            parts.append(
                f'<rect {at} {side} fill="none" stroke="{colour}" stroke-width="{thick}" '
                f'stroke-dasharray="{dash}"/>'
            )
    return svg(height * unit, title, [*parts, on_top], SIDE)


def cells(size: tuple[int, int], values: Values) -> str:
    """A square to click for each position of the map, or for each of a coarser grid."""
    down, across = (min(n, MOST_CELLS) for n in size)
    high, wide = SIDE * size[0] / size[1] / down, SIDE / across
    parts = []
    for i in range(down):
        for j in range(across):
            at = {"down": int(100 * (i + 0.5) / down), "across": int(100 * (j + 0.5) / across)}
            asked = escape(json.dumps(values | at))
            parts.append(
                f'<rect x="{j * wide:.1f}" y="{i * high:.1f}" width="{wide:.1f}" height="{high:.1f}" '
                f'fill="transparent" style="cursor:pointer" data-go="receptive" data-values="{asked}"/>'
            )
    return "".join(parts)


TOPICS = {
    "receptive": Topic(
        (
            Choice(name="network", value=DEFAULT, options=NETWORKS),
            Slider(name="stage", value=3, least=1, most=5),
            Slider(name="across", value=50, least=0, most=100),
            Slider(name="down", value=50, least=0, most=100),
            Upload(name="photo", value=""),
        ),
        draw,
    )
}
