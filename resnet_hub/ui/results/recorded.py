"""The files of measured studies, `training/results/NAME.json`: read when somebody looks, never at start.

`python -m training.study` writes them; an app without them (installed as a package, or before any run) simply
has none. Knows nothing of how they are shown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[3] / "training" / "results"
EXPECTED = (
    "degradation", "stem", "architectures", "optimizers", "batchnorm", "dropout", "augmentation", "transfer",
    "tta", "distillation", "ingredients",
)  # fmt: skip
NEEDED = {"study", "question", "evidence", "rows", "histories"}


class Unreadable(ValueError):
    """A results file that is cut short or of another shape."""


def recorded() -> list[str]:
    """Names of the studies that have a file here, the course's first."""
    found = {path.stem for path in RESULTS.glob("*.json")}
    return [*(name for name in EXPECTED if name in found), *sorted(found - set(EXPECTED))]


def load(name: str) -> dict[str, Any] | None:
    """One study, as `training.study.record` wrote it; None where there is none.

    Raises:
        Unreadable: for a file that is no such document.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not set(document) >= NEEDED:
            raise Unreadable(name)
    except (OSError, ValueError, TypeError) as error:
        raise Unreadable(name) from error
    return document


def is_study(name: str) -> bool:
    """Whether a file of the results is a study at all; other commands leave their own JSON there."""
    try:
        return load(name) is not None
    except Unreadable:
        return False
