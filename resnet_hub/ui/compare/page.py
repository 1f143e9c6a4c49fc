"""Answers of several networks in, pieces of the Compare tab's page out.

Strings only. Knows nothing of gradio, of torch, or of how the answers come about.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image

from resnet_hub.interop.reference import Facts, NoReference
from resnet_hub.interop.side_by_side import Answer, Beside, Row, guess
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.explore.drawing import decades
from resnet_hub.ui.shared.page import alert, data_url, error_text
from resnet_hub.ui.shared.text import name_of, percent, say

TOLERANCE = 1e-5  # fp32, relative to the maximum; `parity.TOLERANCES` without importing torch
SHOWN_SIDE = 224  # of the image a network saw


@dataclass(frozen=True)
class Missing:
    """A reference that could not be had, and why."""

    name: str
    error: NoReference


@dataclass(frozen=True)
class Compared:
    """One visitor's comparison, kept so that another language or a measurement needs no second run.

    Args:
        ours, besides, missing: our answer, the references', and those that could not be had.
        keys: of our model (None, source, None) and of each of `besides`, for latencies.
        seconds: latencies measured so far, by key.
    """

    ours: Answer
    besides: list[Beside]
    missing: list[Missing]
    keys: list[tuple]
    seconds: dict[tuple, float] = field(default_factory=dict)

    @property
    def answers(self) -> list[Answer]:
        return [self.ours, *(beside.answer for beside in self.besides)]


def million(count: int) -> str:
    """25_557_032 -> "25.56 M" """
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.2f} M"


def page(language: str, compared: Compared | None) -> str:
    """Everything one comparison shows."""
    if compared is None:
        return f'<p class="waiting">{say(language, "compare_waiting")}</p>'
    cards = [
        card(language, compared.ours, ""),
        *(beside_card(language, compared, b) for b in compared.besides),
    ]
    return (
        "".join(notice(language, missing) for missing in compared.missing)
        + f'<div class="answers">{"".join(cards)}</div>'
        + facts_table(language, compared)
        + "".join(differences(language, beside) for beside in compared.besides)
        + families(language, compared)
    )


def called(language: str, facts: Facts) -> str:
    """How a network is called on the page."""
    return say(language, f"compare_called_{facts.weights}", name=facts.name)


def title(language: str, facts: Facts) -> str:
    """The same as HTML."""
    return html.escape(called(language, facts))


def origin(language: str, facts: Facts) -> str:
    """Where its weights are from, and what was built."""
    built = name_of(language, "built", facts.built_from)
    parts = [say(language, f"compare_part_{part}") for part in facts.replaced]
    if parts:
        built = say(language, "compare_replaced", name=built, parts=say(language, "comma").join(parts))
    return html.escape(say(language, f"compare_weights_{facts.weights}", origin=facts.origin, built=built))


def card(language: str, answer: Answer, verdict: str) -> str:
    """One network's answer: what it is, what it saw, its five best guesses."""
    width, height = answer.seen.size
    caption = say(language, "seen", width=width, height=height)
    image = answer.seen
    if max(image.size) > SHOWN_SIDE:
        image = image.copy()
        image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return (
        f'<section class="answer {answer.facts.weights}"><h4>{title(language, answer.facts)}</h4>'
        f"<p>{origin(language, answer.facts)}</p>{figure(image, caption)}"
        f"{guesses(language, answer.top())}{verdict}</section>"
    )


def figure(image: Image.Image, caption: str) -> str:
    return f'<figure><img src="{data_url(image)}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def guesses(language: str, top: Sequence[tuple[str, float]]) -> str:
    """The best guesses with a bar for each share."""
    items = "".join(
        f"<li><span>{html.escape(name_of(language, 'class', label))}</span><b>{percent(share)}</b>"
        f'<i style="width:{100 * share:.1f}%"></i></li>'
        for label, share in top
    )
    return f'<ol class="guesses">{items}</ol>'


def beside_card(language: str, compared: Compared, beside: Beside) -> str:
    return card(language, beside.answer, agreement(language, compared.ours, beside))


