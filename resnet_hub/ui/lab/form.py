"""The lab's controls as data: what a topic offers, and what a browser sent for it, read back and bounded.

They are native HTML inputs (`controls.html`): the many Gradio components that all topics would need slow a
page down, while markup costs nothing until a visitor opens a topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnet_hub.errors import Refusal
from resnet_hub.ui.shared.text import TEXT, say

Values = dict[str, Any]
UNUSABLE = (TypeError, ValueError, OverflowError)  # what converting a stranger's value can raise
MOST_SEEN = 60  # characters of a refused value that are repeated


class Refused(Refusal):
    """A value that its control does not allow.

    Args:
        control, raw: the first such control, and what was sent for it.
        values: those of all controls, at its default where one was refused.
    """

    def __init__(self, control: Control, raw: Any, values: Values) -> None:
        code, facts = control.refusal(raw)
        facts = {"seen": str(raw)[:MOST_SEEN]} | facts
        super().__init__(say("en", code, name=control.name, **facts), code, **facts)
        self.control, self.values = control, values


@dataclass(frozen=True, kw_only=True)
class Control:
    """One input; `when` names a (control, value) without which it is hidden."""

    name: str
    value: Any
    when: tuple[str, str] | None = None

    @property
    def kind(self) -> str:
        """What the template draws."""
        return type(self).__name__.lower()

    def read(self, raw: Any) -> Any:
        """The value a browser sent. Raises one of `UNUSABLE` for one that is not allowed."""
        raise NotImplementedError

    def refusal(self, raw: Any) -> tuple[str, Values]:
        """The text that says what is wrong with a value, and its facts."""
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

    def refusal(self, raw: Any) -> tuple[str, Values]:
        return "lab_out_of_range", {"least": f"{self.least:,}", "most": f"{self.most:,}"}


@dataclass(frozen=True, kw_only=True)
class Choice(Control):
    """One of `options`."""

    options: tuple[str, ...]

    def read(self, raw: Any) -> str:
        if raw not in self.options:
            raise ValueError(raw)
        return raw

    def refusal(self, raw: Any) -> tuple[str, Values]:
        return "lab_no_choice", {"allowed": ", ".join(self.options)}


@dataclass(frozen=True, kw_only=True)
class Switch(Control):
    """On or off."""

    def read(self, raw: Any) -> bool:
        if not isinstance(raw, bool):
            raise TypeError(raw)
        return raw

    def refusal(self, raw: Any) -> tuple[str, Values]:
        return "lab_no_choice", {"allowed": "true, false"}


@dataclass(frozen=True, kw_only=True)
class Redraw(Control):
    """A button that draws again: its value is the number of the draw, of which there are `draws`."""

    draws: int = 20

    def read(self, raw: Any) -> int:
        if int(raw) not in range(self.draws):
            raise ValueError(raw)
        return int(raw)

    def refusal(self, raw: Any) -> tuple[str, Values]:
        return "lab_out_of_range", {"least": 0, "most": self.draws - 1}


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
            raise ValueError("out of range")
        return rows

    def refusal(self, raw: Any) -> tuple[str, Values]:
        """Names the first cell that is not allowed; without one the shape is wrong."""
        bounds = {"least": signed(self.least), "most": self.most}
        rows = raw if isinstance(raw, list) else []
        for i, row in enumerate(rows, 1):
            for j, cell in enumerate(row if isinstance(row, list) else [], 1):
                at = {"row": i, "column": j, "seen": signed(cell)[:MOST_SEEN]} | bounds
                try:
                    number = int(cell or 0)
                except UNUSABLE:
                    return "lab_cell_no_number", at
                if not self.least <= number <= self.most:
                    return f"lab_cell_too_{'small' if number < self.least else 'large'}", at
        return "lab_grid_shape", {"height": len(self.value), "width": len(self.value[0])} | bounds


@dataclass(frozen=True, kw_only=True)
class Upload(Control):
    """An image of the visitor's: "" or the path Gradio stored it under, which the reader must check."""

    def read(self, raw: Any) -> str:
        if not isinstance(raw, str) or len(raw) > 1000:
            raise TypeError("no path")
        return raw

    def refusal(self, raw: Any) -> tuple[str, Values]:
        return "lab_no_image", {}


def signed(number: Any) -> str:
    """A number with a typographic minus."""
    return str(number).replace("-", "−", 1)


def label(language: str, topic: str, name: str, usual: str | None = None) -> str:
    """The topic's own words for a control or option, or the lab's, or `usual`, or the name itself."""
    for key in (f"lab_{topic}_{name}", f"lab_control_{name}"):
        if key in TEXT:
            return say(language, key)
    return name if usual is None else usual


def defaults(controls: Sequence[Control]) -> Values:
    return {control.name: control.value for control in controls}


def read(controls: Sequence[Control], raw: Any) -> Values:
    """What a browser sent for a topic; controls it did not send keep their defaults.

    Raises:
        Refused: for the first value that its control does not allow; what is hidden is not looked at.
    """
    raw = raw if isinstance(raw, dict) else {}
    values, refused = defaults(controls), []
    for control in controls:
        if control.name in raw:
            try:
                values[control.name] = control.read(raw[control.name])
            except UNUSABLE:
                refused.append(control)
    refused = [control for control in refused if not is_hidden(control, values)]
    if refused:
        raise Refused(refused[0], raw[refused[0].name], values)
    return values


def is_hidden(control: Control, values: Values) -> bool:
    """Whether a control counts for nothing, given the values of the others."""
    return control.when is not None and values[control.when[0]] != control.when[1]


def shown_inputs(language: str, topic: str, controls: Sequence[Control], values: Values) -> list[tuple]:
    """For each control, what `controls.html` needs: (control, label, value, options' words, hidden)."""
    return [
        (
            control,
            label(language, topic, control.name),
            values[control.name],
            {o: label(language, topic, f"{control.name}_{o}", o) for o in getattr(control, "options", ())},
            is_hidden(control, values),
        )
        for control in controls
    ]
