"""`python -m training.evaluate REPO_OR_DIR --data DIR`: every figure of a card, from weights and data.

Also what a trainer calls at its end: calibrate on held-out images, measure the test part once, write the
run directory. Exits 1 when a card and the measurement differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub import from_pretrained
from resnet_hub.command import program_name, run_command
from resnet_hub.device import add_device_flags, pick_device
from resnet_hub.engine import add_engine_flags, choose, engine_for
from resnet_hub.hub.card import card_figures, measured_figures, render_card, stated_detections
from resnet_hub.hub.fetch import fetch_card
from resnet_hub.models.calibration import Calibration
from training import checkpoint
from training.command import find_images_to_train
from training.data import DataError, Images, in_memory, load_data
from training.distributed import rank, world_size
from training.engine import Trainer, predict_logits, write_json
from training.unknown import UnknownSet, add_unknown_flag, answers, interval, measure_unknown

FAMILIAR_SHARE = 0.95  # share of held-out images the energy threshold calls familiar
FIRM_RIGHT = 0.9  # share of firm answers to the validation images that is right
LEAST_FIRM = 0.5  # below it another class may be as probable
HOTTEST = 20.0
TOLERANCE = 2e-4  # two of 10,000 images may fall either way between two processors


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the least cross entropy on (N, C) logits (Guo et al., arXiv 1706.04599).

    At most `HOTTEST`, at least its inverse: logits that know nothing would want an endless one, a few that
    are all right none at all.
    """
    bent = torch.zeros((), requires_grad=True)  # -inf to inf, for 1 / HOTTEST to HOTTEST
    optimizer = torch.optim.LBFGS([bent], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / HOTTEST ** bent.tanh(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    return HOTTEST ** bent.tanh().item()


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error: |confidence - accuracy| in bins of confidence, weighted by count."""
    confidence, predicted = probabilities.max(1)
    correct = (predicted == labels).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add_(0, which, confidence - correct)
    return (gaps.abs().sum() / len(labels)).item()


def calibrate(model, held_out: Images) -> Calibration:
    """Temperature and unfamiliarity threshold from held-out images alone."""
    logits, labels = predict_logits(model, held_out, model.preprocess)
    energy = logits.logsumexp(1)
    threshold = round(energy.quantile(1 - FAMILIAR_SHARE).item(), 4)
    temperature = round(fit_temperature(logits, labels), 4)
    familiar = energy >= threshold
    share, predicted = (logits / temperature).softmax(1).max(1)
    firm = firm_threshold(share[familiar], (predicted == labels)[familiar])
    return Calibration(temperature=temperature, energy_threshold=threshold, firm_threshold=firm)


def firm_threshold(share: Tensor, right: Tensor) -> float | None:
    """The lowest top probability, `LEAST_FIRM` at least, from which answers are right often enough.

    Args:
        share, right: (N,) top probability of each validation image that is familiar, and whether it is right.

    Returns:
        None where no threshold makes `FIRM_RIGHT` of the answers right.
    """
    order = share.argsort(descending=True)
    right_so_far = right[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    good = (right_so_far >= FIRM_RIGHT).nonzero()
    return round(max(share[order[good[-1]]].item(), LEAST_FIRM), 4) if len(good) else None


def mirror(x: Tensor) -> Tensor:
    """The images (N, C, H, W) mirrored left to right."""
    return x.flip(3)


def shift(x: Tensor, pixels: int) -> Tensor:
    """The images (N, C, H, W) moved down and right by +1 or -1, the border reflected."""
    height, width = x.shape[2:]
    top = 1 - pixels
    return F.pad(x, (1, 1, 1, 1), "reflect")[:, :, top : top + height, top : top + width]


def measure(model, test: Images, shifts: bool = False, unknown: Sequence[UnknownSet] = ()) -> dict:
    """Every figure a card gives, measured on `test`; shares and errors are 0 to 1.

    Args:
        shifts: measure test-time augmentation by one-pixel shifts too, which no card gives: half the weight
            on image and mirror image, half on both moved either way (Jordan, arXiv 2404.00498).
        unknown: images of other things, measured beside the test images.
    """
    logits, labels = predict_logits(model, test, model.preprocess)
    mirrored, _ = predict_logits(model, test, model.preprocess, view=mirror)
    scaled = logits / model.calibration.temperature
    right = logits.argmax(1) == labels
    classes = len(test.classes)
    confusion = torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2)
    confusion = confusion.view(classes, classes)
    results: dict[str, Any] = {
        "images": len(labels),
        "top1": right.float().mean().item(),
        "top5": _in_top(logits, labels, min(5, classes)),
        "top1_flip_tta": ((logits + mirrored).argmax(1) == labels).float().mean().item(),
        "loss": F.cross_entropy(scaled, labels).item(),
        "calibration_error": calibration_error(scaled.softmax(1), labels),
        "calibration_error_uncalibrated": calibration_error(logits.softmax(1), labels),
        "per_class": (confusion.diagonal() / confusion.sum(1).clamp(min=1)).tolist(),
        "confusion": confusion.tolist(),
    }
    if model.calibration.energy_threshold is not None:
        results |= familiarity(model, logits, right)
    results["unfamiliar"] = measure_unknown(model, unknown, logits, labels)
    if shifts:
        views = [
            lambda x, by=by, turn=turn: shift(turn(x), by) for by in (1, -1) for turn in (lambda x: x, mirror)
        ]
        moved = sum(predict_logits(model, test, model.preprocess, view=view)[0] for view in views)
        averaged = 2 * (logits + mirrored) + moved
        results["top1_shift_tta"] = (averaged.argmax(1) == labels).float().mean().item()
    return results


def familiarity(model, logits: Tensor, right: Tensor) -> dict:
    """Of the test images: share wrongly called unfamiliar with its interval, share answered firmly, and of
    those the share that is right."""
    known = answers(model, logits)
    figures = {"false_alarms": interval(known.flagged)}
    if model.calibration.firm_threshold is not None and known.firm.any():
        figures |= {"firm_share": interval(known.firm), "firm_right": interval(right[known.firm])}
    return figures


def measured_calibration(model, results: dict) -> Calibration:
    """The model's calibration with what `measure` found of it, which the page shows."""
    measured = ("false_alarms", "firm_share", "firm_right")
    shares = {name: round(results[name][0], 4) for name in measured if name in results}
    found = results["unfamiliar"].items()
    detections = tuple((what, one["images"], round(one["flagged"][0], 4)) for what, one in found)
    if count := sum(one["images"] for _, one in found):
        shares["firm_unknown"] = round(sum(one["images"] * one["firm"] for _, one in found) / count, 4)
    return replace(model.calibration, detections=detections, **shares)


def _in_top(logits: Tensor, labels: Tensor, k: int) -> float:
    return (logits.topk(k).indices == labels[:, None]).any(1).float().mean().item()


def finish_run(trainer: Trainer, model, train: Images, held_out: Images, options, more: dict) -> None:
    """Calibrate the best weights, measure them on the test part and write the whole run directory.

    `run.json` comes last and replaces `last.ckpt`: until it stands, --resume does all of this again.

    Args:
        model: the whole network, of which the trainer may have trained a part.
        more: facts to add to `run.json`.
    """
    from training.plots import confusion, curves, prediction_grid

    run: Path = options.out
    test, results = calibrate_and_measure(model, held_out, options)
    facts = run_facts(trainer, train, held_out, options) | more | {"results": results}
    facts["pflops"] += facts.get("feature_pflops", 0.0)
    some = _some_predictions(model, test)
    if rank() == 0:
        model.save_pretrained(run, card=render_card(model, facts, load_from=run.name))
        curves(trainer.history).savefig(run / "curves.png", dpi=110)
        confusion(results["confusion"], test.classes).savefig(run / "confusion.png", dpi=110)
        prediction_grid(*some).savefig(run / "predictions.png", dpi=110)
        for file in filter(Path.is_file, run.iterdir()):  # on the disk before last.ckpt goes
            with file.open("rb") as written:
                os.fsync(written.fileno())
        write_json(run / "run.json", facts)
        checkpoint.drop(run)
        print(f"test top-1 {results['top1']:.2%}, with flip {results['top1_flip_tta']:.2%}; written to {run}")


def calibrate_and_measure(model, held_out: Images, options) -> tuple[Images, dict]:
    """Fit the calibration on the validation set: the test images, and what `measure` returns."""
    model.eval()
    model.calibration = calibrate(model, held_out)
    test = load_data(options.data, "test", model.preprocess)
    check_classes(model, test)
    results = measure(model, test, unknown=options.unknown)
    model.calibration = measured_calibration(model, results)
    return test, results


def write_again(model, options) -> None:
    """Fit and measure a finished run anew, and write its configuration, card and `run.json`.

    Raises:
        DataError: when the checkpoint is no run directory of these data.
    """
    run = Path(options.checkpoint)
    if not (run / "run.json").is_file():
        raise DataError(f"--write: {run} holds no run.json; give a directory that a trainer wrote")
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    facts |= {"familiar_share": FAMILIAR_SHARE, "firm_target": FIRM_RIGHT}
    count = None if (Path(options.data) / "val").is_dir() else facts["held_out_images"]
    _, held_out = find_images_to_train(options.data, count, facts["seed"], model.preprocess)
    _, facts["results"] = calibrate_and_measure(model, in_memory(held_out), options)
    card = render_card(model, facts, load_from=run.name, half=options.half)
    model.save_pretrained(run, card=card, half=options.half)
    write_json(run / "run.json", facts)


def _some_predictions(model, test: Images, count: int = 32) -> tuple[list, list[str], list[str]]:
    """(images (H, W, 3) uint8, true labels, predicted labels) of images spread over the test part."""
    index = torch.linspace(0, len(test) - 1, min(count, len(test))).long()
    some = test.subset(index)
    logits, labels = predict_logits(model, some, model.preprocess)
    images = [
        pixels.permute(1, 2, 0).numpy()
        for batch, _ in some.fetch([torch.arange(len(some))])
        for pixels in batch
    ]
    return images, [test.classes[i] for i in labels], [test.classes[i] for i in logits.argmax(1)]


def run_facts(trainer: Trainer, train: Images, held_out: Images, options) -> dict:
    """What a card says of how a run was made."""
    history = trainer.history
    last = history[trainer.best["epoch"] - 1]
    return {
        "name": options.out.name,
        "command": options.command,
        "teacher": options.teacher,
        "data": options.data_name or train.source,
        "train_images": len(train),
        "held_out_images": len(held_out),
        "familiar_share": FAMILIAR_SHARE,
        "firm_target": FIRM_RIGHT,
        "recipe": {"name": options.recipe} | asdict(trainer.recipe),
        "seed": options.seed,
        "processes": world_size(),
        "precision": str(trainer.amp_dtype or torch.float32).removeprefix("torch."),
        "epochs_run": len(history),
        "best_epoch": trainer.best["epoch"],
        "train_loss": last["train_loss"],
        "train_acc": last["train_acc"],
        "val_loss": last["val_loss"],
        "val_acc": last["val_acc"],
        "seconds": sum(line["seconds"] for line in history),
        "pflops": sum(line["pflops"] for line in history),
        "hardware": hardware(trainer.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def hardware(device: torch.device) -> str:
    """The processor a run was made on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [
        line.split(":")[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    used = torch.get_num_threads()
    threads = "" if used >= (os.cpu_count() or 1) else f", {used} used"
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores{threads}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(program_name("training.evaluate"), description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", metavar="REPO_OR_DIR")
    parser.add_argument("--data", required=True, help="'cifar10', or a folder with test/")
    parser.add_argument(
        "--tta", action="store_true", help="test-time augmentation too: by flips, and by flips and shifts"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--write",
        action="store_true",
        help="fit temperature and thresholds again on the run's validation set, measure, and write "
        "configuration, card and run.json of this run directory",
    )
    parser.add_argument("--half", action="store_true", help="with --write: weights in half precision")
    add_unknown_flag(parser)
    add_device_flags(parser, precision=False)
    add_engine_flags(parser)
    options = parser.parse_args(arguments)
    return run_command("training.evaluate", lambda: evaluate(options))


def evaluate(options: argparse.Namespace) -> int:
    """Measure and compare with the card; 1 where they differ. With --write, write what was measured."""
    model = from_pretrained(options.checkpoint).to(pick_device(options.device))
    choose(model, options.engine, options.precision)
    if options.write:
        write_again(model, options)
        return 0
    card = model_card(model)
    test = load_data(options.data, "test", model.preprocess)
    check_classes(model, test)
    engine = str(engine_for(model, len(test)))
    results = measure(model, test, shifts=options.tta, unknown=options.unknown)
    differences = card_differences(model, card, results)
    if options.json:
        more = {"engine": engine, "differs_from_card": differences}
        print(json.dumps(results | more, indent=2))
    else:
        shown = ["top1", "top5", "calibration_error", "loss"]
        shown += ["top1_flip_tta", "top1_shift_tta"] * options.tta
        print(f"{'engine':18} {engine}")
        print("\n".join(f"{name:18} {results[name]:.4f}" for name in shown))
        for what, one in results["unfamiliar"].items():
            share, low, high = one["flagged"]
            flagged = f"{share:.2%} ({low:.2%} to {high:.2%}) of {one['images']:,} called unfamiliar"
            right = f"on an even mix {one['right_unflagged']:.1%} of the answers without a warning are right"
            print(f"{what}: {flagged}, AUROC {one['auroc']:.3f}; {right}")
    for what in stated_detections(card).keys() - {each.what for each in options.unknown}:
        print(f"not measured: images of {what}; give --unknown '{what}=DIR'", file=sys.stderr)
    for name, (stated, measured) in differences.items():
        said = stated if stated == stated else "two ways"  # NaN where it contradicts itself
        print(f"the card says {name} {said}, measured {measured:.4f}", file=sys.stderr)
    return 1 if differences else 0


def check_classes(model, test: Images) -> None:
    """Refuse data whose classes are not the model's.

    Raises:
        DataError: naming both.
    """
    if test.classes != model.labels:
        raise DataError(f"the data has classes {test.classes}, the model {model.labels}")


def model_card(model) -> str:
    """The card of a loaded model, from the very commit its weights are from; empty where it has none."""
    commit = None if model.revision in ("shipped", "local") else model.revision
    return fetch_card(model.source, revision=commit) or ""


def card_differences(model, card: str, results: dict) -> dict[str, tuple[float, float]]:
    """{figure: (on the card, measured)} wherever they are further apart than two processors make them.

    The whole card counts: its facts, its front matter and its text. A figure on which they disagree is NaN.
    """
    stated, measured = card_figures(card), measured_figures(model, results, TOLERANCE)
    return {
        name: (value, measured[name][0])
        for name, value in stated.items()
        if name in measured and not abs(value - measured[name][0]) <= measured[name][1]
    }


if __name__ == "__main__":
    sys.exit(main())
