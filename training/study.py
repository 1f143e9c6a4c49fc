"""`python -m training.study NAME --data DIR`: run a comparison and record it.

A study is data: a question and, for each arm, the arguments of `training.cifar` or `training.transfer`. Every
arm is an ordinary run, so an interrupted study resumes where it stopped. The record is a table (json, md) and
a figure (png); neither contains an image of the data set.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from resnet_hub.command import number_up_to, program_name, run_command
from resnet_hub.errors import Refusal
from resnet_hub.files import write_whole
from resnet_hub.hub.figures import number
from resnet_hub.hub.push import RECORD
from resnet_hub.lab.fine_tuning import MODES
from training import cifar, transfer
from training.extend import read_record
from training.recipes import LIKE_CIFAR10, UNEXPOSED
from training.record import RESULTS, command_line, write_record

UNKNOWN_FIGURES = ("flagged", "auroc", "right_unflagged")
TRAINERS: dict[str, Any] = {"cifar": cifar, "transfer": transfer}
FINDINGS = RESULTS / "findings.toml"
PLAIN = "--recipe plain --batch-size 128 --lr 0.1 --ema 0 --label-smoothing 0"
SMALL = f"{PLAIN} --held-out 1000 --precision fp32"
OUTLIERS = "OUTLIERS"  # stands for the folder that --outliers names
# For arms that differ after little training; small batches give more steps for the same cost.
SHORT, SHORT_RUN = (4_000, 5), f"{SMALL} --batch-size 64 --lr 0.05"


@dataclass(frozen=True)
class Study:
    """A comparison.

    Args:
        question: what the study asks; what a record shows is in `results/findings.toml`.
        arms: name -> the trainer's arguments; for `training.cifar` they begin with the network.
        common: arguments of every arm.
        budget: (training images, epochs) of an arm that does not say otherwise; None for all images.
        trainer: "cifar" or "transfer".
    """

    question: str
    arms: dict[str, str]
    budget: tuple[int | None, int]
    common: str = SMALL
    trainer: str = "cifar"


HALF_WIDTH = "--set stem_width=8 --set widths=8,16,32"
STARTS = {"10 classes": "resnet20_cifar10", "200 classes": "resnet18_tiny_imagenet --input 96"}
STUDIES = {
    "outliers": Study(
        question="What does learning from images of other things (outlier exposure, arXiv 1812.04606) "
        "cost in accuracy, and how many images of things that neither network was shown does the network "
        "then flag, at 5 % false alarms? The runs are short; the shipped networks trained with outliers "
        "were trained for longer and flag more.",
        arms={
            "without outliers": "resnet20_cifar",
            "with outliers": f"resnet20_cifar --outliers {OUTLIERS} --outlier-jpeg 75 --outliers-except "
            + shlex.quote(",".join((*LIKE_CIFAR10, "bee", *UNEXPOSED))),
        },
        common=SHORT_RUN,
        budget=SHORT,
    ),
    "degradation": Study(
        question="Can deep networks be trained, with and without shortcuts? Every network tries to memorise "
        "the same 2,000 images, at half the published width and without augmentation. Look at training "
        "accuracy: a network that is worse there is not overfitting. Published, at full width after 64,000 "
        "steps on all images (arXiv 1512.03385): ResNet-56 6.97 % test error, ResNet-20 8.75 %.",
        arms={
            "ResNet-20": f"resnet20_cifar {HALF_WIDTH}",
            "plain-20": f"plain20_cifar {HALF_WIDTH}",
            "ResNet-56": f"resnet56_cifar {HALF_WIDTH}",
            "plain-56": f"plain56_cifar {HALF_WIDTH}",
        },
        common=f"{SHORT_RUN} --augment none",
        budget=(2_000, 30),
    ),
    "stem": Study(
        question="What does the ImageNet stem (7x7 stride 2, then pooling) cost at 32x32? It takes a "
        "fifteenth of the CIFAR stem's multiply-adds, so the last run trains the CIFAR stem at equal cost: "
        "2,000 images for one epoch, a fifteenth of the others' images.",
        arms={
            "CIFAR stem": "resnet18_cifar",
            "ImageNet stem": "resnet18 --input 32",
            "CIFAR stem at equal cost": "resnet18_cifar --train-images 2000 --epochs 1",
        },
        budget=(6_000, 5),
    ),
    "optimizers": Study(
        question="SGD with momentum, Adam, AdamW or Muon: which learns fastest at its usual learning rate?",
        arms={
            "SGD": "resnet20_cifar --optimizer sgd",
            "Adam": "resnet20_cifar --optimizer adam --lr 0.001",
            "AdamW": "resnet20_cifar --optimizer adamw --lr 0.001 --weight-decay 0.05",
            "Muon": "resnet20_cifar --optimizer muon --muon-lr 0.04",
        },
        common=SHORT_RUN,
        budget=SHORT,
    ),
    "batchnorm": Study(
        question="Does a deep plain network of conv-BN-ReLU learn without its batch norms? VGG-16's thirteen "
        "convolutions at 32x32, as published without them and with.",
        arms={
            "without, rate 0.01": "vgg_cifar --no-batch-norm --lr 0.01",
            "with, rate 0.01": "vgg_cifar --batch-norm --lr 0.01",
        },
        common=f"{SMALL} --batch-size 32",
        budget=(2_000, 4),
    ),
    "augmentation": Study(
        question="How much do crops and flips help, and does TrivialAugment help more? ResNet-20 at half its "
        "width, for as many epochs as it takes to memorise the images without them.",
        arms={
            "none": f"resnet20_cifar {HALF_WIDTH} --augment none",
            "crop and flip": f"resnet20_cifar {HALF_WIDTH}",
            "TrivialAugment": f"resnet20_cifar {HALF_WIDTH} --augment crop,flip,trivial",
        },
        common=SHORT_RUN,
        budget=(4_000, 30),
    ),
    "tta": Study(
        question="How much does averaging the predictions for an image and its mirror image (`with flip`) "
        "help a network trained with flips, and one trained without?",
        arms={
            "trained with flips": "resnet20_cifar --augment crop,flip",
            "trained without": "resnet20_cifar --augment crop",
        },
        common=SHORT_RUN,
        budget=SHORT,
    ),
    "distillation": Study(
        question="With few images, what does learning from a better network add (`--teacher`)? One teacher "
        "has the student's size, the other seven times its parameters; both learned from most of these "
        "images, among 45,000 and 49,000.",
        arms={
            "labels alone": "resnet20_cifar",
            "teacher of its size": "resnet20_cifar --teacher resnet20_cifar10",
            "larger teacher": "resnet20_cifar --teacher resnet8_cifar10",
        },
        common=SHORT_RUN,
        budget=SHORT,
    ),
    "dropout": Study(
        question="How does dropout before the classifier change a network that overfits: 2,000 images, no "
        "augmentation, a ResNet of 8 layers with 256 features? Training accuracy is measured with dropout "
        "active.",
        arms={
            f"p = {p}": f"resnet20_cifar --set depths=1,1,1 --set widths=16,64,256 --drop-rate {p}"
            for p in (0.0, 0.3, 0.5, 0.7)
        },
        common=f"{SHORT_RUN} --augment none",
        budget=(2_000, 20),
    ),
    "architectures": Study(
        question="How do LeNet-5, VGG-style and ResNet-style networks compare on the same 1,000 images, with "
        "the same settings, what does an epoch cost and how many does each need?",
        arms={
            name: name for name in ("lenet5", "vgg_cifar", "resnet20_cifar", "simple_resnet", "cifar10net")
        },
        common=f"{SMALL} --batch-size 32 --lr 0.025",
        budget=(1_000, 12),
    ),
    "transfer": Study(
        question="Ants or bees, from about 200 photos: which pretrained network to start from, and how much "
        "of it to train? One network knows ten classes at 32x32, no insect among them; the other 200 classes "
        "at 64x64, bees among them.",
        arms={
            f"{start}, {mode}": f"--weights {weights} --mode {mode}"
            for start, weights in STARTS.items()
            for mode in MODES
        },
        common="--recipe transfer --precision bf16",
        budget=(None, 20),
        trainer="transfer",
    ),
}


NOT_FOR_ARMS = {
    "--seed": "which runs seeds 0 to N - 1; give --seeds N",
    "--out": "which names its runs itself; give --runs DIR",
    "--labels": "which compares top-1 accuracy; give class folders",
}


def arm_arguments(study: Study, arm: str, options: argparse.Namespace, seed: int) -> list[str]:
    """The trainer's arguments for one run, except `--out`."""
    common, own = shlex.split(study.common), shlex.split(study.arms[arm])
    if OUTLIERS in own and options.outliers is None:
        raise Refusal("this study needs --outliers DIR, the images of other things")
    own = [options.outliers if word == OUTLIERS else word for word in own]
    images, epochs = study.budget
    network, own = (own[:1], own[1:]) if study.trainer == "cifar" else ([], own)
    count = ["--train-images", str(images)] if images else []
    budget = [*count, "--epochs", str(epochs), "--seed", str(seed)]
    # What an arm is comes last, so that no other flag can change it.
    return [*network, *common, *budget, *options.more, *own, "--data", options.data]


