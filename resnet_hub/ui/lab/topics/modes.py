"""Batch norm's two modes: what it takes from the batch, and what it has stored."""

from __future__ import annotations

from markupsafe import Markup

from resnet_hub.lab import batchnorm
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, says, word
from resnet_hub.ui.shared.html import table


def draw(language: str, values: Values) -> list[Markup]:
    found = batchnorm.modes(values["mean"], values["std"], values["batches"])
    pairs = {
        "fed": (values["mean"], values["std"]),
        "stored": (found.running_mean, found.running_var**0.5),
        "train_out": map(abs, found.train),  # a mean of −0.00 would puzzle
        "eval_out": found.evaluated,
    }
    rows = [[word(language, key), *(f"{value:.2f}" for value in pair)] for key, pair in pairs.items()]
    heads = ["", word(language, "mean"), word(language, "std")]
    return [table(heads, rows, "modes"), says(language, "modes", batches=values["batches"])]


TOPIC = Topic(
    (
        Slider(name="mean", value=3.0, least=-10, most=10, step=0.5),
        Slider(name="std", value=2.0, least=0.5, most=10, step=0.5),
        Slider(name="batches", value=10, least=0, most=100),
    ),
    draw,
)
