"""A residual block: the identity, and shapes through a block with what its shortcut needs."""

from typing import Any

from markupsafe import Markup

from resnet_hub.lab import residual
from resnet_hub.ui.lab.form import Choice, Slider, Switch, Values
from resnet_hub.ui.lab.pieces import Topic, map_figure, row, says, sentence, word
from resnet_hub.ui.shared.chart import number
from resnet_hub.ui.shared.html import render, table
from resnet_hub.ui.shared.text import say

CODE_WIDTH = 26  # of all lines but the longest, so that a phone shows the shape beside them


def draw_residual(language: str, values: Values) -> list[Markup]:
    passed = residual.pass_through(values["strength"], values["negative"])
    maps = {"input": passed.before, "with_skip": passed.residual, "without_skip": passed.plain}
    facts = {"difference": number(passed.difference), "plain_difference": number(passed.plain_difference)}
    figures = (map_figure(language, name, each) for name, each in maps.items())
    return [row(*figures, size="large"), says(language, "residual", **facts)]


def draw_shapes(language: str, values: Values) -> list[Markup]:
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
        table(heads, rows),
        says(language, "shapes", **facts),
        sentence(say(language, f"lab_shapes_{kind}")),
        render("lab/pieces.html", piece="heading", text=word(language, "code")),
        render("lab/pieces.html", piece="command", text=code(*(values[name] for name in names))),
    ]


def code(*block: Any) -> str:
    """The block's own `forward`, with the shape after each line."""
    found = residual.block_code(*block)
    return "\n".join(
        f"{line.code:{CODE_WIDTH}}  # {shape_of(line.shape)}" if line.shape else line.code for line in found
    )


def shape_of(shape: tuple[int, ...]) -> str:
    return "N×" + "×".join(map(str, shape))


TOPICS = {
    "residual": Topic(
        (
            Slider(name="strength", value=0.0, least=0, most=1, step=0.05),
            Switch(name="negative", value=False),
        ),
        draw_residual,
    ),
    "shapes": Topic(
        (
            Choice(name="block", value="basic", options=residual.BLOCKS),
            Slider(name="in_channels", value=64, least=16, most=512, step=16),
            Slider(name="out_channels", value=128, least=16, most=512, step=16),
            Slider(name="stride", value=2, least=1, most=2),
            Slider(name="size", value=56, least=7, most=112, step=7),
        ),
        draw_shapes,
    ),
}
