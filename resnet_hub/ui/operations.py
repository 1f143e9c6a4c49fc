"""The Operations tab, for whoever runs the app with `--operations`: latencies and errors of Classify."""

from __future__ import annotations

import time

import gradio as gr
from markupsafe import Markup

from resnet_hub.ui.memory import resident
from resnet_hub.ui.recorder import KEPT, Recorder
from resnet_hub.ui.shared.html import table, waiting
from resnet_hub.ui.shared.page import PANEL, QUIET, Page
from resnet_hub.ui.shared.text import known_language, percent, say
from resnet_hub.ui.shelf import size_of

COLUMNS = ("model", "requests", "rate", "p50", "p95", "p99", "errors", "flagged")
DAY_COLUMNS = ("day", "model", "requests", "share", "flagged")


def about(language: str, recorder: Recorder) -> str:
    """Which answers the table is about."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(recorder.started))
    return say(language, "operations_about", since=since, kept=KEPT)


def held(language: str, page: Page) -> str:
    """The memory of now, after the start and at its highest, and what the models take of it."""
    memory = page.recorder.watch.look()
    models = sum(size_of(model) for _, model in page.shelf.in_memory())
    figures = {"now": resident(), "started": memory.started, "most": memory.most, "models": models}
    megabytes = {name: f"{value / 1e6:,.0f}" for name, value in figures.items()}
    return f"<p>{say(language, 'operations_memory', **megabytes)}</p>"


def report(language: str, recorder: Recorder) -> Markup:
    """The table of the tab."""
    rows = []
    for line in recorder.lines():
        latencies = ("–" if seconds is None else f"{1000 * seconds:.0f}" for seconds in line.latencies)
        name = f"{line.model} {line.revision[:12]}".strip()
        shares = percent(line.errors), percent(line.flagged)
        rows.append([name, f"{line.requests:,}", f"{line.a_minute:.1f}", *latencies, *shares])
    if not rows:
        return waiting(say(language, "operations_none"))
    return table([say(language, f"operations_{key}") for key in COLUMNS], rows, "operations")


def by_day(language: str, recorder: Recorder) -> Markup | str:
    """The mean top share and the flagged share of each day that is kept: drift shows here first."""
    rows = [
        [day.day, f"{day.model} {day.revision[:12]}".strip(), f"{day.answered + day.failed:,}",
         percent(day.share), percent(day.flagged)]
        for day in recorder.days()
    ]  # fmt: skip
    if not rows:
        return ""
    return table([say(language, f"operations_{key}") for key in DAY_COLUMNS], rows, "operations")


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab and wire it."""
    page.text(gr.Markdown(), value=lambda language: about(language, page.recorder))
    shown = gr.HTML("", elem_id="operations", **PANEL)
    button = page.text(gr.Button(), value="operations_refresh")

    def refresh(language: str) -> str:
        language = known_language(language)
        return held(language, page) + report(language, page.recorder) + by_day(language, page.recorder)

    for event in (tab.select, button.click, page.language.change):
        event(refresh, page.language, shown, **QUIET)
