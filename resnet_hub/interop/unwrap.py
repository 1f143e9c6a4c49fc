"""State dicts as training scripts leave them -> one network's tensors under its own names.

Wrappers leave a prefix before each name (DataParallel, torch.compile, Lightning), checkpoints a dictionary
around the tensors, new heads a Sequential. What is unambiguous is taken off and said; anything else is
refused with the keys that were not expected.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from resnet_hub.errors import Refusal, listed

HOLDERS = (  # keys under which training scripts store a network's tensors
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params",
    "state_dict_ema", "model_ema", "ema",
)  # fmt: skip
HEADS = ("fc", "head.fc", "head", "classifier", "classifier.fc", "last_linear")
NOT_THE_NETWORK = ("criterion.", "loss.", "loss_fn.")  # class weights of a loss that a module keeps
HARMLESS: list = [argparse.Namespace]  # timm's checkpoints hold their command line
SHOWN = 5  # keys of a kind in one message


def is_state(value: Any) -> bool:
    """Whether something is a dictionary of tensors by name."""
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(each, Tensor) for key, each in value.items()
    )


def held_state(loaded: Any, source: str, notes: list[str]) -> dict[str, Tensor]:
    """The one dictionary of tensors in what a file holds.

    Args:
        notes: what was done is added to it.

    Raises:
        Refusal: where there is none, or more than one.
    """
    if is_state(loaded):
        return loaded
    holders = [
        key for key in HOLDERS if isinstance(loaded, dict) and loaded.get(key) and is_state(loaded[key])
    ]
    if len(holders) > 1:
        raise Refusal(
            f"{source} holds several networks, {listed(map(repr, holders))}; save the one you mean alone"
        )
    if not holders:
        seen = f" (it holds {listed(map(repr, loaded), SHOWN)})" if isinstance(loaded, dict) else ""
        raise Refusal(f"{source} does not hold tensors by name{seen}; save the network's state_dict() alone")
    notes.append(f"the tensors under {holders[0]!r}")
    return loaded[holders[0]]


def unwrapped(
    state: dict[str, Tensor], names: Sequence[str], head: str, source: str, notes: list[str]
) -> dict[str, Tensor]:
    """A network's tensors under its own names.

    Args:
        names: those names, by which the network is found in the state.
        head: the name of its classifier.
        notes: what was done is added to it.

    Raises:
        Refusal: where several networks lie in the state.
    """
    first, middle = names[0], names[len(names) // 2]  # a block's first convolution is called like the stem
    places = [key.removesuffix(first) for key in state if key == first or key.endswith(f".{first}")]
    places = [place for place in places if place + middle in state]
    if len(places) > 1:
        raise Refusal(
            f"{source} holds several networks, {listed(map(repr, places))}; save the one you mean alone"
        )
    if places and (prefix := places[0]):
        state = _without(prefix, state, source, notes)
    return whole_counts(_with_plain_head(state, head, notes), notes)


def _without(prefix: str, state: dict[str, Tensor], source: str, notes: list[str]) -> dict[str, Tensor]:
    notes.append(f"without {prefix!r} before each name")
    wrappers = [prefix[: i + 1] for i, letter in enumerate(prefix) if letter == "."]
    done = {}
    for key, value in state.items():
        if key.startswith(NOT_THE_NETWORK):
            notes.append(f"without {key}")
            continue
        # A head may lie outside of what holds the rest: "model.backbone.conv1", "model.fc".
        taken = next((wrapper for wrapper in reversed(wrappers) if key.startswith(wrapper)), "")
        if (name := key.removeprefix(taken)) in done:
            raise Refusal(f"{source} holds {name} twice, inside and outside of {prefix!r}; save one network")
        done[name] = value
    return done


def _with_plain_head(state: dict[str, Tensor], head: str, notes: list[str]) -> dict[str, Tensor]:
    """The classifier under its name, where the state holds just one linear layer for it elsewhere."""
    if head != "fc" or f"{head}.weight" in state:
        return state
    linear = [
        key.removesuffix(".weight")
        for key, value in state.items()
        if key.endswith(".weight") and value.ndim == 2 and _is_head(key.removesuffix(".weight"))
    ]
    if len(linear) != 1:
        return state
    notes.append(f"{linear[0]} as {head}")
    return {
        f"{head}.{key.removeprefix(f'{linear[0]}.')}" if key.startswith(f"{linear[0]}.") else key: value
        for key, value in state.items()
    }


def _is_head(name: str) -> bool:
    above, _, last = name.rpartition(".")
    return name in HEADS or (last.isdecimal() and above in HEADS)


def whole_counts(state: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Counts of batches as whole numbers, where a blanket `.half()` made floats of them."""
    floats = {k for k, v in state.items() if k.endswith("num_batches_tracked") and v.is_floating_point()}
    if floats:
        notes.append("batch-norm counts as whole numbers")
    return {
        key: value.nan_to_num(0, 0, 0).round().long() if key in floats else value
        for key, value in state.items()
    }


def difference(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """What keeps tensors from fitting a network: missing and unexpected keys, then shapes; "" for nothing."""
    kinds = {
        "unexpected": sorted(found.keys() - wanted.keys()),
        "missing": sorted(wanted.keys() - found.keys()),
        "of another shape": [
            f"{key} {tuple(found[key].shape)} for {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in found and found[key].shape != value.shape
        ],
    }
    return "; ".join(f"{kind}: {listed(keys, SHOWN)}" for kind, keys in kinds.items() if keys)
