"""The Classify tab: a photo in, labelled probabilities out, and what the network saw.

`build` lays it out and wires it; everything shown is made by the plain functions above it. Knows nothing of
how a model is loaded (`models.py`) or how a picture becomes a tensor (`preprocess.py`).
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import gradio as gr
import numpy as np
from PIL import Image
from tqdm import tqdm

from resnet_hub.predict import DEFAULT_MODEL, Prediction, classify, saliency
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.common import (
    QUIET,
    VIRIDIS,
    Page,
    Part,
    data_url,
    error_text,
    examples_for,
    refuse,
    uploaded,
    viridis,
)
from resnet_hub.ui.models import MOST_TYPED_BYTES, Shelf, TooLarge, on_gpu
from resnet_hub.ui.text import LANGUAGES, TEXT, name_of, say

OVERLAY_SIDE = 256


@dataclass(frozen=True)
class Shown:
    """A result on one visitor's page, kept so that another language or Grad-CAM need no second run."""

    prediction: Prediction
    source: str
    revision: str
    calibration: object
    heat: np.ndarray | None = None  # (h, w), 0 to 1, once Grad-CAM was asked for


def percent(share: float) -> str:
    """0.873 -> "87.3 %" """
    return f"{100 * share:.1f} %"


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
    """Whether the picture is unlike the training pictures, and how often that notice is wrong."""
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


def figure(picture: Image.Image, caption: str, legend: str = "") -> str:
    """A picture with its caption; the style sheet enlarges it without blur."""
    return (
        f'<figure><img class="seen" src="{data_url(picture)}" alt="{caption}">{legend}'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def overlay(seen: Image.Image, heat: np.ndarray) -> Image.Image:
    """A heat map (h, w), 0 to 1, in viridis over the picture the network saw."""
    side = (OVERLAY_SIDE, OVERLAY_SIDE * seen.height // seen.width)
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(side, Image.Resampling.BILINEAR))
    picture = seen.convert("RGB").resize(side, Image.Resampling.NEAREST)
    return Image.blend(picture, viridis(smooth), 0.6)


def heat_figure(language: str, shown: Shown) -> str:
    """The Grad-CAM picture with its legend."""
    label = html.escape(name_of(language, "class", shown.prediction.top[0][0]))
    colours = ",".join(f"rgb({r},{g},{b})" for r, g, b in VIRIDIS)
    legend = (
        f'<div class="legend"><span>{say(language, "look_least")}</span>'
        f'<i style="background:linear-gradient(90deg,{colours})"></i>'
        f"<span>{say(language, 'look_most')}</span></div>"
    )
    picture = overlay(shown.prediction.seen, shown.heat)
    return figure(picture, say(language, "look_caption", label=label), legend)


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
    try:
        megabytes = shelf.megabytes(source)
        if megabytes is not None:
            size = {"model": source, "megabytes": f"{megabytes:.0f}"}
            gr.Info(say(language, "downloading", **size), duration=5)
            progress(0, desc=say(language, "downloading", **size))
        return shelf.get(source, download_bar(progress))
    except TooLarge as error:
        sizes = {"megabytes": error.args[0] // 10**6, "most": MOST_TYPED_BYTES // 10**6}
        raise refuse(language, "model_too_large", model=source, **sizes) from error
    except ValueError as error:  # a CheckpointError, or a device that is not there
        raise refuse(language, "model_failed", why=str(error)[:500].rstrip(".")) from error


def build(given: Page, tab: gr.Tab) -> Part:
    """Lay out the tab and wire it."""
    shelf, language, recorder = given

    def model_info(language: str) -> str:
        further = {"model_imagenet": shelf.offers_imagenet, "model_any": shelf.takes_any}
        keys = ["model_info", *(key for key, holds in further.items() if holds)]
        return "".join(say(language, key) for key in keys)

    @on_gpu
    def look(photo: str | bytes, source: str) -> Prediction:
        return classify(shelf.get(source), [photo], top_k=5)[0]

    @on_gpu
    def explain(shown: Shown) -> np.ndarray:
        return saliency(shelf.get(shown.source), shown.prediction.seen, shown.prediction.class_indices[0])

    def on_classify(image, model=DEFAULT_MODEL, language="en", progress=gr.Progress()):  # noqa: B008
        """Label a photo: probabilities by the model's own class names, and the panel beside them."""
        language = language if language in [*LANGUAGES] else "en"
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

    def on_look(shown: Shown | None, language: str) -> tuple[str, Shown]:
        if shown is None:
            raise refuse(language, "look_first")
        shown = replace(shown, heat=explain(shown))
        return verdict(language, shown), shown

    with gr.Blocks():
        shown = gr.State(None, time_to_live=600)  # no longer than the upload itself
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
                    info=model_info("en"),
                    allow_custom_value=shelf.takes_any,
                    elem_id="model",
                )
            with gr.Column(min_width=300):
                label = gr.Label(label=say("en", "result"), num_top_classes=5, elem_id="result")
                panel = gr.HTML(verdict("en", None), elem_id="panel")
                look_button = gr.Button(say("en", "look"), elem_id="look")

        gr.on(
            [photo.change, model.change],
            on_classify,
            [photo, model, language],
            [label, panel, shown],
            api_name="classify",
            # gr.Image would open the file first, and a broken one would end in PIL's words.
            preprocess=False,
            concurrency_limit=4,
            show_progress_on=[label],
            trigger_mode="always_last",
        )
        look_button.click(on_look, [shown, language], [panel, shown], api_visibility="private")
        language.change(lambda result, chosen: verdict(chosen, result), [shown, language], panel, **QUIET)

    def relabel(chosen: str) -> list:
        model_texts = {"label": say(chosen, "model"), "info": model_info(chosen)}
        return [
            gr.update(label=say(chosen, "photo"), placeholder=say(chosen, "drop")),
            gr.update(label=say(chosen, "examples")),
            say(chosen, "example_sources"),
            gr.update(choices=shelf.choices(chosen), **model_texts),
            gr.update(label=say(chosen, "result")),
            say(chosen, "look"),
        ]

    return Part(relabel, [photo, examples, credits, model, label, look_button])
