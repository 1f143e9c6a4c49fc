"""Compound scaling: EfficientNet's depth, width and resolution together."""

from __future__ import annotations

from markupsafe import Markup

from resnet_hub.lab import scaling
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, bar_chart, says, word
from resnet_hub.ui.shared.chart import BLUE

KEYS = ("depth", "width", "resolution")


def draw(language: str, values: Values) -> list[Markup]:
    found = scaling.compound(values["phi"])
    together = {word(language, f"scale_{key}"): getattr(found, key) for key in KEYS}
    factors = [(name, value, f"×{value:.2f}") for name, value in together.items()]
    alone = {f"alone_{key}": f"{value:.2f}" for key, value in zip(KEYS, found.alone, strict=True)}
    return [
        bar_chart(language, "factor_axis", factors, colours=(BLUE,)),
        says(language, "scaling", flops=f"{found.flops:.2f}", **alone),
    ]


TOPIC = Topic((Slider(name="phi", value=1.0, least=0, most=7, step=0.5),), draw)
