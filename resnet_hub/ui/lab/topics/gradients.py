"""Gradient flow: its size at each layer with and without shortcuts, and its two ways through a block."""

from typing import Any

from markupsafe import Markup

from resnet_hub.lab import gradients
from resnet_hub.ui.lab.form import Choice, Slider, Switch, Values
from resnet_hub.ui.lab.pieces import Topic, line_chart, says, word
from resnet_hub.ui.shared.chart import number


def draw(language: str, values: Values) -> list[Markup]:
    settings = {"activation": values["activation"], "batch_norm": values["batch_norm"]}
    flows = {
        key: gradients.gradient_flow(values["depth"], skip=key == "with_skip", **settings)
        for key in ("without_skip", "with_skip")
    }
    return [*flow_pieces(language, flows, "gradients"), *plus_one(language, values["depth"], settings)]


def flow_pieces(language: str, flows: dict[str, gradients.GradientFlow], key: str) -> list[Markup]:
    """Both networks' gradients by layer, and the sentence `key` about them."""
    norms = {word(language, name): flow.norms for name, flow in flows.items()}
    facts = {f"{name}_ratio": number(flow.first_to_last) for name, flow in flows.items()}
    facts |= {f"{name}_factor": f"{flow.factor_a_layer:.3f}" for name, flow in flows.items()}
    facts["times"] = number(flows["without_skip"].norms[0] / max(flows["with_skip"].norms[0], 1e-30))
    return [line_chart(language, ("gradient_axis", "layer_axis"), norms), says(language, key, **facts)]


def plus_one(language: str, depth: int, settings: dict[str, Any]) -> list[Markup]:
    """The gradient through each block's shortcut and through its branch."""
    found = gradients.plus_one(depth, **settings)
    parts = {"through_shortcut": found.shortcut, "through_branch": found.branch}
    norms = {word(language, key): values for key, values in parts.items()}
    against = sum(cosine < 0 for cosine in found.cosines)
    return [
        line_chart(language, ("plus_one_axis", "block_axis"), norms),
        says(language, "plus_one", against=against, blocks=len(found.cosines)),
    ]


TOPICS = {
    "gradients": Topic(
        (
            Slider(name="depth", value=20, least=4, most=gradients.MOST_DEPTH, step=2),
            Choice(name="activation", value="relu", options=gradients.ACTIVATIONS),
            Switch(name="batch_norm", value=True),
        ),
        draw,
        study="degradation",
    ),
}
