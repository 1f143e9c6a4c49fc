"""Products: one factor for every layer, beside the gradients of the paper's own networks."""

from markupsafe import Markup

from resnet_hub.lab import gradients, products
from resnet_hub.ui.lab.form import Choice, Slider, Values
from resnet_hub.ui.lab.pieces import Topic, line_chart, says
from resnet_hub.ui.lab.topics.gradients import flow_pieces
from resnet_hub.ui.shared.chart import number


def draw(language: str, values: Values) -> list[Markup]:
    factor, layers, depth = f"{values['factor']:g}", values["layers"], values["real"]
    found = products.product(values["factor"], layers)
    pieces = [
        line_chart(language, ("product_axis", "layers_axis"), {f"{factor}ⁿ": found.values}, first=0),
        says(language, "products", factor=factor, layers=layers, last=number(found.last)),
    ]
    if depth != "none":
        names = {"without_skip": f"plain{depth}_cifar", "with_skip": f"resnet{depth}_cifar"}
        flows = {key: gradients.registered_flow(name) for key, name in names.items()}
        pieces += flow_pieces(language, flows, "real")
    return pieces


TOPICS = {
    "products": Topic(
        (
            Slider(name="factor", value=0.9, least=0.5, most=1.5, step=0.05),
            Slider(name="layers", value=100, least=1, most=products.MOST_LAYERS),
            Choice(name="real", value="none", options=("none", "20", "56")),
        ),
        draw,
    ),
}
