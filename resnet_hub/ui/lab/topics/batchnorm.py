"""Batch norm along depth: the spread of activations with and without it."""

from __future__ import annotations

from markupsafe import Markup

from resnet_hub.lab import batchnorm
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, line_chart, says, word
from resnet_hub.ui.shared.chart import number


def draw(language: str, values: Values) -> list[Markup]:
    depth, gain = values["depth"], values["gain"]
    found = {key: batchnorm.spread(depth, key == "with_norm", gain) for key in ("without_norm", "with_norm")}
    stds = {word(language, key): each.stds for key, each in found.items()}
    facts = {f"{key}_last": number(each.stds[-1]) for key, each in found.items()}
    return [
        line_chart(language, ("std_axis", "layer_axis"), stds),
        says(language, "batchnorm", depth=depth, **facts),
    ]


TOPIC = Topic(
    (
        Slider(name="depth", value=20, least=2, most=batchnorm.MOST_DEPTH),
        Slider(name="gain", value=0.7, least=0.5, most=2, step=0.1),
    ),
    draw,
    study="batchnorm",
)
