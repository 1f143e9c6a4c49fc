"""What both trainers share: their flags, the states a run directory can be in, how they end.

nothing there           start
last.ckpt               go on with --resume, refuse without it (last.ckpt.prev: the one before it)
run.json (finished)     --resume changes nothing, or with more --epochs goes on; refuse without it
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from resnet_hub import from_pretrained
from resnet_hub.command import INTERRUPTED, printable, run_command
from resnet_hub.device import add_device_flags, pick_device, pick_precision
from resnet_hub.errors import first_line, listed
from resnet_hub.geometry import trace
from resnet_hub.hub.push import RECORD
from resnet_hub.models.base import Network
from resnet_hub.models.flags import parse_size
from resnet_hub.preprocess import FRAMINGS, Preprocess
from training import extend, hub_data, multilabel, tracking
from training.augment import Feed
from training.calibrate import FEWEST_FOR_THRESHOLD
from training.check import summary
from training.checkpoint import TrainingError, drop, held, kept, locked
from training.data import (
    DataError,
    FolderSet,
    Images,
    check_parts,
    find_data,
    find_images,
    in_memory,
    is_folder,
    split_held_out,
    split_record,
    whole_photos,
)
from training.distributed import any_process, first_on_machine, process_group, rank, restarts, world_size
from training.engine import Stopped, Trainer, keep_freed_memory, weights_kept
from training.label_table import LabelTable, read_table
from training.layout import parts_of, refuse_shared
from training.optim import BatchNorm, drop_paths, frozen_norms, layer_shares
from training.outliers import add_outliers_flag, find_outliers, read_outliers
from training.recipes import Recipe, add_recipe_flags, refuse_idle
from training.unknown import add_unknown_flag, check_unknown


def add_run_flags(parser: argparse.ArgumentParser, recipe: str) -> None:
    """The flags of both trainers."""
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run directory to write")
    words = "continue from RUN/last.ckpt, or a finished run with more --epochs"
    parser.add_argument("--resume", action="store_true", help=words)
    parser.set_defaults(extends=None)  # epochs of the finished run that goes on
    parser.set_defaults(split=None)  # images found to train on and held out, broken ones too
    seeded = "random seed for weights, order, augmentation and split"
    parser.add_argument("--seed", type=int, default=0, help=seeded)
    parser.add_argument(
        "--held-out",
        type=int,
        help="training images held out for validation (default: a tenth, 5,000 at most); 0 trains on all of "
        "them, keeps the last epoch and calibrates nothing",
    )
    parser.add_argument("--train-images", type=int, help="train on only this many images")
    add_labels_flag(parser)
    parser.add_argument(
        "--framing",
        choices=FRAMINGS,
        help="how photos of any shape fill the input: centre-cropped, squashed to fit, or shown whole "
        "between borders (default: crop, or as --weights has it); kept in the checkpoint",
    )
    parser.add_argument(
        "--in-chans",
        type=int,
        metavar="N",
        help="channels of the images: 1 for grey, 4 for RGBA, up to 64 from .npy files or TIFF files with "
        "one page per channel (.npy alone for 3); default: those of --weights or of the downloaded set, or 3",
    )
    parser.add_argument("--data-name", help="name of the data set on the card (default: its path)")
    add_outliers_flag(parser)
    add_unknown_flag(parser)
    parser.add_argument("--teacher", metavar="REPO_OR_DIR", help="learn from this network's answers as well")
    parser.add_argument("--drop-rate", type=float, help="dropout of the network")
    add_eval_batch_flag(parser)
    parser.add_argument(
        "--workers",
        type=partial(_count, least=0),
        help="processes that read files (default: cores minus one)",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="bit-identical results on CUDA too, with slower kernels"
    )
    parser.add_argument("--save-every", type=float, default=60, help="seconds between checkpoints")
    parser.add_argument("--tensorboard", action="store_true", help="log to RUN/tensorboard")
    for package in ("trackio", "wandb"):
        parser.add_argument(f"--{package}", action="store_true", help=f"log with {package}, where installed")
    parser.add_argument("--compile", action="store_true", help="run through torch.compile")
    parser.add_argument("--sync-batch-norm", action="store_true", help="batch statistics over all GPUs")
    add_device_flags(parser)
    add_recipe_flags(parser, recipe)


def _count(text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; give {least} or more")
    return int(text)


def run_training(
    program: str, train: Callable[[argparse.Namespace, torch.device], None], options, arguments
) -> int:
    """Train on this process's device; returns the exit status, as `run_command` does."""
    shown = [a for a in (sys.argv[1:] if arguments is None else arguments) if a != "--resume"]
    options.command = f"{launcher()} -m {program} {shlex.join(shown)}"
    return run_command(program, lambda: start_or_resume(train, options))


