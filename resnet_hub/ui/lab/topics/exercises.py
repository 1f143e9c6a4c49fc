"""The course's ten exercises: a task, the topic to try it in, and an answer computed when asked for.

The texts have gaps; the numbers in them come from `resnet_hub.lab` and from the recorded studies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from resnet_hub.geometry import totals, trace
from resnet_hub.lab import batchnorm, cost, dropout, fine_tuning, gradients, pooling, residual
from resnet_hub.ui.lab.form import Choice, Switch, Values
from resnet_hub.ui.lab.pieces import Topic
from resnet_hub.ui.lab.topics.pooling import EDGE
from resnet_hub.ui.lab.topics.residual import shape_of
from resnet_hub.ui.results import recorded
from resnet_hub.ui.results.page import arm_name, budget
from resnet_hub.ui.shared.chart import number
from resnet_hub.ui.shared.html import render
from resnet_hub.ui.shared.text import percent, say, short

Facts = dict[str, Any]


@dataclass(frozen=True)
class Exercise:
    """`topic` and `values` open the topic to try it in; `answer` fills the answer's gaps."""

    topic: str
    values: dict[str, Any]
    answer: Callable[[str], Facts]


def identity(language: str) -> Facts:
    kept, cut = residual.pass_through(0), residual.pass_through(0, negative=True)
    return {
        "difference": number(kept.difference),
        "plain": number(kept.plain_difference),
        "negative": number(cut.difference),
    }


def block_costs(language: str) -> Facts:
    found = cost.block_cost(256)
    whole = {each.name: short(each.params) for each in cost.networks("resnet34", "resnet50")}
    return {
        "basic": f"{sum(found.basic):,}",
        "bottleneck": f"{sum(found.bottleneck):,}",
        "ratio": f"{found.ratio:.1f}",
        "basic_layers": " + ".join(f"{n:,}" for n in found.basic),
        "bottleneck_layers": " + ".join(f"{n:,}" for n in found.bottleneck),
        "params34": whole["resnet34"],
        "params50": whole["resnet50"],
    }


def transfers(language: str) -> Facts:
    cases = {"few": (500, 2, True), "some": (10_000, 50, True), "many": (50_000, 2, True)}
    facts = {}
    for name, case in cases.items():
        found = fine_tuning.advise(*case)
        facts[name] = say(language, f"lab_transfer_mode_{found.mode}")
        facts[f"{name}_params"] = f"{found.trainable:,}"
    unlike = fine_tuning.advise(500, 2, similar=False)
    return facts | {"unlike": say(language, f"lab_transfer_mode_{unlike.mode}")}


def strided_block(language: str) -> Facts:
    found = residual.block_shapes("basic", 64, 128, 2, 56)
    beside = next(step for step in found.steps if step.place == "shortcut")
    return {
        "out": shape_of(found.out_shape),
        "window": f"{beside.kernel}×{beside.kernel}",
        "shortcut": f"{beside.params:,}",
        "params": f"{found.params:,}",
    }


def overfitting(language: str) -> Facts:
    feature, full = fine_tuning.advise(500, 2, True), fine_tuning.advise(50_000, 2, True)
    rates = dict(full.rates)
    return {
        "feature": f"{feature.trainable:,}",
        "full": f"{full.trainable:,}",
        "zeroed": percent(dropout.drop(0.5, True).zeroed, 0),
        "slow": number(rates["stem"] / rates["head"]),
        "study": gaps(language, "dropout"),
    }


def edge_pooling(language: str) -> Facts:
    grid = np.array(EDGE)
    kept = {kind: pooling.pool(grid, kind) for kind in ("max", "average")}
    rows = {kind: " ".join(f"{value:g}" for value in found.values[0]) for kind, found in kept.items()}
    changed = percent(pooling.shift_test(grid, "max").changed, 0)
    return rows | {"dropped": percent(kept["max"].dropped, 0), "changed": changed}


def skip_gradients(language: str) -> Facts:
    sigmoid: Facts = {"activation": "sigmoid", "batch_norm": False}
    kinds: dict[str, Facts] = {
        "plain": {"skip": False},
        "residual": {"skip": True},
        "sigmoid": {"skip": False} | sigmoid,
        "sigmoid_residual": {"skip": True} | sigmoid,
        "sigmoid_pre": {"skip": True, "order": "pre"} | sigmoid,
    }
    return {name: number(gradients.gradient_flow(56, **kind).first_to_last) for name, kind in kinds.items()}


