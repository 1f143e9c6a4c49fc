"""Block cost: the weights of a basic block and of a bottleneck at equal width."""

from markupsafe import Markup

from resnet_hub.lab import cost
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, bar_chart, says, word
from resnet_hub.ui.shared.text import short

LAYERS = {"basic": "3×3, 3×3", "bottleneck": "1×1, 3×3, 1×1"}


def draw(language: str, values: Values) -> list[Markup]:
    width = 4 * round(values["width"] / 4)
    found, window = cost.block_cost(width), cost.windows(width)
    layers = {f"{word(language, key)}: {each}": getattr(found, key) for key, each in LAYERS.items()}
    blocks = [(name, sum(each), f"{sum(each):,}") for name, each in layers.items()]
    resnet34, resnet50 = cost.networks("resnet34", "resnet50")
    facts = {
        "width": width,
        "ratio": f"{found.ratio:.1f}",
        "macs_basic": short(found.macs[0]),
        "macs_bottleneck": short(found.macs[1]),
        "small": f"{window.two_small:,}",
        "large": f"{window.one_large:,}",
        "params34": short(resnet34.params),
        "params50": short(resnet50.params),
    }
    return [
        bar_chart(language, "weights_axis", blocks, parts_of=[*layers.values()]),
        says(language, "cost", **facts),
    ]


TOPICS = {
    "cost": Topic((Slider(name="width", value=256, least=16, most=2048, step=16),), draw),
}
