"""The Classify tab: a photo in, labelled probabilities out, and where the network looked.

Whoever opens the page finds the answer to the first example: the default model's own, made once after it was
loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
import numpy as np

from resnet_hub.engine import FEW, engine_for
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.predict import DEFAULT_MODEL, Prediction, classify, saliency
from resnet_hub.ui.cards import card_below
from resnet_hub.ui.classify.many import many_photos
from resnet_hub.ui.classify.page import Failure, Shown, failure, looked_for, model_info, panel, statement
from resnet_hub.ui.shared.errors import Toast, refusal, refusing
from resnet_hub.ui.shared.loading import load
from resnet_hub.ui.shared.page import (
    EXAMPLES,
    QUIET,
    Page,
    examples_for,
    named,
    require_image,
    uploaded,
)
from resnet_hub.ui.shared.text import known_language
from resnet_hub.ui.shelf import Recent, Shelf, on_gpu

LATEST = 200  # visitors whose last event is remembered
Asked = tuple[str, str, str]  # a photo's path, a model, and a second one or ""
Latest = Failure | Asked | None  # why there was no answer, until it is told, or what was answered
ADDRESS = """(model, beside) => {
  const chosen = { model: model === %r ? "" : model, beside: beside || "" };
  address.say("classify", Object.entries(chosen).filter(([, name]) => name));
}"""


@dataclass(frozen=True)
class Parts:
    """The components of the tab that events use."""

    photo: gr.Image
    model: gr.Dropdown
    beside: gr.Dropdown
    label: gr.Label
    panel: gr.HTML
    inside: gr.Button
    outcome: gr.State


@dataclass
class Tab:
    """What `app.py` needs of the tab."""

    shelf: Shelf
    parts: Parts
    first: dict[str, Shown] = field(default_factory=dict)  # the one answer under "", once it is there
    panels: dict[str, str] = field(default_factory=dict)  # it, by language

    @property
    def arrivals(self) -> list[Any]:
        """The components that `arrive` may update."""
        return [self.parts.photo, self.parts.model, self.parts.beside, self.parts.outcome]

    def prepare(self) -> None:
        """Load the page's first model, answer the first example with it, and find its fastest engine.

        Raises:
            ValueError: when the device is not on this machine or the checkpoint is broken.
        """
        source = self.shelf.first
        model = self.shelf.get(source)
        prediction = classify(model, [EXAMPLES[0]], top_k=5)[0]
        self.first[""] = shown_of(prediction, heat_of(model, prediction), source, model)
        if not isinstance(model, OnnxFile):
            engine_for(model, FEW)  # else the first visitor's photo waits for the race

    def known(self, image: Any, source: str) -> Shown | None:
        """The first answer where it is asked for again: Gradio does so when a page is built."""
        path = self.parts.photo.value["path"] if isinstance(self.parts.photo.value, dict) else None
        is_first = isinstance(image, dict) and path is not None and image.get("path") == path
        return self.first.get("") if is_first and source == self.shelf.first else None

    def begin(self, language: str) -> dict[Any, dict[str, Any]]:
        """Properties of components: the first answer; without one there is no photo yet either."""
        if "" not in self.first:
            return {self.parts.photo: {"value": None}}
        if language not in self.panels:
            self.panels[language] = panel(language, self.first[""])
        return {self.parts.panel: {"value": self.panels[language]}}

    def said(self, language: str) -> str:
        """The first answer in words; "" while there is none."""
        return statement(language, self.first[""].prediction) if self.first else ""

    def arrive(self, query: Mapping[str, str], photo: Any) -> dict[Any, Any]:
        """What a visitor's page is told once it is built: to remember its answer, or to ask for one."""
        is_here = query.get("tab", "classify") == "classify"
        asked = {name: query.get(name) for name in ("model", "beside") if is_here}
        updates = {
            getattr(self.parts, name): named(value)
            for name, value in asked.items()
            if value and self.shelf.allows(named(value))
        }
        if photo and "" in self.first:
            return updates | {self.parts.outcome: self.first[""]}
        return updates | {self.parts.photo: str(EXAMPLES[0])}


