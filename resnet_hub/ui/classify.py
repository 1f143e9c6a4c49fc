"""The Classify tab: a photo in, labelled probabilities out, and what the network saw.

`build` lays it out and wires it; everything shown is made by the plain functions above it. Knows nothing of
how a model is loaded (`models.py`) or how a picture becomes a tensor (`preprocess.py`).
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image
from tqdm import tqdm

from resnet_hub.predict import DEFAULT_MODEL, Prediction, classify, saliency
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.models import Shelf, on_gpu
from resnet_hub.ui.text import TEXT, name_of, say

EXAMPLES = Path(__file__).with_name("examples")
VIRIDIS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
OVERLAY_SIDE = 256


@dataclass(frozen=True)
class Shown:
    """A result on one visitor's page, kept so that another language or Grad-CAM need no second run."""

    prediction: Prediction
    source: str
    revision: str
    calibration: object


def uploaded(payload) -> str | bytes | None:
    """The file a visitor gave, as it is: its path, or its bytes where it came inside a `data:` address."""
    if payload is not None and payload.url and payload.url.startswith("data:"):
        return base64.b64decode(payload.url.partition(",")[2])
    return payload and payload.path


def percent(share: float) -> str:
    """0.873 -> "87.3 %" """
    return f"{100 * share:.1f} %"


def data_url(image: Image.Image) -> str:
    """A picture as PNG inside its own address, so that no file is written for it."""
    buffer = BytesIO()
    image.save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def error_text(language: str, error: ImageError) -> str:
    """An ImageError in the page's language."""
    facts = {
        "max_mb": error.facts.get("max_bytes", 0) // 1_000_000,
        "max_mpx": error.facts.get("max_pixels", 0) // 1_000_000,
        "why": str(error),
    }
    key = f"image_{error.code}"
    return say(language, key if key in TEXT else "image_unusable", **facts)


def verdict(language: str, shown: Shown | None) -> str:
    """The result panel: notice, best guess, the network's input, and where the answer came from."""
    if shown is None:
        return f'<p class="waiting">{say(language, "waiting")}</p>'
    prediction, calibration = shown.prediction, shown.calibration
    label, share = prediction.top[0]
    name = html.escape(name_of(language, "class", label))
    width, height = prediction.seen.size
    caption = say(language, "seen", width=width, height=height)
    calibrated = "uncalibrated" if calibration.temperature == 1.0 else "calibrated"
    facts = [
        say(language, "weights", source=html.escape(shown.source), revision=html.escape(shown.revision[:12])),
        say(language, "latency", milliseconds=f"{1000 * prediction.seconds:.0f}"),
        say(language, calibrated),
    ]
    return (
        f'<p class="verdict">{say(language, "verdict", label=name, share=percent(share))}</p>'
        f"{familiarity(language, shown)}"
        f'<figure><img class="seen" src="{data_url(prediction.seen)}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
        f'<ul class="facts">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul>'
    )


def familiarity(language: str, shown: Shown) -> str:
    """Whether the picture looks like the training pictures, and how often that notice is wrong."""
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


def overlay(seen: Image.Image, heat: np.ndarray) -> Image.Image:
    """A heat map (h, w), 0 to 1, in viridis over the picture the network saw."""
    side = (OVERLAY_SIDE, OVERLAY_SIDE * seen.height // seen.width)
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(side, Image.Resampling.BILINEAR))
    stops = np.linspace(0, 1, len(VIRIDIS))
    colours = np.stack([np.interp(smooth, stops, channel) for channel in VIRIDIS.T], axis=-1)
    picture = seen.convert("RGB").resize(side, Image.Resampling.NEAREST)
    return Image.blend(picture, Image.fromarray(colours.astype(np.uint8)), 0.6)


