"""Several photos through one model: a table with small copies, file names and a download."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from resnet_hub.per_image import JOINT
from resnet_hub.predict import Prediction, classify
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.classify.page import Failure, failure
from resnet_hub.ui.shared.errors import Toast, explain, refusing
from resnet_hub.ui.shared.html import alert, download_url, render
from resnet_hub.ui.shared.images import SMALL, at_most
from resnet_hub.ui.shared.loading import load
from resnet_hub.ui.shared.page import (
    EXPLORED,
    MOST_PHOTOS,
    QUIET,
    Page,
    file_name,
    named,
    sent_photos,
    uploaded,
)
from resnet_hub.ui.shared.text import csv_text, known_language, name_of, percent, say
from resnet_hub.ui.shelf import on_gpu

IF_ANY = "(files) => files?.length ? [] : Promise.reject()"


@dataclass(frozen=True)
class Answered:
    """One file: its answer, or why it could not be read."""

    name: str
    outcome: Prediction | ImageError


def many_photos(page: Page, model: gr.Dropdown) -> None:
    """The folded section that takes many photos."""
    with page.text(gr.Accordion(open=False, elem_id="many"), label="many"):
        files = gr.File(height=160, file_count="multiple", file_types=["image"], elem_id="many-files")
        page.text(files, label=lambda language: say(language, "many_files", most=MOST_PHOTOS))
        panel = gr.HTML("", elem_id="many-panel", js_on_load=None, **EXPLORED)
    state = gr.State(None)

    @on_gpu
    def look(given: list[dict], source: str) -> list[Answered]:
        model = page.shelf.get(source)
        return [answered(model, file) for file in given]

    def answers(given: list[dict], source: str, language: str, progress: Callable) -> list[Answered]:
        load(page.shelf, source, language, progress)
        with refusing(language), page.shelf.grids:
            return look(given, source)

    def on_files(files: Any, model: Any, language: str, request: gr.Request, progress=gr.Progress()):  # noqa: B008
        language = known_language(language)
        found: list[Answered] | Failure | None = None
        try:
            if given := sent_photos(files, language):
                found = answers(given, named(model), language, progress)
        except Toast as error:
            found = failure(error)
        return table(page.spoken(language, request), found), found

    shown = [panel, state]
    emptied = gr.on(
        [files.change, model.change], lambda: ("", None), None, shown, trigger_mode="multiple", **QUIET
    )
    # Without files, as most visitors choose models, nothing is asked of the queue.
    asked = emptied.success(None, files, None, js=IF_ANY, api_visibility="private").success(
        on_files,
        [files, model, page.language],
        shown,
        preprocess=False,  # gr.File would copy every file
        **page.shelf.many_at_once,
        show_progress_on=[panel],
        trigger_mode="always_last",
        api_visibility="private",
    )
    # Files that were removed meanwhile leave nothing behind.
    asked.success(
        lambda files: (gr.skip(), gr.skip()) if files else ("", None), files, shown, preprocess=False, **QUIET
    )
    page.follow(table, state, panel)


def answered(model: Any, file: dict) -> Answered:
    """One file's answer; one is decoded at a time."""
    name = file_name(file)
    try:
        return Answered(name, classify(model, [uploaded(file)], top_k=1)[0])
    except ImageError as error:
        return Answered(name, error)


def table(language: str, found: list[Answered] | Failure | None) -> Markup:
    """All files with their answers, and the same as CSV, or why there are none; nothing before the first."""
    if not found:
        return Markup()
    if isinstance(found, dict):
        return alert(found[language])
    return render(
        "classify/many.html",
        language=language,
        rows=[row(language, each) for each in found],
        csv=download_url("text/csv", as_csv(found)),
    )


def row(language: str, each: Answered) -> dict[str, Any]:
    """What the table shows of one file."""
    if isinstance(each.outcome, ImageError):
        return {"name": each.name, "image": None, "answer": explain(language, each.outcome), "share": ""}
    answer, share = in_short(language, each.outcome)
    return {"name": each.name, "image": at_most(each.outcome.seen, SMALL), "answer": answer, "share": share}


def in_short(language: str, prediction: Prediction) -> tuple[str, str]:
    """An answer and how probable it is; "" where that says nothing."""
    if prediction.present == []:
        return say(language, "answer_absent"), ""
    if prediction.certainty == "unfamiliar":
        return say(language, "many_unfamiliar"), ""
    label, share = prediction.top[0]
    if prediction.present is None:
        return name_of(language, "class", label), percent(share)
    return say(language, "comma").join(name_of(language, "class", each) for each in prediction.present), ""


def as_csv(found: Iterable[Answered]) -> str:
    """File, the model's own label, probability and certainty; or the error."""
    return csv_text(("file", "label", "probability", "certainty", "error"), map(csv_row, found))


def csv_row(each: Answered) -> list[str]:
    if isinstance(each.outcome, ImageError):
        return [each.name, "", "", "", str(each.outcome)]
    label, share = each.outcome.top[0]
    said = (label, f"{share:.6f}") if each.outcome.present is None else (JOINT.join(each.outcome.present), "")
    return [each.name, *said, each.outcome.certainty or "", ""]