def norm_spread(language: str) -> Facts:
    without, with_norm = (batchnorm.spread(20, norm, 0.7).stds for norm in (False, True))
    bias = batchnorm.needless_bias(3.0).with_norm
    names = {"first": without[0], "without": without[-1], "with_norm": with_norm[-1], "bias": bias}
    return {name: number(value) for name, value in names.items()}


def dropout_sweep(language: str) -> Facts:
    shown = []
    for p in (0, 0.3, 0.5, 0.7):
        found = dropout.drop(p, True)
        facts = {"zeroed": percent(found.zeroed, 0), "scale": f"{found.scale:.2f}"}
        shown.append(say(language, "exercise_9_one", p=p, **facts))
    return {"sweep": say(language, "semicolon").join(shown), "study": gaps(language, "dropout")}


def three_networks(language: str) -> Facts:
    shown = []
    colour = {"in_chans": 3, "input_size": 32}
    for name, changes in (("lenet5", colour), ("vgg_cifar", {}), ("resnet20_cifar", {})):
        sums = totals(trace(name, **changes))
        counts = {"params": f"{sums.params:,}", "macs": short(sums.macs)}
        shown.append(say(language, "exercise_10_one", name=name, **counts))
    sizes = say(language, "semicolon").join(shown)
    return {"sizes": sizes, "study": accuracies(language, "architectures")}


def accuracies(language: str, name: str) -> str:
    """Test accuracy of each arm of a study with the study's budget, or how to run it."""
    study = recorded.readable(name)
    if study is None:
        return say(language, "exercise_no_study", name=name)
    rows = (f"{arm_name(language, r['arm'])} {percent(r['test_acc'], 1)}" for r in study["rows"])
    facts = {"rows": say(language, "comma").join(rows), "budget": budget(language, study["evidence"])}
    return say(language, "exercise_accuracy", **facts)


def gaps(language: str, name: str) -> str:
    """Training and test accuracy of each arm of a study with the study's budget, or how to run it."""
    study = recorded.readable(name)
    if study is None:
        return say(language, "exercise_no_study", name=name)
    each = (
        say(
            language,
            "exercise_gap_one",
            arm=arm_name(language, row["arm"]),
            train=percent(row["train_acc"], 1),
            test=percent(row["test_acc"], 1),
            gap=f"{100 * (row['train_acc'] - row['test_acc']):+.1f}".replace("-", "−"),
            loss=f"{row['val_loss']:.2f}",
        )
        for row in study["rows"]
    )
    facts = {"gaps": say(language, "semicolon").join(each), "budget": budget(language, study["evidence"])}
    return say(language, "exercise_gap", **facts)


EXERCISES = {
    "1": Exercise("residual", {"strength": 0}, identity),
    "2": Exercise("cost", {"width": 256}, block_costs),
    "3": Exercise("transfer", {"images": 500}, transfers),
    "4": Exercise("shapes", {"in_channels": 64, "out_channels": 128, "stride": 2, "size": 56}, strided_block),
    "5": Exercise("dropout", {"p": 0.5}, overfitting),
    "6": Exercise("pooling", {"input": "grid", "shift": True}, edge_pooling),
    "7": Exercise("gradients", {"depth": 56}, skip_gradients),
    "8": Exercise("batchnorm", {"depth": 20, "gain": 0.7}, norm_spread),
    "9": Exercise("dropout", {"p": 0.3}, dropout_sweep),
    "10": Exercise("networks", {}, three_networks),
}


def draw(language: str, values: Values) -> list[Markup]:
    """The task with a button into its topic, and its answer once asked for."""
    n, answer = values["number"], ""
    if values["answer"]:
        answer = say(language, f"exercise_{n}_answer", **EXERCISES[n].answer(language))
    facts = {"number": n, "exercise": EXERCISES[n], "answer": answer}
    return [render("lab/pieces.html", piece="task", language=language, **facts)]


TOPICS = {
    "exercises": Topic(
        (Choice(name="number", value="1", options=tuple(EXERCISES)), Switch(name="answer", value=False)), draw
    )
}
