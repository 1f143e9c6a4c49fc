"""`python -m training.transfer --weights SRC --data IMAGE_FOLDER --mode MODE --out RUN`: fine-tune a network.

The network comes with weights from timm, torchvision, the Hub or a directory and gets a new classifier. How
much of it learns, and how fast, is a list of patterns; what is frozen stays bit for bit as it was.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from resnet_hub import create_model, from_pretrained
from resnet_hub.command import program_name, run_command
from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.engine import ENGINES
from resnet_hub.errors import first_line, listed
from resnet_hub.geometry import totals, trace
from resnet_hub.hub.bounds import check_maps
from resnet_hub.lab.fine_tuning import FAR_SHARE, FEW, MODES, SOME, Rates, mode_for, mode_rates
from resnet_hub.models.base import Network
from resnet_hub.models.build import build_network
from resnet_hub.models.flags import parse_size
from resnet_hub.preprocess import FRAMINGS, Preprocess
from training.command import (
    add_run_flags,
    class_counts,
    find_to_train,
    fit,
    new_trainer,
    precision,
    read_to_train,
    run_identity,
    run_training,
    sized,
)
from training.data import (
    DATA,
    DataError,
    Images,
    ImageSet,
    normalise,
    whole_image,
    with_classes,
)
from training.distributed import rank
from training.evaluate import finish_run
from training.extend import take_weights
from training.features import stored_features
from training.inference import feature_engine
from training.multilabel import is_multi
from training.optim import freeze
from training.outliers import facts as outlier_facts
from training.recipes import Recipe, recipe_from, refuse_idle
from training.sections import in_sections

FIRST = ("weights", "data", "out", "mode", "input", "framing", "epochs", "lr", "augment", "resume", "help")
BATCH, BATCH_ON_CPU = 64, 16  # images whose features are computed at once; a processor's caches hold fewer


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program_name("training.transfer"), description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights",
        required=True,
        metavar="SRC",
        help="timm/<model>, torchvision/<WeightsName> (e.g. torchvision/ResNet50_Weights.IMAGENET1K_V2), "
        "a Hub repository or a directory",
    )
    parser.add_argument("--data", required=True, help=DATA)
    parser.add_argument(
        "--mode",
        choices=[*MODES, "auto"],
        help="feature: the new head; partial: the last stage too; full: everything, early layers slowest; "
        f"auto (the default): by the number of images (up to {FEW:,}, up to {SOME:,}, above)",
    )
    parser.add_argument(
        "--rate",
        action="append",
        nargs="?",
        const="",
        metavar="PATTERN=SHARE",
        help="instead of --mode's: share of --lr for parameters whose name starts with PATTERN, 0 to freeze "
        "(a ResNet's layers are conv1 bn1 layer1 ... layer4 fc); may be repeated, the "
        "first match counts; without a value it lists the layers of --weights",
    )
    parser.add_argument(
        "--far",
        action="store_true",
        help="the images are unlike those --weights learned from (scans, microscopy, much larger photos): "
        f"mode full, with every layer at {FAR_SHARE} of --lr",
    )
    parser.add_argument(
        "--keep-head",
        action=argparse.BooleanOptionalAction,
        help="start from the network's own classifier, its rows found by name (default: where it knows every "
        "class of the data)",
    )
    parser.add_argument("--input", metavar="N|HxW", help="size in pixels (default: the network's own)")
    about = "what computes the features of mode feature (default: auto, the network with its norms folded)"
    parser.add_argument("--engine", choices=ENGINES, default="auto", help=about)
    add_run_flags(parser, recipe="transfer")
    in_sections(parser, FIRST)
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
        why = first_line(error)
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


def with_new_head(
    pretrained: Network,
    classes: tuple[str, ...],
    changes: dict,
    framing: str | None = None,
    keep: bool = False,
) -> Network:
    """The same network and weights with a classifier for `classes`: fresh, or `keep` its rows for them."""
    config = pretrained.config.override(num_classes=len(classes), **changes)
    check_maps(config, config.input_size)  # what is trained has to load again
    model = build_network(config)
    head = model.classifier_name
    assert head is not None
    kept = {k: v for k, v in pretrained.state_dict().items() if not k.startswith(head + ".")}
    result = model.load_state_dict(kept, strict=False)
    assert not result.unexpected_keys and all(key.startswith(head) for key in result.missing_keys)
    if keep:
        ours, theirs = (net.get_submodule(head) for net in (model, pretrained))
        rows = torch.tensor([pretrained.labels.index(name) for name in classes])
        ours.load_state_dict({name: value[rows] for name, value in theirs.state_dict().items()})
    model.labels = classes
    # Images are trained and measured on whole, as far as their shape allows.
    view = framed(pretrained, config.input_size, framing)
    model.preprocess = replace(view, std=pretrained.preprocess.std)
    return model


def framed(pretrained: Network, size: tuple[int, int], framing: str | None) -> Preprocess:
    """How images are read to train on; without `--framing` as the pretrained network frames them."""
    seen = pretrained.preprocess
    mode = FRAMINGS[framing] if framing else seen.crop_mode
    return whole_image(size, pretrained.config.in_chans, mode, seen.mean)


def with_channels(pretrained: Network, channels: int | None) -> Network:
    """The network for images of so many channels, its first convolution's weights shared out among them.

    Grey gets the sum over the colours; more channels repeat them, at weights that keep the sum. Source:
    `timm.models.adapt_input_conv`.
    """
    had = pretrained.config.in_chans
    if channels is None or channels == had:
        return pretrained
    model = build_network(pretrained.config.override(in_chans=channels))
    state, first = pretrained.state_dict(), f"{pretrained.first_conv}.weight"
    repeated = state[first][:, torch.arange(channels) % had] * (had / channels)
    state[first] = state[first].sum(1, keepdim=True) if channels == 1 else repeated
    model.load_state_dict(state)
    seen = pretrained.preprocess
    mean, std = (tuple(v[i % had] for i in range(channels)) for v in (seen.mean, seen.std))
    model.preprocess = replace(seen, input_size=(channels, *seen.input_size[1:]), mean=mean, std=std)
    model.labels, model.source, model.revision = pretrained.labels, pretrained.source, pretrained.revision
    return model.eval()


def chosen_mode(mode: str, images: int, config: ModelConfig, similar: bool = True) -> str:
    """The mode itself; for "auto" the one that suits so many training images, and why."""
    if mode != "auto":
        return mode
    mode = mode_for(images, similar)
    if mode == "partial" and not isinstance(config, ResNetConfig):
        if rank() == 0:
            print(f"mode feature, because {config.name} has no stages of which the last could learn")
        return "feature"
    if rank() == 0:
        why = {
            "feature": f"with up to {FEW:,} images, training more than the head may overfit",
            "partial": f"up to {SOME:,} images are enough for the last stage, not for all of it",
            "full": f"more than {SOME:,} images can teach every layer",
        }
        by_number = f"because of {images:,} training images: {why[mode]}"
        print(f"mode {mode}, {by_number if similar else 'because of --far'}")
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
def read_features(
    model: Network,
    data,
    device: torch.device,
    engine: str = "auto",
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """What enters the classifier, (N, F) float32 on the CPU, computed in `dtype` where one is given, and the
    positions (N,) of the N images that could be read; `batch_size` of them at once, None for what suits."""
    run = feature_engine(model.eval(), device, engine, dtype)
    seen: list[Tensor] = []
    read: list[Tensor] = []
    usual = BATCH_ON_CPU if device.type == "cpu" else BATCH
    batches = torch.arange(len(data)).split(batch_size or usual)
    bar = tqdm(data.fetch(batches), f"features ({run})", len(batches), leave=False, disable=rank() > 0)
    for pixels, index in bar:
        if len(index):
            seen.append(run(normalise(pixels, model.preprocess, device)).cpu())
            read.append(index)
    if not read:
        raise DataError(f"{data.source} holds no readable image")
    return torch.cat(seen), torch.cat(read)


def feature_set(
    model: Network,
    data,
    device: torch.device,
    engine: str = "auto",
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
) -> tuple[Images, ImageSet, float]:
    """The images that can be read, their features that a frozen network gives, and the seconds that computing
    these took, now or when they were stored.

    Raises:
        DataError: when none can be read.
    """

    def compute(some, on: torch.device) -> Tensor:
        return read_features(model, some, on, engine, dtype, batch_size)[0]

    features, read, seconds = stored_features(model, data, device, compute, f"{engine} {dtype}")
    if len(data) and not len(read):
        raise DataError(f"{data.source} holds no readable image")
    kept = data if len(read) == len(data) else data.subset(read)
    return kept, ImageSet(features, kept.labels, kept.classes, kept.source), seconds


def keeps_head(asked: bool | None, pretrained: Network, classes: tuple[str, ...]) -> bool:
    """Whether the pretrained classifier is kept: as asked, else where it knows every class.

    Raises:
        ValueError: when it is asked for and a class is new.
    """
    new = [name for name in classes if name not in pretrained.labels]
    if asked and new:
        raise ValueError(f"--keep-head: the network does not know {listed(new, 5)}; leave it out")
    keeps = asked if asked is not None else not new
    if keeps and asked is None and rank() == 0:
        print("keeping the classifier of --weights, which knows every class; --no-keep-head starts a new one")
    return keeps


def build_model(options, pretrained: Network, classes: tuple[str, ...]) -> Network:
    """The pretrained network with a head for `classes`, kept or drawn from the seed."""
    changes = {} if options.input is None else {"input_size": parse_size(options.input)}
    if changes and pretrained.fixed_input_size:
        raise ValueError(f"--input {options.input}: {pretrained.config.name} takes its own size only")
    if options.drop_rate is not None:
        changes["drop_rate"] = options.drop_rate
    keep = keeps_head(options.keep_head, pretrained, classes)
    torch.manual_seed(options.seed)
    return with_new_head(pretrained, classes, changes, options.framing, keep)


BELOW_HEAD = (
    "augment", "crop_padding", "mixup", "cutmix", "low_res", "low_res_until", "hard_share", "drop_path",
    "layer_decay", "bias_lr", "muon_lr", "muon_momentum", "outliers", "sync_batch_norm",
)  # fmt: skip


def on_features(options, recipe: Recipe) -> Recipe:
    """The recipe for a head alone, on features computed once: nothing that works on images or other layers,
    so that SGD takes Muon's place.

    Raises:
        ValueError: for a flag that asks for it.
    """
    why = "works on images or on the layers below the head, which learns alone here; give --mode partial"
    refuse_idle(options, BELOW_HEAD, why)
    if recipe.optimizer == "muon":
        recipe = replace(recipe, optimizer="sgd", muon_lr=0.0)
    recipe = replace(recipe, augment=(), mixup=0.0, cutmix=0.0, low_res=0, low_res_until=0.0, hard_share=1.0)
    return replace(recipe, whiten=False, drop_path=0.0, layer_decay=1.0, bias_lr=0.0)


def chosen_rates(options, model: Network, images: int, layer_decay: float = 1.0) -> tuple[str, Rates]:
    """(mode, rates) that the flags, and the recipe's `layer_decay`, ask for.

    Raises:
        ValueError: for flags that contradict one another.
    """
    if options.rate:
        if other := f"--mode {options.mode}" if options.mode else "--far" * options.far:
            raise ValueError(f"--rate and {other} both say what learns; give one of them")
        return "given", given_rates(options.rate)
    mode = chosen_mode(options.mode or "auto", images, model.config, not options.far)
    if options.far and options.mode in ("feature", "partial"):
        raise ValueError(f"--far has no effect on --mode {mode}; give --mode full or auto")
    if options.far and layer_decay < 1:
        raise ValueError("--far and --layer-decay both say how fast --mode full learns; give one of them")
    if layer_decay < 1 and mode == "full":
        return mode, (("", 1.0),)  # the decay is the whole profile
    assert model.classifier_name is not None
    return mode, mode_rates(mode, model.config, model.classifier_name, not options.far)


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Fine-tune, then measure on the test part and write the run directory."""
    recipe = recipe_from(options)
    if recipe.whiten:
        raise ValueError("--whiten reinitialises the stem, and fine-tuning keeps it; give --no-whiten")
    pretrained = with_channels(load_weights(options.weights), options.in_chans)
    recipe = sized(recipe, pretrained, options)
    size = parse_size(options.input) if options.input else pretrained.config.input_size
    view = framed(pretrained, size, options.framing)
    found, held_out, outliers = find_to_train(options, recipe, view)
    if knows_all(pretrained, found.classes):
        several = is_multi(found.labels)
        found, held_out = (with_classes(data, pretrained.labels, several) for data in (found, held_out))
    model = build_model(options, pretrained, found.classes).to(device)
    take_weights(model, options)
    mode, rates = chosen_rates(options, model, len(found), recipe.layer_decay)
    shares = freeze(model, rates)
    is_head = not options.teacher and is_head_alone(model, shares)
    if is_head:
        recipe = on_features(options, recipe)
    elif options.engine != "auto":
        raise ValueError(
            f"--engine {options.engine} has no effect here: it computes features; give --mode feature"
        )
    training, held_out, outliers = read_to_train(options, recipe, found, held_out, outliers)
    facts: dict[str, Any] = {
        "base_model": base_model(pretrained, options.weights),
        "mode": mode,
        "rates": [list(rate) for rate in rates],
        **parameter_counts(model, mode),
        "class_counts": class_counts(training),
        **outlier_facts(options, outliers),
    }
    identity = run_identity(model, training, held_out, outliers)
    identity |= {name: facts[name] for name in ("base_model", "rates")}
    if is_head:
        trainer, parts, kept_out, cost = head_trainer(
            options, recipe, model, (training, held_out), shares, identity
        )
        (training, held_out), facts = parts, facts | cost
    else:
        kept_out = held_out
        given: dict[str, Any] = {"identity": identity, "shares": shares, "outliers": outliers}
        trainer = new_trainer(model, recipe, training, model.preprocess, options, device, **given)
    fit(trainer, kept_out, options)
    finish_run(trainer, model, training, held_out, options, facts)


