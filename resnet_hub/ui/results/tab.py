"""The Results tab: the measured studies with their evidence, and predictions on a visitor's own images.

It is empty until somebody selects it.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_hub.ui.results.grid import MOST_FILES, Grid, Item, from_folder, from_zip, predict
from resnet_hub.ui.results.page import grid as show_grid
from resnet_hub.ui.results.page import grid_form, studies
from resnet_hub.ui.shared.errors import refusal, refusing
from resnet_hub.ui.shared.loading import load
from resnet_hub.ui.shared.page import PANEL, QUIET, Page, named, sent, uploaded_path
from resnet_hub.ui.shared.text import known_language
from resnet_hub.ui.shelf import Recent, on_gpu

SCRIPT = Path(__file__).with_name("results.js")
LATEST = 1000  # visitors whose last run is remembered
EVENT = {"show_progress": "hidden", "api_visibility": "private"}


def items_of(event: Any) -> list[Item]:
    """The images a visitor uploaded.

    Raises:
        Refusal: when they cannot be used.
    """
    archive, files, count = (sent(event).get(key) for key in ("zip", "files", "count"))
    if isinstance(count, int):
        raise refusal("grid_too_many", seen=count, most=MOST_FILES)
    if isinstance(archive, str):
        return from_zip(uploaded_path(archive))
    if isinstance(files, list) and files:
        return from_folder(each for each in files if isinstance(each, dict))
    raise refusal("grid_nothing")


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab and wire it."""
    shelf, language = page.shelf, page.language
    script = SCRIPT.read_text(encoding="utf-8")
    form = gr.HTML("", elem_id="grid-form", js_on_load=script, **PANEL)
    grid = gr.HTML("", elem_id="grid", js_on_load=script, **PANEL)
    page.text(gr.Markdown(), value="results_intro")
    shown = gr.HTML("", elem_id="studies", js_on_load=script, **PANEL)
    chosen = gr.State("")
    found, seen = gr.State(None), gr.State(False)
    given, panels = [language, found, seen], [shown, form, grid, seen, chosen]
    classify_all = on_gpu(predict)
    turns, answered = count(), Recent[str, int](LATEST)  # by session: the turn that is shown

    def everything(language: str, found: Grid | None, study: str) -> list:
        language = known_language(language)
        shown = [studies(language, study), grid_form(shelf, language), show_grid(language, found)]
        return [*shown, True, study]

    def on_select(language: str, found: Grid | None, seen: bool, request: gr.Request) -> list:
        asked = dict(request.query_params).get("study", "")
        spoken = page.spoken(language, request)
        return [gr.skip()] * len(panels) if seen else everything(spoken, found, asked)

    def on_language(
        language: str, found: Grid | None, seen: bool, study: str, kept: str, request: gr.Request
    ) -> list:
        page.switched.put(request.session_hash or "", language)
        if not seen and not kept:  # the tab was never opened; `seen` alone is forgotten after an hour
            return [gr.skip()] * len(panels)
        told = everything(language, found, study)
        return told if seen else [*told[:2], gr.skip(), *told[3:]]

    def on_study(event: gr.EventData, language: str) -> tuple[str, str]:
        study = str(sent(event).get("study"))
        return studies(known_language(language), study), study

    def on_run(event: gr.EventData, language: str, request: gr.Request, progress=gr.Progress()) -> tuple:  # noqa: B008
        language, name, turn = known_language(language), named(sent(event).get("model")), next(turns)
        if sent(event).get("large"):
            raise page.too_large(language)
        model = load(shelf, name, language, progress)
        with refusing(language), shelf.grids:
            done = classify_all(model, name, items_of(event))
            if answered.get(request.session_hash, lambda: turn) > turn:  # a later run was quicker
                return gr.skip(), gr.skip()
            answered.put(request.session_hash, turn)
        return show_grid(page.spoken(language, request), done), done

    tab.select(on_select, given, panels, **EVENT)
    language.change(on_language, [*given, chosen, form], panels, **EVENT)
    # The script puts one question after another; "once" could still drop one that follows an answer at once.
    asked = shown.click(on_study, language, [shown, chosen], trigger_mode="multiple", **QUIET)
    for ended in (asked.success, asked.failure):
        ended(None, None, None, js="() => studyAnswered()", api_visibility="private")
    form.click(
        on_run,
        language,
        [grid, found],
        **shelf.many_at_once,
        api_visibility="private",
        show_progress_on=[grid],
        trigger_mode="multiple",  # a run that waits for its model holds up no other
    )
