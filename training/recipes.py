"""How to train, as documented data: named frozen recipes and what each is expected to reach.

Every field is a flag of both trainers too, so a recipe is a starting point and never a cage.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from resnet_hub.lab.fine_tuning import HEAD_RATE
from training.metrics import BALANCES, CHOICES

OPTIMIZERS = ("muon", "sgd", "adam", "adamw")
SCHEDULES = ("one_cycle", "cosine", "step", "constant")
AUGMENTATIONS = (
    "crop", "flip", "zoom", "cutout", "resized_crop", "trivial", "rand", "erase", "rotate", "affine",
    "jitter", "blur",
)  # fmt: skip
KEPT = ("auto", "best", "last", "ema")
# Held-out images from which their accuracy tells epochs apart: its standard error is 2 points at 80 %.
FEWEST_TO_CHOOSE = 400


def option(default: Any, words: str, choices: tuple[str, ...] = ()) -> Any:
    """A field with the help text and the allowed values of its flag."""
    return field(default=default, metadata={"help": words, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train; what a field means stands beside it and in `--help`.

    Raises:
        ValueError: for a value that is not allowed, naming it.
    """

    epochs: int = field(metadata={"help": "passes over the training images", "choices": ()})
    batch_size: int = option(128, "images per step, over all processes")
    accumulate: int = option(1, "micro-batches per step in each process")
    optimizer: str = option("sgd", "muon: Muon on convolutions, SGD on the rest", OPTIMIZERS)
    lr: float = option(0.1, "peak learning rate")
    bias_lr: float = option(0.0, "peak learning rate of batch-norm biases; 0: same as --lr")
    muon_lr: float = option(0.0, "peak learning rate of Muon")
    muon_momentum: float = option(0.9, "momentum of Muon")
    weight_decay: float = option(5e-4, "on filters and matrices; never on norms and biases")
    schedule: str = option("one_cycle", "shape of the learning rate over the run", SCHEDULES)
    warmup: float = option(0.05, "fraction of the run during which the learning rate rises from 0")
    clip_norm: float = option(0.0, "maximum gradient norm; 0: no clipping")
    label_smoothing: float = option(0.0, "share of each label spread over all classes")
    augment: tuple[str, ...] = option(
        ("crop", "flip"),
        "augmentations; resized_crop, trivial, rand and jitter work image by image, the others on whole "
        "batches",
        AUGMENTATIONS,
    )
    crop_padding: int = option(4, "reflected border in pixels that crops are cut from, at 32x32")
    mixup: float = option(0.0, "alpha of mixup, arXiv 1710.09412; 0 for none")
    cutmix: float = option(0.0, "alpha of CutMix, arXiv 1905.04899; 0 for none")
    low_res: int = option(0, "short side in pixels during the first part of the run; 0: full size")
    low_res_until: float = option(0.0, "fraction of the epochs trained at --low-res")
    hard_share: float = option(
        1.0,
        "share of the images shown that are trained on: those a small companion network finds hardest",
    )
    whiten: bool = option(False, "start conv1 from the whitening filters of the training images")
    outlier_weight: float = option(0.5, "weight of the loss on --outliers, arXiv 1812.04606")
    outlier_share: float = option(1.0, "outlier images per training image")
    outliers_except: tuple[str, ...] = option((), "class folders of --outliers that are left out")
    outlier_jpeg: int = option(
        0, "JPEG quality the outliers are encoded with at the training size; 0 for none"
    )
    balance: str = option(
        "none", "balance classes of different size: weight the loss, or sample every class equally", BALANCES
    )
    metric: str = option("auto", "validation metric that chooses the best epoch", (*CHOICES,))
    ema: float = option(0.0, "decay per step of the averaged weights that are evaluated and kept; 0: none")
    ema_warmup: bool = option(False, "start the average with a small decay: (1 + steps) / (10 + steps)")
    keep: str = option(
        "auto",
        "weights kept: of the best held-out epoch; of the last one; ema, the last one's average (where --ema "
        f"is 0, over a fifth of the run); auto: best from {FEWEST_TO_CHOOSE} held-out images on, or where "
        "--metric or --patience is given, else last",
        KEPT,
    )
    drop_path: float = option(
        0.0, "stochastic depth (arXiv 1603.09382): share of the last block's branches left out, earlier less"
    )
    layer_decay: float = option(
        1.0, "factor on the rate for each block further from the classifier; 1 for none"
    )
    patience: int = option(0, "stop after this many epochs without a better --metric; 0: never")
    expects: str = ""

    def __post_init__(self) -> None:
        for each in options():
            value, choices = getattr(self, each.name), each.metadata["choices"]
            if choices:
                is_allowed = {*(value if isinstance(value, tuple) else (value,))} <= {*choices}
            else:
                is_allowed = isinstance(value, tuple) or _is_within(each.name, value)
            if not is_allowed:
                allowed = ", ".join(choices) or _bounds_words(each.name)
                raise ValueError(f"{each.name}={value!r} is not allowed; give {allowed}")
        if self.hard_share < 1 and (self.mixup or self.cutmix):
            raise ValueError(
                "hard_share chooses images, and mixup and cutmix blend them; give one or the other"
            )
        if self.optimizer == "muon" and not self.muon_lr:
            raise ValueError("optimizer='muon' needs a muon_lr, 0.05 for instance; with 0 no filter learns")

    @property
    def shown(self) -> int:
        """Images shown for a step, of which `hard_share` is learned from."""
        return round(self.batch_size / self.hard_share)

    @property
    def low_res_epochs(self) -> int:
        """How many epochs the images are small in."""
        return round(self.epochs * self.low_res_until) if self.low_res else 0


