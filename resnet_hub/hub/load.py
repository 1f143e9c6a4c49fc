"""Checkpoints: the base class of every network, saved to and loaded from a directory or a Hub repository.

A checkpoint is `config.json` (timm's format, plus one `resnet_hub` object), `model.safetensors` and
`README.md` (the card). Nothing else in a repository is read and no code from it is ever run. Knows nothing
of particular networks: it is told how to build one from a configuration.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resnet_hub.config import ModelConfig, config_from_dict
from resnet_hub.geometry import totals, trace
from resnet_hub.hub.fetch import (
    CARD_FILE,
    CONFIG_FILE,
    MOST_BYTES,
    WEIGHTS_FILE,
    Checkpoint,
    CheckpointError,
    discard,
)
from resnet_hub.hub.timm_names import architecture
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.preprocess import Preprocess

# What reading a hostile file raises; RecursionError is a RuntimeError.
UNUSABLE = (
    ValueError, TypeError, AttributeError, OverflowError, RuntimeError, SafetensorError, OSError, MemoryError,
)  # fmt: skip
DAMAGED = (json.JSONDecodeError, UnicodeDecodeError, SafetensorError)  # another download may mend it
MOST_MAP_BYTES = 1 << 28  # of one feature map of one image; ResNet-50 at 2048x2048 has as many
MOST_MACS = 10**12  # of one image; ResNet-152 at 2048x2048 takes as many
MOST_NAMED = 2000  # keys in one message; ResNet-152 has 932
TIMM_TRAINING_ARGS = {"zero_init_last", "drop_rate", "drop_path_rate", "drop_block_rate"}
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Calibration:
    """What was fitted on held-out images so that the probabilities mean what they say.

    Args:
        temperature: logits are divided by it before the softmax (arXiv 1706.04599).
        energy_threshold: an image whose logsumexp(logits) is below it is called unfamiliar
            (arXiv 2010.03759); None where nobody measured one.
        false_alarms: share of familiar test images the threshold calls unfamiliar.
        detections: [what, number of images, share called unfamiliar] for images of other things.
    """

    temperature: float = 1.0
    energy_threshold: float | None = None
    false_alarms: float | None = None
    detections: tuple = ()

    @classmethod
    def from_dict(cls, values: dict) -> "Calibration":
        known = {field.name for field in fields(cls)}
        values = {k: v for k, v in values.items() if k in known}
        values["detections"] = tuple(
            (str(what), count, share) for what, count, share in values.get("detections", ())
        )
        calibration = cls(**values)
        numbers = [calibration.temperature, calibration.energy_threshold or 0, calibration.false_alarms or 0]
        numbers += [number for _, *pair in calibration.detections for number in pair]
        if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            raise ValueError(f"calibration: {values} holds something that is not a finite number")
        if not 0.01 <= calibration.temperature <= 100:
            raise ValueError(f"calibration: temperature={calibration.temperature} is not within 0.01 and 100")
        return calibration


def default_preprocess(config: ModelConfig) -> Preprocess:
    """ImageNet's evaluation pipeline; up to 64 pixels, the whole image with CIFAR-10's statistics."""
    size = (config.in_chans, *config.input_size)
    if config.in_chans not in (1, 3):
        return Preprocess(input_size=(3, *config.input_size))
    if config.in_chans == 1:
        return Preprocess(input_size=size, crop_pct=1.0, mean=(0.5,), std=(0.5,))
    if max(config.input_size) <= 64:
        return Preprocess(input_size=size, crop_pct=1.0, mean=CIFAR_MEAN, std=CIFAR_STD)
    return Preprocess(input_size=size)


class HubModel(nn.Module, PyTorchModelHubMixin):
    """Base of every network: a module that knows its configuration, labels, preprocessing and revision.

    Attributes:
        config: the `ModelConfig` it was built from.
        labels: class names, `num_classes` of them (numbers as text until some are given).
        preprocess: how an image becomes its input.
        calibration: temperature and threshold fitted on held-out images.
        revision: commit the weights come from, "shipped" or "local", None for fresh random weights.
        source: repository id or directory it was loaded from.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.labels: tuple[str, ...] = tuple(str(i) for i in range(config.num_classes))
        self.preprocess = default_preprocess(config)
        self.calibration = Calibration()
        self.revision: str | None = None
        self.source: str | None = None

    def predict(self, images, top_k: int = 5) -> list[list[tuple[str, float]]]:
        """Class probabilities of images.

        Args:
            images: a path, PIL image, bytes or open file, or a list of them.
            top_k: how many classes to return for each, most probable first.

        Returns:
            One list of (label, calibrated probability) for each image, also for a single image.

        Raises:
            ImageError: for an image that cannot be read.
            ValueError: for a network without classes, or for other channels than an image's.
        """
        from resnet_hub.predict import check_labels_images, classify

        check_labels_images(self)
        images = images if isinstance(images, (list, tuple)) else [images]
        return [prediction.top for prediction in classify(self, images, top_k=top_k)]

    def to_config_json(self) -> dict[str, Any]:
        """The contents of `config.json`: timm's fields at the root, ours under `resnet_hub`."""
        config = self.config
        name, model_args = architecture(config)
        values = {
            "architecture": name,
            "num_classes": config.num_classes,
            "label_names": list(self.labels),
            "model_args": model_args,
            "pretrained_cfg": self.preprocess.to_pretrained_cfg()
            | {
                "num_classes": config.num_classes,
                "fixed_input_size": self.fixed_input_size,
                # Where it knows the name, older timm makes three channels' weights of whatever it finds.
                "first_conv": self.first_conv if config.in_chans in (1, 3) else None,
                "classifier": self.classifier_name,
            },
            "resnet_hub": {
                "format": 1,
                "config": config.to_dict(),
                "calibration": asdict(self.calibration),
            },
        }
        return values if model_args else {k: v for k, v in values.items() if k != "model_args"}

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier, as timm calls it."""
        return self.config.num_classes

    @property
    def first_conv(self) -> str:
        """Name of the convolution that reads the image."""
        return next(name for name, module in self.named_modules() if isinstance(module, nn.Conv2d))

    @property
    def classifier_name(self) -> str | None:
        """Name of the last layer; None on a headless network."""
        linears = [name for name, module in self.named_modules() if isinstance(module, nn.Linear)]
        return linears[-1] if self.config.num_classes else None

    @property
    def fixed_input_size(self) -> bool:
        """Whether images of another size than the configuration's are refused."""
        return False

    def save_pretrained(self, save_directory: str | Path, *, card: str | None = None) -> None:
        """Write `config.json`, `model.safetensors` and `README.md` (`card`, or one from what is known)."""
        from resnet_hub.hub.card import render_card

        directory = Path(save_directory)
        text = json.dumps(self.to_config_json(), indent=2, ensure_ascii=False) + "\n"
        card = card or render_card(self, load_from=directory.name)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
        save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
        (directory / CONFIG_FILE).write_text(text, encoding="utf-8")
        (directory / CARD_FILE).write_text(card, encoding="utf-8")

    @classmethod
    def from_pretrained(cls, repo_id_or_dir: str | Path, **kwargs) -> "HubModel":
        """`resnet_hub.from_pretrained`, refusing a checkpoint of another class."""
        from resnet_hub import from_pretrained

        model = from_pretrained(str(repo_id_or_dir), **kwargs)
        if not isinstance(model, cls):
            raise CheckpointError(f"{repo_id_or_dir} holds a {type(model).__name__}, not a {cls.__name__}")
        return model

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload the checkpoint to `repo_id` in one commit, creating the repository; returns its address.

        A model card that is there already is merged with the new one (see `card_merge`).

        Raises:
            resnet_hub.fetch.CheckpointError: when it cannot be uploaded.
        """
        from resnet_hub.hub.card import render_card
        from resnet_hub.hub.push import push_folder

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, card=render_card(self, load_from=repo_id))
            pushed = push_folder(repo_id, Path(folder), private=private, token=token)
        return pushed.url


class SkipRandomFill(TorchFunctionMode):
    """Build a network without drawing the random weights that a checkpoint is about to replace.

    The meta device would do, but its first use imports 900 modules: 1.5 s of a first click.
    """

    SKIPPED = {
        Tensor.normal_, Tensor.uniform_,
        nn.init.normal_, nn.init.uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_,
    }  # fmt: skip

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def load_checkpoint(checkpoint: Checkpoint, build: Callable[[ModelConfig], HubModel]) -> HubModel:
    """Build the network a checkpoint describes and fill it with its weights, in eval mode.

    A damaged file of the Hub cache is deleted, so that the next attempt downloads it again.

    Raises:
        CheckpointError: for a bad configuration, or weights that do not fit it key by key.
    """
    with naming(checkpoint, checkpoint.config):
        values = read_json(checkpoint.config)
        config = read_config(values)
        preprocess = read_preprocess(values, config)
        if "resnet_hub" not in values:  # timm's name stands for any size
            config = replace(config, input_size=preprocess.input_size[1:])
        labels = read_labels(values, config)
        calibration = Calibration.from_dict(values.get("resnet_hub", {}).get("calibration", {}))
    with naming(checkpoint, checkpoint.weights):
        parameters, held = totals(trace(config)).params, checkpoint.weights.stat().st_size
        if parameters > held:  # before memory is asked for
            raise ValueError(f"{held:,} bytes cannot hold the network's {parameters:,} parameters")
        with SkipRandomFill():
            model = build(config)
        model.load_state_dict(read_weights(checkpoint.weights, model), assign=True)
    model.preprocess, model.labels, model.calibration = preprocess, labels, calibration
    model.source, model.revision = checkpoint.source, checkpoint.revision
    return model.eval()


@contextmanager
def naming(checkpoint: Checkpoint, file: Path) -> Iterator[None]:
    """Turn what a bad file raises into a CheckpointError that names it; a damaged one leaves the cache."""
    try:
        yield
    except CheckpointError:
        raise
    except UNUSABLE as error:
        if checkpoint.is_cached and isinstance(error, DAMAGED):
            discard(file)
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{checkpoint.source}: {file.name}: {cause}") from error


def read_json(path: Path) -> dict:
    """The object in a `config.json`.

    Raises:
        ValueError: for anything else, or a file larger than any configuration.
    """
    if path.stat().st_size > MOST_BYTES[CONFIG_FILE]:
        raise ValueError(f"more than {MOST_BYTES[CONFIG_FILE]:,} bytes")
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"holds a JSON {type(values).__name__}; a configuration is an object")
    return values


def read_config(values: dict) -> ModelConfig:
    """The network a `config.json` describes: ours in full, or a timm ResNet by its architecture name."""
    if "resnet_hub" in values:
        fields_of_ours = values["resnet_hub"].get("config")
        if not isinstance(fields_of_ours, dict):
            raise ValueError("resnet_hub.config is not there; it describes the network")
        return config_from_dict(fields_of_ours)
    name = str(values.get("architecture"))
    if name not in list_models():
        raise ValueError(f"architecture {name!r} is not one of {', '.join(list_models())}")
    overrides = {"num_classes": values.get("num_classes", 1000)} | (values.get("model_args") or {})
    foreign = sorted(overrides.keys() - {"num_classes", "in_chans", "global_pool"} - TIMM_TRAINING_ARGS)
    if foreign:  # output_stride, say, would load and answer wrongly
        raise ValueError(f"model_args {', '.join(foreign)} make another network than timm's {name}")
    return model_config(name, **{k: v for k, v in overrides.items() if k not in TIMM_TRAINING_ARGS})


def read_preprocess(values: dict, config: ModelConfig) -> Preprocess:
    """The checkpoint's own preprocessing."""
    preprocess = Preprocess.from_pretrained_cfg(values.get("pretrained_cfg", {}))
    if config.in_chans in (1, 3) and preprocess.input_size[0] != config.in_chans:
        raise ValueError(f"input_size {preprocess.input_size} does not have {config.in_chans} channels")
    check_maps(config, preprocess.input_size[1:])
    return preprocess


