"""A network as an ONNX file: one that takes the photo, or one that takes normalised pixels.

Labels, preprocessing, calibration and provenance go into the file's metadata. Needs the [export] packages.
"""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.engine.backends import onnx_program
from resnet_hub.errors import Refusal
from resnet_hub.files import write_whole
from resnet_hub.hub import commit_of
from resnet_hub.hub.card_merge import parse_front_matter, split_front_matter
from resnet_hub.hub.fetch import fetch_card
from resnet_hub.models.base import Network
from resnet_hub.models.calibration import Calibration
from resnet_hub.models.resnet import StagedNet
from resnet_hub.onnx_file import PREFIX, OnnxFile
from resnet_hub.predict import check_labels_images, evaluation
from resnet_hub.preprocess import Preprocess

PRECISIONS = ("fp32", "fp16", "int8")
# (width, height): square, odd, tiny, long, tall, larger than any crop.
CHECKED_SIZES = (
    (32, 32), (64, 64), (1, 1), (451, 300), (300, 451), (640, 480), (37, 999), (1201, 17), (224, 223),
    (90, 60),
)  # fmt: skip
MOST_APART = {"fp32": 0.01, "fp16": 0.01, "int8": 0.2}  # of the largest probability


# Writing


def export_onnx(model: Network, path: Path, precision: str = "fp32", repo_id: str | None = None) -> None:
    """Write a file that takes the photo (see `photo_graph.photo_model`).

    Args:
        repo_id: the repository of the checkpoint, which the file names as its source.

    Raises:
        Refusal: for a network that cannot label images, or an interpolation that ONNX does not have.
        ImportError: without the [export] packages.
    """
    from resnet_hub.interop.photo_graph import CAM, LOGITS, PIXELS, photo_model, with_small_weights

    check_labels_images(model)
    own = copied_to_cpu(model)
    net = WithCam(own).eval() if has_cam(model) else own
    names = (LOGITS, CAM) if has_cam(model) else (LOGITS,)
    network = onnx_program(net, torch.zeros(1, *input_shape(model)), PIXELS, names)
    photo = photo_model(network, model.preprocess, model.calibration)
    _save(with_small_weights(photo, precision), onnx_metadata(model, precision, repo_id), path)


def export_normalised(
    model: Network,
    path: Path,
    precision: str = "fp32",
    pixels: str = "pixels",
    repo_id: str | None = None,
) -> None:
    """Write the network alone for batches of any size: `pixels` (N, C, H, W), normalised -> `logits`.

    Args:
        repo_id: the repository of the checkpoint, which the file names as its source.

    Raises:
        ImportError: without the [export] packages.
    """
    from resnet_hub.interop.photo_graph import with_small_weights

    network = onnx_program(copied_to_cpu(model), torch.zeros(2, *input_shape(model)), pixels, ("logits",))
    _save(with_small_weights(network, precision), onnx_metadata(model, precision, repo_id), path)


def copied_to_cpu(model: Network) -> Network:
    """A copy in eval mode for the exporter, which runs it; the caller's stays as and where it is."""
    return copy.deepcopy(model).cpu().eval()


def describe(path: Path, metadata: dict[str, str]) -> None:
    """Give a file this description and no other."""
    import onnx

    _save(onnx.load(str(path)), metadata, path)


def _save(proto: Any, metadata: dict[str, str], path: Path) -> None:
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=PREFIX + key, value=value)
    write_whole(path, proto.SerializeToString())


class WithCam(nn.Module):
    """A network whose class activation maps come with its logits.

    `cam` (N, classes, h, w) is the classifier without its bias at each position of the last feature map; its
    mean over the positions is the logits less the bias (Zhou et al., arXiv 1512.04150).
    """

    model: Any  # a StagedNet; torch's stubs would make it a Tensor or a module

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(1, C, H, W) -> logits (1, classes), cam (1, classes, h, w)."""
        last = self.model.features(pixels)[-1]
        return self.model.head(last), F.conv2d(last, self.model.fc.weight[:, :, None, None])


def has_cam(model: Network) -> bool:
    """Whether the classifier is one linear layer on the average of the last feature map."""
    return (
        isinstance(model, StagedNet) and isinstance(model.fc, nn.Linear) and model.config.global_pool == "avg"
    )


def input_shape(model: Network) -> tuple[int, int, int]:
    """(C, H, W) of the images that the network's own preprocessing makes."""
    return (model.config.in_chans, *model.preprocess.input_size[1:])