def build(page: Page, tab: gr.Tab) -> Tab:
    """Lay out the tab and wire it."""
    parts = lay_out(page)
    found = Tab(page.shelf, parts)
    for control in (parts.model, parts.beside):
        control.change(
            None, [parts.model, parts.beside], None, js=ADDRESS % page.shelf.first, api_visibility="private"
        )
    many_photos(page, parts.model)
    wire_photo(page, parts, found.known)  # last: what listens to the same change waits for its answer
    page.follow(panel, parts.outcome, parts.panel)
    return found


def lay_out(page: Page) -> Parts:
    """Place every component; on a phone the examples are a strip over the photo."""
    with gr.Row(equal_height=False, elem_id="classify"):
        with gr.Column(min_width=300, elem_classes="asked"):
            photo = gr.Image(
                str(EXAMPLES[0]),
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=300,
                elem_id="photo",
            )
            page.text(photo, label="photo", placeholder="drop")
        with gr.Column(min_width=300, elem_classes="tried"):
            examples_for(page, photo, "examples")
        with gr.Column(min_width=300, elem_classes="answered"):
            shown = page.begin(gr.HTML(elem_id="panel"), value=lambda language: panel(language, None))
            label = gr.Label(num_top_classes=5, visible=False)
            inside = page.text(gr.Button(elem_id="inside"), value="inside")
        with gr.Column(min_width=300, elem_classes="more"):
            model, beside = models(page)
            card_below(page, model)
    outcome = gr.State(None)
    return Parts(photo, model, beside, label, shown, inside, outcome)


def models(page: Page) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Where a visitor chooses the model, and a second one to stand beside it."""
    shelf = page.shelf
    free = {"allow_custom_value": shelf.takes_any}
    model = gr.Dropdown(shelf.choices("en"), value=shelf.first, elem_id="model", **free)
    info = lambda language: model_info(shelf, language)  # noqa: E731
    page.text(model, label="model", info=info, choices=shelf.choices)
    beside = gr.Dropdown(value="", elem_id="beside", **free)
    page.text(beside, label="beside", choices=shelf.choices_or_none)
    return model, beside


def wire_photo(page: Page, parts: Parts, known: Callable[[Any, str], Shown | None]) -> None:
    """A photo or another model: the answer, or why there is none."""
    latest: Recent[str, Latest] = Recent(LATEST)

    def on_failure(language: str, request: gr.Request) -> tuple:
        """Replace the answer to an earlier photo by what went wrong."""
        left = taken(latest, request)
        # What never reached us, because too many wait, leaves what an earlier event left, or nothing.
        why = left if isinstance(left, dict) else failure(refusal("queue_full"))
        return None, panel(page.spoken(language, request), why), why

    outputs = [parts.label, parts.panel, parts.outcome]
    answered = gr.on(
        [parts.photo.change, parts.model.change, parts.beside.change],
        classifier(page, latest, known),
        [parts.photo, parts.model, page.language, parts.beside],
        outputs,
        api_name="classify",
        preprocess=False,  # gr.Image would open the file first and report a broken one in PIL's words
        concurrency_limit=page.shelf.places,
        show_progress_on=[parts.panel],
        trigger_mode="always_last",
    )
    answered.failure(on_failure, page.language, outputs, **QUIET)


def taken(latest: Recent[str, Latest], request: gr.Request | None) -> Latest:
    """What a visitor's last event left, once."""
    session = getattr(request, "session_hash", None) or ""
    last = latest.get(session, lambda: None)
    latest.put(session, None)
    return last


