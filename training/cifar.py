"""`python -m training.cifar MODEL --data DIR|cifar10 --out RUN`: train a small-image network from scratch.

Every choice is made on held-out training images; the test part is measured once, at the end. The run
directory holds all a model card needs. Several processes: `torchrun --nproc-per-node=N -m training.cifar ...`
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch import nn

from resnet_hub.command import program_name, run_command
from resnet_hub.hub.bounds import check_maps
from resnet_hub.models.base import Network
from resnet_hub.models.build import build_network
from resnet_hub.models.flags import add_override_flags, network_name, overrides_from, own_design
from resnet_hub.models.registry import model_config
from resnet_hub.preprocess import FRAMINGS
from training.augment import Feed
from training.command import (
    add_run_flags,
    class_counts,
    fit,
    goes_on,
    load_images_to_train,
    new_trainer,
    run_identity,
    run_training,
    sized,
)
from training.data import DATA, Images, measured_preprocess, usual_shape, whole_image
from training.distributed import share
from training.evaluate import finish_run
from training.extend import take_weights
from training.job import job_command
from training.optim import whitening_filters
from training.outliers import facts as outlier_facts
from training.recipes import recipe_from
from training.sections import in_sections

FIRST = (
    "model",
    "data",
    "out",
    "recipe",
    "epochs",
    "batch_size",
    "lr",
    "augment",
    "resume",
    "device",
    "help",
)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program_name("training.cifar"), description=__doc__.split("\n")[0])
    words = "see resnet_hub.list_models()"
    parser.add_argument("model", type=network_name, metavar="MODEL", help=words)
    parser.add_argument(
        "--data",
        required=True,
        help=DATA,
    )
    add_run_flags(parser, recipe="fast")
    add_override_flags(parser)
    parser.add_argument(
        "--print-job",
        action="store_true",
        help="train nothing; print the `hf jobs` command that does it on a rented GPU and publishes the run",
    )
    in_sections(parser, FIRST)
    return parser.parse_args(arguments)


def build_model(options, train: Images) -> Network:
    """The network the command line asks for, fresh, for images of the data's channels, size and classes."""
    torch.manual_seed(options.seed)
    overrides = overrides_from(options) | {"input_size": train.shape[1:], "in_chans": train.shape[0]}
    if options.drop_rate is not None:
        overrides["drop_rate"] = options.drop_rate
    config = model_config(options.model, num_classes=len(train.classes), **overrides)
    config = own_design(config, options.set)
    check_maps(config, config.input_size)  # what is trained has to load again
    model = build_network(config)
    model.labels, model.preprocess = train.classes, measured_preprocess(train, crop_mode(options))
    return model


def crop_mode(options) -> str:
    """What `--framing` is called in a checkpoint."""
    return FRAMINGS[options.framing or "crop"]


def whiten_stem(conv: nn.Conv2d, feed: Feed, pixels: int = 2000 * 32 * 32) -> None:
    """Start a stem convolution from filters that whiten the patches of about so many pixels of training
    images, taken evenly from all of them."""
    _, height, width = feed.data.shape
    images = max(pixels // (height * width), 1)
    index = torch.arange(0, len(feed.data), max(len(feed.data) // images, 1))
    x, _, _ = next(feed.batches(0, [(0, index)], min(height, width)))
    patches = nn.functional.unfold(x, conv.kernel_size, stride=3)  # (N, C * k * k, places)
    patches = patches.transpose(1, 2).reshape(-1, *conv.weight.shape[1:])
    filters = whitening_filters(patches, len(conv.weight))
    with torch.no_grad():
        conv.weight[: len(filters)] = filters


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Train, then measure on the test part and write the run directory."""
    recipe = recipe_from(options)
    channels, *usual = usual_shape(options.data)
    size = overrides_from(options).get("input_size", tuple(usual))
    view = whole_image(size, options.in_chans or channels, crop_mode(options))
    training, held_out, outliers = load_images_to_train(options, recipe, view)
    counts = class_counts(training)
    model = build_model(options, training).to(device)
    take_weights(model, options)
    recipe = sized(recipe, model, options)
    identity = run_identity(model, training, held_out, outliers)
    trainer = new_trainer(
        model, recipe, training, model.preprocess, options, device, identity=identity, outliers=outliers
    )
    if recipe.whiten and not goes_on(options.out, device):  # from weights that are about to be read
        judges = [] if trainer.judge is None else [trainer.judge.net]
        for net in [*([] if options.extends else [model]), *judges]:
            first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
            whiten_stem(first, trainer.feed)
            share(first.weight.data)  # machines may differ in the last bits
    total = sum(p.numel() for p in model.parameters())
    facts = {"class_counts": counts, "total_params": total} | outlier_facts(options, outliers)
    fit(trainer, held_out, options)
    finish_run(trainer, model, training, held_out, options, facts)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if options.print_job:
        given = sys.argv[1:] if arguments is None else arguments
        words = [word for word in given if word != "--print-job"]
        return run_command("training.cifar", lambda: print(job_command(words, options)))
    return run_training("training.cifar", train, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
