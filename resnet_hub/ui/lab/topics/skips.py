"""Add or concatenate: what ResNet, DenseNet and U-Net do with an earlier map."""

from markupsafe import Markup

from resnet_hub.lab import skips
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, line_chart, says, word
from resnet_hub.ui.shared.html import table


def draw(language: str, values: Values) -> list[Markup]:
    channels, growth = values["channels"], values["growth"]
    found = skips.compare(channels, growth, values["layers"])
    ways = [
        ["ResNet", "y = x + F(x)", f"N×{channels}×H×W"],
        ["DenseNet", "y = [x, F(x)]", f"N×({channels}+{growth})×H×W"],
        ["U-Net", "y = [encoder, decoder]", f"N×({channels}+{channels})×H×W"],
    ]
    grown = {word(language, key): getattr(found, key) for key in ("added", "concatenated")}
    facts = {
        "channels": channels,
        "grown": found.concatenated[-1],
        "added": f"{sum(found.added_weights):,}",
        "concatenated": f"{sum(found.concatenated_weights):,}",
        "unet": 2 * channels,
    }
    return [
        table(["", word(language, "join"), word(language, "shape")], ways),
        line_chart(language, ("channels_axis", "layers_axis"), grown, log=False, first=0),
        says(language, "skips", **facts),
    ]


TOPICS = {
    "skips": Topic(
        (
            Slider(name="channels", value=64, least=16, most=256, step=16),
            Slider(name="growth", value=32, least=4, most=64, step=4),
            Slider(name="layers", value=6, least=1, most=24),
        ),
        draw,
    ),
}
