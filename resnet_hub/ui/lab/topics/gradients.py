"""Gradient flow: its size at each layer in plain, residual and pre-activation
networks, and its two ways through a block."""

from typing import Any

from markupsafe import Markup

from resnet_hub.lab import gradients
from resnet_hub.ui.lab.form import Choice, Slider, Switch, Values
from resnet_hub.ui.lab.pieces import Topic, line_chart, says, word
from resnet_hub.ui.shared.chart import number
from resnet_hub.ui.shared.text import say


def draw(language: str, values: Values) -> list[Markup]:
    settings = {"activation": values["activation"], "batch_norm": values["batch_norm"]}
    kinds: dict[str, dict[str, Any]] = {
        "without_skip": {"skip": False},
        "with_skip": {"skip": True},
        "pre_activation": {"skip": True, "order": "pre"},
    }
    flows = {
        key: gradients.gradient_flow(values["depth"], at=values["at"], **kind, **settings)
        for key, kind in kinds.items()
    }
    key = "gradients_weights" if values["at"] == "weights" else "gradients"
    return [
        *flow_pieces(language, flows, key, values["at"]),
        *plus_one(language, values["depth"], settings),
    ]


def flow_pieces(
    language: str, flows: dict[str, gradients.GradientFlow], key: str, at: str = "activations"
) -> list[Markup]:
    """Each network's gradients by layer, and the sentence `key` about them."""
    norms = {word(language, name): flow.norms for name, flow in flows.items()}
    facts = {f"{name}_ratio": number(flow.first_to_last) for name, flow in flows.items()}
    facts |= {f"{name}_factor": f"{flow.factor_a_layer:.3f}" for name, flow in flows.items()}
    facts["times"] = number(flows["without_skip"].norms[0] / flows["with_skip"].norms[0])
    facts["at"] = say(language, f"lab_gradients_at_{at}")
    return [line_chart(language, (f"gradient_{at}_axis", "layer_axis"), norms), says(language, key, **facts)]


def plus_one(language: str, depth: int, settings: dict[str, Any]) -> list[Markup]:
    """The gradient through each block's shortcut and through its branch."""
    found = gradients.plus_one(depth, **settings)
    parts = {"through_shortcut": found.shortcut, "through_branch": found.branch}
    norms = {word(language, key): values for key, values in parts.items()}
    most = max(map(abs, found.cosines))
    facts = {
        "most": number(most),
        "longer": sum(whole > part for whole, part in zip(found.whole, found.shortcut, strict=True)),
        "blocks": len(found.cosines),
    }
    key = "plus_one" if most < UPRIGHT else "plus_one_aligned"
    return [line_chart(language, ("plus_one_axis", "block_axis"), norms), says(language, key, **facts)]


UPRIGHT = 0.2  # cosine, up to which two gradients are called nearly at right angles
TOPICS = {
    "gradients": Topic(
        (
            Slider(name="depth", value=20, least=4, most=gradients.MOST_DEPTH, step=2),
            Choice(name="activation", value="relu", options=gradients.ACTIVATIONS),
            Switch(name="batch_norm", value=True),
            Choice(name="at", value="activations", options=gradients.PLACES),
        ),
        draw,
        study="degradation",
    ),
}
