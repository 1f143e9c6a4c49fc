"""HTML from jinja2 templates: every value is escaped unless it is markup already."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from resnet_hub.ui.shared.text import percent, say

UI = Path(__file__).parents[1]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(UI),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["say"] = say
    environment.filters["percent"] = percent
    return environment


def render(template: str, **values: Any) -> Markup:
    """The template `<tab>/<name>.html` below `ui/` with `values` filled in, escaped."""
    return Markup(_environment().get_template(template).render(**values))
