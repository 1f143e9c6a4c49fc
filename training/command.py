"""What both trainers share: their flags, the states a run directory can be in, how they end.

nothing there           start
last.ckpt               go on with --resume, refuse without it (last.ckpt.prev: the one before it)
run.json (finished)     --resume changes nothing; refuse without it
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from resnet_hub import from_pretrained
from resnet_hub.command import INTERRUPTED, run_command
from resnet_hub.device import add_device_flags, pick_device, pick_precision
from resnet_hub.geometry import trace
from resnet_hub.models.base import Network
from resnet_hub.preprocess import Preprocess
from training.augment import Feed
from training.checkpoint import TrainingError, drop, held, kept, locked
from training.data import (
    DOWNLOADS,
    DataError,
    Images,
    check_parts,
    find_data,
    in_memory,
    split_held_out,
)
from training.distributed import any_process, process_group, rank
from training.engine import Stopped, Trainer, keep_freed_memory
from training.outliers import add_outliers_flag
from training.recipes import Recipe, add_recipe_flags
from training.unknown import add_unknown_flag


def add_run_flags(parser: argparse.ArgumentParser, recipe: str) -> None:
    """The flags of both trainers."""
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run directory to write")
    parser.add_argument("--resume", action="store_true", help="continue from RUN/last.ckpt")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, augmentation and split")
    parser.add_argument(
        "--held-out", type=int, help="training images kept for choices (default: a tenth, 5,000 at most)"
    )
    parser.add_argument("--train-images", type=int, help="train on so many of the images only")
    parser.add_argument("--data-name", help="what the card calls the data (default: where it was read from)")
    add_outliers_flag(parser)
    add_unknown_flag(parser)
    parser.add_argument("--teacher", metavar="REPO_OR_DIR", help="learn from this network's answers as well")
    parser.add_argument("--drop-rate", type=float, help="dropout of the network")
    parser.add_argument("--save-every", type=float, default=60, help="seconds between checkpoints")
    parser.add_argument("--tensorboard", action="store_true", help="log to RUN/tensorboard")
    parser.add_argument("--compile", action="store_true", help="run through torch.compile")
    parser.add_argument("--sync-batch-norm", action="store_true", help="batch statistics over all GPUs")
    add_device_flags(parser)
    add_recipe_flags(parser, recipe)


def run_training(
    program: str, train: Callable[[argparse.Namespace, torch.device], None], options, arguments
) -> int:
    """Train on this process's device; returns the exit status, as `run_command` does."""
    shown = [a for a in (sys.argv[1:] if arguments is None else arguments) if a != "--resume"]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    start = f"torchrun --nproc-per-node={processes}" if processes > 1 else "python"
    options.command = f"{start} -m {program} {shlex.join(shown)}"
    return run_command(program, lambda: start_or_resume(train, options))


def start_or_resume(train: Callable[[argparse.Namespace, torch.device], None], options) -> int:
    """Train as the state of the run directory says; 130 with what is kept when it is interrupted."""
    options.out.mkdir(parents=True, exist_ok=True)
    with locked(options.out) if rank() == 0 else nullcontext():
        if is_finished(options.out, options.resume):
            return 0
        keep_freed_memory()
        return train_and_say(train, options)