def agreement(language: str, ours: Answer, beside: Beside) -> str:
    """Whether the reference says the same as ours, in our labels, or why that cannot be said."""
    agrees = beside.agrees(ours)
    if agrees is None:
        counts = {"ours": len(ours.labels), "theirs": len(beside.answer.labels)}
        return f'<p class="notice">{say(language, "compare_other_labels", **counts)}</p>'
    if beside.space == "mapped":
        best = guess(ours.labels, beside.theirs)
        shown = name_of(language, "class", best) if best else say(language, "compare_none_of_ours")
        mapped = say(language, "compare_mapped", label=shown, share=percent(sum(beside.theirs)))
    else:
        shared = {label for label, _ in ours.top()} & {label for label, _ in beside.answer.top()}
        mapped = say(language, "compare_shared", count=len(shared), of=len(ours.top()))
    key, style = ("compare_agree", "fine") if agrees else ("compare_disagree", "wrong")
    return f'<p class="notice {style}"><b>{say(language, key)}</b> {html.escape(mapped)}</p>'


def facts_table(language: str, compared: Compared) -> str:
    """Parameters, cost, input and latency, a column a network."""

    def latency(key: tuple) -> str:
        seconds = compared.seconds.get(key)
        return say(language, "compare_unmeasured") if seconds is None else f"{1000 * seconds:.1f} ms"

    rows: dict[str, list[str]] = {
        "total_params": [f"{a.facts.parameters:,}" for a in compared.answers],
        "total_macs": [f"{a.facts.macs:,}" for a in compared.answers],
        "compare_input": ["×".join(map(str, a.facts.input_size)) for a in compared.answers],
        "compare_classes": [f"{len(a.labels):,}" for a in compared.answers],
        "compare_latency": [latency(key) for key in compared.keys],
    }
    head = "".join(f"<th>{title(language, a.facts)}</th>" for a in compared.answers)
    body = "".join(
        f"<tr><th>{say(language, key)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for key, cells in rows.items()
    )
    return f"<h4>{say(language, 'compare_facts')}</h4>{scrolling(f'<tr><th></th>{head}</tr>', body)}"


def scrolling(head: str, body: str, style: str = "") -> str:
    """A table that scrolls sideways by itself where the screen is narrow."""
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll {style}">{table}</div>'


def differences(language: str, beside: Beside) -> str:
    """How far corresponding networks are apart, number for number; "" where they do not correspond."""
    if not beside.stages:
        return ""
    rows = list(beside.stages)
    if beside.logits:
        rows.append(("logits", beside.logits[1]))
        words = say(
            language, "compare_logits", absolute=f"{beside.logits[0]:.1e}", relative=f"{beside.logits[1]:.1e}"
        )
        if beside.logits[0] == 0:
            words = say(language, "compare_identical")
    else:
        words = say(language, "compare_no_logits")
    same_input = "" if beside.same_input else " " + say(language, "compare_our_input")
    heading = say(language, "compare_differences", name=called(language, beside.answer.facts))
    drawn = decades(rows, TOLERANCE, heading)
    return (
        f"<h4>{html.escape(heading)}</h4><p>{html.escape(words + same_input)}</p>"
        f'<figure class="drawing">{drawn}'
        f"<figcaption>{say(language, 'compare_decades')}</figcaption></figure>"
    )


def families(language: str, compared: Compared) -> str:
    """A paragraph on each other family that was chosen."""
    kinds = dict.fromkeys(a.facts.family for a in compared.answers if a.facts.family)
    return "".join(
        f'<div class="family-note"><h4>{say(language, f"compare_{kind}_title")}</h4>'
        f"<p>{say(language, f'compare_{kind}')}</p></div>"
        for kind in kinds
    )


def reason(language: str, missing: Missing) -> str:
    """Why a reference cannot be had, in one line."""
    facts = {"name": missing.name} | missing.error.facts
    said = say(language, f"reference_{missing.error.code}", **facts)
    if "macs" in facts:
        size = {"parameters": million(facts["parameters"]), "macs": million(facts["macs"])}
        said += " " + say(language, "reference_size", **size)
    return said


def notice(language: str, missing: Missing) -> str:
    return alert(reason(language, missing))


# Several images


@dataclass(frozen=True)
class Many:
    """First guesses for several images.

    Args:
        names: of the files that could be read, one for each of `rows`.
        broken: (name of a file, why it could not be read).
        references: what the columns of `rows` are.
    """

    names: list[str]
    rows: list[Row]
    broken: list[tuple[str, ImageError]]
    ours: Facts
    references: list[Facts]
    missing: list[Missing]


