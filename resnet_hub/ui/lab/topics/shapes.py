"""Shapes through a block, layer by layer, and what the shortcut needs."""

from __future__ import annotations

from markupsafe import Markup

from resnet_hub.lab import residual
from resnet_hub.ui.lab.form import Choice, Slider, Values
from resnet_hub.ui.lab.pieces import Topic, says, sentence, word
from resnet_hub.ui.shared.html import table
from resnet_hub.ui.shared.text import say


def draw(language: str, values: Values) -> list[Markup]:
    names = ("block", "in_channels", "out_channels", "stride", "size")
    found = residual.block_shapes(*(values[name] for name in names))
    rows = []
    for step in found.steps:
        window = f"{step.kernel}×{step.kernel}" + (f" /{step.stride}" if step.stride > 1 else "")
        rows.append([step.name, word(language, step.place), window, shape_of(step.shape), f"{step.params:,}"])
    heads = [word(language, key) for key in ("layer", "path", "window", "shape", "weights")]
    inside = shape_of((values["in_channels"], values["size"], values["size"]))
    facts = {"inside": inside, "out": shape_of(found.out_shape), "params": f"{found.params:,}"}
    kind = "identity" if len({step.place for step in found.steps}) == 1 else "projection"
    return [
        table(heads, rows, "shapes"),
        says(language, "shapes", **facts),
        sentence(say(language, f"lab_shapes_{kind}")),
    ]


def shape_of(shape: tuple[int, ...]) -> str:
    return "N×" + "×".join(map(str, shape))


TOPIC = Topic(
    (
        Choice(name="block", value="basic", options=residual.BLOCKS),
        Slider(name="in_channels", value=64, least=16, most=512, step=16),
        Slider(name="out_channels", value=128, least=16, most=512, step=16),
        Slider(name="stride", value=2, least=1, most=2),
        Slider(name="size", value=56, least=7, most=112, step=7),
    ),
    draw,
)
