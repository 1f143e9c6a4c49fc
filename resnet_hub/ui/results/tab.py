"""The Results tab: the measured studies with their evidence, and predictions on a visitor's own images.

Empty until somebody selects it. Knows nothing of how studies are written (`studies.py`) or images are read
(`image_grid.py`).
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_hub.preprocess import ImageError
from resnet_hub.ui.classify.tab import load
from resnet_hub.ui.results import studies
from resnet_hub.ui.results.grid import (
    MOST_BYTES,
    MOST_FILES,
    Grid,
    GridError,
    Item,
    from_folder,
    from_zip,
    markup,
    predict,
)
from resnet_hub.ui.shared.page import PANEL, STATE_KEPT, Page, Part, error_text, refuse, sent, uploaded
from resnet_hub.ui.shared.text import known_language, say
from resnet_hub.ui.shelf import Shelf, on_gpu

SCRIPT = Path(__file__).with_name("results.js")
EVENT = {"show_progress": "hidden", "api_visibility": "private"}


def grid_form(shelf: Shelf, language: str) -> str:
    """Where a zip or a folder and the model are chosen."""
    options = "".join(
        f'<option value="{html.escape(source)}">{html.escape(text)}</option>'
        for text, source in shelf.choices(language)
    )
    about = say(language, "grid_about", files=MOST_FILES, megabytes=MOST_BYTES // 1_000_000)
    return (
        f"<h3>{say(language, 'grid_title')}</h3><p>{about}</p>"
        f'<form onsubmit="return false" data-most="{MOST_FILES}">'
        f'<label>{say(language, "grid_zip")}<input type="file" name="zip" accept=".zip"></label>'
        f"<label>{say(language, 'grid_folder')}"
        '<input type="file" name="folder" webkitdirectory multiple></label>'
        f'<label>{say(language, "grid_model")}<select name="model">{options}</select></label></form>'
        f'<button type="button" data-run data-uploading="{say(language, "grid_uploading")}">'
        f"{say(language, 'grid_run')}</button>"
    )


def items_of(event: Any) -> list[Item]:
    """The images a visitor uploaded.

    Raises:
        GridError, ImageError: when they cannot be used.
    """
    archive, files, count = (sent(event).get(key) for key in ("zip", "files", "count"))
    if isinstance(count, int):
        raise GridError("grid_too_many", seen=count, most=MOST_FILES)
    if isinstance(archive, str):
        return from_zip(uploaded({"path": archive}))
    if isinstance(files, list) and files:
        return from_folder(each for each in files if isinstance(each, dict))
    raise GridError("grid_nothing")


def build(given: Page, tab: gr.Tab) -> Part:
    """Lay out the tab and wire it."""
    shelf, language = given.shelf, given.language
    intro = gr.Markdown(say("en", "results_intro"))
    shown = gr.HTML("", elem_id="studies", js_on_load=None, **PANEL)
    form = gr.HTML("", elem_id="grid-form", js_on_load=SCRIPT.read_text(encoding="utf-8"), **PANEL)
    grid = gr.HTML("", elem_id="grid", js_on_load=None, **PANEL)
    found = gr.State(None, time_to_live=STATE_KEPT)
    seen = gr.State(False)

    @on_gpu
    def go(model: Any, name: str, items: list[Item]) -> Grid:
        return predict(model, name, items)

    def everything(language: str, found: Grid | None) -> list:
        language = known_language(language)
        return [studies.page(language), grid_form(shelf, language), markup(language, found), True]

    def on_select(language: str, found: Grid | None, seen: bool) -> list:
        return [gr.skip()] * 4 if seen else everything(language, found)

    def on_language(language: str, found: Grid | None, seen: bool) -> list:
        return everything(language, found) if seen else [gr.skip()] * 4

    def on_run(event: gr.EventData, language: str, progress=gr.Progress()) -> tuple[str, Grid]:  # noqa: B008
        language, name = known_language(language), str(sent(event).get("model"))
        try:
            items = items_of(event)
            done = go(load(shelf, name, language, progress), name, items)
        except GridError as error:
            raise refuse(language, error.key, **error.facts) from error
        except ImageError as error:
            raise gr.Error(error_text(language, error), print_exception=False) from error
        return markup(language, done), done

    tab.select(on_select, [language, found, seen], [shown, form, grid, seen], **EVENT)
    language.change(on_language, [language, found, seen], [shown, form, grid, seen], **EVENT)
    form.click(
        on_run,
        language,
        [grid, found],
        concurrency_limit=1,
        api_visibility="private",
        show_progress_on=[grid],
    )
    return Part(lambda chosen: [say(chosen, "results_intro")], [intro])
