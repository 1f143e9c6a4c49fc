"""What the Classify tab shows beside the guesses, made from one visitor's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image

from resnet_hub.errors import Refusal
from resnet_hub.predict import Prediction
from resnet_hub.statement import named, places, with_article
from resnet_hub.ui.shared.errors import Toast, explain, refusal
from resnet_hub.ui.shared.html import alert, render, waiting
from resnet_hub.ui.shared.images import VIRIDIS, viridis
from resnet_hub.ui.shared.text import LANGUAGES, name_of, percent, revision, say
from resnet_hub.ui.shelf import Shelf

if TYPE_CHECKING:
    from resnet_hub.config import ModelConfig
    from resnet_hub.models.calibration import Calibration

OVERLAY_SIDE = 256
CHIPS = 12  # shown before the fold
GRADIENT = ",".join(f"rgb({r},{g},{b})" for r, g, b in VIRIDIS)


@dataclass(frozen=True)
class Shown:
    """An answer on one visitor's page, kept so that another language needs no second run."""

    prediction: Prediction
    source: str
    revision: str
    calibration: Calibration
    labels: list[str]  # what the network knows
    heat: np.ndarray | None = None  # (h, w), 0 to 1: Grad-CAM of the best guess
    beside: Shown | Failure | None = None  # a second model's answer, or why it has none
    config: ModelConfig | None = None  # None of an ONNX file


Failure = dict[str, str]  # why there is no answer, by language; an error itself would hold on to its image
Outcome = Shown | Failure | None  # None before the first photo


def failure(error: Exception) -> Failure:
    """What went wrong, in every language; of a fault of the app nothing but that there was one."""
    if isinstance(error, Toast):
        error = error.reason
    elif not isinstance(error, Refusal):
        error = refusal("error_unexpected")
    return {language: explain(language, error) for language in LANGUAGES}


def panel(language: str, outcome: Outcome) -> Markup:
    """Best guess, notice, the network's input and where the answer came from; or why there is none."""
    if outcome is None:
        return waiting(say(language, "waiting"))
    if isinstance(outcome, dict):
        return alert(outcome[language])
    if outcome.beside is None:
        return one(language, outcome)
    second = outcome.beside
    answers = [outcome.source, one(language, outcome)], ["", panel(language, second)]
    if isinstance(second, Shown):
        answers[1][0] = second.source
    return render("classify/pair.html", answers=answers)


def one(language: str, outcome: Shown) -> Markup:
    """One model's answer."""
    seen = outcome.prediction.seen
    return render(
        "classify/result.html",
        language=language,
        shown=outcome,
        prediction=outcome.prediction,
        calibration=outcome.calibration,
        statement=statement(language, outcome.prediction),
        guesses=[(name_of(language, "class", label), share) for label, share in outcome.prediction.top],
        details=details(language, outcome),
        known=[name_of(language, "class", label) for label in outcome.labels],
        chips=CHIPS,
        revision=revision(language, outcome.revision),
        heat=None if outcome.heat is None else overlay(seen, outcome.heat),
        looked=looked_for(outcome.prediction),
        gradient=GRADIENT,
    )


def looked_for(prediction: Prediction) -> tuple[str, int] | None:
    """The class of the heat map, and its number: the best guess, or the most probable of those that an image
    shows; None where it shows none."""
    if prediction.present == []:
        return None
    name = prediction.present[0] if prediction.present else prediction.top[0][0]
    guesses = zip(prediction.top, prediction.class_indices, strict=True)
    return next(((name, i) for (label, _), i in guesses if label == name), None)


def statement(language: str, prediction: Prediction) -> str:
    """The answer in words, as far as the network is sure of it."""
    if prediction.present is not None:
        names = [name_of(language, "class", label) for label in prediction.present]
        listed = say(language, "comma").join(names)
        return say(language, "answer_present" if names else "answer_absent", names=listed)
    key, labels = named(prediction.certainty, prediction.top)
    names = [name_of(language, "class", label) for label in labels]
    if language == "en" and key != "unmeasured":
        names = [with_article(name) for name in names]
    return say(language, f"answer_{key}", **places(names), share=percent(prediction.top[0][1]))


def details(language: str, shown: Shown) -> list[str]:
    """What was measured about such answers; nothing about percentages beside an unfamiliar image."""
    calibration, lines = shown.calibration, []
    if shown.prediction.certainty != "unfamiliar":
        if calibration.firm_right is not None:
            lines.append(say(language, "firm_right", **odds(calibration.firm_right)))
        if calibration.class_thresholds:
            lines.append(say(language, "several"))
        else:
            lines.append(say(language, "uncalibrated" if calibration.temperature == 1.0 else "calibrated"))
    if calibration.firm_unknown is not None:
        lines.append(say(language, "firm_unknown", **odds(calibration.firm_unknown)))
    elif count := sum(count for _, count, _ in calibration.detections):
        missed = sum(count * (1 - share) for _, count, share in calibration.detections) / count
        lines.append(say(language, "missed", **odds(missed)))
    if calibration.false_alarms is not None:
        lines.append(say(language, "false_alarms", **odds(calibration.false_alarms)))
    return lines


def odds(share: float) -> dict[str, int]:
    """0.87 as 9 of 10; 0.97 and 0.06, which tenths would distort, as 97 and 6 of 100; never as all or none
    where that is not so."""
    of = 10 if 0.1 <= share <= 0.9 else 100
    times = round(of * share)
    return {"times": min(max(times, 1), of - 1) if 0 < share < 1 else times, "of": of}


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
