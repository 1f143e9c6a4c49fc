"""What the Results tab shows: measured studies with their evidence, and predictions on a visitor's images."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from markupsafe import Markup

from resnet_hub.ui.results.grid import MOST_BYTES, MOST_FILES, Grid
from resnet_hub.ui.results.recorded import EXPECTED, Unreadable, finding, is_study, load, recorded
from resnet_hub.ui.shared.chart import Line, lines
from resnet_hub.ui.shared.errors import explain
from resnet_hub.ui.shared.html import alert, download_url, figure, notice, render, table
from resnet_hub.ui.shared.text import TEXT, name_of, percent, say
from resnet_hub.ui.shelf import Shelf

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
SHOWN = 60  # predictions


def studies(language: str) -> Markup:
    """All studies, and the names of those that were not run."""
    names = [name for name in recorded() if name in EXPECTED or is_study(name)]
    if not names:
        return notice(say(language, "results_none"))
    missing = [title(language, name) for name in EXPECTED if name not in names]
    shown = [study(language, name) for name in names]
    return render("results/studies.html", language=language, studies=shown, missing=missing)


def study(language: str, name: str) -> Markup:
    """A whole study: question, table, curves, evidence, downloads. Empty where it was not run."""
    try:
        document = load(name)
        return Markup() if document is None else render("results/study.html", **parts(language, document))
    except Unreadable as error:
        return alert(explain(language, error))
    except MALFORMED:
        return alert(say(language, "results_broken", name=name))


def inset(language: str, name: str | None) -> Markup:
    """A study under a topic of the lab, folded. Empty where it was not run."""
    shown = study(language, name) if name else Markup()
    summary = say(language, "lab_study", title=title(language, name)) if name and shown else ""
    return render("results/inset.html", summary=summary, study=shown)


def parts(language: str, document: dict[str, Any]) -> dict[str, Any]:
    """What `study.html` shows of a study."""
    name = document["study"]
    asked = f"study_{name}"
    return {
        "language": language,
        "name": name,
        "title": title(language, name),
        "question": say(language, asked) if asked in TEXT else document["question"],
        "finding": {key: words[language] for key, words in finding(document).items() if key != "budget"},
        "table": study_table(language, document["rows"]),
        "curves": [curve(language, document["histories"], part) for part in ("train", "val")],
        "command": document["evidence"]["command"],
        "evidence": evidence(language, document["evidence"]),
        "json": download_url("application/json", json.dumps(document)),
        "csv": download_url("text/csv", as_csv(document["rows"])),
    }


def title(language: str, name: str) -> str:
    return name_of(language, "title", name)


def arm_name(language: str, arm: str) -> str:
    return name_of(language, "arm", arm)


def study_table(language: str, rows: Iterable[dict[str, Any]]) -> Markup:
    """One line per arm: mean accuracies in percent, the range over seeds, the gap in points."""
    keys = ("arm", "params", "train", "val", "test", "spread", "flip", "gap", "seconds")
    return table(
        [say(language, f"results_{key}") for key in keys], [arm(language, row) for row in rows], "study"
    )


def arm(language: str, row: dict[str, Any]) -> list[str]:
    tested = [100 * each for each in row["test_acc_by_seed"]]
    return [
        arm_name(language, row["arm"]),
        f"{row['parameters']:,}",
        *(f"{100 * row[f'{part}_acc']:.2f}" for part in ("train", "val", "test")),
        f"{min(tested):.2f}–{max(tested):.2f}" if len(tested) > 1 else "–",
        f"{100 * row['test_acc_flip_tta']:.2f}",
        f"{100 * (row['train_acc'] - row['test_acc']):+z.1f}",
        f"{row['seconds_an_epoch']:.1f}",
    ]


def curve(language: str, histories: dict[str, list], part: str) -> Markup:
    """Accuracy in percent by epoch: each arm's mean over seeds, with its range."""
    series = []
    for arm, seeds in histories.items():
        percents = [[100 * line[f"{part}_acc"] for line in history] for history in seeds]
        columns = list(zip(*percents, strict=False))  # as long as the shortest, where one stopped early
        means = [sum(column) / len(column) for column in columns]
        series.append(Line(arm_name(language, arm), means, [*map(min, columns)], [*map(max, columns)]))
    heading = say(language, f"results_curve_{part}")
    return figure(lines(series, heading, say(language, "results_epoch")), heading, above=True)


def evidence(language: str, on: dict[str, Any]) -> str:
    """What the numbers rest on: data, seeds, hardware."""
    text = say(
        language,
        "results_evidence",
        images=f"{on['train_images']:,}",
        data=study_data(language, str(on["data"])),
        epochs=on["epochs"],
        seeds=on["seeds"],
        test=f"{on['test_images']:,}",
        hardware=on["hardware"],
        torch=on["versions"]["torch"],
        hours=f"{on['hours']:.1f}",
    )
    return f"{text} {say(language, 'results_one_seed')}" if on["seeds"] < 2 else text


def study_data(language: str, data: str) -> str:
    return name_of(language, "data", data)


def budget(language: str, on: dict[str, Any]) -> str:
    """What a quoted figure was measured with: "4,000 training images, 5 epochs, 3 seeds"."""
    facts = {"images": f"{on['train_images']:,}", "epochs": on["epochs"], "seeds": on["seeds"]}
    return say(language, "results_budget" if on["seeds"] > 1 else "results_budget_one", **facts)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    written = StringIO()
    writer = csv.DictWriter(written, [*rows[0]], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


MOST_REASONS = 10  # shown for files that were skipped


def grid_form(shelf: Shelf, language: str) -> Markup:
    """Where a zip or a folder and the model are chosen."""
    return render(
        "results/form.html",
        language=language,
        most=MOST_FILES,
        megabytes=MOST_BYTES // 1_000_000,
        models=shelf.choices(language),
    )


def grid(language: str, found: Grid | None) -> Markup:
    """The predictions, wrong ones first and marked by a frame, a sign and both names."""
    if found is None:
        return render("results/grid.html", language=language, grid=None)
    total = len(found.predictions)
    reasons = [*dict.fromkeys(explain(language, error) for error in found.skipped)]
    return render(
        "results/grid.html",
        language=language,
        grid=found,
        total=total,
        share=percent(found.right / total) if total else "",
        unknown=", ".join(found.unknown[:10]),
        reasons=" ".join(reasons[:MOST_REASONS]),
        most_shown=SHOWN,
    )