def where_it_looked(language: str, shown: Shown, heat: np.ndarray) -> str:
    """The Grad-CAM figure with its legend."""
    label = html.escape(name_of(language, "class", shown.prediction.top[0][0]))
    caption = say(language, "look_caption", label=label)
    colours = ",".join(f"rgb({r},{g},{b})" for r, g, b in VIRIDIS)
    return (
        f'<figure><img class="seen" src="{data_url(overlay(shown.prediction.seen, heat))}" alt="{caption}">'
        f'<div class="legend"><span>{say(language, "look_least")}</span>'
        f'<i style="background:linear-gradient(90deg,{colours})"></i>'
        f"<span>{say(language, 'look_most')}</span></div>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def download_bar(report: Callable) -> type:
    """A tqdm class that also moves the page's progress bar."""

    class DownloadBar(tqdm):
        def update(self, n=1):
            moved = super().update(n)
            report((self.n, self.total or self.n), unit="B")
            return moved

    return DownloadBar


def build(shelf: Shelf, language: gr.Radio) -> tuple[Callable[[str], list], list]:
    """Lay out the tab; returns (relabel(language) -> updates, the components those updates are for)."""

    @on_gpu
    def look(photo: str | bytes, source: str) -> Prediction:
        return classify(shelf.get(source), [photo], top_k=5)[0]

    @on_gpu
    def explain(shown: Shown) -> np.ndarray:
        return saliency(shelf.get(shown.source), shown.prediction.seen, shown.prediction.class_indices[0])

    def load(source: str, language: str, progress):
        from resnet_hub.hub import CheckpointError

        if source not in shelf.offered:
            offered = ", ".join(shelf.offered)
            raise gr.Error(
                say(language, "unknown_model", model=source, offered=offered), print_exception=False
            )
        progress(0, desc=say(language, "loading", model=source))
        try:
            return shelf.get(source, download_bar(progress))
        except CheckpointError as error:
            raise gr.Error(say(language, "model_failed", why=error), print_exception=False) from error

    def on_classify(photo, model=DEFAULT_MODEL, language="en", progress=gr.Progress()):  # noqa: B008
        """Label a photo: probabilities by the model's own class names, and the panel beside them."""
        if photo is None:
            return None, verdict(language, None), None, ""
        loaded = load(model, language, progress)
        try:
            prediction = look(photo, model)
        except ImageError as error:
            raise gr.Error(error_text(language, error), print_exception=False) from error
        shown = Shown(prediction, model, loaded.revision, loaded.calibration)
        return dict(prediction.top), verdict(language, shown), shown, ""

    def on_look(shown: Shown | None, language: str) -> str:
        if shown is None:
            raise gr.Error(say(language, "look_first"), print_exception=False)
        return where_it_looked(language, shown, explain(shown))

    with gr.Blocks():
        shown = gr.State(None, time_to_live=600)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300):
                photo = gr.Image(
                    label="Photo",
                    show_label=False,  # Gradio 6.31 does not follow a change of this label
                    sources=["upload", "webcam", "clipboard"],
                    type="filepath",
                    height=300,
                    elem_id="photo",
                )
                # gr.Image would open and re-encode the file: slower, and a broken one ends in PIL's words.
                photo.preprocess = uploaded
                examples = gr.Examples(
                    [str(path) for path in sorted(EXAMPLES.glob("*.jpg"))],
                    photo,
                    label=say("en", "examples"),
                    cache_examples=False,
                    api_visibility="private",
                )
                sources = gr.Markdown(say("en", "example_sources"), elem_classes="fine-print")
                model = gr.Dropdown(
                    shelf.choices("en"),
                    value=DEFAULT_MODEL,
                    label=say("en", "model"),
                    info=say("en", "model_info"),
                    elem_id="model",
                )
            with gr.Column(min_width=300):
                label = gr.Label(label=say("en", "result"), num_top_classes=5, elem_id="result")
                panel = gr.HTML(verdict("en", None), elem_id="panel")
                look_button = gr.Button(say("en", "look"), elem_id="look")
                heat = gr.HTML(elem_id="heat")

        gr.on(
            [photo.change, model.change],
            on_classify,
            [photo, model, language],
            [label, panel, shown, heat],
            api_name="classify",
            concurrency_limit=4,
            show_progress_on=[label],
            trigger_mode="always_last",
        )
        look_button.click(on_look, [shown, language], heat, api_visibility="private")
        language.change(
            lambda result, chosen: (verdict(chosen, result), ""),
            [shown, language],
            [panel, heat],
            api_visibility="private",
            show_progress="hidden",
        )

    def relabel(chosen: str) -> list:
        return [
            gr.update(label=say(chosen, "examples")),
            say(chosen, "example_sources"),
            gr.update(
                label=say(chosen, "model"), info=say(chosen, "model_info"), choices=shelf.choices(chosen)
            ),
            gr.update(label=say(chosen, "result")),
            say(chosen, "look"),
        ]

    return relabel, [examples.dataset, sources, model, label, look_button]
