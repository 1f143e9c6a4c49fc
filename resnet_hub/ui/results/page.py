"""What the Results tab shows: measured studies with their evidence, and predictions on a visitor's images."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from resnet_hub.ui.results.grid import MOST_BYTES, MOST_FILES, Grid, known_as
from resnet_hub.ui.results.recorded import EXPECTED, Unreadable, finding, is_study, load, recorded
from resnet_hub.ui.shared.chart import Line, lines
from resnet_hub.ui.shared.errors import explain
from resnet_hub.ui.shared.html import alert, download_url, figure, notice, render, table
from resnet_hub.ui.shared.text import csv_text, first_sentence, joined, name_of, percent, revision, say
from resnet_hub.ui.shelf import Shelf

MOST_BANDS = 3  # in one chart; more hide each other
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def studies(language: str, chosen: str = "") -> Markup:
    """An index of all studies with what each found, one of them in full, and the names of those not run.

    Args:
        chosen: the one in full; the first where there is no such study.
    """
    names = [name for name in recorded() if name in EXPECTED or is_study(name)]
    if not names:
        return notice(say(language, "results_none"))
    chosen = chosen if chosen in names else names[0]
    return render(
        "results/studies.html",
        language=language,
        index=[(name, title(language, name), found(language, name)) for name in names],
        chosen=chosen,
        study=study(language, chosen),
        missing=[title(language, name) for name in EXPECTED if name not in names],
    )


def found(language: str, name: str) -> str:
    """What a study found, in one sentence; "" for a file that cannot be read."""
    try:
        document = load(name)
        return headline(language, document, whole=False) if document else ""
    except (Unreadable, *MALFORMED):
        return ""


def headline(language: str, document: dict[str, Any], whole: bool = True) -> str:
    """What a study found: the words of its record, or their first sentence; else its best and worst runs."""
    shows = finding(document).get("shows", {}).get(language)
    if not shows:
        return outcome(language, document["rows"])
    return shows if whole else first_sentence(shows)


def outcome(language: str, rows: Sequence[dict[str, Any]]) -> str:
    """The best run and the worst on test images, and whether seeds alone could make the difference."""
    ordered = sorted(rows, key=lambda row: row["test_acc"])
    worst, best = ordered[0], ordered[-1]
    seeds = [row["test_acc_by_seed"] for row in rows]
    spread = max(max(each) - min(each) for each in seeds)
    points = best["test_acc"] - worst["test_acc"]
    if len(rows) < 2:
        kind = "alone"
    elif min(map(len, seeds)) < 2:
        kind = "one_seed"
    else:
        kind = "clear" if points > spread else "within"
    return say(
        language,
        f"results_found_{kind}",
        best=arm_name(language, best["arm"]),
        worst=arm_name(language, worst["arm"]),
        most=percent(best["test_acc"]),
        least=percent(worst["test_acc"]),
        points=f"{100 * points:.1f}",
        spread=f"{100 * spread:.1f}",
    )


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
    name, words = document["study"], finding(document)
    return {
        "language": language,
        "name": name,
        "title": title(language, name),
        "headline": headline(language, document),
        "question": words.get("question", {}).get(language, document["question"]),
        "cannot": words.get("cannot", {}).get(language),
        "table": study_table(language, document["rows"]),
        "curves": curves(language, document["histories"]),
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
    """One line per arm: means in percent, the test's first, with its range over seeds."""
    keys = ("arm", "test", "train", "gap", "val", "loss", "flip", "epochs", "seconds", "params")
    return table(
        [say(language, f"results_{key}") for key in keys], [arm(language, row) for row in rows], "study"
    )


def arm(language: str, row: dict[str, Any]) -> list[str]:
    tested = [100 * each for each in row["test_acc_by_seed"]]
    spread = f" ({min(tested):.1f}–{max(tested):.1f})" if len(tested) > 1 else ""
    return [
        arm_name(language, row["arm"]),
        f"{100 * row['test_acc']:.1f}{spread}",
        f"{100 * row['train_acc']:.1f}",
        f"{100 * (row['train_acc'] - row['test_acc']):+z.1f}".replace("-", "−"),
        f"{100 * row['val_acc']:.1f}",
        f"{row['val_loss']:.3f}",
        f"{100 * row['test_acc_flip_tta']:.1f}",
        f"{row['epochs_to_converge']:.0f}",
        f"{row['seconds_an_epoch']:.1f}",
        f"{row['parameters']:,}",
    ]


def curves(language: str, histories: dict[str, list]) -> list[Markup]:
    """Training and validation accuracy by epoch, on the same axis."""
    both = {part: accuracies(language, histories, part) for part in ("train", "val")}
    charts = []
    for part, series in both.items():
        heading = say(language, f"results_curve_{part}")
        other = both["val" if part == "train" else "train"]
        drawn = lines(series, heading, say(language, "results_epoch"), beside=other)
        charts.append(figure(drawn, heading, above=True))
    return charts