def onnx_metadata(model: Network, precision: str = "fp32", repo_id: str | None = None) -> dict[str, str]:
    """What the file is: preprocessing in words and as timm's data config, labels, calibration, provenance.

    In int8 the thresholds stay, and what was measured with them in fp32 is left out.
    """
    calibration = model.calibration
    if precision == "int8":
        calibration = Calibration(
            calibration.temperature,
            calibration.energy_threshold,
            firm_threshold=calibration.firm_threshold,
            class_thresholds=calibration.class_thresholds,
        )
    return {
        "format": "1",
        "name": model.config.name,
        "preprocessing": preprocess_words(model.preprocess),
        "pretrained_cfg": json.dumps(model.preprocess.to_pretrained_cfg()),
        "config": json.dumps(model.config.to_dict()),
        "labels": json.dumps(model.labels, ensure_ascii=False),
        "temperature": str(model.calibration.temperature),
        "calibration": json.dumps(asdict(calibration)),
        "precision": precision,
        "source": repo_id or without_folders(model.source or ""),
        "revision": model.revision or "local",
        "licence": licence_of(model),
    }


def without_folders(source: str) -> str:
    """Where weights came from, for others to read: of an absolute path, which may name a person, the end."""
    return Path(source).name if Path(source).is_absolute() else source


def licence_of(model: Network) -> str:
    """The licence on the model's card; empty where it states none."""
    with suppress(Refusal, OSError):  # a file is no worse for a card out of reach
        card = fetch_card(model.source, revision=commit_of(model.revision)) if model.source else None
        front = parse_front_matter(split_front_matter(card or "")[0])
        return str(front.get("license_name") or front.get("license") or "")
    return ""


def preprocess_words(preprocess: Preprocess) -> str:
    """The preprocessing in one sentence, for readers who have only the ONNX file."""
    channels, height, width = preprocess.input_size
    kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    return (
        f"upright {kind}: {preprocess.crop_words()}, as PIL does; "
        f"divide by 255, subtract {list(preprocess.mean)}, divide by {list(preprocess.std)}; "
        f"float32, channels first: (N, {channels}, {height}, {width})"
    )


# Checking


@dataclass(frozen=True)
class Differences:
    """A file's answers beside the network's. Where the best class differs, the two are within twice `share`.

    Args:
        images: how many were compared.
        share: the largest difference of a probability.
        logit: the largest difference of a logit, over the largest logit.
        familiar: images on which only one says familiar, but for scores within 0.01 of the threshold.
    """

    images: int
    share: float
    logit: float
    familiar: int


def checked_images() -> list[Image.Image]:
    """Ten images of all shapes: smooth colours under noise."""
    draw, images = np.random.default_rng(0), []
    for width, height in CHECKED_SIZES:
        coarse = Image.fromarray(draw.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + draw.integers(-12, 13, smooth.shape)
        images.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return images


def photo_differences(model: Network, file: OnnxFile, images: list[Image.Image]) -> Differences:
    """Compare a file that takes the photo with the network itself."""
    pixels = model.preprocess.batch(images).to(next(model.parameters()).device)
    with evaluation(model):
        logits = model(pixels).float().cpu()  # (N, classes)
        probabilities = model.calibration.probabilities(logits).numpy()
        scores = logits.logsumexp(1).numpy()
    theirs = [file.answer(image) for image in images]
    shares = np.stack([each["probabilities"] for each in theirs])
    least = model.calibration.energy_threshold
    wrong = [
        bool(each["familiar"]) != bool(score >= least) and abs(score - least) > 0.01
        for each, score in zip(theirs, scores, strict=True)
        if least is not None
    ]
    ours = logits.numpy()
    difference = np.abs(np.stack([each["logits"] for each in theirs]) - ours).max() / np.abs(ours).max()
    return Differences(
        len(images), float(np.abs(shares - probabilities).max()), float(difference), sum(wrong)
    )


def check_photo_file(model: Network, path: Path) -> str:
    """Compare a file with the network on ten images of all shapes; the result in words.

    Raises:
        Refusal: when they differ by more than the file's precision explains.
    """
    file = OnnxFile(path)
    precision = file.facts.get("precision", "fp32")
    if file.labels != model.labels:
        raise Refusal(f"{path} has other labels than {model.source}: do not use this file")
    if ("familiar" in file.outputs) != (model.calibration.energy_threshold is not None):
        raise Refusal(f"{path} and {model.source} differ in having an energy threshold: write the file again")
    found = photo_differences(model, file, checked_images())
    said = (
        f"on {found.images} images of all shapes its probabilities differ from Python's by at most "
        f"{found.share:.4f}, its logits by {found.logit:.1e} of the largest"
    )
    if not found.share <= MOST_APART[precision]:  # NaN too
        raise Refusal(f"{path}: {said}, more than {MOST_APART[precision]}: do not use this file")
    if found.familiar and precision != "int8":
        raise Refusal(
            f"{path} and Python disagree on whether {found.familiar} of {found.images} images are familiar: "
            "do not use this file"
        )
    return said


def onnx_difference(model: Network, path: Path) -> float:
    """Largest difference of ONNX Runtime's logits from ours on three random images, over the largest, for a
    file of `export_normalised`."""
    import onnxruntime

    pixels = torch.randn((3, *input_shape(model)), generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
    with evaluation(model):
        ours = model(pixels.to(next(model.parameters()).device)).cpu()
    return ((ours - torch.from_numpy(theirs)).abs().max() / ours.abs().max()).item()
