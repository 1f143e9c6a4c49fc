"""The family guide as a table whose headings sort it (`sort.js`). Strings only; knows nothing of gradio."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import cache

from resnet_hub.lab.family import Choice, guide
from resnet_hub.ui.compare.page import million
from resnet_hub.ui.shared.text import say

COLUMNS = ["network", "params", "macs", "latency", "accuracy", "input", "use"]
LABELS = {"params": "total_params", "macs": "total_macs"}
# Numbers fall first when sorted, words rise.
NUMBERS = {"input", "params", "macs", "accuracy", "latency"}

choices = cache(guide)


def family_page(language: str, measured: Mapping[str, float]) -> str:
    """Every network of the guide, with the latencies (seconds) measured so far."""
    head = "".join(
        f'<th aria-sort="none"><button type="button" data-sort="{column}" '
        f'data-kind="{"number" if column in NUMBERS else "word"}">'
        f"{say(language, LABELS.get(column, f'family_{column}'))}</button></th>"
        for column in COLUMNS
    )
    body = "".join(line(language, choice, measured) for choice in choices())
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll family">{table}</div>'


def line(language: str, choice: Choice, measured: Mapping[str, float]) -> str:
    """One network; `data-value` is what its column is sorted by."""
    seconds = measured.get(choice.name)
    accuracy = "" if choice.accuracy is None else f"{choice.accuracy:.2f} %"
    if accuracy:
        kind, source = say(language, f"family_{choice.kind}"), html.escape(choice.source, quote=True)
        data = "ImageNet" if "ImageNet" in source else "CIFAR-10"
        accuracy += f'<small title="{source}">{data}{say(language, "comma")}{kind}</small>'
    cells = {
        "params": (choice.parameters, million(choice.parameters)),
        "macs": (choice.macs, million(choice.macs)),
        "latency": (seconds or "", "" if seconds is None else f"{1000 * seconds:.1f} ms"),
        "accuracy": (choice.accuracy or "", accuracy),
        "input": (choice.input_size[0], "×".join(map(str, choice.input_size))),
        "use": (choice.use, html.escape(say(language, f"use_{choice.name}", use=choice.use))),
    }
    shown = "".join(f'<td data-value="{value}">{text}</td>' for value, text in cells.values())
    return f'<tr><th data-value="{choice.name}">{choice.name}</th>{shown}</tr>'
