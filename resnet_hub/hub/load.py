"""Checkpoints, read: a directory or a Hub repository -> a network.

A checkpoint is `config.json` (timm's format, plus one `resnet_hub` object), `model.safetensors` and
`README.md` (the card). Nothing else in a repository is read, and no code from it is ever run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from resnet_hub.command import printable
from resnet_hub.config import ModelConfig, config_from_dict
from resnet_hub.errors import Refusal, first_line, listed
from resnet_hub.geometry import totals, trace
from resnet_hub.hub.bounds import OWN, WIDENED, Bounds, check_answers, check_count, check_header, check_maps
from resnet_hub.hub.fetch import (
    CONFIG_FILE,
    MOST_BYTES,
    Checkpoint,
    CheckpointError,
    discard,
    fetch_checkpoint,
)
from resnet_hub.hub.foreign import foreign_calibration, in_timms_form, weights_prefix
from resnet_hub.models.base import Network
from resnet_hub.models.build import build_network
from resnet_hub.models.calibration import Calibration
from resnet_hub.models.initialise import SkipRandomFill
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.preprocess import Preprocess

# What reading a hostile file raises; RecursionError is a RuntimeError.
UNUSABLE = (
    ValueError, TypeError, AttributeError, OverflowError, RuntimeError, SafetensorError, OSError, MemoryError,
)  # fmt: skip
DAMAGED = (json.JSONDecodeError, UnicodeDecodeError, SafetensorError)  # a second download may be sound
MOST_DETECTIONS = 100  # of other things that a calibration states
MOST_NAME = 256  # characters of a label, or of what was detected; a folder's name has 255 at most
MOST_SAID = 20_000  # characters of one message
MOST_NAMED = 2000  # keys in one message; ResNet-152 has 932
TIMM_TRAINING_ARGS = {"zero_init_last", "drop_rate", "drop_path_rate", "drop_block_rate"}


def from_pretrained(
    repo_id_or_dir: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    tqdm_class: type | None = None,
) -> Network:
    """Load a checkpoint from a Hub repository (`owner/name`) or a directory.

    timm's own ResNet repositories load too, e.g. `timm/resnet18.a1_in1k`. A checkpoint that ships with this
    package loads by its name, `resnet20_cifar10` for instance.

    Args:
        repo_id_or_dir: where the checkpoint is.
        revision: branch, tag or commit; the commit it resolves to is in `model.revision`.
        token: for private and gated repositories; None uses the one `hf auth login` stored.
        cache_dir: where downloads are kept; None means the Hugging Face cache.
        local_files_only: use earlier downloads and send no request.
        tqdm_class: progress bar for downloads instead of the console's.

    Returns:
        The network, in eval mode.

    Raises:
        CheckpointError: naming the repository or directory, the file and the cause.
    """
    checkpoint = fetch_checkpoint(
        repo_id_or_dir,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        tqdm_class=tqdm_class,
    )
    return load_checkpoint(checkpoint)


def load_checkpoint(
    checkpoint: Checkpoint,
    bounds: Bounds = OWN,
    repair: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors,
) -> Network:
    """The network that a checkpoint describes, with its weights, in eval mode.

    A damaged file is deleted from the Hub cache, so that the next attempt downloads it again.

    Args:
        bounds: the most that one image may cost.
        repair: what is done to the stored tensors before their types are checked.

    Raises:
        CheckpointError: for a bad configuration, or weights that do not match it key by key.
    """
    with naming(checkpoint, checkpoint.config):
        written = read_json(checkpoint.config)
        values, prefix = in_timms_form(written), weights_prefix(written)
        config = read_config(values)
        preprocess = read_preprocess(values, config, bounds)
        if "resnet_hub" not in values:  # timm's name implies no size
            config = replace(config, input_size=preprocess.input_size[1:])
        labels = read_labels(values, config)
        calibration = read_calibration(values, len(labels))
    with naming(checkpoint, checkpoint.weights):
        check_header(checkpoint.weights)
        parameters, held = totals(trace(config)).params, checkpoint.weights.stat().st_size
        if parameters > held:  # checked before memory is allocated; half files have two bytes each
            raise Refusal(f"{held:,} bytes cannot hold the network's {parameters:,} parameters")
        with SkipRandomFill():
            model = build_network(config)
        tensors = repair(read_weights(checkpoint.weights, model, prefix))
        model.load_state_dict(widened(tensors), assign=True)
        model.preprocess, model.labels, model.calibration = preprocess, labels, calibration
        check_answers(model.eval(), bounds)
    model.source, model.revision = checkpoint.source, checkpoint.revision
    return model


@contextmanager
def naming(checkpoint: Checkpoint, file: Path) -> Iterator[None]:
    """Turn what a bad file raises into a CheckpointError naming it; delete a damaged one from the cache."""
    try:
        yield
    except CheckpointError:
        raise
    except UNUSABLE as error:
        if checkpoint.is_cached and isinstance(error, DAMAGED):
            discard(file)
        cause = first_line(error)[:MOST_SAID]
        words = f"{checkpoint.source}: {file.name}: {cause}"
        raise CheckpointError(words, "checkpoint_unusable", file=file.name, cause=Refusal(cause)) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a `config.json`.

    Raises:
        ValueError: for anything else, or a file too large for a configuration.
    """
    if path.stat().st_size > MOST_BYTES[CONFIG_FILE]:
        raise Refusal(f"more than {MOST_BYTES[CONFIG_FILE]:,} bytes")
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise Refusal(f"holds a JSON {type(values).__name__}; a configuration is an object")
    return values


