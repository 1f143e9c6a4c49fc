"""The Lab tab: topics to open, each with a few controls and beside them a drawing that follows.

Three HTML panels hold whatever topic is open; they are empty until somebody selects the tab.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from resnet_hub.ui.lab.page import asked, asked_by, follow, opened
from resnet_hub.ui.shared.page import PANEL, Page, sent
from resnet_hub.ui.shared.text import known_language

SCRIPT = Path(__file__).with_name("lab.js")
# Quiet, but queued, a few at a time. The script puts a visitor's questions one after another: "always_last"
# would put one that had to wait with the data of the one it waited for.
EVENT = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": 4,
    "concurrency_id": "lab",
    "trigger_mode": "multiple",
}


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab and wire it."""
    language, script = page.language, SCRIPT.read_text(encoding="utf-8")
    page.text(gr.Markdown(), value="lab_intro")
    with gr.Row(elem_id="lab", equal_height=False):
        top = gr.HTML("", js_on_load=script, elem_id="lab-controls", **PANEL)
        bottom = gr.HTML("", js_on_load=script, elem_id="lab-image", **PANEL)
    study = gr.HTML("", js_on_load=None, elem_id="lab-study", **PANEL)
    seen = gr.State(False)
    panels = [top, bottom, study]

    def on_select(language: str, seen: bool, request: gr.Request) -> list:
        if seen:
            return [gr.skip()] * (len(panels) + 1)
        language = page.spoken(known_language(language), request)
        return [*opened(language, *asked_by(dict(request.query_params))), True]

    def on_go(event: gr.EventData, language: str) -> list:
        return opened(known_language(language), *asked(event))

    def on_input(event: gr.EventData, language: str) -> str:
        if sent(event).get("large"):
            raise page.too_large(known_language(language))
        return follow(known_language(language), *asked(event))[0]

    tab.select(on_select, [language, seen], [*panels, seen], **EVENT)
    language.change(None, None, None, js="() => window.labAgain?.()", api_visibility="private")
    asked_for = [
        *(panel.click(on_go, [language], panels, **EVENT) for panel in (top, bottom)),
        top.input(on_input, [language], bottom, **EVENT),
    ]
    for question in asked_for:
        for ended in (question.success, question.failure):  # what raised starts no `then`
            ended(None, None, None, js="() => labAnswered()", api_visibility="private")