def classifier(
    page: Page, latest: Recent[str, Latest], known: Callable[[Any, str], Shown | None]
) -> Callable:
    """The function behind `/classify`; it leaves in `latest`, by session, what it answered or why not.

    Args:
        known: an answer that is there already, on the page.
    """
    infer = runner(page.shelf)

    def on_classify(
        image,
        model: str = DEFAULT_MODEL,
        language: str = "en",
        beside: str = "",
        request: gr.Request | None = None,
        event: gr.EventData = None,  # type: ignore[assignment]  # Gradio knows no `| None` here
        progress=gr.Progress(),  # noqa: B008
    ):
        """Say what a photo shows, with probabilities.

        Args:
            image: the photo: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF, at most 30 MB.
            model: resnet18_tiny_imagenet (200 classes) or another model the page offers, or a public
                repository of the Hugging Face Hub as owner/name.
            language: en or ja, of the second output.
            beside: a second model whose answer the second output shows too; "" for none.

        Returns:
            The five most probable labels, in the model's own words, with probabilities from 0 to 1; and the
            answer as HTML.
        """
        language, last = known_language(language), taken(latest, request)
        if image is None:
            require_image(event, language)
            return None, panel(language, None), None
        looks = event is not None and event.target is not None  # a program asked for labels only
        source, second = chosen(model, beside)
        ask = lambda source: answer(page, infer, image, source, language, progress, looks)  # noqa: E731
        photo: Any = image.get("path") if looks and isinstance(image, dict) else None
        asked = (photo, source, second)
        if photo and last == asked:  # Gradio fires twice for an upload over another photo (its issue 4589)
            latest.put(request.session_hash, last)  # type: ignore[union-attr]
            return gr.skip(), gr.skip(), gr.skip()
        try:
            shown = (known(image, source) if looks else None) or ask(source)
            if second:
                shown = replace(shown, beside=answer_or_failure(ask, second))
        except Exception as error:
            why = failure(error)
            if looks and isinstance(error, Toast):  # it stands where the answer would
                return None, panel(language, why), why
            latest.put(request.session_hash, why)  # type: ignore[union-attr]
            raise
        if photo and not isinstance(shown.beside, dict):
            latest.put(request.session_hash, asked)  # type: ignore[union-attr]
        return dict(shown.prediction.top), panel(page.spoken(language, request), shown), shown

    return on_classify


def chosen(model: Any, beside: Any) -> tuple[str, str]:
    """The name of the model, and that of a second one; "" where there is none or it is the same."""
    source, second = named(model), named(beside) if beside and isinstance(beside, str) else ""
    return source, "" if second == source else second


def answer_or_failure(ask: Callable[[str], Shown], source: str) -> Shown | Failure:
    """The second model's answer, or why it has none: the first one's stands all the same."""
    try:
        return ask(source)
    except Toast as error:
        return failure(error)


def runner(shelf: Shelf) -> Callable[..., tuple[Prediction, np.ndarray | None]]:
    """(photo, model's source, whether to look) -> the prediction and, where asked for, its Grad-CAM."""

    @on_gpu
    def infer(photo: str | bytes, source: str, looks: bool) -> tuple[Prediction, np.ndarray | None]:
        model = shelf.get(source)
        prediction = classify(model, [photo], top_k=5)[0]
        return prediction, heat_of(model, prediction) if looks else None

    return infer


def heat_of(model: Any, prediction: Prediction) -> np.ndarray | None:
    """Where the network looked for what it found; None where it found nothing, and of an ONNX file that does
    not say so."""
    if isinstance(model, OnnxFile) and not model.has_maps:
        return None
    looked = looked_for(prediction)
    return None if looked is None else saliency(model, prediction.seen, looked[1])


def answer(
    page: Page, infer: Callable, image: dict, source: str, language: str, progress: Callable, looks: bool
) -> Shown:
    """One photo through one model, recorded for whoever runs the page.

    Raises:
        Toast: when the model cannot be loaded or the image cannot be read.
    """
    shelf, recorder, started = page.shelf, page.recorder, time.perf_counter()
    with recorder.failures(source if source in shelf.offered else ""):
        model = load(shelf, source, language, progress)
    with recorder.failures(source, model.revision), refusing(language), shelf.computing(source):
        prediction, heat = infer(uploaded(image), source, looks)
    seconds = time.perf_counter() - started
    recorder.expects(source, model.revision, model.calibration)
    recorder.answered(
        source,
        model.revision,
        seconds,
        bool(prediction.unfamiliar),
        prediction.top[0][1],
        prediction.certainty == "firm",
    )
    return shown_of(prediction, heat, source, model)


def shown_of(prediction: Prediction, heat: np.ndarray | None, source: str, model: Any) -> Shown:
    """An answer with what its page says about the model."""
    known = model.revision, model.calibration, list(model.labels)
    return Shown(prediction, source, *known, heat, config=getattr(model, "config", None))