def launcher() -> str:
    """What started these processes, as a person repeats it."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    machines = f" --nnodes={processes // here}" * (processes > here)
    return f"torchrun{machines} --nproc-per-node={here}" if processes > 1 else "python"


def start_or_resume(train: Callable[[argparse.Namespace, torch.device], None], options) -> int:
    """Train as the state of the run directory says; 130 with what is kept when it is interrupted.

    Raises:
        TrainingError: for an argument with a line break or a name that is not UTF-8, which no card could
            hold at the end.
    """
    if len((command := options.command).splitlines()) > 1:
        raise TrainingError(f"{' '.join(command.split())}: an argument has a line break; leave it out")
    if command != printable(command):
        raise TrainingError(f"{printable(command)}: a name in it is not text; rename the file or folder")
    if options.labels is None and is_class_below(options.data, options.out):
        raise TrainingError(
            f"--out {options.out} lies in --data {options.data}, where its folder would be taken for a "
            "class; name one beside it"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    if restarts() and extend.is_made_by(options.out, command):
        options.resume = True
    with locked(options.out) if rank() == 0 else nullcontext():
        if is_finished(options.out, options):
            return 0
        keep_freed_memory()
        return train_and_say(train, options)


def is_class_below(data: str, out: Path) -> bool:
    """Whether a run directory would be one of the class folders of `data`, or lie in one."""
    root = Path(data)
    return root.is_dir() and out.resolve().is_relative_to(root.resolve()) and not parts_of(root)


def train_and_say(train: Callable[[argparse.Namespace, torch.device], None], options) -> int:
    """Train; the exit status, with a sentence on what is kept when the run ends early.

    Raises:
        TrainingError: when something cannot be written.
    """
    try:
        with process_group(pick_device(options.device)) as device:
            tracking.check(options)
            options.hub_dataset = hub_data.dataset_id(options.data)
            archive = Path(options.data).name if hub_data.is_remote(options.data) else None
            options.data_name = options.data_name or options.hub_dataset or archive
            options.data = data_source(options.data, options.labels)
            choose_kernels(device, options.deterministic)
            train(options, device)
    except Stopped:
        if rank() == 0:
            message = f"stopped and saved in {options.out}; repeat the command with --resume to continue"
            print(message, file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print(f"\ninterrupted; {kept(options.out)}", file=sys.stderr)
        return INTERRUPTED
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(f"{first_line(error).rstrip('.')}; {needing_less(options.out)}") from error
    except OSError as error:
        raise TrainingError(f"{error}; {kept(options.out)}") from error
    return 0


def needing_less(run: Path) -> str:
    """What helps where a GPU's memory is full; what a run begins with stays."""
    if not held(run):
        return "lower --batch-size or --eval-batch, or raise --accumulate"
    return (
        f"{kept(run)}, with a lower --eval-batch where it was evaluating; a lower --batch-size needs another "
        "--out"
    )


def choose_kernels(device: torch.device, deterministic: bool) -> None:
    """On CUDA: TF32 for what autocast leaves in float32 and the fastest convolution found by trying, or none
    of it and only kernels that give the same bits every time."""
    if device.type == "cuda":
        # torch reads it at this process's first matrix product alone, and a later call may want the same bits
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_float32_matmul_precision("highest" if deterministic else "high")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic)


def is_finished(run: Path, options) -> bool:
    """Whether there is nothing left to do; `options.extends` becomes the epochs a finished run has, where
    more are asked for.

    Raises:
        TrainingError: when it holds a run and nobody asked to go on with it, or with other arguments.
    """
    options.extends = None
    found = [*(name for name in (RECORD,) if (run / name).exists()), *held(run)]
    if found and not options.resume:
        raise TrainingError(f"{run} holds a run ({found[0]}); give --resume, or another --out")
    if RECORD in found:
        options.extends = extend.epochs_run(run, options)
        if rank() == 0 and not extend.is_under_way(run):
            drop(run)  # a crash between the two leaves them
        if rank() == 0 and not options.extends:
            print(f"{run} is finished; nothing to do")
        return not options.extends
    if options.resume and not found and rank() == 0:
        print(f"{run} holds no last.ckpt; starting afresh")
    return False


def load_images_to_train(options, recipe: Recipe, view: Preprocess):
    """(training, validation, outlier) images as `view` frames them, the last None where there are none, those
    to train on as `read_to_train` reads them; the test part, needed at the end, is looked for now.

    Raises:
        DataError: when something is missing, or what is asked for needs more held-out images.
    """
    return read_to_train(options, recipe, *find_to_train(options, recipe, view))


