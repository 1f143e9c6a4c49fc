"""What the Compare tab shows: pure functions from a language and answers of networks to markup."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from resnet_hub.errors import Refusal
from resnet_hub.interop.reference import Facts
from resnet_hub.interop.side_by_side import Answer, Beside, Row, guess
from resnet_hub.predict import Timing
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.shared.chart import decades
from resnet_hub.ui.shared.errors import explain
from resnet_hub.ui.shared.html import download_url, render
from resnet_hub.ui.shared.images import at_most
from resnet_hub.ui.shared.text import csv_text, joined, name_of, percent, revision, say, short

TOLERANCE = 1e-5  # fp32, relative to the maximum; `parity.TOLERANCES` without importing torch
SHOWN_SIDE = 224  # pixels, of the image a network was given


@dataclass(frozen=True)
class Missing:
    """A reference that is not available, and why."""

    name: str
    error: Refusal


@dataclass(frozen=True)
class Compared:
    """One visitor's comparison, kept so that another language or a measurement needs no second run.

    Args:
        ours, besides, missing: our answer, the references', and the references that are not available.
        keys: of our model (None, source, None) and of each of `besides`, for latencies.
        seconds: latencies measured so far, by key.
    """

    ours: Answer
    besides: list[Beside]
    missing: list[Missing]
    keys: list[tuple]
    seconds: dict[tuple, Timing] = field(default_factory=dict)

    @property
    def answers(self) -> list[Answer]:
        return [self.ours, *(beside.answer for beside in self.besides)]


def page(language: str, compared: Compared | None) -> str:
    """Everything one comparison shows; None before the first."""
    if compared is None:
        return render("compare/waiting.html", language=language)
    families = dict.fromkeys(answer.facts.family for answer in compared.answers if answer.facts.family)
    return render(
        "compare/answers.html",
        language=language,
        missing=[reason(language, missing) for missing in compared.missing],
        cards=[
            card(language, compared.ours, None),
            *(card(language, b.answer, agreement(language, compared.ours, b)) for b in compared.besides),
        ],
        heads=["", *(called(language, answer.facts) for answer in compared.answers)],
        facts=fact_rows(language, compared),
        differences=[difference(language, beside) for beside in compared.besides if beside.stages],
        families=list(families),
    )


def reason(language: str, missing: Missing) -> str:
    """Why a reference is not available, in one line."""
    said = explain(language, missing.error, name=missing.name)
    if "macs" not in missing.error.facts:
        return said
    size = {key: short(missing.error.facts[key]) for key in ("parameters", "macs")}
    return joined(language, [said, say(language, "reference_size", **size)])


# One answer


def called(language: str, facts: Facts) -> str:
    """How a network is called on the page."""
    name = facts.origin if facts.weights in ("ours", "copied") else facts.name
    shown = Path(name).name if Path(name).is_absolute() else name  # a directory of this machine
    return say(language, f"compare_called_{facts.weights}", name=shown)


def origin(language: str, facts: Facts) -> str:
    """Where its weights are from, and what was built."""
    built = name_of(language, "built", facts.built_from)
    parts = [say(language, f"compare_part_{part}") for part in facts.replaced]
    if parts:
        built = say(language, "compare_replaced", name=built, parts=say(language, "comma").join(parts))
    weights = {"origin": facts.origin, "revision": revision(language, facts.revision or "local")}
    return say(language, f"compare_weights_{facts.weights}", **weights, built=built)


def card(language: str, answer: Answer, verdict: dict[str, str] | None) -> dict[str, Any]:
    """One network's answer: what it is, its input, its five best guesses; a reference's with `agreement`."""
    width, height = answer.seen.size
    return {
        "kind": answer.facts.weights,
        "title": called(language, answer.facts),
        "origin": origin(language, answer.facts),
        "image": at_most(answer.seen, SHOWN_SIDE),
        "caption": say(language, "seen", width=width, height=height),
        "guesses": [(name_of(language, "class", label), share) for label, share in answer.top()],
        "verdict": verdict,
        "is_unfamiliar": answer.certainty == "unfamiliar",
    }


def agreement(language: str, ours: Answer, beside: Beside) -> dict[str, str]:
    """Whether the reference's first guess is ours, in our labels, or why that cannot be said."""
    agrees = beside.agrees(ours)
    if agrees is None:
        counts = {"ours": len(ours.labels), "theirs": len(beside.answer.labels)}
        return {"kind": "", "title": "", "text": say(language, "compare_other_labels", **counts)}
    if beside.space == "mapped":
        best = guess(ours.labels, beside.theirs)
        share = percent(sum(beside.theirs))
        text = say(language, "compare_mapped", label=class_name(language, best), share=share)
    else:
        shared = {label for label, _ in ours.top()} & {label for label, _ in beside.answer.top()}
        text = say(language, "compare_shared", count=len(shared), of=len(ours.top()))
    kind, key = ("fine", "compare_agree") if agrees else ("wrong", "compare_disagree")
    return {"kind": kind, "title": say(language, key), "text": text}


