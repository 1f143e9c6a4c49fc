"""What the Classify tab shows beside the guesses, made from one visitor's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image

from resnet_hub.predict import Prediction
from resnet_hub.ui.shared.errors import explain
from resnet_hub.ui.shared.html import alert, render, waiting
from resnet_hub.ui.shared.images import VIRIDIS, viridis
from resnet_hub.ui.shared.text import LANGUAGES, TEXT, say
from resnet_hub.ui.shelf import Shelf

if TYPE_CHECKING:
    from resnet_hub.models.calibration import Calibration

OVERLAY_SIDE = 256
GRADIENT = ",".join(f"rgb({r},{g},{b})" for r, g, b in VIRIDIS)


@dataclass(frozen=True)
class Shown:
    """An answer on one visitor's page, kept so that another language or Grad-CAM needs no second run."""

    prediction: Prediction
    source: str
    revision: str
    calibration: Calibration
    heat: np.ndarray | None = None  # (h, w), 0 to 1, once Grad-CAM was asked for


Failure = dict[str, str]  # why there is no answer, by language; an error itself would hold on to its image
Outcome = Shown | Failure | None  # None before the first photo


def failure(error: Exception) -> Failure:
    """What went wrong, in every language."""
    return {language: explain(language, getattr(error, "reason", error)) for language in LANGUAGES}


def panel(language: str, outcome: Outcome) -> Markup:
    """Best guess, notice, the network's input and where the answer came from; or why there is none."""
    if outcome is None:
        return waiting(say(language, "waiting"))
    if isinstance(outcome, dict):
        return alert(outcome[language])
    seen = outcome.prediction.seen
    return render(
        "classify/result.html",
        language=language,
        shown=outcome,
        prediction=outcome.prediction,
        calibration=outcome.calibration,
        revision=revision(language, outcome.revision),
        heat=None if outcome.heat is None else overlay(seen, outcome.heat),
        gradient=GRADIENT,
    )


def revision(language: str, name: str) -> str:
    """Which weights answered: "built in", "commit 1a2b3c4d5e6f"."""
    key = f"revision_{name}"
    return say(language, key) if key in TEXT else say(language, "revision_commit", commit=name[:12])


def overlay(seen: Image.Image, heat: np.ndarray) -> Image.Image:
    """A heat map (h, w), 0 to 1, in viridis over the network's input."""
    width, height = (max(OVERLAY_SIDE * n // max(seen.size), 1) for n in seen.size)
    smooth = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    image = seen.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
    return Image.blend(image, viridis(np.asarray(smooth)), 0.6)


def model_info(shelf: Shelf, language: str) -> str:
    """What the models on offer know."""
    further = {"model_imagenet": shelf.offers_imagenet, "model_any": shelf.takes_any}
    keys = ["model_info", *(key for key, holds in further.items() if holds)]
    return "".join(say(language, key) for key in keys)