def read_to_train(options, recipe: Recipe, found: Images, held_out: Images, outliers: Images | None):
    """What `find_to_train` found, in memory where it fits. Where the recipe cuts random crops, training and
    outlier images are whole photos, not the middle that the network sees of them."""
    train = in_memory(whole_photos(found) if "resized_crop" in recipe.augment else found)
    check_counts(train, options.data)
    return train, in_memory(held_out), read_outliers(outliers, recipe, options.workers, train.whole)


def find_to_train(options, recipe: Recipe, view: Preprocess):
    """As `load_images_to_train`, not yet read."""
    check_parts(options.data)
    if rank() == 0 and isinstance(options.data, str) and is_folder(options.data):
        print(printable("".join(f"{line}\n" for line in summary(Path(options.data)))), end="")
    if rank() == 0 and isinstance(options.data, LabelTable) and (words := options.data.summary()):
        print(printable(words))
    train, held_out = find_images_to_train(options.data, options.held_out, options.seed, view)
    options.split = split_record(train, held_out)
    weights_kept(recipe, len(held_out))  # before any is read
    if options.unknown and multilabel.is_multi(train.labels):
        raise DataError("--unknown has no effect on images with several labels; leave it out")
    if options.unknown and len(held_out) < FEWEST_FOR_THRESHOLD:
        raise DataError(
            f"--unknown needs a threshold, which {len(held_out)} held-out images are too few for; "
            f"give --held-out {FEWEST_FOR_THRESHOLD} or more"
        )
    outliers = find_outliers(options, recipe, view)
    learned = () if outliers is None else outliers.files
    parts = [train, held_out]
    if train.files and (options.unknown or learned):
        parts.append(find_data(options.data, "test", view))
    known = {file.resolve() for part in parts for file in part.files}
    refuse_shared("--outliers", learned, known, "--data")
    exposed = {file.resolve() for file in learned} if options.unknown else set()
    check_unknown(options.unknown, {"--data": known, "--outliers": exposed})
    train = some_of(train, options.train_images, options.seed)
    return *(read_by(options.workers, data) for data in (train, held_out)), outliers


def check_counts(train: Images, source) -> None:
    """Refuse a class without a training image.

    Raises:
        DataError: naming it.
    """
    counts = multilabel.counts(train.labels, len(train.classes))
    if missing := [name for name, count in zip(train.classes, counts, strict=True) if not count]:
        raise DataError(f"{source}: no image of {listed(missing)} is left to train on")


def read_by(workers: int | None, data: Images) -> Images:
    """The images, read by so many processes.

    Raises:
        ValueError: where they are not files.
    """
    if isinstance(data, FolderSet):
        return replace(data, workers=workers)
    if workers:
        raise ValueError(f"--workers {workers} has no effect here: it reads the files of a folder")
    return data


def data_source(data: str, labels: Path | None) -> str | LabelTable:
    """What `--data` and `--labels` name.

    Raises:
        DataError: for a table that cannot be used.
    """
    with first_on_machine():
        data = str(hub_data.local_folder(data)) if hub_data.is_remote(data) else data
    return data if labels is None else read_table(labels, Path(data))


