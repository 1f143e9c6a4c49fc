"""The figures of a model card: one table says how each is named, written and compared.

To add a figure, add a row to `FIGURES` and its value to a run's results; the card's tables, its front matter,
the facts stored in it and the comparison in `training.evaluate` follow.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from resnet_hub.models.base import Network

SECTIONS = RESULTS, CALIBRATION, UNFAMILIAR, CLASSES, CONFUSION = (
    "results", "calibration", "unfamiliar", "classes", "confusion",
)  # fmt: skip
ROUNDING = 5.1e-5  # figures have four digits
MOST_LISTED = 100  # classes in a table by class
MOST_CROSSED = 20  # classes in a confusion matrix
# key in the facts -> (column of the table by class, name of one entry, number -> text)
PER_CLASS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "per_class": ("accuracy", "class {}", lambda share: percent(share, 1)),
    "class_ap": ("average precision", "average precision of {}", lambda share: percent(share, 1)),
    "class_precision": ("precision", "precision of {}", lambda share: percent(share, 1)),
    "class_recall": ("recall", "recall of {}", lambda share: percent(share, 1)),
    "class_f1": ("F1", "F1 of {}", "{:.3f}".format),
    "class_threshold": ("threshold", "threshold of {}", "{:.4f}".format),
    "class_images": ("images", "images of {}", "{:,}".format),
}


def percent(share: float, digits: int = 2) -> str:
    """0.8798 -> "87.98 %"."""
    return f"{100 * share:.{digits}f} %"


@dataclass(frozen=True)
class Figure:
    """One measured number of a card, or a number with its confidence interval.

    Args:
        key: its name in the facts: among the results of a run, in the calibration, or of one set of
            unfamiliar images.
        label: its row in a table; the head of its column for `UNFAMILIAR`.
        section: the table it belongs to: `RESULTS`, `CALIBRATION` or, for each set of images, `UNFAMILIAR`.
        form: number -> text.
        tolerance: how far a second measurement may be off; None for shares of the images, where a few
            images may fall either way.
        metric: (type, name) in the front matter's `model-index`; None keeps it out.
    """

    key: str
    label: str
    section: str = RESULTS
    form: Callable[[float], str] = percent
    tolerance: float | None = None
    metric: tuple[str, str] | None = None

    def text(self, value: float | list[float]) -> str:
        """How the card states a value or [value, lowest, highest]."""
        middle, *interval = value if isinstance(value, list) else [value]
        ends = " to ".join(map(self.form, interval))
        return f"{self.form(middle)} ({ends})" if ends else self.form(middle)


FIGURES = (
    Figure("top1", "top-1 accuracy", metric=("accuracy", "Top-1 accuracy")),
    Figure(
        "top1_flip_tta",
        "top-1 with flip test-time augmentation",
        metric=("accuracy", "Top-1 accuracy, flip test-time augmentation"),
    ),
    Figure("top5", "top-5 accuracy", metric=("accuracy", "Top-5 accuracy")),
    Figure(
        "mean_average_precision",
        "mean average precision of the classes",
        metric=("mean_average_precision", "Mean average precision"),
        tolerance=1e-3,
    ),
    Figure("exact_match", "images with every label right"),
    Figure("micro_f1", "F1 over all labels", form="{:.4f}".format, tolerance=1e-3),
    Figure("balanced_accuracy", "balanced accuracy (mean recall of the classes)", tolerance=1e-3),
    Figure("macro_precision", "precision, mean of the classes", tolerance=1e-3),
    Figure(
        "macro_f1", "F1, mean of the classes", form="{:.4f}".format, tolerance=1e-3, metric=("f1", "Macro F1")
    ),
    Figure("weighted_precision", "precision, weighted by the images of each class", tolerance=1e-3),
    Figure("weighted_f1", "F1, weighted by the images of each class", form="{:.4f}".format, tolerance=1e-3),
    Figure("loss", "cross entropy, calibrated", form="{:.4f}".format),
    Figure(
        "calibration_error",
        "expected calibration error, 15 bins, calibrated",
        metric=("expected_calibration_error", "Expected calibration error, 15 bins"),
    ),
    Figure("calibration_error_uncalibrated", "the same before calibration"),
    Figure("temperature", "temperature", CALIBRATION, str, 1e-6),
    Figure("energy_threshold", "energy threshold", CALIBRATION, str, 1e-6),
    Figure("false_alarms", "test images wrongly called unfamiliar", CALIBRATION),
    Figure("firm_threshold", "top probability from which an answer is firm", CALIBRATION, str, 1e-6),
    Figure("firm_share", "test images answered firmly", CALIBRATION),
    Figure("firm_right", "firm answers that are right", CALIBRATION),
    Figure("flagged", "called unfamiliar", UNFAMILIAR),
    Figure("auroc", "AUROC", UNFAMILIAR, form="{:.3f}".format, tolerance=1e-3),
    Figure("firm", "answered firmly", UNFAMILIAR),
    Figure("right_unflagged", "in the mix, accuracy on images not called unfamiliar", UNFAMILIAR),
)
METRICS = {figure.key: figure.metric for figure in FIGURES if figure.metric}


class Entry(NamedTuple):
    """A figure as one card states it: the section, its name, value and tolerance, the line of the table."""

    section: str
    name: str
    value: float
    slack: float
    line: str


def gathered(model: Network, results: dict[str, Any], detections: Iterable[tuple]) -> dict[str, Any]:
    """The figures of a model and what was measured of it, rounded as cards state them.

    Args:
        results: what `training.evaluate.measure` returns, or what this function returned. Its "unfamiliar"
            may hold {what the images show: {key of a figure: value}}.
        detections: (what the images show, number of images, share called unfamiliar).
    """
    fitted = ("temperature", "energy_threshold", "firm_threshold")
    calibration = {k: getattr(model.calibration, k) for k in fitted}
    given = {"false_alarms": model.calibration.false_alarms} | results | calibration
    more = results.get("unfamiliar", {})
    given["unfamiliar"] = {w: {"images": n, "flagged": share} | more.get(w, {}) for w, n, share in detections}
    given["labels"] = list(model.labels)
    keys = ["labels", "images", *(figure.key for figure in FIGURES), "unfamiliar", *PER_CLASS, "confusion"]
    most = {"confusion": MOST_CROSSED} | dict.fromkeys(PER_CLASS, MOST_LISTED)
    shown = {key: len(model.labels) <= limit for key, limit in most.items()}
    return {
        key: _rounded(given[key]) for key in keys if given.get(key) not in (None, {}) and shown.get(key, True)
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def entries(figures: dict[str, Any], tolerance: float = 0.0) -> Iterator[Entry]:
    """Every figure with the line that states it.

    Args:
        figures: see `gathered`.
        tolerance: share of the test images that may fall either way between two processors.
    """
    images = figures.get("images", 0)

    def allowed(figure: Figure, count: int) -> float:
        return _slack(tolerance * images, count) if figure.tolerance is None else figure.tolerance

    for figure in FIGURES:
        if figure.section != UNFAMILIAR and figure.key in figures:
            value = figures[figure.key]
            line = row(figure.label, figure.text(value))
            yield Entry(figure.section, figure.key, number(value), allowed(figure, images), line)
    shown = set_figures(figures)
    for what, one in figures.get("unfamiliar", {}).items():
        texts = [figure.text(one[figure.key]) if figure.key in one else "" for figure in shown]
        line = row(cell(what), f"{one['images']:,}", *texts)
        for figure in shown:
            if figure.key in one:
                slack = allowed(figure, one["images"])
                yield Entry(UNFAMILIAR, f"{what} {figure.label}", number(one[figure.key]), slack, line)
    yield from _class_entries(figures, tolerance * images)
    yield from _confusion_entries(figures, tolerance * images)


def _class_entries(figures: dict[str, Any], images: float) -> Iterator[Entry]:
    """What is known of each class; `images` of them may fall either way."""
    labels = figures.get("labels", [])
    keys = [key for key in PER_CLASS if key in figures] if len(labels) <= MOST_LISTED else []
    columns = zip(labels, *_class_counts(figures), *(figures[key] for key in keys), strict=False)
    for label, count, called, *values in columns:
        stated = dict(zip(keys, values, strict=True))
        line = row(cell(label), *(PER_CLASS[key][2](value) for key, value in stated.items()))
        for key, value in stated.items():
            fewest = count if key == "per_class" else min(count, max(called, 1))
            yield Entry(CLASSES, PER_CLASS[key][1].format(label), number(value), _slack(images, fewest), line)


def _class_counts(figures: dict[str, Any]) -> tuple[list[int], list[int]]:
    """How many images each class has, and how many were called it where a confusion matrix says so."""
    if confusion := figures.get("confusion"):
        return [sum(counts) for counts in confusion], [sum(counts) for counts in zip(*confusion, strict=True)]
    counts = figures.get("class_images") or [1] * len(figures.get("labels", []))
    return counts, counts


def _confusion_entries(figures: dict[str, Any], images: float) -> Iterator[Entry]:
    """How often each class was called each other one; `images` of them may fall either way."""
    labels = figures.get("labels", [])
    if len(labels) > MOST_CROSSED:
        return
    for label, counts in zip(labels, figures.get("confusion", []), strict=False):
        line = row(f"**{cell(label)}**", *map(str, counts))
        for other, count in zip(labels, counts, strict=False):
            yield Entry(CONFUSION, f"{label} called {other}", number(count), images, line)


def set_figures(figures: dict[str, Any]) -> list[Figure]:
    """The columns of the table of unfamiliar images."""
    sets = figures.get("unfamiliar", {}).values()
    return [f for f in FIGURES if f.section == UNFAMILIAR and any(f.key in one for one in sets)]


def _slack(images: float, count: int) -> float:
    return images / max(count, 1) + ROUNDING


def number(value: Any) -> float:
    """A figure without its interval; NaN for what is no number."""
    value = value[0] if isinstance(value, list) and value else value
    return float(value) if isinstance(value, (int, float)) else float("nan")


def table(figures: dict[str, Any], section: str) -> str:
    """One of the card's tables in Markdown; "" without a row."""
    heads = {
        UNFAMILIAR: ["images of", "number", *(figure.label for figure in set_figures(figures))],
        CLASSES: ["class", *(head for key, (head, _, _) in PER_CLASS.items() if key in figures)],
        CONFUSION: ["", *map(cell, figures.get("labels", []))],
    }
    head = heads.get(section, ["figure", "value"])
    lines = list(dict.fromkeys(entry.line for entry in entries(figures) if entry.section == section))
    return "\n".join([row(*head), "|---" * len(head) + "|", *lines]) if lines else ""


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def inline(text: str) -> str:
    """A label inside a sentence: one line, nothing in it read as HTML."""
    return html.escape(" ".join(text.split()), quote=False)


def cell(text: str) -> str:
    """A label inside a table, where a bar would end its cell."""
    return inline(text).replace("\\", "\\\\").replace("|", "\\|")
