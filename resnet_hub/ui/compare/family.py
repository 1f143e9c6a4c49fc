"""The guide to all networks as a table whose headings sort it (`sort.js`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from resnet_hub.lab.family import USE, Choice, guide, measured_of
from resnet_hub.ui.shared.html import render
from resnet_hub.ui.shared.text import known_language, name_of, say, short

COLUMNS = {  # column -> (key of its heading, whether numbers; they fall first when sorted, words rise)
    "network": ("family_network", False),
    "params": ("total_params", True),
    "macs": ("total_macs", True),
    "latency": ("family_latency", True),
    "accuracy": ("family_accuracy", True),
    "input": ("family_input", True),
    "use": ("family_use", False),
}

choices = cache(guide)


def family_page(language: str, measured: Mapping[str, float]) -> str:
    """Every network of the guide, with the latencies (seconds) measured so far."""
    heads = [(name, say(language, key), is_number) for name, (key, is_number) in COLUMNS.items()]
    rows = [row(language, choice, measured_of(choice, measured)) for choice in choices()]
    return render("compare/family.html", heads=heads, rows=rows)


def row(language: str, choice: Choice, seconds: float | None) -> dict[str, Any]:
    """One network: of each column what it is sorted by and what it says; and where the accuracy is from."""
    accuracy, origin, use = "", "", USE[choice.name][known_language(language)]
    if choice.accuracy is not None:
        accuracy = f"{choice.accuracy:.2f} %"
        data = name_of(language, "data", choice.source.split(", ")[1])
        origin = data + say(language, "comma") + say(language, f"family_{choice.kind}")
    cells = {
        "network": (choice.name, choice.name),
        "params": (choice.parameters, short(choice.parameters)),
        "macs": (choice.macs, short(choice.macs)),
        "latency": (seconds or "", "" if seconds is None else f"{1000 * seconds:.1f} ms"),
        "accuracy": (choice.accuracy or "", accuracy),
        "input": (choice.input_size[0], "×".join(map(str, choice.input_size))),
        "use": (use, use),
    }
    return {"cells": cells, "origin": origin, "source": choice.source}
