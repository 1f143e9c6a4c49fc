"""What the Lab tab shows for a topic and its controls' values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from resnet_hub.ui.lab.form import Refused, Values, label, read, shown_inputs
from resnet_hub.ui.lab.topics import TOPICS
from resnet_hub.ui.results.page import inset
from resnet_hub.ui.shared.errors import explain
from resnet_hub.ui.shared.html import alert, render
from resnet_hub.ui.shared.page import sent
from resnet_hub.ui.shared.text import TEXT, first_sentence, say

FIRST = "pooling"


def controls(language: str, topic: str, values: Values) -> Markup:
    """Everything beside the drawing."""
    note = f"lab_{topic}_note"
    return render(
        "lab/controls.html",
        language=language,
        topic=topic,
        number=[*TOPICS].index(topic) + 1,
        topics={name: first_sentence(say(language, f"lab_{name}_about")) for name in TOPICS},
        note=say(language, note) if note in TEXT else "",
        inputs=shown_inputs(language, topic, TOPICS[topic].controls, values),
    )


def image(language: str, topic: str, values: Values) -> Markup:
    """The drawing and its sentences, or one line where the values cannot be computed."""
    try:
        return Markup("").join(TOPICS[topic].draw(language, values))
    except ValueError as error:
        return alert(explain(language, error))


def asked(event: Any) -> tuple[str, Any]:
    """Topic and raw values a browser sent; another topic than ours is the first."""
    data = sent(event)
    topic = str(data.get("topic"))
    return (topic if topic in TOPICS else FIRST), data.get("values")


def asked_by(query: Mapping[str, str]) -> tuple[str, Values]:
    """Topic and raw values of an address; the first topic where it names none of ours."""
    if query.get("topic") not in TOPICS:
        return FIRST, {}
    flags = {"true": True, "false": False}
    return query["topic"], {name: flags.get(value, value) for name, value in query.items()}


def follow(language: str, topic: str, raw: Any) -> tuple[Markup, Values]:
    """The drawing for what a form says, and the values its controls show."""
    try:
        values = read(TOPICS[topic].controls, raw)
    except Refused as error:
        name = label(language, topic, error.control.name)
        sentence = explain(language, error, name=name)
        return render(
            "lab/pieces.html", piece="fault", control=error.control.name, text=sentence
        ), error.values
    return image(language, topic, values), values


def opened(language: str, topic: str, raw: Any) -> list:
    """A topic's three panels."""
    shown, values = follow(language, topic, raw)
    return [controls(language, topic, values), shown, inset(language, TOPICS[topic].study)]
