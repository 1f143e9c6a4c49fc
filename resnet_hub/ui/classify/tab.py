"""The Classify tab: a photo in, labelled probabilities out, and what the network saw.

`lay_out` places the components, `build` wires them; what is shown is made by plain functions above them.
Knows nothing of how a model is loaded (`models.py`) or how an image becomes a tensor (`preprocess.py`).
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import gradio as gr
import numpy as np
from PIL import Image
from tqdm import tqdm

from resnet_hub.predict import DEFAULT_MODEL, Prediction, check_labels_images, classify, saliency
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.recorder import Recorder
from resnet_hub.ui.shared.page import (
    QUIET,
    STATE_KEPT,
    VIRIDIS,
    Page,
    Part,
    data_url,
    error_text,
    examples_for,
    reason,
    refuse,
    uploaded,
    viridis,
)
from resnet_hub.ui.shared.text import TEXT, known_language, name_of, percent, say
from resnet_hub.ui.shelf import MOST_TYPED_BYTES, Shelf, TooLarge, on_gpu

OVERLAY_SIDE = 256


@dataclass(frozen=True)
class Shown:
    """A result on one visitor's page, kept so that another language or Grad-CAM need no second run."""

    prediction: Prediction
    source: str
    revision: str
    calibration: object
    heat: np.ndarray | None = None  # (h, w), 0 to 1, once Grad-CAM was asked for


def verdict(language: str, shown: Shown | None) -> str:
    """The result panel: best guess, notice, what the network saw, and where the answer came from."""
    if shown is None:
        return f'<p class="waiting">{say(language, "waiting")}</p>'
    label, share = shown.prediction.top[0]
    name = html.escape(name_of(language, "class", label))
    figures = seen_figure(language, shown) + ("" if shown.heat is None else heat_figure(language, shown))
    return (
        f'<p class="verdict">{say(language, "verdict", label=name, share=percent(share))}</p>'
        f"{familiarity(language, shown)}"
        f'<div class="figures">{figures}</div>'
        f'<ul class="facts">{"".join(f"<li>{fact}</li>" for fact in provenance(language, shown))}</ul>'
    )


def provenance(language: str, shown: Shown) -> list[str]:
    """Where the answer came from, how long it took and how far to trust its probabilities."""
    key = shown.revision if f"revision_{shown.revision}" in TEXT else "commit"
    revision = say(language, f"revision_{key}", commit=html.escape(shown.revision[:12]))
    calibrated = "uncalibrated" if shown.calibration.temperature == 1.0 else "calibrated"
    return [
        say(language, "weights", source=html.escape(shown.source), revision=revision),
        say(language, "latency", milliseconds=f"{1000 * shown.prediction.seconds:.0f}"),
        say(language, calibrated),
    ]


def familiarity(language: str, shown: Shown) -> str:
    """Whether the image is unlike the training images, and how often that notice is wrong."""
    calibration = shown.calibration
    if shown.prediction.unfamiliar is None:
        return f'<p class="notice">{say(language, "no_threshold")}</p>'
    key = "unfamiliar" if shown.prediction.unfamiliar else "familiar"
    doubts = []
    if calibration.false_alarms is not None:
        doubts.append(say(language, "false_alarms", share=percent(calibration.false_alarms)))
    for what, count, share in calibration.detections:
        what = html.escape(name_of(language, "what", what))
        doubts.append(say(language, "detections", what=what, count=count, share=percent(share)))
    return f'<p class="notice {key}">{say(language, key)} <small>{" ".join(doubts)}</small></p>'


def seen_figure(language: str, shown: Shown) -> str:
    """The network's input, pixel by pixel."""
    width, height = shown.prediction.seen.size
    caption = say(language, "seen", width=width, height=height)
    return figure(shown.prediction.seen, caption)


