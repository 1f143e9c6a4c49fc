"""A network as an ONNX file, with its preprocessing and labels in the file's metadata.

Needs the [export] packages.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from resnet_hub.engine.backends import onnx_program
from resnet_hub.files import write_atomically
from resnet_hub.models.base import Network
from resnet_hub.preprocess import Preprocess


def export_onnx(model: Network, path: Path) -> None:
    """Write the network for batches of any size: `pixels` (N, C, H, W), normalised -> `logits`.

    Labels, preprocessing and provenance go into the file's metadata (see `onnx_metadata`).

    Raises:
        ImportError: without the [export] packages.
    """
    program = onnx_program(model, input_shape(model))
    program.model.metadata_props.update(onnx_metadata(model))
    write_atomically(path, lambda file: program.save(file.name, external_data=False))


def input_shape(model: Network) -> tuple[int, int, int]:
    """(C, H, W) of the images that the network's own preprocessing makes."""
    return (model.config.in_chans, *model.preprocess.input_size[1:])


def onnx_metadata(model: Network) -> dict[str, str]:
    """How an image becomes `pixels`, in words and as timm's data config, and what the logits mean."""
    return {
        "resnet_hub.preprocessing": preprocess_words(model.preprocess),
        "resnet_hub.pretrained_cfg": json.dumps(model.preprocess.to_pretrained_cfg()),
        "resnet_hub.config": json.dumps(model.config.to_dict()),
        "resnet_hub.labels": json.dumps(model.labels, ensure_ascii=False),
        "resnet_hub.temperature": str(model.calibration.temperature),
        "resnet_hub.source": f"{model.source}@{model.revision}",
    }


def preprocess_words(preprocess: Preprocess) -> str:
    """The preprocessing in one sentence, for readers who have only the ONNX file."""
    channels, height, width = preprocess.input_size
    return (
        f"upright {'RGB' if channels == 3 else 'grey'}: {preprocess.crop_words()}, as PIL does; "
        f"divide by 255, subtract {list(preprocess.mean)}, divide by {list(preprocess.std)}; "
        f"float32, channels first: (N, {channels}, {height}, {width})"
    )


def onnx_difference(model: Network, path: Path) -> float:
    """Largest difference of ONNX Runtime's logits from ours on three random images, over the largest."""
    import onnxruntime

    pixels = torch.randn((3, *input_shape(model)), generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"pixels": pixels.numpy()})
    with torch.inference_mode():
        ours = model.eval()(pixels)
    return ((ours - torch.from_numpy(theirs)).abs().max() / ours.abs().max()).item()
