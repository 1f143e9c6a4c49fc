"""Transfer adviser: which layers to train for so many images, and the command that does it."""

from markupsafe import Markup

from resnet_hub.lab import family, fine_tuning
from resnet_hub.ui.lab.form import Choice, Slider, Switch, Values
from resnet_hub.ui.lab.pieces import Topic, says, sentence, word
from resnet_hub.ui.shared.chart import number
from resnet_hub.ui.shared.html import render, table
from resnet_hub.ui.shared.text import percent, say


def draw(language: str, values: Values) -> list[Markup]:
    given = int(values["images"]), int(values["classes"]), values["similar"], values["network"]
    found = fine_tuning.advise(*given)
    facts = {
        "mode": say(language, f"lab_transfer_mode_{found.mode}"),
        "trainable": f"{found.trainable:,}",
        "total": f"{found.total:,}",
        "share": percent(found.trainable / found.total, 2),
    }
    why = found.mode if values["similar"] else "far"
    rates = [[stage, number(rate) if rate else word(language, "frozen")] for stage, rate in found.rates]
    return [
        says(language, "transfer", **facts),
        sentence(say(language, f"lab_transfer_why_{why}")),
        table([word(language, "stage"), word(language, "rate")], rates),
        render("lab/pieces.html", piece="command", text=found.command),
    ]


TOPICS = {
    "transfer": Topic(
        (
            Slider(name="images", value=500, least=1, most=10_000_000, typed=True),
            Slider(name="classes", value=2, least=2, most=10_000, typed=True),
            Switch(name="similar", value=True),
            Choice(name="network", value="resnet50", options=family.RESNETS),
        ),
        draw,
        study="transfer",
    ),
}
