"""Networks side by side: parameters, cost and receptive field of any three, above what was measured."""

from markupsafe import Markup

from resnet_hub.geometry import times, totals, trace
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.ui.lab.form import Choice, Values
from resnet_hub.ui.lab.pieces import Topic, bar_chart, says, word
from resnet_hub.ui.shared.html import table
from resnet_hub.ui.shared.text import short

NAMES = ("first", "second", "third")
STARTS = ("lenet5", "vgg_cifar", "resnet20_cifar")
SIDE = 32  # LeNet-5's own are grey images of 28; the others' are left as they are


def draw(language: str, values: Values) -> list[Markup]:
    rows, costs = [], []
    for name in (values[control] for control in NAMES):
        changes = {"in_chans": 3, "input_size": SIDE} if name == "lenet5" else {}
        layers, size = trace(name, **changes), model_config(name, **changes).input_size
        field, sums = max(row.receptive_field for row in layers if row.stage != "head"), totals(layers)
        rows.append([name, times(size), f"{sums.params:,}", short(sums.macs), field])
        costs.append((name, sums.macs, short(sums.macs)))
    heads = [word(language, key) for key in ("network", "image_size", "params", "macs", "field")]
    ratio = max(cost for _, cost, _ in costs) / min(cost for _, cost, _ in costs)
    return [
        table(heads, rows),
        bar_chart(language, "macs_axis", costs),
        says(language, "networks", ratio=f"{ratio:,.1f}"),
    ]


TOPICS = {
    "networks": Topic(
        tuple(
            Choice(name=name, value=start, options=tuple(list_models()))
            for name, start in zip(NAMES, STARTS, strict=True)
        ),
        draw,
        study="architectures",
    )
}
