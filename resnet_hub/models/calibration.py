"""What was fitted on the validation set so that a network's probabilities mean what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from resnet_hub.errors import Refusal

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURES = (0.01, 100.0)  # (least, most)
HALVES = ("bf16", "fp16")
MULTI_LABEL = "multi_label_classification"  # transformers' problem_type of networks with class thresholds
FOLDS = 5  # of the cross-validation that says whether a temperature helps; fewer images have none
UNDECIDED = 0.5  # the threshold of a class that none was fitted for


@dataclass(frozen=True)
class Calibration:
    """A temperature, and thresholds for images that look unfamiliar and for answers given firmly.

    Args:
        temperature: logits are divided by it before the softmax (arXiv 1706.04599).
        energy_threshold: an image whose logsumexp(logits) is below it is unfamiliar (arXiv 2010.03759);
            None where it was not measured.
        false_alarms: share of familiar test images the threshold calls unfamiliar, 0 to 1.
        detections: (what, number of images, share called unfamiliar) for images of other things.
        firm_threshold: top probability from which a familiar image is answered firmly; None where it was
            not measured.
        firm_share: share of the test images that are answered firmly, 0 to 1.
        firm_right: share of those answers that is right.
        firm_unknown: share of the images of other things that are answered firmly all the same.
        half_precisions: those of "bf16" and "fp16" in which the test images were measured to be answered as
            in float32 (`training.half`).
        class_thresholds: probability from which each class is present, for a network whose images show any
            number of its classes; () for one with a single answer.
    """

    temperature: float = 1.0
    energy_threshold: float | None = None
    false_alarms: float | None = None
    detections: tuple[tuple[str, int, float], ...] = ()
    firm_threshold: float | None = None
    firm_share: float | None = None
    firm_right: float | None = None
    firm_unknown: float | None = None
    half_precisions: tuple[str, ...] = ()
    class_thresholds: tuple[float, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """The inverse of `dataclasses.asdict`, for unchecked values; unknown fields are ignored.

        Raises:
            ValueError: for anything but finite numbers, or a temperature out of bounds.
        """
        known = {field.name for field in fields(cls)}
        values = {k: v for k, v in values.items() if k in known}
        detections = tuple((str(what), n, share) for what, n, share in values.get("detections", ()))
        thresholds = tuple(values.get("class_thresholds", ()))
        halves = tuple(name for name in HALVES if name in values.get("half_precisions", ()))
        lists = {"detections": detections, "class_thresholds": thresholds, "half_precisions": halves}
        calibration = cls(**values | lists)
        scalars = (getattr(calibration, name) for name in known - lists.keys())
        numbers = [calibration.temperature, *(value for value in scalars if value is not None), *thresholds]
        numbers += [number for _, *pair in detections for number in pair]
        if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            raise Refusal(f"calibration: {values} has a value that is not a finite number")
        least, most = TEMPERATURES
        if not least <= calibration.temperature <= most:
            raise Refusal(
                f"calibration: temperature={calibration.temperature} is not allowed; give {least} to {most:g}"
            )
        return calibration

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities of logits (..., classes): adding up to 1, or each class's own."""
        scaled = logits / self.temperature
        return scaled.sigmoid() if self.class_thresholds else scaled.softmax(-1)

    def certainty(self, energy: float, share: float) -> str | None:
        """How an answer with this energy and top probability is to be given.

        Returns:
            "unfamiliar", "firm" or "unsure"; None where no threshold was measured.
        """
        if self.energy_threshold is not None and energy < self.energy_threshold:
            return "unfamiliar"
        if self.firm_threshold is None:
            return None
        return "firm" if share >= self.firm_threshold else "unsure"
