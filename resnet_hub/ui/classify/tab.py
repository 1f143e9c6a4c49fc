"""The Classify tab: a photo in, labelled probabilities out, and where the network looked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import gradio as gr
import numpy as np

from resnet_hub.predict import DEFAULT_MODEL, Prediction, classify, saliency
from resnet_hub.ui.classify.page import Failure, Outcome, Shown, failure, model_info, panel
from resnet_hub.ui.shared.errors import refuse, refusing
from resnet_hub.ui.shared.loading import load
from resnet_hub.ui.shared.page import QUIET, STATE_KEPT, Page, examples_for, named, require_image, uploaded
from resnet_hub.ui.shared.text import known_language
from resnet_hub.ui.shelf import Recent, on_gpu

FAILURES_KEPT = 200  # visitors whose last error is remembered until the page shows it


@dataclass(frozen=True)
class Parts:
    """The components of the tab that events use."""

    photo: gr.Image
    model: gr.Dropdown
    label: gr.Label
    panel: gr.HTML
    look: gr.Button
    outcome: gr.State


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab and wire it."""
    parts = lay_out(page)
    wire_photo(page, parts)
    wire_look(page, parts)
    shown = [page.language, parts.outcome]
    page.language.change(panel, shown, parts.panel, **QUIET)


def lay_out(page: Page) -> Parts:
    """Place every component."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            photo, model = question(page)
        with gr.Column(min_width=300):
            shown = gr.HTML(panel("en", None), elem_id="panel")
            label = gr.Label(num_top_classes=5, show_heading=False, elem_id="result")
            page.text(label, label="result")
            look = page.text(gr.Button(elem_id="look"), value="look")
    return Parts(photo, model, label, shown, look, gr.State(None, time_to_live=STATE_KEPT))


def question(page: Page) -> tuple[gr.Image, gr.Dropdown]:
    """Where a visitor gives a photo and chooses the model."""
    shelf = page.shelf
    photo = gr.Image(sources=["upload", "webcam", "clipboard"], type="filepath", height=300, elem_id="photo")
    page.text(photo, label="photo", placeholder="drop")
    examples_for(page, photo, "examples")
    model = gr.Dropdown(
        shelf.choices("en"), value=DEFAULT_MODEL, allow_custom_value=shelf.takes_any, elem_id="model"
    )
    info = lambda language: model_info(shelf, language)  # noqa: E731
    page.text(model, label="model", info=info, choices=shelf.choices)
    return photo, model


def wire_photo(page: Page, parts: Parts) -> None:
    """A photo or another model: the answer, or why there is none."""
    failures: Recent[str, Failure | None] = Recent(FAILURES_KEPT)
    limits = page.shelf.limits

    def on_failure(language: str, request: gr.Request) -> tuple:
        """Replace the answer to an earlier photo by what went wrong."""
        why = failures.get(request.session_hash, lambda: None)
        return None, panel(language, why), why

    outputs = [parts.label, parts.panel, parts.outcome]
    answered = gr.on(
        [parts.photo.change, parts.model.change],
        classifier(page, failures),
        [parts.photo, parts.model, page.language],
        outputs,
        api_name="classify",
        preprocess=False,  # gr.Image would open the file first and report a broken one in PIL's words
        # Those who wait for a model to load hold a place here, but never the last ones.
        concurrency_limit=limits.at_once + limits.loading + limits.loading_waiting,
        show_progress_on=[parts.label],
        trigger_mode="always_last",
    )
    answered.failure(on_failure, page.language, outputs, **QUIET)


def classifier(page: Page, failures: Recent[str, Failure | None]) -> Callable:
    """The function behind `/classify`; it leaves in `failures`, by session, why there is no answer."""

    @on_gpu
    def infer(photo: str | bytes, source: str) -> Prediction:
        return classify(page.shelf.get(source), [photo], top_k=5)[0]

    def on_classify(
        image,
        model=DEFAULT_MODEL,
        language="en",
        request: gr.Request | None = None,
        event: gr.EventData = None,  # type: ignore[assignment]  # Gradio knows no `| None` here
        progress=gr.Progress(),  # noqa: B008
    ):
        """Label a photo: probabilities by the model's own class names, and the panel beside them."""
        language = known_language(language)
        if image is None:
            require_image(event, language)
            return None, panel(language, None), None
        try:
            shown = answer(page, infer, image, named(model), language, progress)
        except Exception as error:
            failures.put(request.session_hash, failure(error))
            raise
        return dict(shown.prediction.top), panel(language, shown), shown

    return on_classify


def answer(page: Page, infer: Callable, image: dict, source: str, language: str, progress: Callable) -> Shown:
    """One photo through one model, recorded for whoever runs the page.

    Raises:
        Toast: when the model cannot be loaded or the image cannot be read.
    """
    shelf, recorder, started = page.shelf, page.recorder, time.perf_counter()
    with recorder.failures(source if shelf.allows(source) else ""):
        model = load(shelf, source, language, progress)
    with recorder.failures(source, model.revision), refusing(language), shelf.computing(source):
        prediction = infer(uploaded(image), source)
    seconds = time.perf_counter() - started
    recorder.answered(source, model.revision, seconds, bool(prediction.unfamiliar), prediction.top[0][1])
    return Shown(prediction, source, model.revision, model.calibration, list(model.labels))


def wire_look(page: Page, parts: Parts) -> None:
    """Grad-CAM of the answer that is shown."""

    @on_gpu
    def explain(shown: Shown) -> np.ndarray:
        prediction = shown.prediction
        return saliency(page.shelf.get(shown.source), prediction.seen, prediction.class_indices[0])

    def on_look(outcome: Outcome, language: str, progress=gr.Progress()) -> tuple[str, Shown]:  # noqa: B008
        if not isinstance(outcome, Shown):
            raise refuse(language, "look_first")
        if load(page.shelf, outcome.source, language, progress).revision != outcome.revision:
            raise refuse(language, "look_again")
        outcome = replace(outcome, heat=explain(outcome))
        return panel(language, outcome), outcome

    both = [parts.panel, parts.outcome]
    parts.look.click(on_look, [parts.outcome, page.language], both, api_visibility="private")
