"""`python -m training.cifar MODEL --data DIR|cifar10 --out RUN`: train a small-image network from scratch.

Every choice is made on held-out training pictures; the test part is measured once, at the end. The run
directory holds all a model card needs.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch

from resnet_hub import create_model, list_models, model_config
from resnet_hub.device import add_device_flags, pick_device, pick_precision
from resnet_hub.preprocess import Preprocess
from training.data import DataError, ImageSet, load_data, split_held_out
from training.engine import Trainer, TrainingError, keep_freed_memory
from training.evaluate import finish_run
from training.recipes import RECIPES


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m training.cifar", description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=list_models(), metavar="MODEL", help="see resnet_hub.list_models()")
    parser.add_argument("--data", required=True, help="'cifar10', or a folder with train/ and test/")
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run directory to write")
    parser.add_argument("--recipe", choices=RECIPES, default="fast", help="default: fast")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's number")
    parser.add_argument("--held-out", type=int, default=5000, help="training pictures kept for choices")
    parser.add_argument("--data-name", help="what the card calls the data (default: where it was read from)")
    parser.add_argument(
        "--unfamiliar",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="pictures of other things, to measure how often they are noticed; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue from RUN/last.ckpt")
    add_device_flags(parser)
    return parser.parse_args(arguments)


def measured_preprocess(data: ImageSet) -> Preprocess:
    """The whole picture, normalised by the training pictures' own channel means and deviations."""
    pixels = data.images.transpose(0, 1).flatten(1)  # (3, N*H*W) uint8
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in pixels]).double()
    values = torch.arange(256, dtype=torch.double) / 255
    mean = (counts @ values) / counts.sum(1)
    std = ((counts @ values**2) / counts.sum(1) - mean**2).sqrt()
    return Preprocess(
        input_size=tuple(data.images.shape[1:]),
        crop_pct=1.0,
        mean=tuple(round(m, 4) for m in mean.tolist()),
        std=tuple(round(s, 4) for s in std.tolist()),
    )


def train(options: argparse.Namespace) -> None:
    """Train, then measure on the test part and write the run directory."""
    recipe = RECIPES[options.recipe]
    if options.epochs is not None:
        recipe = replace(recipe, epochs=options.epochs)
    run: Path = options.out
    if options.resume and (run / "run.json").exists():
        print(f"{run} is finished; nothing to do")
        return
    run.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    device = pick_device(options.device)
    size = model_config(options.model).input_size
    data = load_data(options.data, "train", size)
    kept, held_out = split_held_out(data.labels, options.held_out, options.seed)
    training, held_out = data.subset(kept), data.subset(held_out)
    torch.manual_seed(options.seed)
    model = create_model(options.model, num_classes=len(data.classes))
    model.labels, model.preprocess = data.classes, measured_preprocess(training)
    trainer = Trainer(
        model,
        recipe,
        model.preprocess,
        seed=options.seed,
        device=device,
        amp_dtype=pick_precision(options.precision, device),
    )
    if options.resume and (run / "last.ckpt").exists():
        trainer.load(run)
    elif options.resume:
        print(f"{run} holds no last.ckpt; starting afresh")
    trainer.fit(training, held_out, run)
    finish_run(trainer, training, held_out, options)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    shown = [a for a in (sys.argv[1:] if arguments is None else arguments) if a != "--resume"]
    options.command = f"python -m training.cifar {shlex.join(shown)}"
    try:
        train(options)
    except (DataError, TrainingError, ValueError) as error:
        print(f"training.cifar: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; continue with --resume --out {options.out}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
