"""A trained network's answers image by image: `predictions.csv` and the pictures of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.per_image import JOINT, Answer
from resnet_hub.stacks import visible
from training.data import Images
from training.engine import Answered
from training.multilabel import is_called, is_multi
from training.unknown import answers as judged

SHOWN = 32  # images in a picture


def answers(model, test: Images, answered: Answered, root: Path) -> list[Answer]:
    """What the calibrated network says of each test image.

    Args:
        root: the folder from which files are named.
    """
    probabilities = model.calibration.probabilities(answered.logits)
    if is_multi(answered.labels):
        return _of_several(model, test, answered, root, probabilities)
    share, best = probabilities.max(1)
    losses = losses_of(model, answered)
    flagged = judged(model, answered.logits).flagged.tolist()
    knows = model.calibration.energy_threshold is not None
    columns = (answered.positions, answered.labels, best, share, losses)
    return [
        Answer(
            file_name(test, i, root),
            test.classes[true],
            test.classes[said],
            p,
            loss,
            not odd if knows else None,
        )
        for (i, true, said, p, loss), odd in zip(
            zip(*(column.tolist() for column in columns), strict=True), flagged, strict=True
        )
    ]


def _of_several(model, test: Images, answered: Answered, root: Path, probabilities: Tensor) -> list[Answer]:
    """The same where an image may show several classes; `share` is that of the most probable one."""
    losses = losses_of(model, answered).tolist()
    shares, index = probabilities.max(1).values.tolist(), answered.positions.tolist()
    true, said = (_names(test.classes, flags) for flags in (answered.labels, is_called(model, probabilities)))
    return [
        Answer(file_name(test, i, root), shown, named, share, loss, None)
        for i, shown, named, share, loss in zip(index, true, said, shares, losses, strict=True)
    ]


def _names(classes: tuple[str, ...], flags: Tensor) -> list[str]:
    """For each image, the names of the classes (N, C) that are set."""
    return [JOINT.join(classes[i] for i in row.nonzero()[:, 0]) for row in flags]


def losses_of(model, answered: Answered) -> Tensor:
    """Cross entropy of each image (N,), calibrated; the mean of the classes' where there are several."""
    scaled = answered.logits / model.calibration.temperature
    if is_multi(answered.labels):
        each = F.binary_cross_entropy_with_logits(scaled, answered.labels, reduction="none")
        return each.mean(1)
    return F.cross_entropy(scaled, answered.labels, reduction="none")


def file_name(test: Images, position: int, root: Path) -> str:
    """An image's path below `root`; its number where it came in no file of its own."""
    if not test.files:
        return f"{test.source} #{position}"
    file = test.files[position]
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


def spread(answered: Answered) -> Tensor:
    """Places in `answered` of images taken evenly from all."""
    return torch.linspace(0, len(answered.positions) - 1, min(SHOWN, len(answered.positions))).long()


def worst(model, answered: Answered) -> Tensor:
    """Places in `answered` of the images with the highest loss."""
    return losses_of(model, answered).topk(min(SHOWN, len(answered.positions))).indices


def picture(model, test: Images, answered: Answered, places: Tensor) -> tuple[list, list[str], list[str]]:
    """(images (H, W, 3) or (H, W) uint8, true labels, predicted labels) of some answers, for a grid."""
    fetched = test.fetch([answered.positions[places]])
    images = [
        np.asarray(visible(pixels.permute(1, 2, 0).numpy())) for batch, _ in fetched for pixels in batch
    ]
    if is_multi(answered.labels):
        called = is_called(model, model.calibration.probabilities(answered.logits[places]))
        true, said = (_names(test.classes, flags) for flags in (answered.labels[places], called))
        return images, true, said
    best = answered.logits[places].argmax(1)
    return images, [test.classes[i] for i in answered.labels[places]], [test.classes[i] for i in best]