def check_maps(config: ModelConfig, size: tuple[int, int]) -> None:
    """Refuse images that the network cannot take, whose maps would fill the memory or take minutes.

    Raises:
        ValueError: naming the size, and the largest map or the cost.
    """
    rows = trace(config, size)
    largest = max(rows, key=lambda row: row.activation_bytes)
    if largest.activation_bytes > MOST_MAP_BYTES:
        raise ValueError(
            f"input_size {size[0]}x{size[1]} makes {largest.name} a map of {largest.activation_bytes:,} "
            f"bytes; {MOST_MAP_BYTES:,} is the most that is loaded, so give a smaller input_size"
        )
    if (macs := totals(rows).macs) > MOST_MACS:
        raise ValueError(
            f"input_size {size[0]}x{size[1]} takes {macs:,} multiply-adds an image; {MOST_MACS:,} is the "
            "most that is loaded, so give a smaller input_size"
        )


def read_labels(values: dict, config: ModelConfig) -> tuple[str, ...]:
    """One distinct name a class; ImageNet's own where a 1000-class checkpoint names none."""
    names = values.get("label_names")
    if names is None and config.num_classes == 1000:
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        names = told_apart([info.index_to_description(i) for i in range(1000)])
    if names is None:
        names = range(config.num_classes)
    elif isinstance(names, dict):  # timm allows {class: name}
        names = [name for _, name in sorted(names.items(), key=lambda pair: int(pair[0]))]
    labels = tuple(str(name)[:200] for name in names)
    if len(labels) != config.num_classes or len(set(labels)) != len(labels):
        raise ValueError(
            f"{len(labels)} label_names, {len(set(labels))} of them distinct, "
            f"for {config.num_classes} classes; give each class a name of its own"
        )
    return labels


