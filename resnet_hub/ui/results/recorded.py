"""The files of measured studies, `training/results/NAME.json`: read when somebody looks, never at start.

`python -m training.study` writes them, and they are packaged with it; an app without them just has none.
"""

from __future__ import annotations

import json
import tomllib
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from resnet_hub.errors import Refusal
from resnet_hub.ui.shared.text import unbroken

EXPECTED = (
    "degradation", "stem", "architectures", "optimizers", "batchnorm", "dropout", "augmentation", "transfer",
    "outliers", "tta", "distillation",
)  # fmt: skip
NEEDED = {"study", "question", "evidence", "rows", "histories"}


def packaged() -> Traversable | None:
    """The folder of results beside the training commands; None where these are not installed."""
    try:
        return files("training") / "results"
    except ModuleNotFoundError:
        return None


RESULTS = packaged()


class Unreadable(Refusal):
    """A results file that is cut short or of another shape."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}.json is not a study; run it again", "results_broken", name=name)


def recorded() -> list[str]:
    """Names of the studies that have a file here, the course's first."""
    if RESULTS is None or not RESULTS.is_dir():
        return []
    found = {each.name.removesuffix(".json") for each in RESULTS.iterdir() if each.name.endswith(".json")}
    return [*(name for name in EXPECTED if name in found), *sorted(found - set(EXPECTED))]


def load(name: str) -> dict[str, Any] | None:
    """One study, as `training.study.record` wrote it; None where there is none.

    Raises:
        Unreadable: for a file of another shape.
    """
    document = other(name)
    if document is not None and not (isinstance(document, dict) and document.keys() >= NEEDED):
        raise Unreadable(name)
    return document


def readable(name: str) -> dict[str, Any] | None:
    """One study; None where it was not run or cannot be read."""
    try:
        return load(name)
    except Unreadable:
        return None


def other(name: str) -> dict[str, Any] | None:
    """What another command than `training.study` recorded, for the lab; None where it is not there.

    Raises:
        Unreadable: for a file that is not JSON.
    """
    if RESULTS is None or name not in recorded():
        return None
    try:
        return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unreadable(name) from error


def finding(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """{"question", "shows", "cannot"} by language for this very record; {} where the words are of another."""
    try:
        words = parsed((RESULTS / "findings.toml").read_text(encoding="utf-8")) if RESULTS else {}
    except (OSError, ValueError):
        return {}
    found, on = words.get(document["study"]), document["evidence"]
    budget = [on["train_images"], on["epochs"], on["seeds"]]
    if not found or (found["budget"], found["question"]["en"]) != (budget, document["question"]):
        return {}
    texts = {part: found[part] for part in ("question", "shows", "cannot")}
    return {part: {code: unbroken(text) for code, text in each.items()} for part, each in texts.items()}


@lru_cache(1)
def parsed(text: str) -> dict[str, Any]:
    """A TOML text; one page asks for the same dozens of times."""
    return tomllib.loads(text)


def is_study(name: str) -> bool:
    """Whether a file of the results is a study at all; other commands leave their own JSON there."""
    try:
        return load(name) is not None
    except Unreadable:
        return False
