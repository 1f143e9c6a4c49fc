"""Other libraries' `config.json` of the same networks, brought into timm's present form.

timm 0.4 to 0.6 put preprocessing and labels at the root; transformers' TimmWrapper has its own labels and a
prefix before each tensor's name. What is recognised but contradicts itself is refused, never guessed.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from resnet_hub.errors import Refusal
from resnet_hub.models.calibration import MULTI_LABEL, UNDECIDED, Calibration
from resnet_hub.preprocess import Preprocess

TIMM_WRAPPER = "timm_wrapper"
WRAPPER_PREFIX = "timm_model."


def in_timms_form(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration with `architecture`, `num_classes`, `label_names`, `model_args`, `pretrained_cfg` and
    `problem_type`.

    Ours are returned as they are. The architecture is without timm's tag ("resnet18.a1_in1k").

    Raises:
        Refusal: for another library's, or fields that contradict each other.
    """
    if "resnet_hub" in values:
        return values
    kind = values.get("model_type")
    if kind not in (None, TIMM_WRAPPER):
        raise Refusal(
            f"model_type {kind!r} is transformers' own; python -m resnet_hub.convert turns its ResNets into "
            "checkpoints that load here"
        )
    is_new = "pretrained_cfg" in values
    given = values["pretrained_cfg"] if is_new else values
    args = values.get("model_args") or {}
    for name, value in {"pretrained_cfg": given, "model_args": args}.items():
        if not isinstance(value, dict):
            raise Refusal(f"{name} is a JSON {type(value).__name__}; timm writes an object")
    if is_new:
        _check_root(values, given)
    args = _implied_args(values, given) | args
    if isinstance(given.get("input_size"), list) and "in_chans" in args:
        given = given | {"input_size": [args["in_chans"], *given["input_size"][1:]]}
    return {
        "architecture": str(values.get("architecture")).partition(".")[0],
        "num_classes": _class_count(values, given),
        "label_names": _label_names(values, given),
        "model_args": args,
        "pretrained_cfg": given,
        "problem_type": values.get("problem_type"),
    }


def foreign_calibration(values: dict[str, Any], classes: int) -> Calibration:
    """How another library's `config.json` wants logits read. It states no threshold for a network that
    answers each class by itself, so a class is present where that is more probable than not."""
    several = values.get("problem_type") == MULTI_LABEL
    return Calibration(class_thresholds=(UNDECIDED,) * classes if several else ())


def weights_prefix(values: dict[str, Any]) -> str:
    """What stands before every tensor's name in the weights file."""
    return WRAPPER_PREFIX if values.get("model_type") == TIMM_WRAPPER else ""


def _check_root(values: dict[str, Any], given: dict[str, Any]) -> None:
    for name in (field.name for field in fields(Preprocess)):
        if name in values and values[name] != given.get(name):
            raise Refusal(
                f"{name} is {values[name]!r} at the root and {given.get(name)!r} in pretrained_cfg, where it "
                "is read; keep one of them"
            )


def _class_count(values: dict[str, Any], given: dict[str, Any]) -> int:
    if values.get("model_type") == TIMM_WRAPPER and isinstance(values.get("id2label"), dict):
        return len(values["id2label"])
    counts = (each.get("num_classes") for each in (values, given))
    return next((count for count in counts if count is not None), 1000)


def _label_names(values: dict[str, Any], given: dict[str, Any]) -> Any:
    """By rank: transformers' own, then timm's at the root, in `pretrained_cfg`, under the name of old."""
    own = values.get("id2label") if values.get("model_type") == TIMM_WRAPPER else None
    ranked = [own, *(each.get(name) for name in ("label_names", "labels") for each in (values, given))]
    return next((names for names in ranked if names is not None), None)


def _implied_args(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What timm makes arguments of: channels and pooling that it writes beside them."""
    size = given.get("input_size")
    pools = (each.get("global_pool") for each in (given, values))
    implied = {
        "in_chans": size[0] if isinstance(size, list) and size else None,
        "global_pool": next((pool for pool in pools if pool is not None), None),
    }
    return {name: value for name, value in implied.items() if value is not None}
