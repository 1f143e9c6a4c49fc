"""`--help` of the trainers in sections: first the ten flags people need, then the others by what they do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

SECTIONS = {
    "data": (
        "labels", "train_images", "held_out", "framing", "in_chans", "balance", "outliers", "unknown",
        "data_name",
    ),
    "what is trained": (
        "mode", "rate", "far", "keep_head", "teacher", "drop_rate", "drop_path", "layer_decay", "whiten"
    ),
    "augmentation and input": (
        "augment", "crop_padding", "mixup", "cutmix", "label_smoothing", "low_res", "low_res_until",
        "hard_share",
    ),
    "steps": (
        "recipe", "batch_size", "accumulate", "optimizer", "lr", "bias_lr", "muon_lr", "muon_momentum",
        "weight_decay", "schedule", "warmup", "clip_norm",
    ),
    "which weights are kept": ("metric", "patience", "keep", "ema", "ema_warmup"),
    "learning from images of other things": (
        "outlier_weight", "outlier_share", "outliers_except", "outlier_jpeg"
    ),
    "the run": ("resume", "seed", "save_every", "tensorboard", "trackio", "wandb", "print_job"),
    "the machine": (
        "device", "precision", "engine", "compile", "sync_batch_norm", "deterministic", "eval_batch",
        "workers",
    ),
}  # fmt: skip
REST = "further flags"


def in_sections(parser: argparse.ArgumentParser, first: Sequence[str]) -> None:
    """Move each flag of `parser` to the section that `SECTIONS` names it in.

    Args:
        first: the flags of the section on top, by their name in the parsed options.
    """
    own = ("positional arguments", "options")
    loose = {
        action.dest: action
        for group in parser._action_groups
        if group.title in (*own, REST)
        for action in group._group_actions
    }
    wanted = {"the flags most people need": tuple(first), **SECTIONS}
    placed = {name for names in wanted.values() for name in names}
    wanted[REST] = tuple(name for name in loose if name not in placed)
    kept = [group for group in parser._action_groups if group.title not in (*own, REST)]
    parser._action_groups[:] = []
    for title, names in wanted.items():
        group = parser.add_argument_group(title)
        group._group_actions.extend(loose.pop(name) for name in names if name in loose)
    parser._action_groups += kept
    required = " ".join(_shown(action) for action in parser._actions if action.required)
    parser.usage = f"{parser.prog} {required} [flag ...]"


def _shown(action: argparse.Action) -> str:
    value = action.metavar or action.dest.upper()
    return " ".join([*action.option_strings[:1], str(value)])
