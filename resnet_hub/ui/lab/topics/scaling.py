"""Scaling: EfficientNet's depth, width and resolution together, and a Vision Transformer's patches."""

from markupsafe import Markup

from resnet_hub.lab import scaling
from resnet_hub.preprocess import load_image
from resnet_hub.ui.lab.form import Choice, Slider, Values
from resnet_hub.ui.lab.pieces import Topic, bar_chart, says, word
from resnet_hub.ui.shared.chart import BLUE, cut_image
from resnet_hub.ui.shared.html import figure
from resnet_hub.ui.shared.images import data_url
from resnet_hub.ui.shared.page import EXAMPLES

KEYS = ("depth", "width", "resolution")


def draw_scaling(language: str, values: Values) -> list[Markup]:
    found = scaling.compound(values["phi"])
    together = {word(language, f"scale_{key}"): getattr(found, key) for key in KEYS}
    factors = [(name, value, f"×{value:.2f}") for name, value in together.items()]
    alone = {f"alone_{key}": f"{value:.2f}" for key, value in zip(KEYS, found.alone, strict=True)}
    return [
        bar_chart(language, "factor_axis", factors, colours=(BLUE,)),
        says(language, "scaling", flops=f"{found.flops:.2f}", **alone),
    ]


def draw_patches(language: str, values: Values) -> list[Markup]:
    patch = int(values["patch"])
    size = values["size"] // patch * patch
    found = scaling.patches(size, patch)
    image = load_image(EXAMPLES[0])
    side = min(image.size)
    address = data_url(image.crop((0, 0, side, side)).resize((300, 300)))
    name = word(language, "patches", across=found.across, size=size)
    facts = {"patches": found.across**2, "tokens": found.tokens, "numbers": found.patch_values}
    return [
        figure(cut_image(address, found.across, name), name),
        says(language, "patches", attention=f"{found.attention:,}", **facts),
    ]


TOPICS = {
    "scaling": Topic((Slider(name="phi", value=1.0, least=0, most=7, step=0.5),), draw_scaling),
    "patches": Topic(
        (
            Slider(name="size", value=224, least=64, most=512, step=32),
            Choice(name="patch", value="16", options=("8", "14", "16", "32")),
        ),
        draw_patches,
    ),
}
