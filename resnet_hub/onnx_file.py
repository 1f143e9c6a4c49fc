"""An ONNX file that takes the photo, used in place of a network: no torch, only ONNX Runtime.

`python -m resnet_hub.convert MODEL FILE.onnx --to onnx` writes such files.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_hub.command import printable
from resnet_hub.errors import Refusal, first_line
from resnet_hub.models.calibration import Calibration
from resnet_hub.preprocess import Preprocess

SUFFIX = ".onnx"
PREFIX = "resnet_hub."  # of the metadata's keys
NEEDED = ("labels", "pretrained_cfg", "calibration")


def is_onnx_file(source: str | Path) -> bool:
    """Whether a model's name is that of an ONNX file."""
    return str(source).lower().endswith(SUFFIX)


class OnnxFile:
    """A network in a file, with its preprocessing and calibration inside.

    Args:
        path: the file.

    Attributes:
        labels: class names.
        preprocess: how the image becomes the network's input; the file does it itself.
        calibration: temperature and thresholds; the file applies the temperature itself.
        source: the path.
        revision: commit of the weights the file was made from, "shipped" or "local".
        commit: the same where the weights came from the Hub, otherwise None.
        made_from: the checkpoint it was made from.
        size: bytes.
        facts: all of the file's metadata.

    Raises:
        Refusal: without ONNX Runtime, and for a file that does not take the photo.
    """

    def __init__(self, path: str | Path) -> None:
        self.source = str(path)
        self.session = open_session(Path(path))
        self.facts = read_facts(self.session)
        missing = [name for name in NEEDED if name not in self.facts]
        takes = [value.name for value in self.session.get_inputs()]
        if takes != ["image"] or missing:
            seen = f"takes {', '.join(takes)}" if takes != ["image"] else f"lacks {', '.join(missing)}"
            raise Refusal(
                f"{path} {seen}; a file that takes the photo is needed: "
                "python -m resnet_hub.convert MODEL FILE.onnx --to onnx"
            )
        try:
            labels, cfg, calibration = (json.loads(self.facts[name]) for name in NEEDED)
            self.labels: tuple[str, ...] = tuple(printable(str(label)) for label in labels)
            self.preprocess = Preprocess.from_pretrained_cfg(cfg)
            self.calibration = Calibration.from_dict(calibration)
        except (ValueError, TypeError, AttributeError) as error:
            raise Refusal(f"{path}: its metadata cannot be read ({error}); write the file again") from error
        shapes = {value.name: value.shape for value in self.session.get_outputs()}
        if [len(set(self.labels))] != shapes.get("probabilities"):
            raise Refusal(
                f"{path} has {len(set(self.labels))} distinct labels and probabilities of shape "
                f"{shapes.get('probabilities')}; write the file again"
            )
        self.revision: str = self.facts.get("revision", "local")
        self.commit = None if self.revision in ("shipped", "local") else self.revision
        self.made_from: str = self.facts.get("source", "")
        self.size = Path(path).stat().st_size  # bytes
        self.outputs = [*shapes]

    def answer(self, image: Image.Image) -> dict[str, np.ndarray]:
        """The file's outputs for an upright RGB image.

        Returns:
            `probabilities` and `logits` (classes,) and `score` (), all float32; where the network has them
            `familiar` (), bool, and `cam` (classes, h, w), float32; `seen` (H, W, C), uint8, the network's
            input before normalisation.
        """
        pixels = np.ascontiguousarray(image.convert("RGB"), np.uint8)
        return dict(zip(self.outputs, self.session.run(None, {"image": pixels}), strict=True))

    @property
    def has_maps(self) -> bool:
        """Whether it answers with class activation maps too."""
        return "cam" in self.outputs

    def activation_map(self, seen: Image.Image, class_index: int) -> np.ndarray:
        """Where the network's last feature map speaks for a class.

        Args:
            seen: the network's input image, `seen` of an answer.

        Returns:
            float32 (h, w), 0 to 1.

        Raises:
            Refusal: for a network without class activation maps.
        """
        if not self.has_maps:
            raise Refusal(
                f"{self.source} has no class activation maps; its network does not average its maps"
            )
        # An image of the size that the file resizes to is only cropped by it.
        height, width = (math.floor(side / self.preprocess.crop_pct) for side in seen.size[::-1])
        canvas = Image.new("RGB", (width, height))
        canvas.paste(seen, (round((width - seen.width) / 2), round((height - seen.height) / 2)))
        cam = np.maximum(self.answer(canvas)["cam"][class_index], 0)
        return cam / max(float(cam.max()), 1e-8)


def open_session(path: Path) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        Refusal: without ONNX Runtime, or for a file that it cannot load.
    """
    if not path.is_file():
        raise Refusal(f"There is no file {str(path)!r}; check the path.")
    try:
        import onnxruntime
    except ImportError as error:
        raise Refusal(f"{path} needs ONNX Runtime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves the cores to others
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes share no base
        why = first_line(error)[:200]
        raise Refusal(f"{path} is not an ONNX file that ONNX Runtime can load: {why}") from error


def read_facts(session: Any) -> dict[str, str]:
    """Our metadata of a file, without the prefix of its keys."""
    found = session.get_modelmeta().custom_metadata_map
    return {key.removeprefix(PREFIX): value for key, value in found.items() if key.startswith(PREFIX)}