def accuracies(language: str, histories: dict[str, list], part: str) -> list[Line]:
    """Accuracy in percent by epoch: each arm's mean over seeds and its range, of many arms only the last."""
    series = []
    for arm, seeds in histories.items():
        percents = [[100 * line[f"{part}_acc"] for line in history] for history in seeds]
        columns = list(zip(*percents, strict=False))  # as long as the shortest, where one stopped early
        means = [sum(column) / len(column) for column in columns]
        low, high = [*map(min, columns)], [*map(max, columns)]
        if len(histories) > MOST_BANDS:
            series.append(Line(arm_name(language, arm), means, ends=(low[-1], high[-1])))
        else:
            series.append(Line(arm_name(language, arm), means, low, high))
    return series


def evidence(language: str, on: dict[str, Any]) -> str:
    """What the numbers rest on: data, seeds, hardware."""
    told = say(
        language,
        "results_evidence",
        images=f"{on['train_images']:,}",
        data=study_data(language, str(on["data"])),
        epochs=on["epochs"],
        seeds=on["seeds"],
        test=f"{on['test_images']:,}",
        hardware=hardware(language, on["hardware"]),
        torch=on["versions"]["torch"],
        hours=f"{on['hours']:.1f}",
    )
    return joined(language, [told, say(language, "results_one_seed") if on["seeds"] < 2 else ""])


def hardware(language: str, recorded: str) -> str:
    """The words of a record, "AMD EPYC, 2 cores, 1 used" for instance, in a language."""
    found = re.fullmatch(r"(.+), (\d+) cores(?:, (\d+) used)?", recorded)
    if found is None:
        return recorded
    processor, cores, used = found.groups()
    key = "results_cores_used" if used else "results_cores"
    return say(language, key, processor=processor, cores=cores, used=used)


def study_data(language: str, data: str) -> str:
    return name_of(language, "data", data)


def budget(language: str, on: dict[str, Any]) -> str:
    """What a quoted figure was measured with: "4,000 training images, 5 epochs, 3 seeds"."""
    facts = {"images": f"{on['train_images']:,}", "epochs": on["epochs"], "seeds": on["seeds"]}
    return say(language, "results_budget" if on["seeds"] > 1 else "results_budget_one", **facts)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    return csv_text(rows[0], ([row.get(key, "") for key in rows[0]] for row in rows))


MOST_REASONS = 10  # shown for files that were skipped


def grid_form(shelf: Shelf, language: str) -> Markup:
    """Where a zip or a folder and the model are chosen."""
    return render(
        "results/form.html",
        language=language,
        most=MOST_FILES,
        megabytes=MOST_BYTES // 1_000_000,
        upload=shelf.limits.upload_bytes // 1_000_000,
        models=shelf.choices(language),
    )


def grid(language: str, found: Grid | None) -> Markup:
    """The predictions, wrong ones first and marked by a frame, a sign and both names."""
    if found is None:
        return render("results/grid.html", language=language, grid=None)
    total = len(found.scored)
    reasons = [*dict.fromkeys(explain(language, error) for error in found.skipped)]
    return render(
        "results/grid.html",
        language=language,
        grid=found,
        revision=found.revision and revision(language, found.revision),
        total=total,
        share=percent(found.right / total) if total else "",
        balanced=percent(found.balanced_accuracy) if total else "",
        unknown=some_names(language, found.unknown),
        reasons=joined(language, reasons[:MOST_REASONS]),
        confusion=confusion(language, found),
        csv=download_url("text/csv", predictions_csv(found)),
    )


def some_names(language: str, names: Sequence[str], most: int = 10) -> str:
    """Names with commas between them; of many the first, and how many more there are."""
    shown = say(language, "comma").join(names[:most])
    more = len(names) - most
    return shown if more <= 0 else say(language, "grid_and_more", names=shown, count=more)


def confusion(language: str, found: Grid) -> dict[str, Any]:
    """Predicted class (columns) by folder (rows), counted; a class that the model lacks has a row too."""
    counts = Counter((each.true, each.label) for each in found.predictions)
    trues, labels = sorted({true for true, _ in counts}), sorted({label for _, label in counts})
    name = partial(name_of, language, "class")
    return {
        "heads": [(label, name(label)) for label in labels],
        "rows": [
            (name(true), [(true, label, counts[true, label], known_as(label, true)) for label in labels])
            for true in trues
        ],
    }


def predictions_csv(found: Grid) -> str:
    """One line an image, in the model's own words."""
    rows = [
        {
            "file": each.name,
            "folder": each.true,
            "predicted": each.label,
            "probability": f"{each.probability:.6f}",
            "right": ("yes" if each.right else "no") if each.scored else "not scored",
            "certainty": each.certainty or "",
        }
        for each in found.predictions
    ]
    return as_csv(rows) if rows else ""