AT_LEAST_1 = ("epochs", "batch_size", "accumulate")
LEAST = {"hard_share": 0.1, "outlier_share": 0.01}
BELOW_1 = ("warmup", "label_smoothing", "ema", "muon_momentum", "drop_path")
MOST = {"low_res_until": 1, "hard_share": 1, "layer_decay": 1, "crop_padding": 31, "outlier_jpeg": 100}


def _is_within(name: str, value: float) -> bool:
    if name in BELOW_1:
        return 0 <= value < 1
    least = 1 if name in AT_LEAST_1 else LEAST.get(name, 0)
    return least <= value <= MOST.get(name, sys.float_info.max)


def _bounds_words(name: str) -> str:
    if name in AT_LEAST_1:
        return "1 or more"
    if name in BELOW_1:
        return "0 to less than 1"
    least = LEAST.get(name, 0)
    return f"{least} to {MOST[name]}" if name in MOST else f"{least} or more"


# (flags, when they do something, what they need); checked on what the command line gives alone
NEEDS: tuple[tuple[tuple[str, ...], Callable[[Recipe], Any], str], ...] = (
    (("muon_lr", "muon_momentum"), lambda r: r.optimizer == "muon", "--optimizer muon"),
    (("low_res",), lambda r: r.low_res_until, "--low-res-until, the share of the epochs at this size"),
    (("low_res_until",), lambda r: r.low_res, "--low-res, the size of the images in these epochs"),
    (
        ("low_res", "low_res_until"),
        lambda r: r.low_res_epochs or not (r.low_res and r.low_res_until),
        "more than half an epoch at --low-res; raise --low-res-until or --epochs",
    ),
    (("crop_padding",), lambda r: "crop" in r.augment, "crop in --augment"),
    (
        ("hard_share",),
        lambda r: r.shown > r.batch_size or r.hard_share == 1,
        "a --batch-size for which more images are shown than are learned from",
    ),
    (("ema_warmup",), lambda r: r.ema or r.keep == "ema", "--ema or --keep ema"),
    (
        ("metric",),
        lambda r: r.metric == "auto" or r.keep in ("auto", "best") or r.patience,
        "--keep best or --patience, which choose by it",
    ),
)


OFF = {"hard_share": 1, "layer_decay": 1}


def options() -> list:
    """The fields that are flags."""
    return [each for each in fields(Recipe) if each.metadata]


def add_recipe_flags(parser: argparse.ArgumentParser, default: str) -> None:
    """`--recipe`, and a flag for each field that replaces the recipe's value."""
    fitting = {n: r for n, r in RECIPES.items() if n.startswith("transfer") == default.startswith("transfer")}
    words = f"{', '.join(fitting)}; described at the end (default: {default})"
    parser.add_argument("--recipe", choices=RECIPES, default=default, metavar="NAME", help=words)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    said = [
        textwrap.fill(text, 79, initial_indent=indent, subsequent_indent="    ", break_on_hyphens=False)
        for name, recipe in fitting.items()
        for text, indent in ((f"{name}: {as_flags(recipe)}", "  "), (f"expected: {recipe.expects}", "    "))
    ]
    others = f"what a recipe does not name: {as_flags(Recipe(epochs=1), whole=True)}"
    said.append(textwrap.fill(others, 79, subsequent_indent="    ", break_on_hyphens=False))
    parser.epilog = "\n".join(["recipes:", *said])
    for each in options():
        words, choices = each.metadata["help"], each.metadata["choices"]
        if each.type == "bool":
            parser.add_argument(
                flag(each.name), action=argparse.BooleanOptionalAction, default=None, help=words
            )
        elif each.type.startswith("tuple"):
            help_ = f"{words}: none, or any of {', '.join(choices)}" if choices else f"{words}; none for all"
            parser.add_argument(flag(each.name), type=_names, metavar="A,B,...", help=help_)
        else:
            kind = {"int": int, "float": float, "str": str}[each.type]
            parser.add_argument(flag(each.name), type=kind, choices=choices or None, help=words)