def train_and_say(train: Callable[[argparse.Namespace, torch.device], None], options) -> int:
    """Train; the exit status, with a sentence on what is kept when the run ends early.

    Raises:
        TrainingError: when something cannot be written.
    """
    try:
        with process_group(pick_device(options.device)) as device:
            use_fast_kernels(device)
            train(options, device)
    except Stopped:
        if rank() == 0:
            message = f"stopped and saved in {options.out}; the same command with --resume goes on"
            print(message, file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print(f"\ninterrupted; {kept(options.out)}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        raise TrainingError(f"{error}; {kept(options.out)}") from error
    return 0


def use_fast_kernels(device: torch.device) -> None:
    """On CUDA: TF32 for what autocast leaves in float32, and the fastest convolution found by trying."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True


def is_finished(run: Path, resume: bool) -> bool:
    """Whether there is nothing left to do.

    Raises:
        TrainingError: when it holds a run and nobody asked to go on with it.
    """
    found = [*(name for name in ("run.json",) if (run / name).exists()), *held(run)]
    if found and not resume:
        raise TrainingError(f"{run} holds a run ({found[0]}); give --resume, or another --out")
    if "run.json" in found:
        drop(run)  # a crash between the two leaves them
        if rank() == 0:
            print(f"{run} is finished; nothing to do")
        return True
    if resume and not found and rank() == 0:
        print(f"{run} holds no last.ckpt; starting afresh")
    return False


def load_images_to_train(options, view: Preprocess):
    """(training, validation) images as `view` cuts them; the test part, needed at the end, is looked for now.

    Raises:
        DataError: when something is missing.
    """
    check_parts(options.data)
    train, held_out = find_images_to_train(options.data, options.held_out, options.seed, view)
    return in_memory(some_of(train, options.train_images, options.seed)), in_memory(held_out)


def find_images_to_train(data: str, held_out: int | None, seed: int, view: Preprocess):
    """(training, validation) images, not yet read: `val/` where there is a test part beside it, else a split.

    Raises:
        DataError: when something is missing, or `held_out` is given beside `val/`.
    """
    root = Path(data)
    if data in DOWNLOADS or not ((root / "test").is_dir() and (root / "val").is_dir()):
        everything = find_data(data, "train", view)
        kept, held = split_held_out(everything.labels, held_out, seed)
        return everything.subset(kept), everything.subset(held)
    if held_out is not None:
        raise DataError(f"--held-out {held_out}: {root / 'val'} is what is held out")
    return find_data(data, "train", view), find_data(data, "val", view)


def some_of(train: Images, count: int | None, seed: int) -> Images:
    """`count` of the images, each class in proportion; None for all.

    Raises:
        DataError: when there are not so many.
    """
    if count is None or count == len(train):
        return train
    if not 0 < count < len(train):
        raise DataError(f"--train-images {count}: give 1 to {len(train)}, which are there to train on")
    share, _ = split_held_out(train.labels, len(train) - count, seed)
    return train.subset(share)


def class_counts(train) -> dict[str, int]:
    """Training images of each class; said aloud where they are out of balance."""
    counts = torch.bincount(train.labels, minlength=len(train.classes)).tolist()
    by_class = dict(zip(train.classes, counts, strict=True))
    if rank() == 0:
        shown = ", ".join(f"{name} {count:,}" for name, count in list(by_class.items())[:12])
        more = f" and {len(counts) - 12} more classes" if len(counts) > 12 else ""
        print(f"{len(train):,} training images: {shown}{more}")
        if max(counts) > 3 * max(min(counts), 1):
            least, most = (choose(by_class, key=by_class.__getitem__) for choose in (min, max))
            print(f"out of balance: {most} has {max(counts)}, {least} {min(counts)}; accuracy favours {most}")
    return by_class


def sized(recipe: Recipe, model: Network) -> Recipe:
    """The recipe without smaller images where the network's head is made for one size.

    Raises:
        ValueError: when the smaller images are too small for the network.
    """
    if not recipe.low_res:
        return recipe
    if not model.fixed_input_size:
        trace(model.config, recipe.low_res)
        return recipe
    if rank() == 0:
        print(f"{model.config.name} takes one size only: all epochs at {model.config.input_size}")
    return replace(recipe, low_res=0, low_res_until=0.0)


def precision(options, device: torch.device) -> torch.dtype | None:
    """The autocast dtype, the same on every process whatever each one's probe says."""
    dtype = pick_precision(options.precision, device)
    (is_bf16,) = any_process([dtype is torch.bfloat16], device)
    return torch.bfloat16 if is_bf16 else dtype


def run_identity(
    model: Network,
    training: Images,
    held_out: Images,
    outliers: Images | None = None,
) -> dict:
    """What a checkpoint must have in common with a run that goes on from it: the network and all images."""
    return {
        "config": model.config.to_dict(),
        "data": training.fingerprint(),
        "held_out": held_out.fingerprint(),
        "outliers": outliers and outliers.fingerprint(),
    }


def new_trainer(
    net: nn.Module,
    recipe: Recipe,
    data: Images,
    preprocess: Preprocess,
    options,
    device: torch.device,
    *,
    identity: dict,
    shares: dict[str, float] | None = None,
    outliers: Images | None = None,
) -> Trainer:
    """A trainer of `net` on `data` as the flags say.

    Args:
        identity: what a checkpoint must have in common with this run, beside recipe and seed.
        shares: parameter name -> share of the recipe's rate; None for all parameters alike.
        outliers: images of other things, to learn equal shares on.
    """
    if options.sync_batch_norm:
        if device.type != "cuda":
            raise ValueError("--sync-batch-norm works on GPUs only")
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    chosen = ("precision", "teacher", "sync_batch_norm")
    identity = identity | {name: getattr(options, name) for name in chosen}
    return Trainer(
        net,
        recipe,
        Feed(data, preprocess, recipe, options.seed, device),
        seed=options.seed,
        device=device,
        amp_dtype=precision(options, device),
        outliers=outliers,
        shares=shares,
        teacher=load_teacher(options, data.classes, preprocess, device),
        compiled=options.compile,
        save_every=options.save_every,
        identity=identity,
        log=tensorboard(options),
    )


def load_teacher(
    options, classes: tuple[str, ...], preprocess: Preprocess, device: torch.device
) -> Callable[[Tensor], Tensor] | None:
    """The logits to learn from, for images normalised as the learning network's `preprocess` says.

    Raises:
        ValueError: when it cannot be loaded or answers with other classes.
    """
    if not options.teacher:
        return None
    teacher = from_pretrained(options.teacher).to(device, memory_format=torch.channels_last)
    if teacher.labels != classes:
        raise ValueError(f"--teacher {options.teacher} answers with {teacher.labels}, the data has {classes}")
    (mean, std), (its_mean, its_std) = (
        [torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (each.mean, each.std)]
        for each in (preprocess, teacher.preprocess)
    )
    return lambda x: teacher(x * (std / its_std) + (mean - its_mean) / its_std)


def tensorboard(options) -> Callable[[str, float, int], None] | None:
    """What writes figures to RUN/tensorboard, where asked for and on rank 0.

    Raises:
        ValueError: when the package is not installed.
    """
    if not options.tensorboard or rank() > 0:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--tensorboard needs the package: pip install tensorboard") from error
    return SummaryWriter(options.out / "tensorboard").add_scalar


def fit(trainer: Trainer, held_out, options) -> None:
    """Train from the start or from the checkpoint, until the best weights are in the network."""
    is_here = bool(held(options.out))
    (is_anywhere,) = any_process([is_here], trainer.device)
    if is_here != is_anywhere:
        raise TrainingError(f"{options.out}/last.ckpt is not on every machine; put --out on shared storage")
    if is_here:
        trainer.load(options.out)
    trainer.fit(held_out, options.out)
    trainer.restore_best()
