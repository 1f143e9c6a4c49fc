"""Measured studies as pieces of the page: tables, curves, evidence, what to take away.

Knows nothing of gradio, nor of where the files are (`recorded.py`).
"""

from __future__ import annotations

import csv
import html
import json
import re
from io import StringIO
from typing import Any

from resnet_hub.ui.explore.page import download_url, table
from resnet_hub.ui.results.recorded import EXPECTED, Unreadable, is_study, load, recorded
from resnet_hub.ui.shared.chart import Line, lines
from resnet_hub.ui.shared.text import TEXT, name_of, say

MALFORMED = (Unreadable, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def question(language: str, study: dict[str, Any]) -> str:
    """What it asks: the file's own words in English, the table's in other languages where it has any."""
    own = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(study["question"]))
    key = f"study_{study['study']}"
    return say(language, key, question=own) if key in TEXT else own


def title(language: str, name: str) -> str:
    return html.escape(name_of(language, "title", name))


def arm_name(language: str, arm: str) -> str:
    return html.escape(name_of(language, "arm", arm))


def study_table(language: str, study: dict[str, Any]) -> str:
    """One line an arm: mean accuracies in percent, the spread over seeds, the gap in points."""
    keys = ("arm", "params", "train", "val", "test", "spread", "flip", "gap", "seconds", "best")
    drawn = []
    for row in study["rows"]:
        tested = [100 * each for each in row["test_acc_by_seed"]]
        accuracies = (100 * row[f"{part}_acc"] for part in ("train", "val", "test"))
        drawn.append(
            [
                arm_name(language, row["arm"]),
                f"{row['parameters']:,}",
                *(f"{each:.2f}" for each in accuracies),
                f"{min(tested):.2f}–{max(tested):.2f}" if len(tested) > 1 else "–",
                f"{100 * row['test_acc_flip_tta']:.2f}",
                f"{100 * (row['train_acc'] - row['test_acc']):+z.1f}",
                f"{row['seconds_an_epoch']:.1f}",
                ", ".join(map(str, row["best_epoch"])),
            ]
        )
    return table([say(language, f"results_{key}") for key in keys], drawn, "study")


def study_curves(language: str, study: dict[str, Any]) -> str:
    """Training and held-out accuracy by epoch, mean over seeds with the spread around it."""
    drawn = ""
    for part in ("train", "val"):
        series = []
        for arm, seeds in study["histories"].items():
            percents = [[100 * line[f"{part}_acc"] for line in history] for history in seeds]
            columns = list(zip(*percents, strict=False))  # as long as the shortest, where one stopped early
            means = [sum(column) / len(column) for column in columns]
            named = name_of(language, "arm", arm)
            series.append(Line(named, means, [*map(min, columns)], [*map(max, columns)]))
        title = say(language, f"results_curve_{part}")
        drawing = lines(series, title, say(language, "results_epoch"))
        drawn += f"<figure><figcaption>{title}</figcaption>{drawing}</figure>"
    return f'<div class="curves">{drawn}</div><p class="fine-print">{say(language, "results_caption")}</p>'


def evidence(language: str, study: dict[str, Any]) -> str:
    """What the numbers rest on: command, data, seeds, hardware."""
    on = study["evidence"]
    text = say(
        language,
        "results_evidence",
        images=f"{on['train_images']:,}",
        data=html.escape(name_of(language, "data", str(on["data"]))),
        epochs=on["epochs"],
        seeds=on["seeds"],
        test=f"{on['test_images']:,}",
        hardware=html.escape(str(on["hardware"])),
        torch=html.escape(str(on["versions"]["torch"])),
        hours=f"{on['hours']:.1f}",
    )
    if on["seeds"] < 2:
        text += f" <b>{say(language, 'results_one_seed')}</b>"
    return f"<pre>{html.escape(on['command'])}</pre><p class='fine-print'>{text}</p>"


def downloads(language: str, study: dict[str, Any]) -> str:
    """The document as it is, and its table as CSV."""
    name, rows = html.escape(study["study"]), study["rows"]
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([row[key] for key in rows[0]] for row in rows)
    whole = download_url("application/json", json.dumps(study))
    columns = download_url("text/csv", written.getvalue())
    return (
        f'<a download="{name}.json" href="{whole}">{say(language, "results_json")}</a>'
        f'<a download="{name}.csv" href="{columns}">{say(language, "results_csv")}</a>'
    )


def shown(language: str, name: str) -> str:
    """A whole study: question, table, curves, evidence, downloads. "" where it was not run."""
    try:
        study = load(name)
        if study is None:
            return ""
        return (
            f"<h3>{title(language, study['study'])}</h3><p>{question(language, study)}</p>"
            f"{study_table(language, study)}{study_curves(language, study)}"
            f"{evidence(language, study)}{downloads(language, study)}"
        )
    except MALFORMED:
        return f'<p class="notice wrong">{say(language, "results_broken", name=html.escape(name))}</p>'


def inset(language: str, name: str | None) -> str:
    """A study under a lab section, folded; "" where it was not run."""
    found = shown(language, name) if name else ""
    if not found:
        return ""
    named = f"{say(language, 'lab_study')}<b>{title(language, name)}</b>"
    return f"<details><summary>{named}</summary>{found}</details>"


def page(language: str) -> str:
    """All studies, and the names of those that were not run."""
    names = [name for name in recorded() if name in EXPECTED or is_study(name)]
    missing = [name for name in EXPECTED if name not in names]
    if not names:
        return f'<p class="notice">{say(language, "results_none")}</p>'
    titles = say(language, "comma").join(title(language, name) for name in missing)
    absent = f'<p class="fine-print">{say(language, "results_missing", names=titles)}</p>'
    return "".join(f"<section>{shown(language, name)}</section>" for name in names) + (
        absent if missing else ""
    )
