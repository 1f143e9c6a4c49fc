"""Whether a network answers in half precision as it does in float32, measured on the test images.

`--precision auto` takes a half precision only where that was measured: its calibration names it.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from resnet_hub.engine import HALF_SHARE, choose, engine_for
from resnet_hub.errors import Refusal
from training.calibrate import calibration_error
from training.data import Images
from training.engine import Answered, predict_each
from training.unknown import answers

LEAST_SAME = 0.995  # of the images: the same top-1
MOST_FLAGGED = 0.005  # of the images: called unfamiliar in one precision only
MOST_ERROR = 0.002  # change of the expected calibration error


def against_fp32(model, plain: Answered, half: Answered) -> dict[str, float]:
    """How far two answers to the same images are apart.

    Returns:
        "same": the share of the images with the same top-1. "moved": the most by which a largest share
        differs. "flagged": the share called unfamiliar in one of both only. "error": the change of the
        calibration error.
    """
    ours, theirs = (model.calibration.probabilities(each.logits) for each in (plain, half))
    flags = [answers(model, each.logits).flagged for each in (plain, half)]
    return {
        "same": share(ours.argmax(1) == theirs.argmax(1)),
        "moved": (ours.amax(1) - theirs.amax(1)).abs().max().item(),
        "flagged": share(flags[0] != flags[1]),
        "error": abs(calibration_error(theirs, half.labels) - calibration_error(ours, plain.labels)),
    }


def share(which: Tensor) -> float:
    return which.float().mean().item()


def is_kept(figures: dict[str, float]) -> bool:
    """Whether answers in half precision may stand for those in float32."""
    return (
        figures["same"] >= LEAST_SAME
        and figures["moved"] <= HALF_SHARE
        and figures["flagged"] <= MOST_FLAGGED
        and figures["error"] <= MOST_ERROR
    )


def in_words(precision: str, figures: dict[str, float]) -> str:
    """The figures as a command prints them."""
    return (
        f"{precision} {'may' if is_kept(figures) else 'may not'} replace fp32: top-1 is the same for "
        f"{figures['same']:.2%}, top probability changes by at most {figures['moved']:.4f}, "
        f"{figures['flagged']:.2%} change between familiar and unfamiliar, calibration error changes by "
        f"{100 * figures['error']:.2f} percentage points"
    )


def measure_half(
    model, test: Images, plain: Answered, engine: str, precision: str, batch_size: int | None = None
) -> dict[str, float]:
    """Answer the test images in half precision too; the model's calibration names it where both agree.

    Args:
        plain: what the model answers in float32.

    Raises:
        Refusal: for a network that answers for each class by itself, which has no top-1, and where no engine
            answers in that precision.
    """
    if model.calibration.class_thresholds:
        why = "compares top-1 answers, and images of several labels have none; leave it out"
        raise Refusal(f"--write --precision {precision} {why}")
    choose(model, engine, precision)
    if (chosen := engine_for(model, len(test))).precision != precision:
        raise Refusal(
            f"--precision {precision}: {chosen} would answer, since no engine here agrees in {precision} on "
            "so few images, or at all; name one with --engine"
        )
    half = predict_each(model, test, model.preprocess, batch_size=batch_size)
    figures = against_fp32(model, plain, half)
    kept = (precision,) if is_kept(figures) else ()
    model.calibration = replace(model.calibration, half_precisions=kept)
    return figures
