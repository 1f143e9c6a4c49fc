"""Dropout: activations before and after, in both modes."""

from markupsafe import Markup

from resnet_hub.lab import dropout
from resnet_hub.ui.lab.form import Redraw, Slider, Switch, Values
from resnet_hub.ui.lab.pieces import Topic, map_figure, row, says
from resnet_hub.ui.shared.text import percent


def draw(language: str, values: Values) -> list[Markup]:
    found = dropout.drop(values["p"], values["training"], values["seed"])
    before = map_figure(language, "before", found.before, side=190)
    after = map_figure(language, "after", found.after, faint=found.after == 0, side=190)
    facts = {
        "zeroed": percent(found.zeroed, 0),
        "scale": f"{found.scale:.2f}",
        "before": f"{found.mean_before:.2f}",
        "after": f"{found.mean_after:.2f}",
    }
    return [row(before, after, size="large"), says(language, "dropout", **facts)]


TOPICS = {
    "dropout": Topic(
        (
            Slider(name="p", value=0.5, least=0, most=0.9, step=0.1),
            Switch(name="training", value=True),
            Redraw(name="seed", value=0),
        ),
        draw,
        study="dropout",
    ),
}
