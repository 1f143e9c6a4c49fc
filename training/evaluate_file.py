"""What an ONNX file that takes the photo answers on a test part: the photos go in as they are stored."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F
from tqdm import tqdm

from resnet_hub.onnx_file import OnnxFile
from resnet_hub.preprocess import ImageError, load_image
from resnet_hub.stacks import visible
from training.command import data_source
from training.data import (
    DataError,
    Images,
    ImageSet,
    find_data,
    find_images,
    is_download,
    is_folder,
    with_classes,
)
from training.layout import is_called_like_a_part, parts_of


def photos(test: Images) -> Iterator[tuple[Image.Image, int]]:
    """(image, label) of each readable image of a test part, at its own size."""
    for index, label in enumerate(test.labels.tolist()):
        if not isinstance(test, ImageSet):
            try:
                yield load_image(test.files[index]), label
            except ImageError as error:
                tqdm.write(f"{test.files[index]}: {error}", file=sys.stderr)
        else:
            yield visible(test.images[index].permute(1, 2, 0).numpy()), label


def measure_file(file: OnnxFile, test: Images) -> dict:
    """Top-1, of more than five classes top-5, calibration error, loss, and the share called unfamiliar where
    that was measured.

    Raises:
        DataError: when no image can be read.
    """
    from training.calibrate import calibration_error

    shares, labels, familiar = [], [], []
    for image, label in tqdm(photos(test), "measuring", len(test), leave=False):
        answer = file.answer(image)
        shares.append(torch.from_numpy(answer["probabilities"]))
        familiar.append(bool(answer.get("familiar", True)))
        labels.append(label)
    if not labels:
        raise DataError(f"{test.source} holds no readable image")
    found, true = torch.stack(shares), torch.tensor(labels)
    best = found.topk(min(5, len(file.labels))).indices
    results = {
        "images": len(true),
        "top1": (best[:, 0] == true).float().mean().item(),
        **({"top5": (best == true[:, None]).any(1).float().mean().item()} if len(file.labels) > 5 else {}),
        "calibration_error": calibration_error(found, true),
        "loss": F.nll_loss(found.clamp(min=1e-12).log(), true).item(),
    }
    if "familiar" in file.outputs:
        results["called_unfamiliar"] = 1 - sum(familiar) / len(familiar)
    return results


def _which(data: str) -> str:
    if is_download(data) or parts_of(Path(data)):
        return f"the test part of {data}"
    return f"one in seven of {data}, those that training leaves for the test"


def evaluate_file(options: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        Refusal: for a file that takes no photo, or data of other classes.
    """
    file = OnnxFile(options.checkpoint)
    if file.calibration.class_thresholds:
        raise DataError(f"{file.source} answers for each class by itself; measure its checkpoint instead")
    data = str(data_source(options.data, None))
    is_whole = is_folder(data) and is_called_like_a_part(Path(data))
    found = find_images(Path(data), file.preprocess) if is_whole else find_data(data, "test", file.preprocess)
    test = with_classes(found, file.labels)
    which = f"all of {data}" if is_whole else _which(data)
    print(f"measuring {len(test):,} images: {which}", file=sys.stderr)
    about = {"precision": file.facts.get("precision", ""), "bytes": file.size}
    results = about | measure_file(file, test)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        shown = {
            name: f"{value:.4f}" if isinstance(value, float) else value for name, value in results.items()
        }
        print("\n".join(f"{name:18} {value}" for name, value in shown.items()))
    return 0