def class_name(language: str, label: str) -> str:
    """A label as a visitor reads it; "" is none of our classes."""
    return name_of(language, "class", label) if label else say(language, "compare_none_of_ours")


# All answers


def fact_rows(language: str, compared: Compared) -> list[list[str]]:
    """Parameters, cost, input and latency, a column a network."""

    def latency(key: tuple) -> str:
        timing = compared.seconds.get(key)
        if timing is None:
            return say(language, "compare_unmeasured")
        return f"{1000 * timing.seconds:.1f} ms ({timing.engine})"

    rows = {
        "total_params": [f"{a.facts.parameters:,}" for a in compared.answers],
        "total_macs": [f"{a.facts.macs:,}" for a in compared.answers],
        "compare_input": ["×".join(map(str, a.facts.input_size)) for a in compared.answers],
        "compare_classes": [f"{len(a.labels):,}" for a in compared.answers],
        "compare_latency": [latency(key) for key in compared.keys],
    }
    return [[say(language, key), *cells] for key, cells in rows.items()]


def difference(language: str, beside: Beside) -> dict[str, str]:
    """How far corresponding networks are apart, number for number."""
    rows = list(beside.stages)
    if beside.logits:
        absolute, relative = beside.logits
        rows.append(("logits", relative))
        key = "compare_logits" if absolute else "compare_identical"
        words = say(language, key, absolute=f"{absolute:.1e}", relative=f"{relative:.1e}")
    else:
        words = say(language, "compare_no_logits")
    if not beside.same_input:
        words = joined(language, [words, say(language, "compare_our_input")])
    title = say(language, "compare_differences", name=called(language, beside.answer.facts))
    return {"title": title, "words": words, "chart": decades(rows, TOLERANCE, title)}


# Several images


@dataclass(frozen=True)
class Many:
    """First guesses for several images.

    Args:
        names: of the files that could be read, one for each of `rows`.
        broken: (name of a file, why it could not be read).
        references: what the columns of `rows` are.
        images: a small copy of each of `names`.
    """

    names: list[str]
    rows: list[Row]
    broken: list[tuple[str, ImageError]]
    ours: Facts
    references: list[Facts]
    missing: list[Missing]
    images: list[Image.Image]


def many_page(language: str, many: Many | None) -> str:
    """A table of all images and, for each reference, a confusion of agreements."""
    if many is None:
        return ""
    confusions = [confusion(language, many, i) for i in range(len(many.references))]
    return render(
        "compare/many.html",
        language=language,
        missing=[reason(language, missing) for missing in many.missing],
        broken=[f"{name}: {explain(language, why)}" for name, why in many.broken],
        heads=[called(language, facts) for facts in (many.ours, *many.references)],
        rows=[
            (name, image, guesses(language, row))
            for name, image, row in zip(many.names, many.images, many.rows, strict=True)
        ],
        csv=download_url("text/csv", many_csv(many)),
        confusions=[each for each in confusions if each],
    )


