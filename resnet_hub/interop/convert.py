"""Weights across: torchvision's, timm's and transformers' ResNets into ours and back, and out to ONNX.

    python -m resnet_hub.convert microsoft/resnet-50 out/resnet50 --to resnet_hub
    python -m resnet_hub.convert resnet20_cifar10 out/resnet20.onnx --to onnx

torchvision and timm use our keys, transformers others for the same tensors; nothing is computed on the way,
so every bit arrives. What a layout cannot say (transformers has no CIFAR stem) is refused, not approximated.
Knows nothing of images, of training or of the app; no other library is needed but for ONNX.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.hub.fetch import PROCESSOR_FILE, Checkpoint, fetch_checkpoint, fetch_text
from resnet_hub.hub.load import check_maps, disambiguate, from_pretrained, naming, read_json, read_labels
from resnet_hub.interop.counterpart import is_library_s_own, stock_name
from resnet_hub.models.base import Network, default_preprocess
from resnet_hub.models.build import build_network
from resnet_hub.models.registry import model_config
from resnet_hub.preprocess import Preprocess

LAYOUTS = ("resnet_hub", "timm", "torchvision", "transformers", "onnx")
BLOCK = "resnet.encoder.stages.{stage}.layers.{block}"
# Ours and transformers' (ResNetForImageClassification), which counts stages and layers from 0.
KEYS = [
    ("conv1.", "resnet.embedder.embedder.convolution."),
    ("bn1.", "resnet.embedder.embedder.normalization."),
    ("layer{stage}.{block}.conv{layer}.", f"{BLOCK}.layer.{{layer}}.convolution."),
    ("layer{stage}.{block}.bn{layer}.", f"{BLOCK}.layer.{{layer}}.normalization."),
    ("layer{stage}.{block}.downsample.0.", f"{BLOCK}.shortcut.convolution."),
    ("layer{stage}.{block}.downsample.1.", f"{BLOCK}.shortcut.normalization."),
    ("fc.", "classifier.1."),
]
TRANSFORMERS_FIELDS = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}
MOST_CROPPED = 384  # from this side on, transformers' ConvNext processor squashes instead of cropping
RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # PIL's numbers
ONNX_TOLERANCE = 1e-4  # of the largest logit; ONNX Runtime fuses and reorders


class ConvertError(ValueError):
    """Weights that cannot be converted; one line naming what was seen, what is allowed and what to do."""


# Keys


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under transformers' keys; the tensors are the same objects.

    Raises:
        ConvertError: for a key that transformers' ResNet has no place for.
    """
    return {_renamed(key, KEYS, -1): value for key, value in state.items()}


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_transformers`.

    Raises:
        ConvertError: for a key that is not transformers' ResNetForImageClassification's.
    """
    pairs = [(theirs, ours) for ours, theirs in KEYS]
    return {_renamed(key, pairs, +1): value for key, value in state.items()}


def _renamed(key: str, pairs: list[tuple[str, str]], shift: int) -> str:
    for before, after in pairs:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(before))
        if match := re.match(pattern, key):
            places = {name: int(text) for name, text in match.groupdict().items()}
            moved = {name: place + (name != "block") * shift for name, place in places.items()}
            return after.format(**moved) + key[match.end() :]
    raise ConvertError(f"{key} has no place in transformers' ResNetForImageClassification, or in ours")


# Configurations


def config_to_transformers(model: Network) -> dict[str, Any]:
    """The `config.json` of transformers for one of our networks.

    Raises:
        ConvertError: naming what transformers' ResNet does not have.
    """
    config = model.config
    wanted = {"stem": "imagenet", "shortcut": "projection", "global_pool": "avg", "base_width": 64}
    wanted |= {"has_maxpool": True, "stem_width": getattr(config, "stem_width", 64)}
    if not isinstance(config, ResNetConfig) or config.block not in ("basic", "bottleneck"):
        raise ConvertError(
            f"{config.name} is no ResNet of basic or bottleneck blocks; transformers has no other"
        )
    wanted["strides"] = (1, *[2] * (len(config.depths) - 1))
    for field, value in wanted.items():
        if getattr(config, field) != value:
            raise ConvertError(
                f"{config.name}: transformers' ResNet has {field}={value!r} only, not "
                f"{getattr(config, field)!r}; keep it as a resnet_hub checkpoint"
            )
    return TRANSFORMERS_FIELDS | {
        "num_channels": config.in_chans,
        "embedding_size": config.stem_width,
        "hidden_sizes": [width * config.expansion for width in config.widths],
        "depths": list(config.depths),
        "layer_type": config.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": config.stride_in == "1x1",
        "id2label": dict(enumerate(model.labels)),
        "label2id": {name: i for i, name in enumerate(model.labels)},
    }


def config_from_transformers(values: dict[str, Any]) -> ResNetConfig:
    """Our configuration for transformers' `config.json` of a ResNet.

    Raises:
        ConvertError: for a network we do not have.
    """
    block = values.get("layer_type", "bottleneck")
    if values.get("hidden_act", "relu") != "relu" or values.get("downsample_in_first_stage"):
        raise ConvertError("only hidden_act=relu and downsample_in_first_stage=False have a counterpart here")
    depths = tuple(values.get("depths", (3, 4, 6, 3)))
    expansion = 4 if block == "bottleneck" else 1
    config = ResNetConfig(
        name="resnet",
        block=block,
        depths=depths,
        widths=tuple(c // expansion for c in values.get("hidden_sizes", (256, 512, 1024, 2048))),
        strides=(1, *[2] * (len(depths) - 1)),
        stem_width=values.get("embedding_size", 64),
        in_chans=values.get("num_channels", 3),
        num_classes=len(values["id2label"]) if "id2label" in values else values.get("num_labels", 2),
        stride_in="1x1" if block == "bottleneck" and values.get("downsample_in_bottleneck") else "3x3",
    )
    return replace(config, name=stock_name(config) or config.name)


def preprocess_to_transformers(preprocess: Preprocess) -> dict[str, Any]:
    """transformers' `preprocessor_config.json`: its ConvNext processor resizes and crops as timm does."""
    _, side, width = preprocess.input_size
    if preprocess.crop_mode != "center" or side != width or side >= MOST_CROPPED:
        raise ConvertError(
            f"transformers' processor crops squares below {MOST_CROPPED} pixels from the centre only, not "
            f"{side}x{width} (crop_mode={preprocess.crop_mode}); keep it as a resnet_hub checkpoint"
        )
    return {
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "crop_pct": preprocess.crop_pct,
        "resample": RESAMPLE[preprocess.interpolation],
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def preprocess_from_transformers(values: dict[str, Any], config: ModelConfig) -> Preprocess:
    """The preprocessing of a `preprocessor_config.json`; what it leaves out is ImageNet's usual.

    Raises:
        ConvertError: for another processor than ConvNext's, which is the one of transformers' ResNets, or one
            that leaves out a step of ours.
    """
    kind = values.get("image_processor_type") or values.get("feature_extractor_type") or "ConvNext"
    size = values.get("size") or {}
    has_counterpart = {
        "image_processor_type": kind.startswith("ConvNext"),
        "size": isinstance(size, int) or not size or "shortest_edge" in size,
        "resample": values.get("resample") in (None, *RESAMPLE.values()),
        "rescale_factor": abs(255 * values.get("rescale_factor", 1 / 255) - 1) < 1e-6,
    } | {step: values.get(step) is not False for step in ("do_resize", "do_rescale", "do_normalize")}
    seen = {"image_processor_type": kind} | values
    foreign = [f"{field}={seen[field]!r}" for field, has in has_counterpart.items() if not has]
    if foreign:
        raise ConvertError(
            f"{', '.join(foreign)} has no counterpart here; what is read is the ConvNext processor "
            "with a shortest_edge, resizing, rescaling and normalising"
        )
    side = size if isinstance(size, int) else size.get("shortest_edge", config.input_size[0])
    squashed = {"crop_mode": "squash", "crop_pct": 1.0} if side >= MOST_CROPPED else {}
    names = {number: name for name, number in RESAMPLE.items()}
    given = {
        "input_size": (config.in_chans, side, side),
        "crop_pct": values.get("crop_pct"),
        "interpolation": names.get(values.get("resample")),
        "mean": values.get("image_mean"),
        "std": values.get("image_std"),
    }
    usual = default_preprocess(config).to_pretrained_cfg()
    return Preprocess.from_pretrained_cfg(
        usual | {k: v for k, v in given.items() if v is not None} | squashed
    )


# Reading


def load(source: str, name: str | None = None) -> Network:
    """A network with the weights of a checkpoint directory, a Hub repository or a bare weights file.

    Args:
        source: ours, timm's or transformers' checkpoint; or a .safetensors, .pth, .pt or .bin file of
            torchvision's, timm's or transformers' tensors (pickles are read as tensors only).
        name: the network in a bare file, which only names tensors.

    Raises:
        ConvertError, resnet_hub.hub.CheckpointError: when it cannot be had or does not fit.
    """
    if os.path.isfile(source):
        return _from_file(Path(source), name)
    checkpoint = fetch_checkpoint(source)
    with naming(checkpoint, checkpoint.config):
        values = read_json(checkpoint.config)
    if values.get("model_type") != TRANSFORMERS_FIELDS["model_type"]:
        return from_pretrained(source)
    return _from_transformers(checkpoint, values)


def _from_transformers(checkpoint: Checkpoint, values: dict[str, Any]) -> Network:
    with naming(checkpoint, checkpoint.config):
        config = config_from_transformers(values)
        names = values.get("id2label")
        if names is not None:
            names = disambiguate([str(names[number]) for number in sorted(names, key=int)])
        labels = read_labels({"label_names": names}, config)
    processor = checkpoint.config.with_name(PROCESSOR_FILE)
    commit = checkpoint.revision if checkpoint.is_cached else None
    with naming(checkpoint, processor):
        text = fetch_text(checkpoint.source, PROCESSOR_FILE, revision=commit)
        given = {} if text is None else read_json(processor)
        preprocess = preprocess_from_transformers(given, config)
        check_maps(config, preprocess.input_size[1:])
    with naming(checkpoint, checkpoint.weights):
        state = from_transformers(load_file(checkpoint.weights))
    model = filled(config, state, checkpoint.source)
    model.labels, model.preprocess = labels, preprocess
    model.source, model.revision = checkpoint.source, checkpoint.revision
    return model


def _from_file(path: Path, name: str | None) -> Network:
    if name is None:
        raise ConvertError(f"{path} only names tensors; say which network it is with --model, e.g. resnet50")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise ConvertError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    except Exception as error:  # pickle.UnpicklingError and whatever a damaged pickle raises
        raise ConvertError(f"{path} holds more than tensors, or is damaged; it is not run") from error
    is_state = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not is_state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConvertError(f"{path} does not hold tensors by name; save the network's state_dict() alone")
    if any(key.startswith("resnet.") for key in state):
        state = from_transformers(state)
    config = model_config(name)
    if "fc.weight" in state:
        config = model_config(name, num_classes=len(state["fc.weight"]))
    return filled(config, state, str(path))


def filled(config: ModelConfig, state: dict[str, Tensor], source: str) -> Network:
    """A network with these weights, in eval mode.

    Raises:
        ConvertError: naming the first keys or shapes that do not fit.
    """
    model = build_network(config)
    counts = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        model.load_state_dict(counts | state)  # weights older than PyTorch 0.4.1 count no batches
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1:4]]
        raise ConvertError(f"{source} does not fit {config.name}: {' '.join(problems)[:400]}") from error
    return model.eval()


# Writing


def save(model: Network, out: Path, layout: str) -> None:
    """Write a network: a directory for resnet_hub and transformers, one file for the others.

    A file of timm's or torchvision's is safetensors where its name says so, else what `torch.load` reads.

    Raises:
        ConvertError: when the layout cannot say what the network is, or `out` is a directory where one file
            is to be written.
    """
    if layout not in ("resnet_hub", "transformers") and out.is_dir():
        raise ConvertError(f"{out} is a directory; --to {layout} writes one file, so give OUT a file name")
    if layout == "resnet_hub":
        model.save_pretrained(out)
    elif layout == "transformers":
        _save_transformers(model, out)
    elif layout == "onnx":
        out.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(model, out)
    elif not is_library_s_own(model.config, layout):
        raise ConvertError(
            f"{layout} has no network like this {model.config.name}: the weights would not load there, or "
            "load silently wrong; keep it as a resnet_hub checkpoint"
        )
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        state = _bare(model.state_dict())
        if out.suffix == ".safetensors":
            save_file(state, out, metadata={"format": "pt"})
        else:
            torch.save(state, out)


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _save_transformers(model: Network, out: Path) -> None:
    documents = {
        "config.json": config_to_transformers(model),
        "preprocessor_config.json": preprocess_to_transformers(model.preprocess),
    }
    out.mkdir(parents=True, exist_ok=True)
    for file, values in documents.items():
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (out / file).write_text(text, encoding="utf-8")
    state = to_transformers(_bare(model.state_dict()))
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})


def export_onnx(model: Network, path: Path) -> None:
    """Write the network for batches of any size: `pixels` (N, C, H, W), normalised -> `logits`.

    Labels, preprocessing and provenance stand in the file's metadata (see `onnx_metadata`).

    Raises:
        ImportError: without the [export] packages.
    """
    example = torch.zeros(2, *input_shape(model))
    program = torch.onnx.export(
        model,
        (example,),
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props.update(onnx_metadata(model))
    program.save(path, external_data=False)


def input_shape(model: Network) -> tuple[int, int, int]:
    """(C, H, W) of what the network's own preprocessing makes."""
    return (model.config.in_chans, *model.preprocess.input_size[1:])


def onnx_metadata(model: Network) -> dict[str, str]:
    """What the file says of itself: how an image becomes `pixels`, in words and as timm's data config, and
    what the logits mean.
    """
    return {
        "resnet_hub.preprocessing": preprocess_words(model.preprocess),
        "resnet_hub.pretrained_cfg": json.dumps(model.preprocess.to_pretrained_cfg()),
        "resnet_hub.config": json.dumps(model.config.to_dict()),
        "resnet_hub.labels": json.dumps(model.labels, ensure_ascii=False),
        "resnet_hub.temperature": str(model.calibration.temperature),
        "resnet_hub.source": f"{model.source}@{model.revision}",
    }


def preprocess_words(preprocess: Preprocess) -> str:
    """The preprocessing in one sentence, for whoever has only the ONNX file."""
    channels, height, width = preprocess.input_size
    return (
        f"upright {'RGB' if channels == 3 else 'grey'}: {preprocess.crop_words()}, as PIL does; "
        f"divide by 255, subtract {list(preprocess.mean)}, divide by {list(preprocess.std)}; "
        f"float32, channels first: (N, {channels}, {height}, {width})"
    )


def onnx_difference(model: Network, path: Path) -> float:
    """How far ONNX Runtime's logits are from ours on three random images, over the largest logit."""
    import onnxruntime

    pixels = torch.randn((3, *input_shape(model)), generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"pixels": pixels.numpy()})
    with torch.inference_mode():
        ours = model.eval()(pixels)
    return ((ours - torch.from_numpy(theirs)).abs().max() / ours.abs().max()).item()


# The command


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when everything was written, 2 with one line when not."""
    parser = argparse.ArgumentParser(
        "python -m resnet_hub.convert",
        description="A ResNet's weights from one library's layout to another's.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="checkpoint directory, Hub repository or weights file"
    )
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="directory (resnet_hub, transformers) or file (timm, torchvision: .safetensors or .pth; onnx)",
    )
    parser.add_argument("--to", choices=LAYOUTS, required=True)
    parser.add_argument("--model", metavar="NAME", help="the network in a bare weights file, e.g. resnet50")
    options = parser.parse_args(arguments)
    try:
        model = load(options.source, options.model)
        save(model, options.out, options.to)
        said = (
            f"{model.config.name}, {sum(p.numel() for p in model.parameters()):,} parameters: {options.out}"
        )
        if options.to == "onnx":
            apart = onnx_difference(model, options.out)
            said += f"; ONNX Runtime differs by {apart:.1e} of the largest logit"
            if not apart <= ONNX_TOLERANCE:
                raise ConvertError(f"{said}, more than {ONNX_TOLERANCE:.0e}: do not use this file")
    except (ValueError, OSError) as error:
        print(f"resnet_hub.convert: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"resnet_hub.convert: {error}; pip install -e '.[export]'", file=sys.stderr)
        return 2
    print(said)
    return 0
