"""What an answer says in words: firmly, as a guess, or that the image shows nothing the network knows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from resnet_hub.errors import listed

MOST_NAMED = 3  # classes in a guess
LEAST_SHARE = 0.25  # of the best one's probability, for a class to be named beside it
SENTENCES = {
    "firm": "This looks like {first}.",
    "unsure_1": "Perhaps {first}.",
    "unsure_2": "Perhaps {first} or {second}.",
    "unsure_3": "Perhaps {first}, {second} or {third}.",
    "unfamiliar": "This does not look like anything I know.",
    "unmeasured": "Most likely: {first} ({share})",
    "present": "This shows: {names}.",
    "absent": "I found none of the things I know.",
}
PLURAL = ("binoculars", "sunglasses", "swimming trunks")
MASS = (
    "brass", "broccoli", "carbonara", "chain mail", "chocolate sauce", "confectionery", "corn", "dough",
    "eggnog", "guacamole", "hay", "ice cream", "mashed potato", "red wine", "spaghetti squash", "sunscreen",
    "thatch", "toilet tissue", "velvet", "wool",
)  # fmt: skip


def with_article(label: str) -> str:
    """A label inside an English sentence: "a teapot", "an umbrella", "sunglasses"."""
    is_name = re.search(r"[\d_]", label)  # LABEL_3, n01440764
    if is_name or label.lower() in PLURAL + MASS:
        return label
    sounds_open = re.match(r"hour|[aeio]|u(?!ni|s)", label.lower()) and not re.match("(?i)eu|one", label)
    return f"{'an' if sounds_open else 'a'} {label}"


def named(certainty: str | None, top: Sequence[tuple[str, float]]) -> tuple[str, list[str]]:
    """Which sentence an answer gets, and the labels it names.

    Args:
        certainty: "firm", "unsure", "unfamiliar" or None, of `Calibration.certainty`.
        top: (label, probability), best first, at least one.

    Returns:
        A key of `SENTENCES`, and the labels in the order of their placeholders.
    """
    if certainty == "unfamiliar":
        return certainty, []
    if certainty != "unsure":
        return certainty or "unmeasured", [top[0][0]]
    likely = [label for label, share in top[:MOST_NAMED] if share >= LEAST_SHARE * top[0][1]]
    return f"unsure_{len(likely)}", likely


def places(names: Sequence[str]) -> dict[str, str]:
    """Names as the placeholders of a sentence."""
    return dict(zip(("first", "second", "third"), names, strict=False))


def statement(
    certainty: str | None, top: Sequence[tuple[str, float]], present: Sequence[str] | None = None
) -> str:
    """The English sentence of an answer; `present` are the labels of an image that may show several."""
    if present is not None:
        return SENTENCES["present" if present else "absent"].format(names=listed(present))
    key, labels = named(certainty, top)
    words = labels if key == "unmeasured" else [with_article(label) for label in labels]
    return SENTENCES[key].format(**places(words), share=f"{top[0][1]:.1%}".replace("%", " %"))