def recipe_from(given: argparse.Namespace) -> Recipe:
    """The named recipe with the flags that were given.

    Raises:
        ValueError: for a value that is not allowed, or a flag that would change nothing.
    """
    changes = {name: value for name, value in given_fields(given).items() if value is not None}
    recipe = replace(RECIPES[given.recipe], **changes)
    if changes.get("lr") == 0:
        raise ValueError("nothing is learned at --lr 0; give more than 0")
    for names, has_effect, needed in NEEDS:
        refuse_idle(given, () if has_effect(recipe) else names, f"needs {needed}")
    return recipe


def given_fields(given: argparse.Namespace) -> dict[str, Any]:
    """The flags of recipe fields by field; None for those that were not given."""
    return {each.name: getattr(given, each.name) for each in options()}


def refuse_idle(given: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse flags that would do nothing; one that switches off (0, none, a share of 1) is no harm.

    Raises:
        ValueError: naming the flag, its value and `why`.
    """
    for name in names:
        value = getattr(given, name)
        if value and value != OFF.get(name):
            shown = ",".join(value) if isinstance(value, tuple) else value
            words = flag(name) if value is True else f"{flag(name)} {shown}"
            raise ValueError(f"{words} has no effect here: it {why}")


def flag(name: str) -> str:
    """The flag of a recipe's field."""
    return "--" + name.replace("_", "-")


def as_flags(recipe: Recipe, whole: bool = False) -> str:
    """A recipe as the flags that make it from the defaults of `Recipe`; `whole`: as those that it leaves."""
    words = []
    for each in options():
        value = getattr(recipe, each.name)
        if (value == each.default) is not whole or (whole and value in (0, ())):
            continue
        words.append(flag(each.name))
        if isinstance(value, tuple):
            few = ",".join(value) if len(value) <= len(AUGMENTATIONS) else f"({len(value)} classes)"
            words.append(few or "none")
        elif not isinstance(value, bool):  # none of these is on by default
            words.append(str(round(value, 4) if isinstance(value, float) else value))
    return " ".join(words)


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(text.split(","))


SHORT = Recipe(
    epochs=8,
    batch_size=250,
    optimizer="muon",
    lr=0.016,
    bias_lr=5.0,
    muon_lr=0.12,
    muon_momentum=0.6,
    weight_decay=0.03,
    warmup=0.0,
    label_smoothing=0.2,
    crop_padding=2,
    low_res=24,
    low_res_until=0.375,
    whiten=True,
    expects="resnet8_cifar --held-out 1000, 49,000 JPEG re-encoded CIFAR-10 images: 89.74 % test top-1 "
    "(90.31 % with flip test-time augmentation), 0.288 PFLOPs, 45 minutes on 2 cores",
)

LONG = replace(
    SHORT,
    epochs=24,
    low_res_until=0.625,
    augment=("crop", "flip", "cutout"),
    crop_padding=3,
    muon_lr=0.1,
    keep="last",
    expects="resnet8_cifar --held-out 1000, 49,000 JPEG re-encoded CIFAR-10 images: 90.89 % test top-1 "
    "(91.48 % with flip test-time augmentation, 91.62 % with flips and shifts), 0.752 PFLOPs, 2.5 hours "
    "in two processes on 2 cores (training/results/frontier.md)",
)

# Over 36 epochs ResNet-20 does better with these gentler steps and an average than with those of `short`:
# 89.50 against 88.06 % on the same 5,000 held-out images, one run each.
FAST = Recipe(
    epochs=36,
    batch_size=256,
    optimizer="muon",
    lr=0.1,
    muon_lr=0.04,
    label_smoothing=0.05,
    low_res=24,
    low_res_until=0.55,
    ema=0.99,
    expects="resnet20_cifar, 45,000 JPEG re-encoded CIFAR-10 images: 87.98 % test top-1 (88.95 % with "
    "flip test-time augmentation), 0.296 PFLOPs",
)

# Classes of Tiny ImageNet that show what CIFAR-10 is made of, or come close to it.
LIKE_CIFAR10 = (
    "albatross", "black stork", "crane", "goose", "king penguin",
    "Egyptian cat", "Persian cat", "tabby", "cougar", "lion",
    "Chihuahua", "German shepherd", "Labrador retriever", "Yorkshire terrier", "golden retriever",
    "standard poodle", "bullfrog", "tailed frog", "European fire salamander",
    "gazelle", "bighorn", "ox", "bison", "Arabian camel",
    "beach wagon", "convertible", "limousine", "sports car", "go-kart", "jinrikisha",
    "moving van", "police van", "school bus", "trolleybus", "tractor", "freight car", "bullet train",
    "lifeboat", "gondola",
)  # fmt: skip
# Left out to be measured on: things that no training image showed.
UNEXPOSED = (
    "backpack", "bucket", "candle", "goldfish", "jellyfish", "koala", "lemon", "mushroom", "pizza",
    "rocking chair", "scoreboard", "sewing machine", "snail", "spider web", "sunglasses", "syringe",
    "teapot", "triumphal arch", "umbrella", "volleyball",
)  # fmt: skip


def with_outliers(recipe: Recipe, expects: str) -> Recipe:
    """A CIFAR-10 recipe that also learns, from Tiny ImageNet, what it does not know."""
    left_out = (*LIKE_CIFAR10, "bee", *UNEXPOSED)
    return replace(recipe, outliers_except=left_out, outlier_jpeg=75, expects=expects)


RECIPES = {
    "fast": FAST,
    "fast_outliers": with_outliers(
        FAST,
        "resnet20_cifar, 45,000 JPEG re-encoded CIFAR-10 images and 70,000 of Tiny ImageNet: 88.46 % test "
        "top-1 (89.31 % with flip test-time augmentation), 0.592 PFLOPs",
    ),
    "short": SHORT,
    "short_outliers": with_outliers(
        SHORT,
        "resnet8_cifar --held-out 1000, 49,000 JPEG re-encoded CIFAR-10 images and 70,000 of Tiny ImageNet: "
        "89.83 % test top-1 (90.67 % with flip test-time augmentation), 0.577 PFLOPs",
    ),
    "wide": replace(
        SHORT,
        epochs=18,
        low_res_until=8 / 18,
        augment=("crop", "flip", "cutout"),
        expects="resnet8_wide_cifar --held-out 1000, 49,000 JPEG re-encoded CIFAR-10 images, three seeds: "
        "90.4, 90.9, 90.6 % test top-1, 91.4, 91.4, 91.3 % with flip test-time augmentation; 1.13 PFLOPs "
        "(training/results/frontier.md)",
    ),
    "hour": replace(
        SHORT,
        epochs=11,
        low_res_until=0.45,
        expects="resnet8_cifar --held-out 1000, 49,000 JPEG re-encoded CIFAR-10 images: 90.22 % test top-1 "
        "(90.73 % with flip test-time augmentation), 0.380 PFLOPs, 55 minutes on 2 cores",
    ),
    "long": LONG,
    "hard": replace(
        LONG,
        epochs=38,
        low_res_until=0.66,
        hard_share=0.5,
        expects="resnet8_cifar --held-out 0, 50,000 JPEG re-encoded CIFAR-10 images: 90.14 % test top-1 "
        "(91.56 % with flip test-time augmentation, 91.90 % with flips and shifts), 0.670 PFLOPs, 2.3 "
        "hours in two processes on 2 cores (training/results/frontier.md)",
    ),
    "plain": Recipe(
        epochs=24,
        batch_size=256,
        lr=0.4,
        warmup=0.2,
        label_smoothing=0.1,
        ema=0.99,
        expects="not run by this command; a separate script with this schedule, resnet20_cifar, 50,000 JPEG "
        "re-encoded CIFAR-10 images: 86.9 % test top-1, 0.29 PFLOPs",
    ),
    "tiny_imagenet": Recipe(
        epochs=40,
        batch_size=256,
        lr=0.2,
        augment=("zoom", "flip"),
        cutmix=1.0,
        low_res=48,
        low_res_until=0.5,
        expects="resnet18_64px --input 64, 95,000 images of Tiny ImageNet: 60.1 % of 5,000 for validation; "
        "with --cutmix 0 --label-smoothing 0.1 59.6 %; 9.4 PFLOPs",
    ),
    # arXiv 1512.03385 section 4.2: 64,000 steps of 128 with drops at 32,000 and 48,000. Its crops are cut
    # from a black border and all parameters decay; here the border is reflected and norms are spared.
    "paper": Recipe(
        epochs=182,
        schedule="step",
        warmup=0.0,
        weight_decay=1e-4,
        expects="published for clean CIFAR-10, not run here: test error 8.75 % (ResNet-20), 6.97 % (56), "
        "6.43 % (110, with --warmup 0.01); 2.0 PFLOPs for ResNet-20",
    ),
    "transfer": Recipe(
        epochs=20,
        batch_size=32,
        optimizer="adamw",
        lr=HEAD_RATE,
        schedule="cosine",
        weight_decay=1e-2,
        augment=("resized_crop", "flip"),
        expects="training/results/transfer.md has the measured figures",
    ),
}
