"""`python -m training.transfer --weights SRC --data IMAGE_FOLDER --mode MODE --out RUN`: fine-tune a network.

The network comes with weights from timm, torchvision, the Hub or a directory and gets a new classifier. How
much of it learns, and how fast, is a list of patterns; what is frozen stays bit for bit as it was.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from resnet_hub import create_model, from_pretrained
from resnet_hub.command import program_name
from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.engine import add_engine_flags
from resnet_hub.geometry import totals, trace
from resnet_hub.lab.fine_tuning import FEW, MODES, SOME, Rates, mode_for, mode_rates
from resnet_hub.models.base import Network
from resnet_hub.models.build import build_network
from resnet_hub.models.flags import parse_size
from resnet_hub.preprocess import Preprocess
from training.command import (
    add_run_flags,
    class_counts,
    fit,
    load_images_to_train,
    new_trainer,
    run_identity,
    run_training,
    sized,
)
from training.data import ImageSet, normalise, whole_image
from training.distributed import rank
from training.evaluate import finish_run
from training.inference import feature_engine
from training.optim import freeze
from training.recipes import Recipe, recipe_from


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program_name("training.transfer"), description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights",
        required=True,
        metavar="SRC",
        help="timm/<model>, torchvision/<WeightsName> (e.g. torchvision/ResNet50_Weights.IMAGENET1K_V2), "
        "a Hub repository or a directory",
    )
    parser.add_argument("--data", required=True, help="a folder with train/ and test/ or val/, or of classes")
    parser.add_argument(
        "--mode",
        choices=[*MODES, "auto"],
        default="auto",
        help="feature: the new head; partial: the last stage too; full: everything, early layers slowest; "
        f"auto: by the number of images (up to {FEW:,}, up to {SOME:,}, above)",
    )
    parser.add_argument(
        "--rate",
        action="append",
        metavar="PATTERN=SHARE",
        help="instead of --mode's: share of --lr for parameters whose name a pattern begins, 0 to freeze; "
        "may be repeated, the first match counts",
    )
    parser.add_argument("--input", metavar="N|HxW", help="size in pixels (default: the network's own)")
    add_engine_flags(parser, precision=False)
    add_run_flags(parser, recipe="transfer")
    return parser.parse_args(arguments)


def load_weights(source: str) -> Network:
    """The pretrained network `--weights` names, in eval mode.

    Raises:
        ValueError: when it cannot be loaded, naming the source and what is allowed.
    """
    library, _, name = source.partition("/")
    if library == "torchvision":
        return _from_torchvision(name)
    if library == "timm" and "." not in name:
        import timm

        cfg = timm.get_pretrained_cfg(name)
        if cfg is None or not cfg.hf_hub_id:
            raise ValueError(f"--weights {source}: timm has no pretrained weights of that name")
        source = cfg.hf_hub_id
    return from_pretrained(source)


def _from_torchvision(name: str) -> Network:
    from torchvision.models import get_weight

    try:
        weights = get_weight(name)
    except (ValueError, AttributeError, KeyError) as error:
        raise ValueError(
            f"--weights torchvision/{name}: no such weights; e.g. torchvision/ResNet18_Weights.IMAGENET1K_V1"
        ) from error
    try:
        model = create_model(type(weights).__name__.removesuffix("_Weights").lower())
    except ValueError as error:
        raise ValueError(f"--weights torchvision/{name}: no such network here ({error})") from error
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"--weights torchvision/{name}: {error}; {weights.url} could not be downloaded"
        ) from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"--weights torchvision/{name}: the network here is another ({why})") from error
    shown = weights.transforms()
    (crop,), (short_side,) = shown.crop_size, shown.resize_size
    model.preprocess = Preprocess(
        input_size=(3, crop, crop),
        crop_pct=crop / short_side,
        interpolation=shown.interpolation.value,
        mean=tuple(shown.mean),
        std=tuple(shown.std),
    )
    model.labels, model.source = tuple(weights.meta["categories"]), f"torchvision/{name}"
    return model.eval()


def with_new_head(pretrained: Network, classes: tuple[str, ...], changes: dict) -> Network:
    """The same network and weights with a fresh classifier for `classes`."""
    config = pretrained.config.override(num_classes=len(classes), **changes)
    model = build_network(config)
    head = model.classifier_name
    kept = {k: v for k, v in pretrained.state_dict().items() if not k.startswith(head + ".")}
    result = model.load_state_dict(kept, strict=False)
    assert not result.unexpected_keys and all(key.startswith(head) for key in result.missing_keys)
    model.labels = classes
    # Images are trained and measured on as `Preprocess` crops them by default, all of the short side.
    seen = pretrained.preprocess
    size = (config.in_chans, *config.input_size)
    model.preprocess = Preprocess(input_size=size, crop_pct=1.0, mean=seen.mean, std=seen.std)
    return model


def chosen_mode(mode: str, images: int, config: ModelConfig) -> str:
    """The mode itself; for "auto" the one that suits so many training images, and why."""
    if mode != "auto":
        return mode
    mode = mode_for(images)
    if mode == "partial" and not isinstance(config, ResNetConfig):
        if rank() == 0:
            print(f"mode feature, because {config.name} has no stages of which the last could learn")
        return "feature"
    if rank() == 0:
        why = {
            "feature": f"with up to {FEW:,} images more parameters than a head's would learn them by heart",
            "partial": f"up to {SOME:,} images are enough for the last stage, not for all of it",
            "full": f"more than {SOME:,} images can teach every layer",
        }
        print(f"mode {mode}, because of {images:,} training images: {why[mode]}")
    return mode


def given_rates(rates: list[str]) -> Rates:
    """[("layer4", 0.01), ...] from --rate.

    Raises:
        ValueError: for something that is no PATTERN=SHARE, or where nothing would learn.
    """
    try:
        split = [rate.rsplit("=", 1) for rate in rates]
        pairs = tuple((re.compile(pattern).pattern, float(share)) for pattern, share in split)
    except (ValueError, re.error) as error:
        raise ValueError(f"--rate {rates}: give PATTERN=SHARE, e.g. layer4=0.01 ({error})") from None
    shares = [share for _, share in pairs]
    if not all(share >= 0 for share in shares) or not any(shares):
        raise ValueError(f"--rate {rates}: shares are 0 or more, and at least one is more")
    return pairs


@torch.no_grad()
def cached_features(
    model: Network, data, device: torch.device, engine: str = "auto", batch_size: int = 16
) -> Tensor:
    """What enters the classifier, for every image: (N, F) float32 on the CPU."""
    run = feature_engine(model.eval(), device, engine)
    batches = torch.arange(len(data)).split(batch_size)
    bar = tqdm(data.fetch(batches), f"features ({run})", len(batches), leave=False, disable=rank() > 0)
    return torch.cat([run(normalise(pixels, model.preprocess, device)).cpu() for pixels, _ in bar])


def feature_set(model: Network, data, device: torch.device, engine: str = "auto") -> ImageSet:
    """Images as the features a frozen network gives.

    Raises:
        ValueError: when some cannot be read.
    """
    features = cached_features(model, data, device, engine)
    if len(features) != len(data):
        raise ValueError(f"{data.source}: {len(data) - len(features)} images cannot be read; remove them")
    return ImageSet(features, data.labels, data.classes, data.source)


def build_model(options, pretrained: Network, classes: tuple[str, ...]) -> Network:
    """The pretrained network with a head for `classes`, drawn from the seed."""
    changes = {} if options.input is None else {"input_size": parse_size(options.input)}
    if changes and pretrained.fixed_input_size:
        raise ValueError(f"--input {options.input}: {pretrained.config.name} takes its own size only")
    if options.drop_rate is not None:
        changes["drop_rate"] = options.drop_rate
    torch.manual_seed(options.seed)
    return with_new_head(pretrained, classes, changes)


def on_features(recipe: Recipe) -> Recipe:
    """The recipe for a head alone: nothing that works on images."""
    return replace(recipe, augment=(), mixup=0.0, cutmix=0.0, low_res=0, whiten=False)


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Fine-tune, then measure on the test part and write the run directory."""
    recipe, pretrained = recipe_from(options), load_weights(options.weights)
    if recipe.whiten:
        raise ValueError("--whiten starts a stem anew, and a pretrained one is kept; give --no-whiten")
    recipe = sized(recipe, pretrained)
    size = parse_size(options.input) if options.input else pretrained.config.input_size
    view = whole_image(size, pretrained.config.in_chans)
    training, held_out = load_images_to_train(options, view)
    counts = class_counts(training)
    model = build_model(options, pretrained, training.classes).to(device)
    head = model.classifier_name
    mode = "given" if options.rate else chosen_mode(options.mode, len(training), model.config)
    rates = given_rates(options.rate) if options.rate else mode_rates(mode, model.config, head)
    shares = freeze(model, rates)
    facts: dict[str, Any] = {
        "base_model": base_model(pretrained, options.weights),
        "mode": mode,
        "rates": [list(rate) for rate in rates],
        "trainable_params": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_params": sum(p.numel() for p in model.parameters()),
        "class_counts": counts,
    }
    if rank() == 0:
        print(f"mode {mode}: {facts['trainable_params']:,} of {facts['total_params']:,} parameters learn")
    identity = run_identity(model, training, held_out)
    identity |= {name: facts[name] for name in ("base_model", "rates")}
    net: nn.Module = model
    shown, kept_out = training, held_out
    if set(shares) <= {f"{head}.weight", f"{head}.bias"} and not options.teacher:
        recipe = on_features(recipe)
        shares = {f"1.{name.rpartition('.')[2]}": share for name, share in shares.items()}
        shown, kept_out = (feature_set(model, data, device, options.engine) for data in (training, held_out))
        net = nn.Sequential(nn.Dropout(model.config.drop_rate), model.get_submodule(head))
        facts["feature_pflops"] = forward_flops(model) * (len(training) + len(held_out)) / 1e15
    trainer = new_trainer(
        net, recipe, shown, model.preprocess, options, device, identity=identity, shares=shares
    )
    fit(trainer, kept_out, options)
    finish_run(trainer, model, training, held_out, options, facts)


def base_model(pretrained: Network, weights: str) -> str | None:
    """What the card calls the source: a directory by its whole path, which is not taken for a repository."""
    return str(Path(weights).resolve()) if pretrained.revision == "local" else pretrained.source


def forward_flops(model: Network) -> float:
    """Floating-point operations of one image's way through the network."""
    return 2.0 * totals(trace(model.config)).macs


def main(arguments: list[str] | None = None) -> int:
    return run_training("training.transfer", train, parse_arguments(arguments), arguments)


if __name__ == "__main__":
    sys.exit(main())
