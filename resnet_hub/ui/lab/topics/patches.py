"""Patches: an image cut into a Vision Transformer's tokens."""

from __future__ import annotations

from markupsafe import Markup

from resnet_hub.lab import scaling
from resnet_hub.preprocess import load_image
from resnet_hub.ui.lab.form import Choice, Slider, Values
from resnet_hub.ui.lab.pieces import Topic, says, word
from resnet_hub.ui.shared.chart import cut_image
from resnet_hub.ui.shared.html import figure
from resnet_hub.ui.shared.images import data_url
from resnet_hub.ui.shared.page import EXAMPLES


def draw(language: str, values: Values) -> list[Markup]:
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


TOPIC = Topic(
    (
        Slider(name="size", value=224, least=64, most=512, step=32),
        Choice(name="patch", value="16", options=("8", "14", "16", "32")),
    ),
    draw,
)