def figure(image: Image.Image, caption: str, legend: str = "") -> str:
    """An image with its caption; the style sheet enlarges it without blur."""
    return (
        f'<figure><img class="seen" src="{data_url(image)}" alt="{caption}">{legend}'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def overlay(seen: Image.Image, heat: np.ndarray) -> Image.Image:
    """A heat map (h, w), 0 to 1, in viridis over the image the network saw."""
    side = tuple(max(OVERLAY_SIDE * n // max(seen.size), 1) for n in seen.size)
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(side, Image.Resampling.BILINEAR))
    image = seen.convert("RGB").resize(side, Image.Resampling.NEAREST)
    return Image.blend(image, viridis(smooth), 0.6)


def heat_figure(language: str, shown: Shown) -> str:
    """The Grad-CAM image with its legend."""
    label = html.escape(name_of(language, "class", shown.prediction.top[0][0]))
    colours = ",".join(f"rgb({r},{g},{b})" for r, g, b in VIRIDIS)
    legend = (
        f'<div class="legend"><span>{say(language, "look_least")}</span>'
        f'<i style="background:linear-gradient(90deg,{colours})"></i>'
        f"<span>{say(language, 'look_most')}</span></div>"
    )
    image = overlay(shown.prediction.seen, shown.heat)
    return figure(image, say(language, "look_caption", label=label), legend)


def download_bar(report: Callable) -> type:
    """A tqdm class that also moves the page's progress bar."""

    class DownloadBar(tqdm):
        def update(self, n=1):
            moved = super().update(n)
            report((self.n, self.total or self.n), unit="B")
            return moved

    return DownloadBar


def load(shelf: Shelf, source: str, language: str, progress: Callable):
    """An offered model, with its download on the page's progress bar.

    Raises:
        gr.Error: in the page's language, when it is not offered or cannot be had.
    """
    if not shelf.allows(source):
        key = "unknown_repository" if shelf.takes_any else "unknown_model"
        raise refuse(language, key, model=source[:100], offered=", ".join(shelf.offered))
    progress(0, desc=say(language, "loading", model=source))

    def announce(size: int) -> None:
        words = say(language, "downloading", model=source, megabytes=f"{size / 1e6:.0f}")
        gr.Info(words, duration=5)
        progress(0, desc=words)

    try:
        model = shelf.get(source, download_bar(progress), announce)
        check_labels_images(model)
        return model
    except TooLarge as error:
        sizes = {"megabytes": error.args[0] // 10**6, "most": MOST_TYPED_BYTES // 10**6}
        raise refuse(language, "model_too_large", model=source, **sizes) from error
    except ValueError as error:  # a CheckpointError, no network for images, a device that is not there
        raise refuse(language, "model_failed", why=reason(error)) from error


class Parts(NamedTuple):
    """The components of the tab."""

    photo: gr.Image
    examples: gr.Dataset
    credits: gr.Markdown
    model: gr.Dropdown
    label: gr.Label
    panel: gr.HTML
    look: gr.Button
    shown: gr.State

    @property
    def relabelled(self) -> list:
        """What `labels` updates, in its order."""
        return [self.photo, self.examples, self.credits, self.model, self.label, self.look]


def labels(shelf: Shelf, language: str) -> list:
    """The tab's fixed texts."""
    model_texts = {"label": say(language, "model"), "info": model_info(shelf, language)}
    return [
        gr.update(label=say(language, "photo"), placeholder=say(language, "drop")),
        gr.update(label=say(language, "examples")),
        say(language, "example_sources"),
        gr.update(choices=shelf.choices(language), **model_texts),
        gr.update(label=say(language, "result")),
        say(language, "look"),
    ]


def model_info(shelf: Shelf, language: str) -> str:
    """What the models on offer know."""
    further = {"model_imagenet": shelf.offers_imagenet, "model_any": shelf.takes_any}
    keys = ["model_info", *(key for key, holds in further.items() if holds)]
    return "".join(say(language, key) for key in keys)


def lay_out(shelf: Shelf) -> Parts:
    """Place every component, in English."""
    shown = gr.State(None, time_to_live=STATE_KEPT)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            photo = gr.Image(
                label=say("en", "photo"),
                placeholder=say("en", "drop"),
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=300,
                elem_id="photo",
            )
            examples = examples_for(photo, "examples")
            credits = gr.Markdown(say("en", "example_sources"), elem_classes="fine-print")
            model = gr.Dropdown(
                shelf.choices("en"),
                value=DEFAULT_MODEL,
                label=say("en", "model"),
                info=model_info(shelf, "en"),
                allow_custom_value=shelf.takes_any,
                elem_id="model",
            )
        with gr.Column(min_width=300):
            label = gr.Label(label=say("en", "result"), num_top_classes=5, elem_id="result")
            panel = gr.HTML(verdict("en", None), elem_id="panel")
            look = gr.Button(say("en", "look"), elem_id="look")
    return Parts(photo, examples, credits, model, label, panel, look, shown)


def build(given: Page, tab: gr.Tab) -> Part:
    """Lay out the tab and wire it."""
    shelf, language, recorder = given.shelf, given.language, given.recorder
    with gr.Blocks():
        parts = lay_out(shelf)
    wire_photo(parts, shelf, language, recorder)
    wire_look(parts, shelf, language)
    changed = [parts.shown, language]
    language.change(lambda shown, chosen: verdict(chosen, shown), changed, parts.panel, **QUIET)
    return Part(lambda chosen: labels(shelf, chosen), parts.relabelled)


def wire_photo(parts: Parts, shelf: Shelf, language: gr.Radio, recorder: Recorder) -> None:
    """A photo or another model: the answer, or none where that fails."""

    @on_gpu
    def look(photo: str | bytes, source: str) -> Prediction:
        return classify(shelf.get(source), [photo], top_k=5)[0]

    def on_classify(image, model=DEFAULT_MODEL, language="en", progress=gr.Progress()):  # noqa: B008
        """Label a photo: probabilities by the model's own class names, and the panel beside them."""
        language = known_language(language)
        if image is None:
            return None, verdict(language, None), None
        model = (model or DEFAULT_MODEL).strip()
        started = time.perf_counter()
        with recorder.failures(model if shelf.allows(model) else ""):
            loaded = load(shelf, model, language, progress)
        with recorder.failures(model, loaded.revision):
            try:
                prediction = look(uploaded(image), model)
            except ImageError as error:
                raise gr.Error(error_text(language, error), print_exception=False) from error
        seconds = time.perf_counter() - started
        recorder.answered(model, loaded.revision, seconds, bool(prediction.unfamiliar))
        shown = Shown(prediction, model, loaded.revision, loaded.calibration)
        return dict(prediction.top), verdict(language, shown), shown

    def on_failure(language: str) -> tuple:
        """Take the answer to an earlier photo away."""
        return None, verdict(language, None), None

    outputs = [parts.label, parts.panel, parts.shown]
    answer = gr.on(
        [parts.photo.change, parts.model.change],
        on_classify,
        [parts.photo, parts.model, language],
        outputs,
        api_name="classify",
        # gr.Image would open the file first, and a broken one would end in PIL's words.
        preprocess=False,
        concurrency_limit=4,
        show_progress_on=[parts.label],
        trigger_mode="always_last",
    )
    answer.failure(on_failure, language, outputs, **QUIET)


def wire_look(parts: Parts, shelf: Shelf, language: gr.Radio) -> None:
    """Grad-CAM of the answer that is shown."""

    @on_gpu
    def explain(shown: Shown) -> np.ndarray:
        return saliency(shelf.get(shown.source), shown.prediction.seen, shown.prediction.class_indices[0])

    def on_look(shown: Shown | None, language: str, progress=gr.Progress()) -> tuple[str, Shown]:  # noqa: B008
        if shown is None:
            raise refuse(language, "look_first")
        if load(shelf, shown.source, language, progress).revision != shown.revision:
            raise refuse(language, "look_again")
        shown = replace(shown, heat=explain(shown))
        return verdict(language, shown), shown

    both = [parts.panel, parts.shown]
    parts.look.click(on_look, [parts.shown, language], both, api_visibility="private")
