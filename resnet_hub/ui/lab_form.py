"""The lab's controls as data: native HTML inputs for the page, and their values read back and bounded.

A page of sixteen sections would be seventy Gradio components; as strings they cost nothing until a visitor
opens one. Knows nothing of what the values mean.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnet_hub.ui.text import TEXT, say

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Control:
    """One input; `when` names a (control, value) without which it is hidden."""

    name: str
    value: Any
    when: tuple[str, str] | None = None

    def read(self, raw: Any) -> Any:
        """The value a browser sent, checked. Raises ValueError, TypeError for one that is not allowed."""
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
            raise ValueError(f"{raw!r}; {self.least:,} to {self.most:,}")
        return int(number) if isinstance(self.value, int) else number

    def markup(self, language: str, topic: str, value: Any) -> str:
        name = label(language, topic, self.name)
        bounds = f'name="{self.name}" min="{self.least}" max="{self.most}" step="{self.step}" value="{value}"'
        if self.typed:
            return f'<label>{name}<input type="number" {bounds}></label>'
        return f'<label>{name} <output>{value}</output><input type="range" {bounds}></label>'


@dataclass(frozen=True, kw_only=True)
class Choice(Control):
    """One of a few words."""

    options: tuple[str, ...]

    def read(self, raw: Any) -> str:
        if raw not in self.options:
            raise ValueError(f"{raw!r}; {', '.join(self.options)}")
        return raw

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
            raise TypeError(f"{raw!r}; true, false")
        return raw

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
            raise ValueError(f"{len(rows)} rows; {len(self.value)} of {len(self.value[0])} numbers")
        if not all(self.least <= cell <= self.most for row in rows for cell in row):
            raise ValueError(f"{rows!r}; {self.least} to {self.most}")
        return rows

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
    """A picture of the visitor's: "" or the path Gradio stored it under, which the reader must check."""

    def read(self, raw: Any) -> str:
        if not isinstance(raw, str) or len(raw) > 1000:
            raise TypeError(f"{str(raw)[:80]!r}; a picture file")
        return raw

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
        ValueError: naming the control, the value seen and what is allowed.
    """
    raw = raw if isinstance(raw, dict) else {}
    values = defaults(controls)
    for control in controls:
        if control.name in raw:
            try:
                values[control.name] = control.read(raw[control.name])
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{control.name}: {str(error)[:300]}") from error
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