def parameter_counts(model: Network, mode: str) -> dict[str, int]:
    """How many parameters learn, of how many; said aloud."""
    learn = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    if rank() == 0:
        print(f"mode {mode}: {learn:,} of {total:,} parameters learn")
    return {"trainable_params": learn, "total_params": total}


def is_head_alone(model: Network, shares: dict[str, float]) -> bool:
    """Whether nothing below the classifier learns, so that its inputs stay the same."""
    return set(shares) <= {f"{model.classifier_name}.{name}" for name in ("weight", "bias")}


def head_trainer(options, recipe: Recipe, model: Network, parts, shares, identity):
    """For (training, held-out): a trainer of the head alone, the images that can be read, the held-out
    features, and what the features cost."""
    device = next(model.parameters()).device
    is_asked = device.type == "cuda" or options.precision != "auto"
    dtype = precision(options, device) if is_asked else None  # engines choose better on a CPU
    shares = {f"1.{name.rpartition('.')[2]}": share for name, share in shares.items()}
    parts, (shown, kept_out), seconds = zip(
        *(feature_set(model, d, device, options.engine, dtype, options.eval_batch) for d in parts),
        strict=True,
    )
    net = nn.Sequential(nn.Dropout(model.config.drop_rate), model.get_classifier())
    cost = {
        "feature_pflops": forward_flops(model) * sum(map(len, parts)) / 1e15,
        "feature_seconds": sum(seconds),
        "precision": str(dtype or torch.float32).removeprefix("torch."),  # of nearly all the work
    }
    alone = argparse.Namespace(**vars(options) | {"precision": "fp32"})
    identity = identity | {"engine": options.engine, "precision of the features": cost["precision"]}
    trainer = new_trainer(
        net, recipe, shown, model.preprocess, alone, device, identity=identity, shares=shares
    )
    return trainer, parts, kept_out, cost


def knows_all(pretrained: Network, classes: tuple[str, ...]) -> bool:
    """Whether the network's classes are these, in whatever order."""
    return sorted(pretrained.labels) == sorted(classes)


def list_layers(model: Network) -> None:
    """Print what `--rate` can name: each layer and how many parameters it has."""
    head = model.classifier_name or ""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[name.partition(".")[0]] += parameter.numel()
    print("\n".join(f"{name:12} {count:>12,} parameters" for name, count in counts.items()))
    print(f"--rate {next(iter(counts))}=0 freezes the first of them; {head} is replaced to fit the classes")


def base_model(pretrained: Network, weights: str) -> str | None:
    """What the card calls the source: a directory by its whole path, which is not taken for a repository."""
    return str(Path(weights).resolve()) if pretrained.revision == "local" else pretrained.source


def forward_flops(model: Network) -> float:
    """Floating-point operations of one image's way through the network."""
    return 2.0 * totals(trace(model.config)).macs


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if "" in (options.rate or ()):
        return run_command("training.transfer", lambda: list_layers(load_weights(options.weights)))
    return run_training("training.transfer", train, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
