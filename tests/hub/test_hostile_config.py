"""Any `config.json` makes a network's description or is refused in one line."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_hub.hub import load
from resnet_hub.hub.bounds import VISITORS
from resnet_hub.hub.fetch import SHIPPED, shipped_names

HUGE = st.sampled_from([10**9, -1, 2**63, 1e308, float("nan"), float("inf"), 10**400])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HUGE | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@cache
def sound(name: str) -> str:
    return (SHIPPED / name / "config.json").read_text(encoding="utf-8")


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths to everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [deeper for key, each in inner for deeper in places(each, (*path, key))]


@st.composite
def damaged(draw) -> dict:
    """A shipped configuration with one to three values replaced or taken away."""
    values = json.loads(sound(draw(st.sampled_from(shipped_names()))))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(values)))
        target = values
        for key in way:
            target = target[key]
        if draw(st.booleans()):
            target[last] = draw(JSON)
        else:
            del target[last]
    return values


@settings(max_examples=300)
@given(damaged() | st.dictionaries(st.text(max_size=10), JSON, max_size=4))
def test_a_damaged_configuration_is_read_or_refused(values):
    values = copy.deepcopy(values)
    try:
        config = load.read_config(values)
        preprocess = load.read_preprocess(values, config, VISITORS)
        labels = load.read_labels(values, config)
        load.read_calibration(values)
    except load.UNUSABLE as error:  # `naming` makes one line of these
        assert len(str(error)) < 10**6
    else:
        assert len(labels) == config.num_classes and preprocess.input_size[0] in (1, 3)
