"""The rules of fine-tuning as data: which mode suits a data set, and which parameters then learn how fast.

One place for `training.transfer`, which applies them, and the lab's adviser, which explains them:
`resnet_hub` may not import `training`. Knows nothing of torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from resnet_hub.config import ModelConfig, ResNetConfig

Rates = tuple[tuple[str, float], ...]  # (pattern, share of the recipe's rate; 0 freezes), first match wins
MODES = ("feature", "partial", "full")
FEW, SOME = 1_000, 10_000  # training images up to which the head learns, and the last stage too
HEAD_RATE = 1e-3  # of AdamW, for the new classifier; every other rate is a share of it


def mode_for(images: int, similar: bool = True) -> str:
    """The mode for so many training images; one step further for images unlike the pretraining's.

    `--mode auto` knows only the number; a person knows how like the images are. Unlike ones gain less from
    features as they are, so more layers learn.
    """
    step = (images > FEW) + (images > SOME) + (not similar)
    return MODES[min(step, len(MODES) - 1)]


def mode_rates(mode: str, config: ModelConfig, head: str) -> Rates:
    """(pattern, share of the head's rate) of a mode.

    The course's rates are 1e-3 for the head, 1e-5 for the last stage alone, and 1e-6 (stem and first stage),
    1e-5, 1e-4 (last stage) for all of it. Its groups leave out `bn1`, which then never learns.
    """
    new = (re.escape(head), 1.0)
    if mode == "feature":
        return (new, ("", 0.0))
    if not isinstance(config, ResNetConfig):
        body = {"partial": (), "full": (("", 0.1),)}[mode]
        if not body:
            raise ValueError(f"--mode partial is for residual networks; give {config.name} feature or full")
        return (new, *body)
    last = len(config.depths)
    final = rf"(layer{last}|bn)\."  # pre-activation networks end in a batch norm of their own
    if mode == "partial":
        return (new, (final, 0.01), ("", 0.0))
    middle = "".join(map(str, range(2, last)))
    return (new, (final, 0.1), *([(rf"layer[{middle}]\.", 0.01)] if middle else []), ("", 0.001))


def share_of_each(names: Iterable[str], rates: Rates) -> dict[str, float]:
    """Which share of the recipe's rate each parameter learns with; the first pattern that matches counts.

    Raises:
        ValueError: for a parameter that no pattern matches, or a pattern that decides for none.
    """
    shares, idle = {}, {pattern for pattern, _ in rates}
    for name in names:
        pattern, share = next(((p, s) for p, s in rates if re.match(p, name)), (None, 0.0))
        if pattern is None:
            raise ValueError(f"no pattern matches parameter {name}; patterns: {[p for p, _ in rates]}")
        shares[name] = share
        idle.discard(pattern)
    if idle:
        raise ValueError(
            f"patterns {sorted(idle)} decide for no parameter; it begins with {', '.join(list(shares)[:4])}"
        )
    return shares
