"""The Operations tab, for who runs the app: what the recorder counted. It exists with `--operations` only."""

from __future__ import annotations

import html
import time

import gradio as gr

from resnet_hub.ui.explore.page import table
from resnet_hub.ui.recorder import KEPT, Recorder
from resnet_hub.ui.shared.page import PANEL, QUIET, Page, Part
from resnet_hub.ui.shared.text import known_language, percent, say


def report(language: str, recorder: Recorder) -> str:
    """The table of the tab."""
    rows = []
    for line in recorder.lines():
        latencies = ("–" if seconds is None else f"{1000 * seconds:.0f}" for seconds in line.latencies)
        name = html.escape(" ".join(filter(None, (line.model, line.revision[:12]))))
        shares = percent(line.errors, 1), percent(line.flagged, 1)
        rows.append([name, f"{line.requests:,}", f"{line.a_minute:.1f}", *latencies, *shares])
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(recorder.started))
    about = f"<p>{say(language, 'operations_about', since=since, kept=KEPT)}</p>"
    if not rows:
        return about + f'<p class="waiting">{say(language, "operations_none")}</p>'
    keys = ("model", "requests", "rate", "p50", "p95", "p99", "errors", "flagged")
    return about + table([say(language, f"operations_{key}") for key in keys], rows, "operations")


def build(given: Page, tab: gr.Tab) -> Part:
    """Lay out the tab and wire it."""
    language, recorder = given.language, given.recorder
    shown = gr.HTML("", elem_id="operations", **PANEL)
    button = gr.Button(say("en", "operations_refresh"))

    def refresh(language: str) -> str:
        return report(known_language(language), recorder)

    for event in (tab.select, button.click, language.change):
        event(refresh, language, shown, **QUIET)
    return Part(lambda chosen: [say(chosen, "operations_refresh")], [button])