def add_labels_flag(parser: argparse.ArgumentParser) -> None:
    """`--labels`, for every command that reads a data set."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE.csv",
        help="labels from a table instead of class folders: columns file (below --data), labels (separated "
        "by ;) and optionally split; if any image has none or several, each class is predicted on its own",
    )


def add_eval_batch_flag(parser: argparse.ArgumentParser) -> None:
    """`--eval-batch`, for every command that measures."""
    parser.add_argument("--eval-batch", type=_count, help="images evaluated at once (default: by their size)")


def find_images_to_train(data: str | LabelTable, held_out: int | None, seed: int, view: Preprocess):
    """(training, validation) images, not yet read: `val/` where there is a test part beside it, else a split.

    Raises:
        DataError: when something is missing, or `held_out` is given beside `val/`.
    """
    if not has_held_out(data):
        everything = find_data(data, "train", view)
        kept, held = split_held_out(everything.labels, held_out, seed)
        return everything.subset(kept), everything.subset(held)
    if held_out is not None:
        where = parts_of(Path(data))["val"] if isinstance(data, str) else f"the val part of {data.file}"
        raise DataError(f"--held-out {held_out} has no effect: {where} is the validation set; leave it out")
    if not isinstance(data, str):
        return data.images("train", view), data.images("val", view)
    return find_data(data, "train", view), find_images(parts_of(Path(data))["val"], view)


def has_held_out(data: str | LabelTable) -> bool:
    """Whether a data set has a validation part beside its test part."""
    if not isinstance(data, str):
        return data.has_validation
    return is_folder(data) and {"val", "test"} <= parts_of(Path(data)).keys()


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
    counts = multilabel.counts(train.labels, len(train.classes)).tolist()
    by_class = dict(zip(train.classes, counts, strict=True))
    if rank() == 0:
        shown = listed((f"{name} {count:,}" for name, count in by_class.items()), 12)
        print(f"{len(train):,} training images of {len(counts):,} classes: {shown}")
        if max(counts) > 3 * max(min(counts), 1):
            least, most = (choose(by_class, key=by_class.__getitem__) for choose in (min, max))
            print(
                f"out of balance: {most} has {max(counts)}, {least} {min(counts)}; accuracy favours {most}, "
                "and --balance weights makes them count alike"
            )
    return by_class


LOW_RES = ("low_res", "low_res_until")


def sized(recipe: Recipe, model: Network, options) -> Recipe:
    """The recipe without smaller images where the network's are no larger or its head is made for one size.

    Raises:
        ValueError: when the smaller images are too small for the network, or not smaller.
    """
    side = min(parse_size(options.input) if options.input else model.config.input_size)
    if recipe.low_res >= side:
        refuse_idle(options, LOW_RES, f"needs a size below the {side} pixels of all other epochs")
        return replace(recipe, low_res=0, low_res_until=0.0)
    if not recipe.low_res:
        return recipe
    if not model.fixed_input_size:
        trace(model.config, recipe.low_res)
        return recipe
    refuse_idle(options, LOW_RES, f"needs a network of any size, and {model.config.name} takes one only")
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
        net = synchronised(net, device)
        identity = identity | {"processes": world_size()}  # whose images each batch norm sees together
    frozen = frozen_norms(net)
    if not any(isinstance(module, BatchNorm) and module not in frozen for module in net.modules()):
        why = "acts on batch norms that learn, and there are none here"
        refuse_idle(options, ("bias_lr", "sync_batch_norm"), why)
    if recipe.drop_path:
        drop_paths(net, recipe.drop_path)
    if recipe.layer_decay < 1:
        shares = decayed(net, recipe.layer_decay, shares)
    chosen = ("precision", "deterministic", "teacher", "sync_batch_norm", "framing")
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
        eval_batch=options.eval_batch,
        save_every=options.save_every,
        identity=identity,
        restart=options.extends or 0,
    )


def synchronised(net: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch norms that take their statistics from all processes' images.

    Raises:
        ValueError: on a CPU, and in one process.
    """
    if device.type != "cuda":
        raise ValueError("--sync-batch-norm works on GPUs only")
    if world_size() == 1:
        raise ValueError("--sync-batch-norm has no effect in one process; start several with torchrun")
    return nn.SyncBatchNorm.convert_sync_batchnorm(net)


def decayed(net: nn.Module, decay: float, shares: dict[str, float] | None) -> dict[str, float]:
    """The parameters' shares of the learning rate, falling by `decay` a block toward the input."""
    by_layer = layer_shares([name for name, _ in net.named_parameters()], decay)
    return by_layer if shares is None else {name: shares[name] * by_layer[name] for name in shares}


def load_teacher(
    options, classes: tuple[str, ...], preprocess: Preprocess, device: torch.device
) -> Callable[[Tensor], Tensor] | None:
    """The logits to learn from, for images normalised as the learning network's `preprocess` says.

    Raises:
        ValueError: when it cannot be loaded or answers with other classes.
    """
    if not options.teacher:
        return None
    teacher = from_pretrained(options.teacher).to(device).to(memory_format=torch.channels_last)
    if teacher.labels != classes:
        raise ValueError(
            f"--teacher {options.teacher} answers with {listed(teacher.labels)}, the data "
            f"has {listed(classes)}"
        )
    (mean, std), (its_mean, its_std) = (
        [torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (each.mean, each.std)]
        for each in (preprocess, teacher.preprocess)
    )
    return lambda x: teacher(x * (std / its_std) + (mean - its_mean) / its_std)


def goes_on(run: Path, device: torch.device) -> bool:
    """Whether there is a checkpoint to go on from, which every process sees.

    Raises:
        TrainingError: when some do not.
    """
    is_here = bool(held(run))
    (is_anywhere,) = any_process([is_here], device)
    if is_here != is_anywhere:
        raise TrainingError(f"{run}/last.ckpt is not on every machine; put --out on shared storage")
    return is_here


def fit(trainer: Trainer, held_out, options) -> None:
    """Train from the start or from the checkpoint, until the weights to keep are in the network."""
    if goes_on(options.out, trainer.device):
        trainer.load(options.out)
    elif options.extends:
        trainer.go_on(extend.history_of(options.out, options.extends), extend.read_record(options.out))
    with tracking.tracked(options) as trainer.log:
        trainer.fit(held_out, options.out)
    trainer.restore_kept()
