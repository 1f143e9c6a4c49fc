"""The Lab tab: topics to open, each with a few controls and an image that follows them.

Three HTML panels hold whatever topic is open; they are empty until somebody selects the tab. Knows nothing of
what a topic shows (`lab_sections.py`) or computes (`resnet_hub.lab`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from resnet_hub.preprocess import ImageError
from resnet_hub.ui.lab import exercises as lab_exercises
from resnet_hub.ui.lab.form import Refused, form, label, read
from resnet_hub.ui.lab.sections import SECTIONS, about
from resnet_hub.ui.results import studies
from resnet_hub.ui.shared.page import PANEL, Page, Part, alert, error_text, sent
from resnet_hub.ui.shared.text import known_language, say

TOPICS = SECTIONS | {"exercises": lab_exercises.SECTION}
FIRST = "pooling"
SCRIPT = Path(__file__).with_name("lab.js")
# Quiet, but queued, one at a time: answers come in the order of the questions. Every question counts, since
# "always_last" would put an event that had to wait again with the data of the one it waited for.
EVENT = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": 1,
    "concurrency_id": "lab",
    "trigger_mode": "multiple",
}


def navigation(language: str, topic: str) -> str:
    """A button for each topic, the open one marked."""
    buttons = "".join(
        f'<button type="button" data-go="{name}"{" aria-current=true" if name == topic else ""}>'
        f"{say(language, f'lab_tab_{name}')}</button>"
        for name in TOPICS
    )
    return f'<nav aria-label="{say(language, "lab_topics")}">{buttons}</nav>'


def controls(language: str, topic: str, values: dict[str, Any]) -> str:
    """Everything above the image."""
    return (
        navigation(language, topic)
        + about(language, topic)
        + form(language, topic, TOPICS[topic].controls, values)
    )


def image(language: str, topic: str, values: dict[str, Any]) -> str:
    """The image and its sentences, or one line where the values cannot be computed."""
    try:
        return TOPICS[topic].draw(language, values)
    except ImageError as error:
        return alert(error_text(language, error))
    except ValueError as error:
        return alert(say(language, "lab_failed", why=str(error).rstrip(".")))


def asked(event: Any) -> tuple[str, Any]:
    """Topic and raw values a browser sent; another topic than ours is the first."""
    data = sent(event)
    topic = str(data.get("topic"))
    return (topic if topic in TOPICS else FIRST), data.get("values")


def follow(language: str, topic: str, raw: Any) -> tuple[str, dict[str, Any]]:
    """The image for what a form says, and the values its controls show."""
    try:
        values = read(TOPICS[topic].controls, raw)
    except Refused as error:
        name, allowed = label(language, topic, error.control.name), error.control.allowed(language)
        refused = say(language, "lab_refused", name=name, seen=error.seen, allowed=allowed)
        return alert(refused), error.values
    return image(language, topic, values), values


def remembered(topic: str, raw: Any) -> tuple[str, dict[str, Any]]:
    """The open topic and what its form says; a value that is refused will be in another language too."""
    try:
        return topic, read(TOPICS[topic].controls, raw)
    except Refused as error:
        return topic, error.values | {error.control.name: error.seen}


def opened(language: str, topic: str, raw: Any) -> list:
    """A topic's three panels, and what to remember of it."""
    shown, values = follow(language, topic, raw)
    study = studies.inset(language, TOPICS[topic].study)
    return [controls(language, topic, values), shown, study, remembered(topic, raw)]


def build(given: Page, tab: gr.Tab) -> Part:
    """Lay out the tab and wire it."""
    language = given.language
    script = SCRIPT.read_text(encoding="utf-8")
    intro = gr.Markdown(say("en", "lab_intro"))
    top = gr.HTML("", js_on_load=script, elem_id="lab-controls", **PANEL)
    bottom = gr.HTML("", js_on_load=script, elem_id="lab-image", **PANEL)
    study = gr.HTML("", js_on_load=None, elem_id="lab-study", **PANEL)
    open_ = gr.State(None)
    panels = [top, bottom, study, open_]

    def on_select(language: str, kept: tuple | None) -> list:
        return [gr.skip()] * len(panels) if kept else opened(known_language(language), FIRST, {})

    def on_go(event: gr.EventData, language: str) -> list:
        return opened(known_language(language), *asked(event))

    def on_input(event: gr.EventData, language: str) -> list:
        topic, raw = asked(event)
        return [follow(known_language(language), topic, raw)[0], remembered(topic, raw)]

    def on_language(language: str, kept: tuple | None) -> list:
        return opened(known_language(language), *kept) if kept else [gr.skip()] * len(panels)

    tab.select(on_select, [language, open_], panels, **EVENT)
    language.change(on_language, [language, open_], panels, **EVENT)
    for panel in (top, bottom):
        panel.click(on_go, language, panels, **EVENT)
    top.input(on_input, language, [bottom, open_], **EVENT)
    return Part(lambda chosen: [say(chosen, "lab_intro")], [intro])
