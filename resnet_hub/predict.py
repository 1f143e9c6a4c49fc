"""Images -> labelled probabilities: the one path the library, the command line and the app share.

    python -m resnet_hub.predict photo.jpg --model resnet20_cifar10 --top-k 3

A model is any network with `labels`, `preprocess` and `calibration`: one of ours, a `Reference` of timm's, or
an ONNX file that takes the photo. torch is imported when a network runs, and for a file never.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from PIL import Image

from resnet_hub.command import BAD_INPUT, printable, program_name, run_command
from resnet_hub.device import add_device_flags, pick_device
from resnet_hub.engine import (
    FEW,
    Engine,
    add_engine_flags,
    batch_size,
    check_runs_file,
    choose,
    engine_for,
    shape_of,
)
from resnet_hub.errors import Refusal
from resnet_hub.folders import composed, image_files
from resnet_hub.onnx_file import OnnxFile, is_onnx_file
from resnet_hub.per_image import JOINT, Answer, check_csv, write_csv
from resnet_hub.preprocess import WHITE, ImageError, load_image
from resnet_hub.reading import Crop, crops
from resnet_hub.stacks import visible
from resnet_hub.statement import MOST_NAMED, statement

if TYPE_CHECKING:
    import numpy as np
    import torch

    from resnet_hub.interop.reference import Reference
    from resnet_hub.models.base import Network

DEFAULT_MODEL = "resnet18_tiny_imagenet"
BATCH = 64  # images through the network at once, fewer of large ones
STREAMED = 16  # the same, where more are read meanwhile


@dataclass(frozen=True)
class Prediction:
    """A model's answer for one image.

    Args:
        top: (label, calibrated probability) of the most probable classes, best first.
        class_indices: their positions in `model.labels`.
        energy: logsumexp of the logits; low for images unlike the training data (arXiv 2010.03759).
        unfamiliar: whether `energy` is below the model's threshold; None where the model has none.
        certainty: "firm", "unsure" or "unfamiliar"; None where no thresholds were measured.
        present: labels whose probability reaches their threshold, most probable first, from a network whose
            images show any number of its classes; None from one with a single answer.
        seen: the network's input image: resized and cropped, not yet normalised.
        seconds: time in the network for the image's batch, divided by the number of images in it.
        engine: what ran the network, e.g. "fused fp32".
    """

    top: list[tuple[str, float]]
    class_indices: list[int]
    energy: float
    unfamiliar: bool | None
    certainty: str | None
    seen: Image.Image
    seconds: float
    present: list[str] | None = None
    engine: str = "eager fp32"

    @property
    def white(self) -> int | None:
        """The white of a 16-bit file whose values took 8 or 12 bits, by which it was scaled; else None."""
        return self.seen.info.get(WHITE)


class Timing(NamedTuple):
    """Seconds that one image takes in a warm model, and what ran it, e.g. "fused fp32"."""

    seconds: float
    engine: str


@contextmanager
def evaluation(model: Network | Reference) -> Iterator[None]:
    """Run in eval mode without gradients; afterwards each module is in the mode it was in before."""
    import torch

    training = [module for module in model.modules() if module.training]  # not those the user froze
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def classify(
    model: Network | Reference | OnnxFile,
    images: Sequence[str | Path | bytes | BinaryIO | Image.Image],
    *,
    top_k: int = 5,
) -> list[Prediction]:
    """Classify images in batches.

    Args:
        model: one with at least one class.
        images: paths, PIL images, bytes or open binary files.
        top_k: classes to return for each image, capped at the number of classes.

    Raises:
        ImageError: for the first image that cannot be read; a network computes nothing then.
        ValueError: for a headless model, or top_k below 1.
    """
    check_question(model, top_k)
    if isinstance(model, OnnxFile):
        return [_classify_by_file(model, load_image(image), top_k) for image in images]
    if len(images) == 1:
        return classify_crops(model, [model.preprocess.load(images[0])], top_k=top_k)
    seen = []
    for crop in crops(images, model.preprocess):
        if isinstance(crop, ImageError):
            raise crop
        seen.append(crop)
    return classify_crops(model, seen, top_k=top_k)


def classify_files(
    model: Network | Reference | OnnxFile, images: Sequence[str | Path | bytes], *, top_k: int = 5
) -> Iterator[Prediction | ImageError]:
    """As `classify`, one answer at a time and in order; an image that cannot be read is its `ImageError`.

    Files are read while a network runs on those before them.

    Raises:
        ValueError: for a headless model, or top_k below 1.
    """
    check_question(model, top_k)
    if isinstance(model, OnnxFile):
        yield from (_answer_of_file(model, image, top_k) for image in images)
        return
    waiting: list[Crop | ImageError] = []
    for crop in crops(images, model.preprocess):
        waiting.append(crop)
        if len(waiting) == STREAMED:
            yield from _answers(model, waiting, top_k, len(images))
            waiting = []
    yield from _answers(model, waiting, top_k, len(images))


def _answer_of_file(file: OnnxFile, image: str | Path | bytes, top_k: int) -> Prediction | ImageError:
    try:
        return _classify_by_file(file, load_image(image), top_k)
    except ImageError as error:
        return error


def _answers(
    model: Network | Reference, read: list[Crop | ImageError], top_k: int, count: int
) -> Iterator[Prediction | ImageError]:
    whole = [crop for crop in read if not isinstance(crop, ImageError)]
    found = iter(classify_crops(model, whole, top_k=top_k, of=count))
    return (crop if isinstance(crop, ImageError) else next(found) for crop in read)


def classify_crops(
    model: Network | Reference, seen: Sequence[Crop], *, top_k: int = 5, of: int = 0
) -> list[Prediction]:
    """As `classify`, for images that `model.preprocess.load` returned; `of`: how many the whole job has."""
    if not seen:
        return []
    check_is_float32(model)
    with evaluation(model):
        engine, batch = engine_for(model, max(of, len(seen))), batch_size(shape_of(model), BATCH)
        return [
            prediction
            for start in range(0, len(seen), batch)
            for prediction in _classify_batch(model, engine, seen[start : start + batch], top_k)
        ]


def check_question(model: Network | Reference | OnnxFile, top_k: int) -> None:
    """Raises ValueError for a headless model, or top_k below 1."""
    check_has_classes(model)
    if top_k < 1:
        raise Refusal(f"top_k={top_k} is not allowed; give 1 to {len(model.labels)}")


def _classify_by_file(file: OnnxFile, image: Image.Image, top_k: int) -> Prediction:
    started = time.perf_counter()
    answer = file.answer(image)
    seconds = time.perf_counter() - started
    return _prediction(
        file,
        answer["probabilities"].tolist(),
        float(answer["score"]),
        top_k,
        seen=Image.fromarray(answer["seen"].squeeze()),  # squeezed where it is grey
        seconds=seconds,
        engine=f"onnxruntime {file.facts.get('precision', 'fp32')}",
    )


def _prediction(
    model: Network | Reference | OnnxFile, shares: list[float], energy: float, top_k: int, **seen: Any
) -> Prediction:
    """The answer that a probability of each class and an energy make; `seen`: the other fields."""
    calibration = model.calibration
    best = heapq.nlargest(top_k, range(len(shares)), key=shares.__getitem__)
    least, thresholds = calibration.energy_threshold, calibration.class_thresholds
    present = [i for i, share in enumerate(shares) if share >= thresholds[i]] if thresholds else []
    present.sort(key=shares.__getitem__, reverse=True)
    return Prediction(
        top=[(model.labels[i], shares[i]) for i in best],
        class_indices=best,
        energy=energy,
        unfamiliar=None if least is None else energy < least,
        certainty=calibration.certainty(energy, shares[best[0]]),
        present=[model.labels[i] for i in present] if thresholds else None,
        **seen,
    )


def check_has_classes(model: Network | Reference | OnnxFile) -> None:
    """Raises ValueError for a headless model."""
    if not model.labels:
        raise Refusal(
            "the network has no classes; build it with num_classes of 1 or more", "model_no_classes"
        )


def check_is_float32(model: Network | Reference) -> None:
    """Raises ValueError for a network whose weights are stored in another precision."""
    import torch

    if (dtype := next(model.parameters()).dtype) != torch.float32:
        raise Refusal(
            f"the weights are {str(dtype).removeprefix('torch.')}; call model.float(), and for answers in "
            "half precision resnet_hub.engine.choose(model, precision='bf16')"
        )


def check_labels_images(model: Network | OnnxFile) -> None:
    """Refuse one of our networks that cannot label images.

    Raises:
        ValueError: for a headless one, or one whose input does not have an image's channels.
    """
    check_has_classes(model)
    if isinstance(model, OnnxFile):
        return
    made, expected = model.preprocess.input_size[0], model.config.in_chans
    if made != expected:
        raise Refusal(
            f"{model.config.name} takes {expected} channels, and an image has {made}",
            "model_channels",
            model=model.config.name,
            takes=expected,
        )


def _classify_batch(
    model: Network | Reference, engine: Engine, seen: Sequence[Crop], top_k: int
) -> list[Prediction]:
    import torch

    device = next(model.parameters()).device
    pixels = torch.stack([model.preprocess.normalise(crop) for crop in seen])
    started = time.perf_counter()
    logits = engine(pixels.to(device)).cpu()  # (N, num_classes)
    if logits.shape[1] != len(model.labels):
        raise Refusal(
            f"the network gives {logits.shape[1]} numbers for an image and has {len(model.labels)} labels; "
            "set model.labels to the names of its classes"
        )
    seconds = (time.perf_counter() - started) / len(seen)
    probabilities = model.calibration.probabilities(logits)
    energies = logits.logsumexp(1).tolist()
    return [
        _prediction(model, shares, energy, top_k, seen=visible(crop), seconds=seconds, engine=str(engine))
        for shares, energy, crop in zip(probabilities.tolist(), energies, seen, strict=True)
    ]


def saliency(model: Network | OnnxFile, crop: Image.Image, class_index: int) -> np.ndarray:
    """Grad-CAM: where the last feature map raises the score of a class (Selvaraju et al., arXiv 1610.02391).

    Args:
        crop: the network's input image, `Prediction.seen`.
        class_index: position of the class in `model.labels`.

    Returns:
        float32 array (h, w) of the last feature map's size, 0 to 1; all zeros where nothing raises the score.
    """
    if isinstance(model, OnnxFile):
        return model.activation_map(crop, class_index)
    import torch

    if model.config.in_chans not in (1, 3):
        raise Refusal(f"Grad-CAM needs an image's channels, and the network takes {model.config.in_chans}")
    device = next(model.parameters()).device
    pixels = model.preprocess.normalise(crop)[None].to(device)
    with evaluation(model):
        feature_map = model.features(pixels)[-1]
        with torch.inference_mode(False):  # only a copy made here can be differentiated
            feature_map = feature_map.clone().requires_grad_()
            score = model.head(feature_map)[0, class_index]
            (gradient,) = torch.autograd.grad(score, feature_map)
    return grad_cam(feature_map, gradient)


def grad_cam(feature_map: torch.Tensor, gradient: torch.Tensor) -> np.ndarray:
    """Where a map (1, C, h, w) raises a score with this gradient at it: float32 array (h, w), 0 to 1."""
    weights = gradient.mean((2, 3), keepdim=True)  # (1, C, 1, 1)
    cam = (weights * feature_map).sum(1)[0].relu().detach()
    return (cam / cam.max().clamp(min=1e-8)).cpu().numpy()


def stage_maps(model: Network, crop: Image.Image, channels: int = 8) -> list[np.ndarray]:
    """The first channels of each stage's feature map.

    Args:
        crop: the network's input image, as `model.preprocess` makes it but of any size.

    Returns:
        One float32 array (at most `channels`, h, w) a stage, first to last.
    """
    device = next(model.parameters()).device
    size = (model.config.in_chans, crop.height, crop.width)
    pixels = replace(model.preprocess, input_size=size).normalise(crop)
    with evaluation(model):
        maps = model.features(pixels[None].to(device))
        return [each[0, :channels].float().cpu().numpy() for each in maps]


def latency(
    model: Network | Reference, size: Sequence[int], seconds: float = 1.0, min_runs: int = 3
) -> Timing:
    """The median over runs of one image (C, H, W), on the model's engine where that takes the size.

    Args:
        seconds, min_runs: up to 15 runs in this time, and never fewer than so many.
    """
    import torch

    pixels = torch.zeros(1, *size, device=next(model.parameters()).device)
    runs: list[float] = []
    with evaluation(model):
        is_own_size = tuple(size) == shape_of(model)
        run = engine_for(model, FEW) if is_own_size else Engine("eager", "fp32", model)
        run(pixels).cpu()
        until = time.perf_counter() + seconds
        while len(runs) < min_runs or (time.perf_counter() < until and len(runs) < 15):
            started = time.perf_counter()
            run(pixels).cpu()
            runs.append(time.perf_counter() - started)
    return Timing(median(runs), str(run))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command's flags."""
    parser = argparse.ArgumentParser(program_name("resnet_hub.predict"), description="Classify images.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="REPO_OR_DIR",
        help="Hub repository, checkpoint directory, shipped checkpoint, or ONNX file that takes the photo "
        f"(default: {DEFAULT_MODEL})",
    )
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="classes to print (default: 5)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row per image instead, worst first")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_device_flags(parser, precision=False)
    add_engine_flags(parser)
    options = parser.parse_args(arguments)
    if options.csv and options.json:
        parser.error("--csv and --json are two forms of the same answers; give one of them")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when every image was classified, 2 when an image or the model could not be used."""
    options = parse_arguments(arguments)
    return run_command("resnet_hub.predict", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_csv(options.csv)
    model = _opened(options)
    check_question(model, options.top_k)
    # The sentence names up to three classes, however few are listed.
    top_k = len(model.labels) if options.csv else max(options.top_k, MOST_NAMED)
    files = list(_files(options.images))
    rows: list[Any] = []
    errors = []
    for (path, folder), answer in zip(
        files, classify_files(model, [path for path, _ in files], top_k=top_k), strict=True
    ):
        if isinstance(answer, ImageError):
            errors.append((path, str(answer)))
        elif options.csv:
            rows.append(_answer(path, folder, answer))
        elif options.json:
            rows.append(_json_row(path, answer, options.top_k))
        else:
            print(_as_text(path, answer, options.top_k), end="", flush=True)
    if options.csv:
        write_csv(options.csv, rows)
        print(_summary(options.csv, rows))
    elif options.json:
        failed = [{"image": path, "message": message} for path, message in errors]
        document = {
            "model": model.source,
            "revision": model.revision,
            "predictions": rows,
            "errors": failed,
        }
        print(json.dumps(document, indent=2))  # in ASCII, which keeps file names that are no text
    for path, message in errors:
        print(printable(f"resnet_hub.predict: {path}: {message}"), file=sys.stderr)
    return BAD_INPUT if errors else 0


def _opened(options: argparse.Namespace) -> Network | OnnxFile:
    if is_onnx_file(options.model):
        check_runs_file(options.engine, options.precision)
        return OnnxFile(options.model)
    from resnet_hub import from_pretrained

    model = from_pretrained(options.model).to(pick_device(options.device))
    check_labels_images(model)
    choose(model, options.engine, options.precision)
    return model


def _files(arguments: Sequence[str]) -> Iterator[tuple[str, Path | None]]:
    """Each image, and the folder it was found in where one was given.

    Raises:
        Refusal: for a folder without images.
    """
    for argument in arguments:
        if not Path(argument).is_dir():
            yield argument, None
            continue
        found = image_files(Path(argument))
        if not found:
            raise Refusal(f"{argument} holds no image; give image files, or folders of them")
        yield from ((str(file), Path(argument)) for file in found)


def _answer(path: str, folder: Path | None, prediction: Prediction) -> Answer:
    """One line of the table; the true class is a folder below the given one that is called like a label."""
    familiar = None if prediction.unfamiliar is None else not prediction.unfamiliar
    best, share = prediction.top[0]
    if prediction.present is not None:
        return Answer(path, None, JOINT.join(prediction.present), share, None, familiar)
    above = Path(path).relative_to(folder).parts[:-1] if folder else ()
    known = {composed(label): (label, its_share) for label, its_share in prediction.top}
    true, its_share = next((known[name] for name in map(composed, above) if name in known), (None, 0.0))
    loss = None if true is None else -math.log(max(its_share, 1e-12))
    return Answer(path, true, best, share, loss, familiar)


def _summary(path: Path, answers: Sequence[Answer]) -> str:
    known = [each for each in answers if each.true is not None]
    right = sum(each.true == each.predicted for each in known)
    of_known = f"; {right} of {len(known)} in folders called like a class are right" if known else ""
    return f"{len(answers)} images in {path}{of_known}"


def _as_text(path: str, prediction: Prediction, top_k: int) -> str:
    lines = [f"  {probability:7.2%}  {label}" for label, probability in prediction.top[:top_k]]
    said = statement(prediction.certainty, prediction.top, prediction.present)
    if prediction.white:
        lines.append(f"  a 16-bit file with values up to {prediction.white} only; scaled by that")
    return printable("\n".join([f"{path}: {said}", *lines, ""]))


def _json_row(path: str, prediction: Prediction, top_k: int) -> dict[str, Any]:
    return {
        "image": path,
        "top": [{"label": label, "probability": round(p, 6)} for label, p in prediction.top[:top_k]],
        **({} if prediction.present is None else {"present": prediction.present}),
        "familiar": None if prediction.unfamiliar is None else not prediction.unfamiliar,
        "certainty": prediction.certainty,
        "score": round(prediction.energy, 4),
        "unfamiliar": prediction.unfamiliar,
        "energy": round(prediction.energy, 4),
        "seconds": round(prediction.seconds, 5),
        "white": prediction.white,
        "engine": prediction.engine,
    }


if __name__ == "__main__":
    sys.exit(main())
