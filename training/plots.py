"""Numbers -> matplotlib figures. Without pyplot, which would keep every figure alive until it is closed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.ticker import MaxNLocator

MOST_ROWS = 200  # of a confusion matrix, beyond which they become smaller
MOST_LETTERS = 30  # of a class name beside it
MOST_TITLE = 22  # of one above an image

# Okabe and Ito's palette, distinct also to colour-blind readers (https://jfly.uni-koeln.de/color/)
BLUE, ORANGE = "#0072B2", "#D55E00"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Class names may be Japanese; matplotlib's own font has no such letters.
JAPANESE = ("Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Yu Gothic", "Meiryo", "IPAexGothic")
matplotlib.rcParams["font.family"] = ["DejaVu Sans", *sorted({*JAPANESE} & {*get_font_names()})]


def png(figure: Figure) -> bytes:
    """The figure as a file."""
    file = io.BytesIO()
    figure.savefig(file, dpi=110, format="png")
    return file.getvalue()


def shortened(name: str, most: int) -> str:
    """A name of at most so many letters, by its beginning and its end."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def curves(history: list[dict], shown: str = "augmented") -> Figure:
    """Training and validation loss and accuracy by epoch, from the lines of `history.jsonl`.

    Args:
        shown: what the legend says of the training images.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, what, unit in zip(
        figure.subplots(1, 2), ("loss", "acc"), ("nats", "fraction correct"), strict=True
    ):
        epochs = [line["epoch"] for line in history]
        parts = {
            "train": (BLUE, f"training, {shown}" if shown else "training"),
            "val": (ORANGE, "validation"),
        }
        for part, (colour, label) in parts.items():
            if f"{part}_{what}" in history[0]:
                axes.plot(epochs, [line[f"{part}_{what}"] for line in history], color=colour, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel=f"{ {'loss': 'cross entropy', 'acc': 'accuracy'}[what] } ({unit})")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def confusion(matrix: list[list[int]], classes: tuple[str, ...]) -> Figure:
    """Counts by true class (rows) and predicted class (columns)."""
    side = 2.5 + 0.45 * min(len(classes), MOST_ROWS)
    words: dict[str, Any] = {"parse_math": False, "fontsize": 10 * min(1.0, MOST_ROWS / len(classes))}
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    most = max(map(max, matrix))
    axes.imshow(matrix, cmap="cividis")
    names = [shortened(name, MOST_LETTERS) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right", **words)
    axes.set_yticks(range(len(classes)), names, **words)
    axes.set(xlabel="predicted class", ylabel="true class")
    for i, row in enumerate(matrix) if len(classes) <= 20 else ():
        for j, count in enumerate(row):
            axes.text(
                j, i, str(count), ha="center", va="center", color="black" if count > most / 2 else "white"
            )
    return figure


def prediction_grid(
    images: Sequence[np.ndarray], true: list[str], predicted: list[str], columns: int = 8
) -> Figure:
    """Images (H, W, 3) titled with the predicted class; wrong ones are framed and show the true class too."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.4 * columns, 1.65 * rows))
    # Fixed: a constrained layout would draw every title several times to measure it.
    margins = {"left": 0.01, "right": 0.99, "bottom": 0.1 / rows, "top": 1 - 0.3 / rows}
    grid = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw=margins | {"hspace": 0.35, "wspace": 0.1}
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, label, answer in zip(grid.flat, images, true, predicted, strict=False):
        axes.imshow(image, cmap="grey", vmin=0, vmax=255)
        name, wrong = (shortened(each, MOST_TITLE) for each in (label, answer))
        if label == answer:
            axes.set_title(name, fontsize=8, parse_math=False)
        else:
            axes.set_title(f"✗ {wrong}\n({name})", fontsize=8, color=ORANGE, parse_math=False)
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(color=ORANGE, linewidth=3)
    return figure


def study_curves(histories: dict[str, list[list[dict]]]) -> Figure:
    """Training and validation accuracy by epoch for each arm: mean over seeds, with the range shaded.

    Args:
        histories: arm -> for each seed, the lines of its `history.jsonl`.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    parts = {"train": "training, as shown", "val": "validation"}
    for axes, (part, title) in zip(figure.subplots(1, 2, sharey=True), parts.items(), strict=True):
        for colour, (arm, seeds) in zip(cycle(PALETTE), histories.items(), strict=False):
            values = [[100 * line[f"{part}_acc"] for line in history] for history in seeds]
            columns = list(zip(*values, strict=False))
            epochs = range(1, len(columns) + 1)
            axes.plot(epochs, [sum(c) / len(c) for c in columns], color=colour, marker="o", ms=3, label=arm)
            axes.fill_between(epochs, [*map(min, columns)], [*map(max, columns)], color=colour, alpha=0.12)
        axes.set(title=title, xlabel="epoch", ylabel="accuracy (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure
