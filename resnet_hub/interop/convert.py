"""Convert weights: torchvision's, timm's and transformers' ResNets to ours and back, and to ONNX.

    python -m resnet_hub.convert microsoft/resnet-50 out/resnet50 --to resnet_hub
    python -m resnet_hub.convert resnet20_cifar10 out/resnet20.onnx --to onnx
    python -m resnet_hub.convert --check out/resnet20.onnx

torchvision and timm use our keys, transformers has other keys for the same tensors. Nothing is computed, so
every bit is kept; float16 and bfloat16 are widened to float32. A network that a layout cannot express
(transformers has no CIFAR stem) is refused, not approximated. None of the other libraries needs to be
installed; ONNX needs the [export] packages.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_safetensors
from torch import Tensor

from resnet_hub.command import program_name, run_command
from resnet_hub.config import ModelConfig
from resnet_hub.errors import Refusal, first_line
from resnet_hub.files import write_atomically, write_contents, write_whole
from resnet_hub.hub.bounds import check_answers, check_header, check_maps
from resnet_hub.hub.fetch import PROCESSOR_FILE, Checkpoint, fetch_checkpoint, fetch_text
from resnet_hub.hub.foreign import foreign_calibration
from resnet_hub.hub.load import (
    disambiguate,
    from_pretrained,
    load_checkpoint,
    naming,
    read_json,
    read_labels,
    widened,
)
from resnet_hub.interop.counterpart import is_stock
from resnet_hub.interop.onnx import (
    PRECISIONS,
    check_photo_file,
    export_normalised,
    export_onnx,
    onnx_difference,
)
from resnet_hub.interop.transformers import (
    TRANSFORMERS_FIELDS,
    config_from_transformers,
    config_to_transformers,
    from_transformers,
    preprocess_from_transformers,
    preprocess_to_transformers,
    to_transformers,
)
from resnet_hub.interop.transformers_js import save_transformers_js
from resnet_hub.interop.unwrap import HARMLESS, difference, held_state, unwrapped, whole_counts
from resnet_hub.models.base import Network
from resnet_hub.models.build import build_network
from resnet_hub.models.initialise import SkipRandomFill
from resnet_hub.models.registry import model_config
from resnet_hub.onnx_file import OnnxFile

LAYOUTS = ("resnet_hub", "timm", "torchvision", "transformers", "transformers-js", "onnx")
# Of the largest logit; ONNX Runtime fuses and reorders.
ONNX_TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.2}


# Reading


def load(source: str, name: str | None = None, notes: list[str] | None = None) -> Network:
    """A network with the weights of a checkpoint directory, a Hub repository or a bare weights file.

    Args:
        source: a checkpoint of ours, timm's or transformers', or a .safetensors, .pth, .pt or .bin file of
            torchvision's, timm's or transformers' tensors (pickles are read as tensors only), wrapped as
            training scripts do.
        name: the network in a bare weights file, which does not say what it is.
        notes: how the weights were unwrapped is added to it.

    Raises:
        Refusal, resnet_hub.hub.fetch.CheckpointError: when it cannot be read or does not fit.
    """
    notes = [] if notes is None else notes
    if os.path.isfile(source):  # noqa: PTH113 (Path.is_file raises OSError for a name that is too long)
        return _from_file(Path(source), name, notes)
    checkpoint = fetch_checkpoint(source)
    with naming(checkpoint, checkpoint.config):
        values = read_json(checkpoint.config)
    if values.get("model_type") != TRANSFORMERS_FIELDS["model_type"]:
        return load_checkpoint(checkpoint, repair=lambda tensors: whole_counts(tensors, notes))
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
        check_header(checkpoint.weights)
        state = from_transformers(load_file(checkpoint.weights))
    model = filled(config, state, checkpoint.source)
    model.labels, model.preprocess = labels, preprocess
    model.calibration = foreign_calibration(values, config.num_classes)
    model.source, model.revision = checkpoint.source, checkpoint.revision
    return model


def _from_file(path: Path, name: str | None, notes: list[str]) -> Network:
    if name is None:
        raise Refusal(f"{path} does not say which network it is; give --model, e.g. --model resnet50")
    state = _read_tensors(path, notes)
    if any(key.startswith("resnet.embedder.") for key in state):
        state = from_transformers(state)
    config = model_config(name)
    with SkipRandomFill():
        expected = build_network(config)
    head, names = expected.classifier_name, list(expected.state_dict())
    state = unwrapped(state, names, head or "", str(path), notes)
    overrides = {}
    if (classes := state.get(f"{head}.weight")) is not None and classes.ndim == 2:
        overrides["num_classes"] = len(classes)
    if (stem := state.get(names[0])) is not None and stem.ndim == 4 and stem.shape[1] != config.in_chans:
        overrides["in_chans"] = stem.shape[1]
        notes.append(f"for images of {stem.shape[1]} channels")
    model = filled(model_config(name, **overrides), state, str(path))
    # Not this project's weights, so neither is the licence.
    model.source, model.revision = str(path.resolve()), "local"
    return model


def _read_tensors(path: Path, notes: list[str]) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            check_header(path)
            loaded: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(HARMLESS):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise Refusal(f"{path} cannot be read as weights: {first_line(error)}") from error
    except Exception as error:  # pickle.UnpicklingError, and anything else a damaged pickle raises
        raise Refusal(f"{path} holds more than tensors, or is damaged; it is not run") from error
    return held_state(loaded, str(path), notes)


def filled(config: ModelConfig, state: dict[str, Tensor], source: str) -> Network:
    """A network with these weights, in eval mode.

    Raises:
        Refusal: naming the first keys, shapes or types that do not fit.
    """
    with SkipRandomFill():
        model = build_network(config)
    wanted = model.state_dict()
    # Weights older than PyTorch 0.4.1 count no batches.
    state = {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")} | state
    if why := difference(wanted, state):
        raise Refusal(f"{source} does not fit {config.name}: {why}")
    try:
        model.load_state_dict(widened(state))
        check_answers(model.eval())
    except Refusal as error:
        raise Refusal(f"{source}: {error}") from error
    return model


def labels_from(path: Path, config: ModelConfig) -> tuple[str, ...]:
    """The class names in a file: one per line, or JSON (a list, or {number: name}).

    Raises:
        Refusal: where it cannot be read, or is not one distinct name a class.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix == ".json" else text.strip("\n").splitlines()
        return read_labels({"label_names": names}, config)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Refusal(f"--labels {path}: {why}") from error


# Writing


def save(
    model: Network, out: Path, layout: str, *, precision: str = "fp32", normalised: bool = False
) -> None:
    """Write a network: a directory for resnet_hub and transformers(-js), one file for the other layouts.

    A file of timm's or torchvision's is safetensors where its name says so, otherwise for `torch.load`.

    Args:
        precision: of an ONNX file's weights, "fp32", "fp16" or "int8".
        normalised: the ONNX file takes normalised pixels (N, C, H, W) instead of the photo.

    Raises:
        Refusal: when the layout cannot express the network, or `out` is a directory where one file is
            to be written.
    """
    if layout == "resnet_hub":
        return model.save_pretrained(out)
    if layout == "transformers":
        return _save_transformers(model, out)
    if layout == "transformers-js":
        return save_transformers_js(model, out)
    if out.is_dir():
        raise Refusal(f"{out} is a directory; --to {layout} writes one file, so give OUT a file name")
    if layout != "onnx" and not is_stock(model.config, layout):
        raise Refusal(
            f"{layout} has no network like this {model.config.name}: the weights would not load there, or "
            "would load silently into a wrong network; keep it as a resnet_hub checkpoint"
        )
    if layout == "onnx":
        (export_normalised if normalised else export_onnx)(model, out, precision)
    elif out.suffix == ".safetensors":
        write_whole(out, _safetensors(model.state_dict()))
    else:
        write_atomically(out, lambda file: torch.save(_bare(model.state_dict()), file))


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _safetensors(state: dict[str, Tensor]) -> bytes:
    return as_safetensors(_bare(state), metadata={"format": "pt"})


def _save_transformers(model: Network, out: Path) -> None:
    documents = {
        "config.json": config_to_transformers(model),
        "preprocessor_config.json": preprocess_to_transformers(model.preprocess),
    }
    texts = {name: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in documents.items()}
    contents = {name: text.encode() for name, text in texts.items()}
    contents["model.safetensors"] = _safetensors(to_transformers(model.state_dict()))
    write_contents({out / name: content for name, content in contents.items()})


# The command


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        program_name("resnet_hub.convert"),
        description="Convert a ResNet's weights from one library's layout to another's.",
    )
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE", help="checkpoint directory, Hub repository or weights file"
    )
    parser.add_argument(
        "out",
        nargs="?",
        type=Path,
        metavar="OUT",
        help="directory (resnet_hub, transformers, transformers-js) or file (timm, torchvision: .safetensors "
        "or .pth; onnx)",
    )
    parser.add_argument("--to", choices=LAYOUTS)
    parser.add_argument("--model", metavar="NAME", help="the network in a bare weights file, e.g. resnet50")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="class names: a text file with one per line, or JSON"
    )
    precision = "of the weights in an ONNX file (default: fp32); fp16 and int8 are widened when it is loaded"
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=precision)
    normalised = "an ONNX file that takes normalised pixels (N, C, H, W) instead of a photo"
    parser.add_argument("--normalised", action="store_true", help=normalised)
    check = (
        "compare an ONNX file that takes the photo with SOURCE, by default the checkpoint it was made from"
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help=check)
    options = parser.parse_args(arguments)
    if options.check is None and None in (options.source, options.out, options.to):
        parser.error("SOURCE, OUT and --to LAYOUT are needed, or --check FILE alone")
    if options.check and (options.out or options.to):
        parser.error("--check FILE compares and converts nothing; leave OUT and --to out")
    if options.to != "onnx" and (options.normalised or options.precision != "fp32"):
        parser.error("--normalised and --precision are for --to onnx")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when everything was written, 2 with one line when not."""
    options = parse_arguments(arguments)
    return run_command("resnet_hub.convert", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.check is not None:
        return _check(options)
    notes: list[str] = []
    model = load(options.source, options.model, notes)
    if options.labels:
        model.labels = labels_from(options.labels, model.config)
    try:
        save(model, options.out, options.to, precision=options.precision, normalised=options.normalised)
        checked = _checked_onnx(model, options) if options.to == "onnx" else ""
    except ImportError as error:
        raise Refusal(f"{error}; pip install -e '.[export]'") from error
    count = sum(p.numel() for p in model.parameters())
    read = f" (read {', '.join(notes)})" if notes else ""
    print(f"{model.config.name}, {count:,} parameters{read}: {options.out}{checked}")


def _checked_onnx(model: Network, options: argparse.Namespace) -> str:
    path = options.out
    if not options.normalised:
        return f"; {check_photo_file(model, path)}"
    difference, most = onnx_difference(model, path), ONNX_TOLERANCE[options.precision]
    said = f"ONNX Runtime differs by {difference:.1e} of the largest logit"
    if not difference <= most:
        raise Refusal(f"{path}: {said}, more than {most:.0e}: do not use this file")
    return f"; {said}"


def _check(options: argparse.Namespace) -> None:
    path, name = options.check, options.model
    file = OnnxFile(path)
    source = options.source or file.made_from
    if not source:
        raise Refusal(f"{path} does not say what it was made from; give SOURCE before --check")
    is_at_commit = file.commit and source == file.made_from and not name
    model = from_pretrained(source, revision=file.commit) if is_at_commit else load(source, name)
    if options.labels:
        model.labels = labels_from(options.labels, model.config)
    print(f"{path}, made from {source}: {check_photo_file(model, path)}")