def told_apart(names: list[str]) -> list[str]:
    """The names, with their number where two classes share one: ImageNet has two kinds of crane."""
    return [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def read_weights(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Tensors of a safetensors file, checked by name, shape and finiteness before they are used."""
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    counts = {key for key in wanted if key.endswith("num_batches_tracked")}
    with safe_open(path, framework="pt") as file:
        found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        problems = [
            *(f"missing {k}" for k in wanted.keys() - found.keys() - counts),
            *(f"unexpected {k}" for k in found.keys() - wanted.keys()),
            *(f"{k} is {found[k]}, expected {wanted[k]}" for k in wanted.keys() & found.keys()
              if wanted[k] != found[k]),
        ]  # fmt: skip
        if problems:
            more = f"; and {len(problems) - MOST_NAMED:,} more" if len(problems) > MOST_NAMED else ""
            raise ValueError("; ".join(sorted(problems)[:MOST_NAMED]) + more)
        tensors = {key: file.get_tensor(key) for key in found}
    for key, tensor in tensors.items():
        if tensor.is_floating_point() == (key in counts):
            raise ValueError(f"{key} is of type {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{key} holds NaN or infinity")
    for key in wanted.keys() - tensors.keys():
        tensors[key] = torch.zeros((), dtype=torch.long)
    # Copies: safetensors maps the file, and a file that is replaced later would change the network.
    return {
        k: t.to(torch.float32 if t.is_floating_point() else t.dtype, copy=True) for k, t in tensors.items()
    }
