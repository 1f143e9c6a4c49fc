"""The identity: a map through a block with a shortcut, and through one without."""

from __future__ import annotations

from markupsafe import Markup

from resnet_hub.lab import residual
from resnet_hub.ui.lab.form import Slider, Switch, Values
from resnet_hub.ui.lab.pieces import Topic, map_figure, row, says
from resnet_hub.ui.shared.chart import number


def draw(language: str, values: Values) -> list[Markup]:
    passed = residual.pass_through(values["strength"], values["negative"])
    maps = {"input": passed.before, "with_skip": passed.residual, "without_skip": passed.plain}
    facts = {"difference": number(passed.difference), "plain_difference": number(passed.plain_difference)}
    figures = (map_figure(language, name, each) for name, each in maps.items())
    return [row(*figures, size="large"), says(language, "residual", **facts)]


TOPIC = Topic(
    (Slider(name="strength", value=0.0, least=0, most=1, step=0.05), Switch(name="negative", value=False)),
    draw,
)