def check_arms(study: Study, options: argparse.Namespace) -> None:
    """Refuse what would spoil the comparison, before an arm is run.

    Raises:
        Refusal: for a flag that the study sets itself, and an arm whose table and curves would lack the
            validation images.
    """
    if options.outliers is not None and not any(OUTLIERS in arm.split() for arm in study.arms.values()):
        raise Refusal("--outliers has no effect on this study; leave it out")
    parse = TRAINERS[study.trainer].parse_arguments
    for arm in study.arms:
        own = ["--seed", "0", "--out", "RUN"]
        given = parse([*own, *arm_arguments(study, arm, options, 0)])
        is_given = {
            "--seed": given.seed != 0,
            "--out": given.out != Path("RUN"),
            "--labels": given.labels is not None,
        }
        for flag, why in NOT_FOR_ARMS.items():
            if is_given[flag]:
                raise Refusal(f"{flag} is not for a study, {why}")
        if given.held_out == 0:
            raise Refusal(f"--held-out 0: a study compares {arm!r} on held-out images; give 1 or more")


def run_arms(name: str, options: argparse.Namespace) -> dict[str, list[dict]]:
    """arm -> the facts of each seed's run, with its history; finished runs are only read.

    Raises:
        Refusal: when a run fails, or was made with other arguments.
    """
    study = STUDIES[name]
    check_arms(study, options)
    facts: dict[str, list[dict]] = {arm: [] for arm in study.arms}
    train = TRAINERS[study.trainer].main
    for seed in range(options.seeds):  # all arms with one seed first, so that half a study compares too
        for arm in study.arms:
            run = options.runs / name / f"{arm.replace(' ', '-')}-{seed}"
            arguments = [*arm_arguments(study, arm, options, seed), "--out", str(run)]
            is_finished = (run / RECORD).exists()  # --resume could give it more epochs
            if status := 0 if is_finished else train([*arguments, "--resume"]):
                raise Refusal(
                    f"the run of {arm!r}, seed {seed}, ended with status {status}; "
                    "the same command resumes from here"
                )
            facts[arm].append(read_run(run, shlex.join(arguments)))
    return facts


