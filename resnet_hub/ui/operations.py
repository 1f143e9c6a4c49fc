"""The Operations tab, for whoever runs the app with `--operations`: latencies and errors of Classify."""

from __future__ import annotations

import time
from collections.abc import Iterable

import gradio as gr
from markupsafe import Markup

from resnet_hub.ui.recorder import KEPT, Recorder
from resnet_hub.ui.shared.html import table, waiting
from resnet_hub.ui.shared.page import PANEL, QUIET, Page
from resnet_hub.ui.shared.text import known_language, memory, percent, say

COLUMNS = ("model", "requests", "rate", "p50", "p95", "p99", "errors", "refusals", "flagged")
DAY_COLUMNS = (
    "day",
    "model",
    "requests",
    "p50",
    "p95",
    "p99",
    "errors",
    "refusals",
    "share",
    "firm",
    "flagged",
)


def about(language: str, recorder: Recorder) -> str:
    """Which answers the table is about."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(recorder.started))
    return say(language, "operations_about", since=since, kept=KEPT)


def report(language: str, recorder: Recorder) -> Markup:
    """The table of the tab."""
    rows = []
    for line in recorder.lines():
        latencies = milliseconds(line.latencies)
        name = f"{line.model} {line.revision[:12]}".strip()
        shares = percent(line.errors), percent(line.refusals), percent(line.flagged)
        rows.append([name, f"{line.requests:,}", f"{line.a_minute:.1f}", *latencies, *shares])
    if not rows:
        return waiting(say(language, "operations_none"))
    return table([say(language, f"operations_{key}") for key in COLUMNS], rows)


def milliseconds(latencies: Iterable[float | None]) -> list[str]:
    """Latencies of a row."""
    return ["–" if seconds is None else f"{1000 * seconds:.0f}" for seconds in latencies]


def by_day(language: str, recorder: Recorder) -> Markup | str:
    """Each day that is kept, its firm and flagged shares beside the card's: drift shows here first."""
    rows = []
    for day in recorder.days():
        card = recorder.cards.peek((day.model, day.revision), None)
        asked = max(day.answered + day.failed + day.refused, 1)
        rows.append([
            day.day,
            f"{day.model} {day.revision[:12]}".strip(),
            f"{asked:,}",
            *milliseconds(day.latencies),
            percent(day.failed / asked),
            percent(day.refused / asked),
            percent(day.share("top")),
            beside(language, day.share("firm"), card.firm_share if card else None),
            beside(language, day.share("flagged"), card.false_alarms if card else None),
        ])  # fmt: skip
    if not rows:
        return ""
    return table([say(language, f"operations_{key}") for key in DAY_COLUMNS], rows)


def beside(language: str, share: float, stated: float | None) -> str:
    """A share, with what the card states where it does."""
    shown = percent(share)
    return shown if stated is None else say(language, "operations_card", share=shown, stated=percent(stated))


def parts(language: str, recorder: Recorder) -> Markup | str:
    """What holds the memory, and how much it was."""
    rows = [
        [say(language, f"operations_part_{part}"), memory(held())] for part, held in recorder.parts.items()
    ]
    seen = recorder.watch.look()
    told = say(language, "operations_memory", started=memory(seen.started), most=memory(seen.most))
    heads = [say(language, "operations_part"), say(language, "operations_held")]
    return table(heads, rows) + Markup("<p>{}</p>").format(told)


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab and wire it."""
    page.text(gr.Markdown(), value=lambda language: about(language, page.recorder))
    shown = gr.HTML("", elem_id="operations", **PANEL)
    button = page.text(gr.Button(), value="operations_refresh")

    def refresh(language: str) -> str:
        language = known_language(language)
        recorder = page.recorder
        return report(language, recorder) + by_day(language, recorder) + parts(language, recorder)

    for event in (tab.select, button.click, page.language.change):
        event(refresh, page.language, shown, **QUIET)