def read_config(values: dict[str, Any]) -> ModelConfig:
    """The network a `config.json` describes: ours in full, or a timm ResNet by its architecture name."""
    if "resnet_hub" in values:
        fields_of_ours = values["resnet_hub"].get("config")
        if not isinstance(fields_of_ours, dict):
            raise Refusal("resnet_hub.config is not there; it describes the network")
        return config_from_dict(fields_of_ours)
    name = str(values.get("architecture"))
    if name not in list_models():
        raise Refusal(f"architecture {name[:80]!r} is not one of {listed(list_models(), 50)}")
    overrides = {"num_classes": values.get("num_classes", 1000)} | (values.get("model_args") or {})
    foreign = sorted(overrides.keys() - {"num_classes", "in_chans", "global_pool"} - TIMM_TRAINING_ARGS)
    if foreign:  # output_stride, for one, would load and give wrong answers
        raise Refusal(f"model_args {', '.join(foreign)} make a network other than timm's {name}")
    return model_config(name, **{k: v for k, v in overrides.items() if k not in TIMM_TRAINING_ARGS})


def read_calibration(values: dict[str, Any], classes: int) -> Calibration:
    """The checkpoint's own calibration.

    Raises:
        ValueError: for anything but finite numbers, more detections than anybody would read, or thresholds
            that are not one a class.
    """
    if "resnet_hub" not in values or "model_type" in values:  # transformers kept ours beside its weights
        return foreign_calibration(values, classes)
    calibration = Calibration.from_dict(values["resnet_hub"].get("calibration", {}))
    longest = max((len(what) for what, *_ in calibration.detections), default=0)
    if len(calibration.detections) > MOST_DETECTIONS or longest > MOST_NAME:
        raise Refusal(
            f"calibration: {len(calibration.detections):,} detections with names of up to {longest:,} "
            f"characters; at most {MOST_DETECTIONS} of {MOST_NAME} are read"
        )
    thresholds = calibration.class_thresholds
    if thresholds and (len(thresholds) != classes or not all(0 <= share <= 1 for share in thresholds)):
        raise Refusal(f"calibration: {len(thresholds)} thresholds for {classes} classes, each from 0 to 1")
    return calibration