def read_run(run: Path, arguments: str) -> dict[str, Any]:
    """What a finished run recorded, with its history.

    Raises:
        Refusal: when it was made with other arguments, an earlier budget's for instance.
    """
    lines = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    facts = read_record(run)
    if not facts["command"].endswith(f" {arguments}"):
        raise Refusal(f"{run} was made by `{facts['command']}`; move it away, or give another --runs")
    return facts | {"history": [json.loads(line) for line in lines]}


def summary(facts: dict[str, list[dict]]) -> list[dict]:
    """One row an arm: means over seeds, every seed's test accuracy, the fastest epoch's seconds."""
    rows = []
    for arm, runs in facts.items():
        tested = [run["results"]["top1"] for run in runs]
        rows.append(
            {
                "arm": arm,
                "parameters": runs[0]["total_params"],
                "train_acc": fmean(run["history"][-1]["train_acc"] for run in runs),
                "val_acc": fmean(run["val_acc"] for run in runs),
                "val_loss": fmean(run["history"][-1]["val_loss"] for run in runs),
                "test_acc": fmean(tested),
                "test_acc_flip_tta": fmean(run["results"]["top1_flip_tta"] for run in runs),
                "test_acc_by_seed": tested,
                "seconds_an_epoch": min(line["seconds"] for run in runs for line in run["history"]),
                "pflops": fmean(run["pflops"] for run in runs),
                "best_epoch": [run["best_epoch"] for run in runs],
                "epochs_to_converge": fmean(epochs_to_converge(run["history"]) for run in runs),
                "unknown": unknown_means(runs),
            }
        )
    return rows


def epochs_to_converge(history: list[dict]) -> int:
    """The first epoch whose validation accuracy is within one point of the run's best."""
    best = max(line["val_acc"] for line in history)
    return next(epoch for epoch, line in enumerate(history, 1) if line["val_acc"] >= best - 0.01)


def unknown_means(runs: list[dict]) -> dict[str, dict[str, float]]:
    """{what the images show: {figure: its mean over seeds}} of the sets that --unknown named."""
    sets = [run["results"].get("unfamiliar", {}) for run in runs]
    return {
        what: {key: fmean(number(each[what][key]) for each in sets) for key in UNKNOWN_FIGURES}
        for what in sets[0]
    }


