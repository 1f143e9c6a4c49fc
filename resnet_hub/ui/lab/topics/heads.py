"""Global pooling: what a head on it saves, and when the average beats the maximum."""

from markupsafe import Markup

from resnet_hub.lab import heads
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, bar_chart, says, word
from resnet_hub.ui.shared.html import table

KEYS = ("pooled", "flat", "hidden")


def draw(language: str, values: Values) -> list[Markup]:
    found = heads.heads(values["channels"], values["side"], values["classes"])
    counts = [
        (word(language, f"head_{key}"), getattr(found, key), f"{getattr(found, key):,}") for key in KEYS
    ]
    errors = heads.pooling_errors(values["noise"])
    rows = [
        [word(language, key), *(f"{error:.2f}" for error in getattr(errors, key))]
        for key in ("flat", "spike")
    ]
    key, times = ("heads" if values["side"] > 1 else "heads_same"), f"{found.flat / found.pooled:.0f}"
    columns = ["", word(language, "global_average"), word(language, "global_max")]
    return [
        bar_chart(language, "head_axis", counts),
        says(language, key, times=times),
        table(columns, rows),
        says(language, "heads_errors", noise=f"{values['noise']:g}"),
    ]


TOPICS = {
    "heads": Topic(
        (
            Slider(name="channels", value=512, least=64, most=2048, step=64),
            Slider(name="side", value=7, least=1, most=16),
            Slider(name="classes", value=1000, least=2, most=10_000, typed=True),
            Slider(name="noise", value=0.5, least=0.0, most=2, step=0.1),
        ),
        draw,
    )
}
