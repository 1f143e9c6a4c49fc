"""A network -> the three files of a checkpoint, in a directory or on the Hub."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from resnet_hub.errors import Refusal, listed
from resnet_hub.files import write_together
from resnet_hub.hub.bounds import WIDENED
from resnet_hub.hub.card import render_card
from resnet_hub.hub.fetch import CARD_FILE, CONFIG_FILE, MOST_BYTES, SHIPPED, WEIGHTS_FILE, shipped_names
from resnet_hub.hub.load import MOST_NAME, read_calibration, read_labels, read_preprocess
from resnet_hub.hub.push import push_folder
from resnet_hub.models.base import Network
from resnet_hub.models.build import build_network
from resnet_hub.models.calibration import MULTI_LABEL
from resnet_hub.models.initialise import SkipRandomFill
from resnet_hub.models.timm_names import architecture


def save_checkpoint(model: Network, directory: Path, *, card: str | None = None, half: bool = False) -> None:
    """Write `config.json`, `model.safetensors` and `README.md` (`card`, or one made of what is known).

    Args:
        half: store the weights of convolutions and linear layers as float16, see `halved`.

    Raises:
        Refusal: for NaN or infinity, weights that float16 cannot hold, and what `check_is_loadable` refuses;
            nothing is written then.
    """
    text = json.dumps(config_json(model), indent=2, ensure_ascii=False) + "\n"
    check_is_loadable(model, text)
    card = card or render_card(model, load_from=name_to_load(directory), half=half)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if broken := [key for key, value in tensors.items() if not torch.isfinite(value).all()]:
        raise Refusal(f"{listed(broken, 3)} of {directory} would hold NaN or infinity; nothing is written")
    tensors = halved(tensors) if half else tensors
    write_together(
        {
            directory / WEIGHTS_FILE: lambda file: file.write(save(tensors, metadata={"format": "pt"})),
            directory / CONFIG_FILE: lambda file: file.write(text.encode()),
            directory / CARD_FILE: lambda file: file.write(card.encode()),
        }
    )


def name_to_load(directory: Path) -> str:
    """What a card tells people to load; a shipped checkpoint's name means that one, wherever it is read."""
    name, is_shipped = directory.resolve().name, directory.resolve().parent == SHIPPED.resolve()
    return f"./{name}" if name in shipped_names() and not is_shipped else name


def check_is_loadable(model: Network, text: str) -> None:
    """Refuse a network that was changed since it was built, and no longer is what its configuration says.

    Args:
        text: its `config.json`.

    Raises:
        Refusal: for labels that are not one distinct name a class or would be read back as others,
            preprocessing and calibration that are not allowed, a `config.json` that is too large, tensors of
            other shapes, and weights of another type than float32, float16 and bfloat16.
    """
    classes = model.config.num_classes
    if len(model.labels) != classes or len(set(model.labels)) != classes:
        raise Refusal(
            f"{len(model.labels)} labels, {len(set(model.labels))} of them distinct, for {classes} classes; "
            "give model.labels one name for each"
        )
    values = json.loads(text)
    read_preprocess(values, model.config)
    labels = read_labels(values, model.config)
    read_calibration(values, len(labels))
    if (size := len(text.encode())) > MOST_BYTES[CONFIG_FILE]:
        raise Refusal(
            f"{CONFIG_FILE} would have {size:,} bytes, more than {MOST_BYTES[CONFIG_FILE]:,}; shorten "
            "model.labels"
        )
    if changed := [mine for mine, read in zip(model.labels, labels, strict=True) if mine != read]:
        raise Refusal(
            f"label {str(changed[0])[:40]!r} would not be read back as it is; give printable text of at most "
            f"{MOST_NAME} characters"
        )
    with SkipRandomFill():
        wanted = {key: tuple(value.shape) for key, value in build_network(model.config).state_dict().items()}
    found = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if changed := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
        shown = [f"{key} is {found.get(key)}, expected {wanted.get(key)}" for key in changed]
        raise Refusal(
            f"{model.config.name} is not what its configuration says: {listed(shown, 3, '; ')}; change "
            "model.config with it, e.g. dataclasses.replace(model.config, num_classes=3)"
        )
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.dtype not in WIDENED:
            raise Refusal(f"{key} is {value.dtype}, which from_pretrained does not read; call model.float()")


def halved(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of convolutions and linear layers in float16, all else as it is.

    Those are the tensors of two or more dimensions. Biases, batch-norm parameters and statistics are small,
    and statistics may lie outside float16's range.

    Raises:
        Refusal: for a weight beyond float16's largest number.
    """
    kept = {k: v.half() if v.dim() > 1 else v for k, v in state_dict.items()}
    for key, tensor in kept.items():
        if tensor.dtype == torch.float16 and not torch.isfinite(tensor).all():
            largest, most = state_dict[key].abs().max().item(), torch.finfo(torch.float16).max
            raise Refusal(f"{key} reaches {largest:g} and float16 {most:,.0f}; save it without half=True")
    return kept


def push_checkpoint(
    model: Network,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    half: bool = False,
) -> str:
    """Upload the checkpoint in one commit, creating the repository; returns its address.

    Raises:
        CheckpointError: when the upload fails.
        Refusal: with `half`, for weights that float16 cannot hold.
    """
    with TemporaryDirectory() as folder:
        card = render_card(model, load_from=repo_id, half=half)
        save_checkpoint(model, Path(folder), card=card, half=half)
        return push_folder(repo_id, Path(folder), private=private, token=token).url


def problem_type(model: Network) -> dict[str, str]:
    """What makes transformers' pipeline take sigmoids, for a network that answers each class by itself."""
    return {"problem_type": MULTI_LABEL} if model.calibration.class_thresholds else {}


def config_json(model: Network) -> dict[str, Any]:
    """The contents of `config.json`: timm's fields at the root, ours under `resnet_hub`."""
    config = model.config
    name, model_args = architecture(config)
    calibration = asdict(model.calibration)
    for rare in ("half_precisions", "class_thresholds"):
        if not calibration[rare]:
            del calibration[rare]
    return {
        "architecture": name,
        "num_classes": config.num_classes,
        "label_names": list(model.labels),
        **problem_type(model),
        **({"model_args": model_args} if model_args else {}),
        "pretrained_cfg": model.preprocess.to_pretrained_cfg()
        | {
            "num_classes": config.num_classes,
            "fixed_input_size": model.fixed_input_size,
            # Older timm converts the weights of a convolution named here to three channels, whatever it has.
            "first_conv": model.first_conv if config.in_chans in (1, 3) else None,
            "classifier": model.classifier_name,
        },
        "resnet_hub": {
            "format": 1,
            "config": config.to_dict(),
            "calibration": calibration,
        },
    }