def unknown_table(rows: list[dict]) -> list[str]:
    """What each arm makes of images of other things, in Markdown; empty where none were measured."""
    if not any(row.get("unknown") for row in rows):
        return []
    lines = [
        "",
        "| | images of | called unfamiliar | AUROC | in an even mix with test images, accuracy on those not "
        "called unfamiliar |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        for what, one in row["unknown"].items():
            shares = f"{one['flagged']:.2%} | {one['auroc']:.3f} | {one['right_unflagged']:.2%}"
            lines.append(f"| {row['arm']} | {what} | {shares} |")
    return lines


def evidence(facts: dict[str, list[dict]], command: str) -> dict[str, Any]:
    """Command, data, seeds, hardware and versions behind the numbers."""
    runs = [run for of_arm in facts.values() for run in of_arm]
    return {
        "command": command,
        "data": runs[0]["data"],
        "train_images": max(run["train_images"] for run in runs),  # an arm with fewer says so in its name
        "test_images": runs[0]["results"]["images"],
        "epochs": runs[0]["recipe"]["epochs"],
        "seeds": len(next(iter(facts.values()))),
        "hardware": runs[0]["hardware"],
        "versions": runs[0]["versions"],
        "hours": sum(run["seconds"] for run in runs) / 3600,
    }


def finding(name: str, question: str, evidence: dict[str, Any]) -> list[str]:
    """What a record shows and what it cannot; nothing where the words are about another record."""
    found = tomllib.loads(FINDINGS.read_text(encoding="utf-8")).get(name, {})
    budget = [evidence[key] for key in ("train_images", "epochs", "seeds")]
    if not found or (found["budget"], found["question"]["en"]) != (budget, question):
        return []
    return [f"**Shows.** {found['shows']['en']}", "", f"**Does not show.** {found['cannot']['en']}", ""]


def markdown(name: str, question: str, rows: list[dict], evidence: dict[str, Any]) -> str:
    """The table under its question, what it shows, and its evidence."""
    lines = [
        f"# {name}",
        "",
        question,
        "",
        *finding(name, question, evidence),
        f"`{evidence['command']}`: {evidence['train_images']:,} training images of {evidence['data']}, "
        f"{evidence['epochs']} epochs, n = {evidence['seeds']}; test on {evidence['test_images']:,}; "
        f"{evidence['hardware']}, torch {evidence['versions']['torch']}.",
        "",
        "| | parameters | training | validation | loss | test | by seed | with flip | epochs | s/epoch "
        "| PFLOPs |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        seeds = ", ".join(f"{100 * top1:.2f}" for top1 in row["test_acc_by_seed"])
        lines.append(
            f"| {row['arm']} | {row['parameters']:,} | {row['train_acc']:.2%} | {row['val_acc']:.2%} "
            f"| {row['val_loss']:.3f} | {row['test_acc']:.2%} | {seeds} | {row['test_acc_flip_tta']:.2%} "
            f"| {row['epochs_to_converge']:.1f} | {row['seconds_an_epoch']:.1f} | {row['pflops']:.4f} |"
        )
    notes = (
        "Validation and test: the kept weights (the epoch with the best validation accuracy, or the last "
        "epoch if there were few validation images). Training: the last epoch, on the images as they "
        "were shown and in training mode. Loss: validation cross entropy of the last epoch, without "
        "temperature. Epochs: until validation accuracy is within one point of its best. s/epoch: the "
        "fastest epoch, since other work may have slowed the rest."
    )
    return "\n".join([*lines, *unknown_table(rows), "", notes, "", f"![Curves]({name}.png)", ""])


def record(name: str, facts: dict[str, list[dict]], command: str, results: Path) -> None:
    """Write NAME.json, NAME.md and NAME.png into `results`."""
    from training.plots import png, study_curves

    rows, behind = summary(facts), evidence(facts, command)
    histories = {arm: [run["history"] for run in runs] for arm, runs in facts.items()}
    document = {"study": name, "question": STUDIES[name].question, "evidence": behind, "rows": rows}
    text = markdown(name, STUDIES[name].question, rows, behind)
    write_record(name, results, document | {"histories": histories}, text)
    write_whole(results / f"{name}.png", png(study_curves(histories)))
    print(text)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The flags; `more` holds those that go to every arm's trainer."""
    parser = argparse.ArgumentParser(
        program_name("training.study"),
        description="Run a comparison, each arm with several seeds, and record it.",
        allow_abbrev=False,  # a trainer's --out is not --outliers
        epilog="Other flags go to every arm's trainer, e.g. --epochs 20 --train-images 45000 --device cuda.",
    )
    parser.add_argument("name", choices=STUDIES, metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--data", required=True, help="as for training.cifar or training.transfer")
    parser.add_argument("--outliers", metavar="DIR", help="images of other things, for the study `outliers`")
    parser.add_argument("--seeds", type=number_up_to(99), metavar="N", default=1, help="1 to 99")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table is written")
    options, more = parser.parse_known_args(arguments)
    options.more = more
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse_arguments(arguments)

    def run_and_record() -> None:
        facts = run_arms(options.name, options)
        record(options.name, facts, command_line("training.study", arguments), options.results)

    return run_command("training.study", run_and_record)


if __name__ == "__main__":
    sys.exit(main())