def read_preprocess(values: dict[str, Any], config: ModelConfig, bounds: Bounds = OWN) -> Preprocess:
    """The checkpoint's own preprocessing."""
    preprocess = Preprocess.from_pretrained_cfg(values.get("pretrained_cfg", {}))
    if config.in_chans in (1, 3) and preprocess.input_size[0] != config.in_chans:
        raise Refusal(f"input_size {preprocess.input_size} does not have {config.in_chans} channels")
    check_maps(config, preprocess.input_size[1:], bounds)
    return preprocess


def read_labels(values: dict[str, Any], config: ModelConfig) -> tuple[str, ...]:
    """One distinct name a class; ImageNet's where a checkpoint of 1000 classes has no names."""
    names = values.get("label_names")
    if names is None and config.num_classes == 1000:
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        names = disambiguate([info.index_to_description(i) for i in range(1000)])
    if names is None:
        names = range(config.num_classes)
    elif isinstance(names, dict):  # timm allows {class: name}
        names = [name for _, name in sorted(names.items(), key=lambda pair: int(pair[0]))]
    elif isinstance(names, str):
        raise Refusal(f"label_names is the text {names[:40]!r}; give a list")
    labels = tuple(printable(str(name)[:MOST_NAME]) for name in names)
    if len(labels) != config.num_classes or len(set(labels)) != len(labels):
        raise Refusal(
            f"{len(labels)} label_names, {len(set(labels))} of them distinct, "
            f"for {config.num_classes} classes; give each class its own name"
        )
    return labels


def disambiguate(names: list[str]) -> list[str]:
    """The names, with the class number where two share one: ImageNet has two kinds of crane."""
    counts = Counter(names)
    return [f"{name} ({i})" if counts[name] > 1 else name for i, name in enumerate(names)]


def read_weights(path: Path, model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a safetensors file whose names and shapes have been checked.

    Args:
        prefix: what the file writes before each name.
    """
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    counts = {key for key in wanted if key.endswith("num_batches_tracked")}
    with safe_open(path, framework="pt") as file:
        check_count(len(file.keys()), len(wanted))
        stored = {key.removeprefix(prefix): key for key in file.keys()}  # noqa: SIM118
        found = {key: tuple(file.get_slice(name).get_shape()) for key, name in stored.items()}
        problems = [
            *(f"missing {k}" for k in wanted.keys() - found.keys() - counts),
            *(f"unexpected {k}" for k in found.keys() - wanted.keys()),
            *(f"{k} is {found[k]}, expected {wanted[k]}" for k in wanted.keys() & found.keys()
              if wanted[k] != found[k]),
        ]  # fmt: skip
        if problems:
            raise Refusal(listed(sorted(problems), MOST_NAMED, "; "))
        tensors = {key: file.get_tensor(stored[key]) for key in found}
    for key in wanted.keys() - tensors.keys():
        tensors[key] = torch.zeros((), dtype=torch.long)
    return tensors


def widened(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies in float32, exact; batch-norm counts stay whole numbers.

    Raises:
        Refusal: for a tensor of another type than float32, float16 or bfloat16, or with NaN or infinity.
    """
    for key, tensor in tensors.items():
        is_count = key.endswith("num_batches_tracked")
        if is_count and tensor.is_floating_point():
            raise Refusal(
                f"{key} is of type {tensor.dtype}; it counts batches in whole numbers, as "
                "python -m resnet_hub.convert writes it"
            )
        if not is_count and tensor.dtype not in WIDENED:
            raise Refusal(f"{key} is of type {tensor.dtype}; float32, float16 and bfloat16 are read")
        if not torch.isfinite(tensor).all():
            raise Refusal(f"{key} holds NaN or infinity")
    # Copies: safetensors maps the file, so a later write to it would change the network.
    return {
        k: t.to(torch.float32 if t.is_floating_point() else t.dtype, copy=True) for k, t in tensors.items()
    }


def is_half(path: Path) -> bool:
    """Whether a safetensors file holds float16 tensors."""
    with safe_open(path, framework="pt") as file:
        return any(file.get_slice(key).get_dtype() == "F16" for key in file.keys())  # noqa: SIM118