def many_page(language: str, many: Many | None) -> str:
    """A table of all images and, for each reference, a confusion of agreements."""
    if many is None:
        return ""
    parts = [notice(language, missing) for missing in many.missing]
    for name, why in many.broken:
        parts.append(f'<p class="notice wrong">{html.escape(f"{name}: {error_text(language, why)}")}</p>')
    if many.rows:
        parts.append(guess_table(language, many))
        counted = [confusion(language, many, i) for i in range(len(many.references))]
        if any(counted):
            parts += [f"<p>{say(language, 'compare_confusion_read')}</p>", *counted]
    return "".join(parts)


def _cell(language: str, said: tuple[str, float] | None) -> str:
    if said is None:
        return say(language, "compare_incomparable")
    label, share = said
    shown = name_of(language, "class", label) if label else say(language, "compare_none_of_ours")
    return html.escape(shown) + (f" <small>{percent(share)}</small>" if label else "")


def guess_table(language: str, many: Many) -> str:
    """Each image's first guesses, disagreement marked."""
    head = "".join(f"<th>{title(language, facts)}</th>" for facts in (many.ours, *many.references))
    lines = []
    for name, row in zip(many.names, many.rows, strict=True):
        cells = [f"<td>{_cell(language, row.ours)}</td>"]
        for said in row.theirs:
            mark = "" if said is None else ' class="yes"' if said[0] == row.ours[0] else ' class="no"'
            cells.append(f"<td{mark}>{_cell(language, said)}</td>")
        lines.append(f"<tr><th>{html.escape(name)}</th>{''.join(cells)}</tr>")
    file = say(language, "compare_file")
    return (
        f"<h4>{say(language, 'compare_many_title', count=len(many.rows))}</h4>"
        f"{scrolling(f'<tr><th>{file}</th>{head}</tr>', ''.join(lines), 'tall guess-table')}"
    )


def confusion(language: str, many: Many, column: int) -> str:
    """Our guesses (rows) against one reference's (columns), counted."""
    pairs = [(row.ours[0], row.theirs[column][0]) for row in many.rows if row.theirs[column] is not None]
    if not pairs:
        return ""
    counts = Counter(pairs)
    mine, yours = ([*dict.fromkeys(sorted(pair[i] for pair in pairs))] for i in (0, 1))
    shown = {"": say(language, "compare_none_of_ours")}

    def word(label: str) -> str:
        return html.escape(shown.get(label) or name_of(language, "class", label))

    head = "".join(f"<th>{word(label)}</th>" for label in yours)
    lines = []
    for a in mine:
        cells = "".join(
            f'<td class="{"yes" if a == b else "no"}">{counts[a, b]}</td>' if counts[a, b] else "<td>·</td>"
            for b in yours
        )
        lines.append(f"<tr><th>{word(a)}</th>{cells}</tr>")
    same = sum(a == b for a, b in pairs)
    name = title(language, many.references[column])
    heading = say(
        language, "compare_confusion", name=name, same=same, of=len(pairs), share=percent(same / len(pairs))
    )
    return f"<h4>{heading}</h4>{scrolling(f'<tr><th></th>{head}</tr>', ''.join(lines), 'confusion')}"


# For a program


def document(compared: Compared) -> dict[str, Any]:
    """The same as one JSON-ready object."""
    references = []
    for beside in compared.besides:
        references.append(
            _answer(beside.answer)
            | {
                "label_space": beside.space,
                "agrees": beside.agrees(compared.ours),
                "same_input": beside.same_input,
                "logits": beside.logits and dict(zip(("max_abs", "relative"), beside.logits, strict=True)),
                "stages": dict(beside.stages),
            }
        )
    missing = [
        {"name": each.name, "error": str(each.error), "code": each.error.code} for each in compared.missing
    ]
    return {"ours": _answer(compared.ours), "references": references, "missing": missing}


def _answer(answer: Answer) -> dict[str, Any]:
    top = [{"label": label, "probability": round(share, 6)} for label, share in answer.top()]
    return asdict(answer.facts) | {"top": top, "seconds": round(answer.seconds, 5)}
