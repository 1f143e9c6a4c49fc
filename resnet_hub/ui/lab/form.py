"""The lab's controls as data: native HTML inputs for the page, and their values read back and bounded.

A page of fifteen sections would be seventy Gradio components; as strings they cost nothing until a visitor
opens one. Knows nothing of what the values mean.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnet_hub.ui.shared.text import TEXT, say

Values = dict[str, Any]


class Refused(ValueError):
    """A value that its control does not allow.

    Args:
        control, raw: the first such control, and what was sent for it; `seen` is the beginning of that.
        values: those of all controls, at its default where one was refused.
    """

    def __init__(self, control: Control, raw: Any, values: Values) -> None:
        self.control, self.seen, self.values = control, str(raw)[:60], values
        super().__init__(f"{control.name}={self.seen!r} is not allowed; give {control.allowed('en')}")


@dataclass(frozen=True, kw_only=True)
class Control:
    """One input; `when` names a (control, value) without which it is hidden."""

    name: str
    value: Any
    when: tuple[str, str] | None = None

    def read(self, raw: Any) -> Any:
        """The value a browser sent. Raises ValueError, TypeError, OverflowError for one not allowed."""
        raise NotImplementedError

    def allowed(self, language: str) -> str:
        """What may be given, in words."""
        raise NotImplementedError

    def markup(self, language: str, topic: str, value: Any) -> str:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Slider(Control):
    """A number from `least` to `most`; typed instead of dragged where `typed` is set."""

    least: float
    most: float
    step: float = 1
    typed: bool = False

    def read(self, raw: Any) -> float:
        number = float(raw)
        if not self.least <= number <= self.most:
            raise ValueError(raw)
        return int(number) if isinstance(self.value, int) else number

    def allowed(self, language: str) -> str:
        return say(language, "lab_range", least=f"{self.least:,}", most=f"{self.most:,}")

    def markup(self, language: str, topic: str, value: Any) -> str:
        name = label(language, topic, self.name)
        bounds = f'name="{self.name}" min="{self.least}" max="{self.most}" step="{self.step}" value="{value}"'
        if self.typed:
            return f'<label>{name}<input type="number" {bounds}></label>'
        slider = f'<input type="range" aria-label="{name}" {bounds}>'  # the label's own is its output
        return f"<label>{name} <output>{value}</output>{slider}</label>"


@dataclass(frozen=True, kw_only=True)
class Choice(Control):
    """One of a few words."""

    options: tuple[str, ...]

    def read(self, raw: Any) -> str:
        if raw not in self.options:
            raise ValueError(raw)
        return raw

    def allowed(self, language: str) -> str:
        return ", ".join(self.options)

    def markup(self, language: str, topic: str, value: Any) -> str:
        options = "".join(
            f'<option value="{o}"{" selected" if o == value else ""}>'
            f"{label(language, topic, f'{self.name}_{o}', o)}</option>"
            for o in self.options
        )
        name = label(language, topic, self.name)
        return f'<label>{name}<select name="{self.name}">{options}</select></label>'


@dataclass(frozen=True, kw_only=True)
class Switch(Control):
    """On or off."""

    def read(self, raw: Any) -> bool:
        if not isinstance(raw, bool):
            raise TypeError(raw)
        return raw

    def allowed(self, language: str) -> str:
        return "true, false"

    def markup(self, language: str, topic: str, value: Any) -> str:
        on, name = " checked" if value else "", label(language, topic, self.name)
        return f'<label class="switch"><input type="checkbox" name="{self.name}"{on}> {name}</label>'


@dataclass(frozen=True, kw_only=True)
class Grid(Control):
    """Rows of whole numbers to edit, as many as `value` has."""

    least: int = -9
    most: int = 9

    def read(self, raw: Any) -> tuple[tuple[int, ...], ...]:
        rows = tuple(tuple(int(cell or 0) for cell in row) for row in raw)
        if [len(row) for row in rows] != [len(row) for row in self.value]:
            raise ValueError("another shape")
        if not all(self.least <= cell <= self.most for row in rows for cell in row):
            raise ValueError("out of bounds")
        return rows

    def allowed(self, language: str) -> str:
        facts = {"height": len(self.value), "width": len(self.value[0])}
        return say(language, "lab_grid_range", least=self.least, most=self.most, **facts)

    def markup(self, language: str, topic: str, value: Any) -> str:
        name = label(language, topic, self.name)
        bounds = f'min="{self.least}" max="{self.most}"'
        cells = "".join(
            f'<input type="number" data-grid="{self.name}" data-row="{i}" {bounds} value="{cell}" '
            f'aria-label="{name} {i + 1}, {j + 1}">'
            for i, row in enumerate(value)
            for j, cell in enumerate(row)
        )
        columns = f"grid-template-columns:repeat({len(value[0])},1fr)"
        return (
            f'<fieldset><legend>{name}</legend><div class="cells" style="{columns}">{cells}</div></fieldset>'
        )


@dataclass(frozen=True, kw_only=True)
class Upload(Control):
    """An image of the visitor's: "" or the path Gradio stored it under, which the reader must check."""

    def read(self, raw: Any) -> str:
        if not isinstance(raw, str) or len(raw) > 1000:
            raise TypeError("no path")
        return raw

    def allowed(self, language: str) -> str:
        return say(language, "lab_an_image")

    def markup(self, language: str, topic: str, value: Any) -> str:
        return (
            f'<label>{label(language, topic, self.name)}<input type="file" accept="image/*" data-upload>'
            f'<input type="hidden" name="{self.name}" value="{html.escape(value)}"></label>'
        )


def label(language: str, topic: str, name: str, usual: str | None = None) -> str:
    """The topic's own words for a name, or the lab's, or the name itself."""
    for key in (f"lab_{topic}_{name}", f"lab_control_{name}"):
        if key in TEXT:
            return say(language, key)
    return name if usual is None else usual


def defaults(controls: Sequence[Control]) -> Values:
    return {control.name: control.value for control in controls}


def read(controls: Sequence[Control], raw: Any) -> Values:
    """What a browser sent for a section, missing ones at their defaults.

    Raises:
        Refused: with the control, the value seen and what is allowed.
    """
    raw = raw if isinstance(raw, dict) else {}
    values, refused = defaults(controls), []
    for control in controls:
        if control.name in raw:
            try:
                values[control.name] = control.read(raw[control.name])
            except (TypeError, ValueError, OverflowError):
                refused.append(control)
    if refused:
        raise Refused(refused[0], raw[refused[0].name], values)
    return values


def form(language: str, topic: str, controls: Sequence[Control], values: Values) -> str:
    """The section's controls, showing `values`."""
    parts = []
    for control in controls:
        shown = control.when is None or values[control.when[0]] == control.when[1]
        when = "" if control.when is None else f' data-when="{"=".join(control.when)}"'
        hidden = "" if shown else " hidden"
        parts.append(f"<div{when}{hidden}>{control.markup(language, topic, values[control.name])}</div>")
    return f'<form data-topic="{topic}" onsubmit="return false">{"".join(parts)}</form>'