def many_csv(many: Many) -> str:
    """One line an image: each network's first guess and its probability, in our labels where they map."""
    nets, rows = (many.ours, *many.references), []
    for name, row in zip(many.names, many.rows, strict=True):
        said = [csv_guess(each) for each in (row.ours, *row.theirs)]
        rows.append([name, *(cell for pair in said for cell in pair)])
    names = [called("en", facts) for facts in nets]
    heads = [head for name in names for head in (name, f"{name} probability")]
    return csv_text(("file", *heads), rows)


def csv_guess(guess: tuple[str, float] | None) -> tuple[str, str]:
    """A first guess and its probability; both empty where there is none."""
    if guess is None:
        return "", ""
    label, share = guess
    return (label, f"{share:.6f}") if label else ("none of ours", "")


def guesses(language: str, row: Row) -> list[dict[str, str]]:
    """One image's first guesses, ours first; `kind` marks where a reference agrees."""
    ours = guess_cell(language, row.ours) | {"kind": ""}
    if row.certainty == "unfamiliar":
        ours["share"] += f" · {say(language, 'many_unfamiliar')}"
    cells = [ours]
    for theirs in row.theirs:
        kind = "" if theirs is None else "yes" if theirs[0] == row.ours[0] else "no"
        cells.append(guess_cell(language, theirs) | {"kind": kind})
    return cells


def guess_cell(language: str, guessed: tuple[str, float] | None) -> dict[str, str]:
    if guessed is None:
        return {"label": say(language, "compare_incomparable"), "share": ""}
    label, share = guessed
    return {"label": class_name(language, label), "share": percent(share) if label else ""}


def confusion(language: str, many: Many, column: int) -> dict[str, Any] | None:
    """Our guesses (rows) against one reference's (columns), counted; None where none can be compared."""
    pairs = [(row.ours[0], their[0]) for row in many.rows if (their := row.theirs[column]) is not None]
    if not pairs:
        return None
    counts, same = Counter(pairs), sum(ours == theirs for ours, theirs in pairs)
    mine, yours = sorted({ours for ours, _ in pairs}), sorted({theirs for _, theirs in pairs})

    def cell(ours: str, theirs: str) -> dict[str, Any]:
        count = counts[ours, theirs]
        return {"text": count or "·", "kind": ("yes" if ours == theirs else "no") if count else ""}

    facts = {"same": same, "of": len(pairs), "share": percent(same / len(pairs))}
    return {
        "title": say(language, "compare_confusion", name=called(language, many.references[column]), **facts),
        "heads": ["", *(class_name(language, label) for label in yours)],
        "rows": [[class_name(language, a), *(cell(a, b) for b in yours)] for a in mine],
    }


# For a program


def document(compared: Compared) -> dict[str, Any]:
    """The same as one JSON-ready object."""
    missing = [
        {"name": each.name, "error": str(each.error), "code": each.error.code} for each in compared.missing
    ]
    references = [_beside_document(beside, compared.ours) for beside in compared.besides]
    return {"ours": _answer_document(compared.ours), "references": references, "missing": missing}


def _beside_document(beside: Beside, ours: Answer) -> dict[str, Any]:
    return _answer_document(beside.answer) | {
        "label_space": beside.space,
        "agrees": beside.agrees(ours),
        "same_input": beside.same_input,
        "logits": beside.logits and dict(zip(("max_abs", "relative"), beside.logits, strict=True)),
        "stages": dict(beside.stages),
    }


def _answer_document(answer: Answer) -> dict[str, Any]:
    top = [{"label": label, "probability": round(share, 6)} for label, share in answer.top()]
    further = {"top": top, "seconds": round(answer.seconds, 5), "certainty": answer.certainty}
    return asdict(answer.facts) | further
