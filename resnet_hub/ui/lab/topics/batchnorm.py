"""Batch norm: activations along depth, its two modes, and the bias it makes needless."""

from markupsafe import Markup

from resnet_hub.lab import batchnorm
from resnet_hub.ui.lab.form import Choice, Redraw, Slider, Values
from resnet_hub.ui.lab.pieces import Topic, bar_chart, line_chart, says, word
from resnet_hub.ui.shared.chart import number
from resnet_hub.ui.shared.html import render, table
from resnet_hub.ui.shared.text import say


def draw_batchnorm(language: str, values: Values) -> list[Markup]:
    depth, given = values["depth"], (values["gain"], values["border"], values["seed"])
    found = {
        key: batchnorm.spread(depth, key == "with_norm", *given) for key in ("without_norm", "with_norm")
    }
    stds = {word(language, key): each.stds for key, each in found.items()}
    facts = {f"{key}_last": number(each.stds[-1]) for key, each in found.items()}
    return [
        line_chart(language, ("std_axis", "layer_axis"), stds),
        says(language, "batchnorm", depth=depth, **facts),
    ]


def draw_modes(language: str, values: Values) -> list[Markup]:
    found = batchnorm.modes(values["mean"], values["std"], values["batches"])
    pairs = {
        "fed": (values["mean"], values["std"]),
        "stored": (found.running_mean, found.running_var**0.5),
        "train_out": map(abs, found.train),  # a mean of −0.00 would puzzle
        "eval_out": found.evaluated,
    }
    rows = [[word(language, key), *(f"{value:.2f}" for value in pair)] for key, pair in pairs.items()]
    heads = ["", word(language, "mean"), word(language, "std")]
    return [table(heads, rows), says(language, "modes", batches=values["batches"])]


def draw_bias(language: str, values: Values) -> list[Markup]:
    found = {order: batchnorm.needless_bias(values["bias"], order) for order in batchnorm.ORDERS}
    changes = {order: each.with_norm for order, each in found.items()}
    changes["conv-ReLU"] = found[batchnorm.ORDERS[0]].without_norm
    gradients = {f"gradient_{i}": number(each.gradient) for i, each in enumerate(found.values())}
    return [
        bar_chart(language, "change_axis", [(name, each, number(each)) for name, each in changes.items()]),
        says(language, "bias", **gradients),
    ]


def draw_formula(language: str, values: Values) -> list[Markup]:
    """One value through the formula, the four effects measured, and dropout beside it."""
    names = ("x", "mean", "std", "gamma", "beta")
    y = batchnorm.normalise(*(values[name] for name in names))
    shown = {name: f"{values[name]:g}".replace("-", "−") for name in names}
    found = batchnorm.effects(values["batch"])
    spread = {norm: batchnorm.spread(20, norm, 0.7).stds[-1] for norm in (True, False)}
    facts = {
        "with_norm": number(spread[True]),
        "without": number(spread[False]),
        "rescaled": number(found.rescaled),
        "gradient": number(found.gradient),
        "biased": number(found.biased),
        "noise": number(found.noise),
        "batch": values["batch"],
    }
    effects = [
        [say(language, f"lab_formula_effect_{i}"), say(language, f"lab_formula_measured_{i}", **facts)]
        for i in range(1, 5)
    ]
    compared = [
        [say(language, f"lab_formula_{part}_{i}") for part in ("what", "norm", "drop")] for i in range(1, 6)
    ]
    return [
        says(language, "formula", y=f"{y:.3f}".replace("-", "−"), **shown),
        table([word(language, key) for key in ("effect", "measured")], effects, "words"),
        render("lab/pieces.html", piece="heading", text=word(language, "norm_or_drop")),
        table(["", word(language, "batch_norm"), word(language, "dropout")], compared, "words"),
    ]


TOPICS = {
    "formula": Topic(
        (
            Slider(name="x", value=5.0, least=-20, most=20, step=0.5),
            Slider(name="mean", value=3.0, least=-10, most=10, step=0.5),
            Slider(name="std", value=2.0, least=0.5, most=10, step=0.5),
            Slider(name="gamma", value=1.5, least=-5, most=5, step=0.5),
            Slider(name="beta", value=0.5, least=-10, most=10, step=0.5),
            Slider(name="batch", value=8, least=2, most=64, step=2),
        ),
        draw_formula,
    ),
    "batchnorm": Topic(
        (
            Slider(name="depth", value=20, least=2, most=batchnorm.MOST_DEPTH),
            Slider(name="gain", value=0.7, least=0.5, most=2, step=0.1),
            Choice(name="border", value="circular", options=batchnorm.BORDERS),
            Redraw(name="seed", value=0),
        ),
        draw_batchnorm,
        study="batchnorm",
    ),
    "modes": Topic(
        (
            Slider(name="mean", value=3.0, least=-10, most=10, step=0.5),
            Slider(name="std", value=2.0, least=0.5, most=10, step=0.5),
            Slider(name="batches", value=10, least=0, most=100),
        ),
        draw_modes,
    ),
    "bias": Topic((Slider(name="bias", value=3.0, least=-3, most=3, step=0.5),), draw_bias),
}
