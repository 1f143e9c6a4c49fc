"""Conv, BN, ReLU: what is left of a bias in each order of the three."""

from __future__ import annotations

from markupsafe import Markup

from resnet_hub.lab import batchnorm
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, bar_chart, says
from resnet_hub.ui.shared.chart import number


def draw(language: str, values: Values) -> list[Markup]:
    found = {order: batchnorm.needless_bias(values["bias"], order) for order in batchnorm.ORDERS}
    changes = {order: each.with_norm for order, each in found.items()}
    changes["conv-ReLU"] = found[batchnorm.ORDERS[0]].without_norm
    gradients = {f"gradient_{i}": number(each.gradient) for i, each in enumerate(found.values())}
    return [
        bar_chart(language, "change_axis", [(name, each, number(each)) for name, each in changes.items()]),
        says(language, "bias", **gradients),
    ]


TOPIC = Topic((Slider(name="bias", value=3.0, least=-10, most=10, step=0.5),), draw)
