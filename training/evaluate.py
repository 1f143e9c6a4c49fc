"""`python -m training.evaluate REPO_OR_DIR --data DIR`: every figure of a card, from weights and data.

Also what a trainer calls at its end: calibrate on held-out images, measure the test part once, write the
run directory. Exits 1 when a card and the measurement differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub import from_pretrained
from resnet_hub.command import program_name, run_command
from resnet_hub.device import add_device_flags, pick_device
from resnet_hub.engine import Engine, add_engine_flags, check_runs_file, choose, engine_for
from resnet_hub.files import write_whole
from resnet_hub.hub import commit_of
from resnet_hub.hub.card import (
    card_figures,
    measured_figures,
    render_card,
    stated_detections,
    stated_figures,
)
from resnet_hub.hub.fetch import fetch_card
from resnet_hub.hub.push import RECORD
from resnet_hub.hub.save import halved, name_to_load
from resnet_hub.models.calibration import HALVES, Calibration
from resnet_hub.onnx_file import is_onnx_file
from resnet_hub.per_image import check_csv, write_csv
from training import checkpoint, extend, metrics, multilabel, predictions
from training.calibrate import (
    FAMILIAR_SHARE,
    FEWEST_FOR_THRESHOLD,
    FIRM_RIGHT,
    calibrate,
    calibration_error,
)
from training.command import (
    add_eval_batch_flag,
    add_labels_flag,
    choose_kernels,
    data_source,
    find_images_to_train,
    has_held_out,
)
from training.data import (
    DOWNLOADS,
    DataError,
    Images,
    find_images,
    in_memory,
    is_folder,
    load_data,
    split_record,
    val_for_test,
    with_classes,
)
from training.distributed import rank, world_size
from training.engine import Answered, Trainer, predict_each, write_json
from training.evaluate_file import evaluate_file
from training.half import against_fp32, in_words, measure_half
from training.label_table import LabelTable
from training.layout import is_called_like_a_part, parts_of
from training.recipes import flag
from training.record import made_with
from training.unknown import UnknownSet, add_unknown_flag, answers, check_unknown, interval, measure_unknown

TOLERANCE = 2e-4  # two of 10,000 images may fall either way between two processors


def mirror(x: Tensor) -> Tensor:
    """The images (N, C, H, W) mirrored left to right."""
    return x.flip(3)


def shift(x: Tensor, pixels: int) -> Tensor:
    """The images (N, C, H, W) moved down and right by +1 or -1, the border reflected."""
    height, width = x.shape[2:]
    top = 1 - pixels
    return F.pad(x, (1, 1, 1, 1), "reflect")[:, :, top : top + height, top : top + width]


def measure(
    model,
    test: Images,
    shifts: bool = False,
    unknown: Sequence[UnknownSet] = (),
    answered: Answered | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> dict:
    """Every figure a card gives, measured on `test`; shares and errors are 0 to 1.

    Args:
        shifts: measure test-time augmentation by one-pixel shifts too, which no card gives: half the weight
            on image and mirror image, half on both moved either way (Jordan, arXiv 2404.00498).
        unknown: images of other things, measured beside the test images.
        answered: what the network says of `test`; None to compute it.
        batch_size: images at once, as in `predict_each`.
        workers: processes that read `unknown`, as in `in_memory`.
    """
    several = bool(model.calibration.class_thresholds)
    if several and (shifts or unknown):
        given = "--tta" if shifts else "--unknown"
        raise DataError(f"{given} has no effect on a network that answers for each class by itself")
    ask = partial(predict_each, model, test, model.preprocess, batch_size=batch_size)
    logits, labels, _ = answered or ask()
    if several:
        return multilabel.measure(model, logits, labels) | {"unfamiliar": {}}
    mirrored = ask(view=mirror).logits
    results = figures(logits, mirrored, labels, len(test.classes), model.calibration.temperature)
    if model.calibration.energy_threshold is not None:
        results |= familiarity(model, logits, logits.argmax(1) == labels)
    results["unfamiliar"] = measure_unknown(model, unknown, logits, labels, batch_size, workers)
    if shifts:
        views = [
            lambda x, by=by, turn=turn: shift(turn(x), by) for by in (1, -1) for turn in (lambda x: x, mirror)
        ]
        moved = sum(ask(view=view).logits for view in views)
        results["top1_shift_tta"] = _top1(2 * (logits + mirrored) + moved, labels)
    return results


def figures(
    logits: Tensor, mirrored: Tensor, labels: Tensor, classes: int, temperature: float
) -> dict[str, Any]:
    """What follows from the logits (N, classes) of the test images and of their mirror images alone."""
    scaled = logits / temperature
    confusion = metrics.confusion_matrix(logits.argmax(1), labels, classes)
    each = metrics.by_class(confusion)
    return {
        "images": len(labels),
        "top1": _top1(logits, labels),
        **({"top5": _in_top(logits, labels, 5)} if classes > 5 else {}),  # of five any answer is among them
        "top1_flip_tta": _top1(logits + mirrored, labels),
        "loss": F.cross_entropy(scaled, labels).item(),
        "calibration_error": calibration_error(scaled.softmax(1), labels),
        "calibration_error_uncalibrated": calibration_error(logits.softmax(1), labels),
        **metrics.summary(confusion),
        "per_class": each["recall"].tolist(),
        "class_precision": each["precision"].tolist(),
        "class_f1": each["f1"].tolist(),
        "class_images": each["images"].tolist(),
        "confusion": confusion.tolist(),
    }


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


def _top1(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()


def _in_top(logits: Tensor, labels: Tensor, k: int) -> float:
    return (logits.topk(k).indices == labels[:, None]).any(1).float().mean().item()


def finish_run(trainer: Trainer, model, train: Images, held_out: Images, options, more: dict) -> None:
    """Calibrate the kept weights, measure them on the test part and write the whole run directory.

    `run.json` comes last and replaces `last.ckpt`: until it stands, --resume does all of this again.

    Args:
        model: the whole network, of which the trainer may have trained a part.
        more: facts to add to `run.json`.
    """
    from training.plots import curves, png

    run: Path = options.out
    test, answered, results, fitted = calibrate_and_measure(model, held_out, options)
    facts = run_facts(trainer, train, held_out, options) | more | {"results": results, "calibration": fitted}
    facts |= extend.facts(options)
    if "confusion" not in results:
        facts["images"] = ["curves.png"]
    facts["pflops"] += facts.get("feature_pflops", 0.0)
    facts["seconds"] += facts.get("feature_seconds", 0.0)
    if rank() == 0:
        model.save_pretrained(run, card=render_card(model, facts, load_from=name_to_load(run)))
        words = ["augmented"] * bool(trainer.recipe.augment)
        words += ["hardest images"] * (trainer.recipe.hard_share < 1)
        write_whole(run / "curves.png", png(curves(trainer.history, ", ".join(words))))
        write_answers(run, model, test, answered, results, options.data)
        write_json(run / RECORD, facts)
        checkpoint.drop(run)
        print(f"test {summary(results)}; written to {run}")


def summary(results: dict) -> str:
    """The figures to look at first, in words."""
    if "top1" in results:
        return f"top-1 {results['top1']:.2%}, with flip {results['top1_flip_tta']:.2%}"
    return f"mean average precision {results['mean_average_precision']:.2%}, F1 {results['micro_f1']:.4f}"


def calibrate_and_measure(model, held_out: Images, options) -> tuple[Images, Answered, dict, dict]:
    """Fit the calibration on the validation set: the test images, the answers, what `measure` returns, and
    what a card says of the fit."""
    model.eval()
    batch_size, workers = options.eval_batch, getattr(options, "workers", None)
    model.calibration, fitted = calibrate(model, held_out, batch_size)
    several = bool(model.calibration.class_thresholds)
    found = load_data(options.data, "test", model.preprocess, workers)
    test = with_classes(found, model.labels, several)
    refuse_known(options.unknown, held_out, test)
    answered = predict_each(model, test, model.preprocess, batch_size=batch_size)
    unknown = options.unknown
    if unknown and not several and model.calibration.energy_threshold is None:  # broken files were left out
        few = f"{fitted['images']} validation images could be read, too few for a threshold"
        print(f"--unknown: not measured; {few} ({FEWEST_FOR_THRESHOLD} or more)", file=sys.stderr)
        unknown = ()
    results = measure(model, test, False, unknown, answered, batch_size, workers)
    model.calibration = measured_calibration(model, results)
    return test, answered, results, fitted


def refuse_known(sets: Sequence[UnknownSet], *parts: Images) -> None:
    """Refuse unknown images that are among those fitted or measured on.

    Raises:
        DataError: naming one.
    """
    if sets:
        check_unknown(sets, {"--data": {file.resolve() for part in parts for file in part.files}})


def write_again(model, options) -> None:
    """Fit and measure a finished run anew, and write its configuration, card and `run.json`.

    Raises:
        DataError: when the checkpoint is no run directory of these data.
    """
    run = Path(options.checkpoint)
    if not (run / RECORD).is_file():
        raise DataError(f"--write: {run} holds no {RECORD}; give a directory that a trainer wrote")
    facts = extend.read_record(run)
    left_out = facts["results"].get("unfamiliar", {}).keys() - {each.what for each in options.unknown}
    facts |= {"familiar_share": FAMILIAR_SHARE, "firm_target": FIRM_RIGHT}
    held_out = held_out_again(model, facts, options.data)
    facts["test_part"] = part_measured(options.data)
    if options.half:  # what is stored is what is measured
        model.load_state_dict(halved(model.state_dict()))
    choose(model, options.engine, "fp32")
    test, answered, facts["results"], facts["calibration"] = calibrate_and_measure(model, held_out, options)
    facts["half"] = {}
    if options.precision in HALVES:
        given = (options.engine, options.precision, options.eval_batch)
        half = measure_half(model, test, answered, *given)
        facts["half"][options.precision] = half
        print(in_words(options.precision, half))
    card = render_card(model, facts, load_from=name_to_load(run), half=options.half)
    model.save_pretrained(run, card=card, half=options.half)
    write_answers(run, model, test, answered, facts["results"], options.data)
    write_json(run / RECORD, facts)
    for what in sorted(left_out):
        print(f"no longer on the card: images of {what}; give --unknown '{what}=DIR'", file=sys.stderr)


def part_measured(data: str | LabelTable) -> str:
    """What cards call the part that a network is measured on: "val" where it stands for the test part."""
    return "val" if val_for_test(data) else "test"


def held_out_again(model, facts: dict, data: str | LabelTable) -> Images:
    """The validation set of a finished run, split off as the run did.

    Raises:
        DataError: when the images are not those of the run, so that some of them may have been trained on.
    """
    # Earlier runs recorded how many images of each part could be read: all, where it comes out even.
    then = facts.get("split") or [facts["train_images"], facts["held_out_images"]]
    count = None if has_held_out(data) else then[1]
    found = find_images_to_train(data, count, facts["seed"], model.preprocess)
    if split_record(*found)[: len(then)] != then:
        raise DataError(
            f"--write: {data} does not hold the images of this run as they were, and those held out now may "
            "have been trained on; give the data as they were"
        )
    return in_memory(with_classes(found[1], model.labels, bool(model.calibration.class_thresholds)))


def write_answers(
    run: Path, model, test: Images, answered: Answered, results: dict, data: str | LabelTable
) -> None:
    """The pictures and the table of what a network answered to the test images."""
    from training.plots import confusion, png, prediction_grid

    if "confusion" in results:
        write_whole(run / "confusion.png", png(confusion(results["confusion"], test.classes)))
    for name, chosen in (
        ("predictions", predictions.spread(answered)), ("top_losses", predictions.worst(model, answered))
    ):  # fmt: skip
        picture = prediction_grid(*predictions.picture(model, test, answered, chosen))
        write_whole(run / f"{name}.png", png(picture))
    write_csv(run / "predictions.csv", predictions.answers(model, test, answered, Path(str(data))))


def run_facts(trainer: Trainer, train: Images, held_out: Images, options) -> dict:
    """What a card says of how a run was made."""
    history = trainer.history
    last = history[trainer.kept_epoch - 1]
    return {
        "name": options.out.absolute().name,
        "command": options.command,
        "teacher": options.teacher,
        "data": options.data_name or train.source,
        "hub_dataset": options.hub_dataset,
        "train_images": len(train),
        "held_out_images": len(held_out),
        "test_part": part_measured(options.data),
        "split": options.split,
        "familiar_share": FAMILIAR_SHARE,
        "firm_target": FIRM_RIGHT,
        "recipe": {"name": options.recipe} | asdict(trainer.recipe),
        "metric": trainer.metric,
        "seed": options.seed,
        "processes": world_size(),
        "precision": str(trainer.amp_dtype or torch.float32).removeprefix("torch."),
        "epochs_run": len(history),
        "low_res_epochs": low_res_epochs(trainer, options),
        "keep": trainer.keep,
        "best_epoch": trainer.kept_epoch,
        "train_loss": last["train_loss"],
        "train_acc": last["train_acc"],
        "val_loss": last.get("val_loss"),
        "val_acc": last.get("val_acc"),
        "seconds": sum(line["seconds"] for line in history),
        "pflops": sum(line["pflops"] for line in history),
        **made_with(trainer.device),
    }


def low_res_epochs(trainer: Trainer, options) -> int | None:
    """How many epochs of the run had small images: none of those that extend a finished one."""
    if trainer.restart:
        return extend.low_res_epochs(extend.read_record(options.out))
    return min(trainer.recipe.low_res_epochs, len(trainer.history))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(program_name("training.evaluate"), description=__doc__.split("\n")[0])
    what = "shipped checkpoint, Hub repository or run directory; or an ONNX file that takes the photo"
    parser.add_argument("checkpoint", metavar="REPO_OR_DIR", help=what)
    words = f"{', '.join(DOWNLOADS)}, a data set with a test part, or a folder of classes"
    parser.add_argument("--data", required=True, help=words)
    add_labels_flag(parser)
    parser.add_argument(
        "--tta", action="store_true", help="test-time augmentation too: by flips, and by flips and shifts"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the answer to each image, worst first"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--write",
        action="store_true",
        help="fit temperature and thresholds again on the run's validation set, measure, and write "
        "configuration, card and run.json of this run directory; with --precision bf16 or fp16 also whether "
        "the answers in that precision are those of fp32",
    )
    parser.add_argument("--half", action="store_true", help="with --write: weights in half precision")
    add_unknown_flag(parser)
    add_eval_batch_flag(parser)
    add_device_flags(parser, precision=False)
    add_engine_flags(parser)
    options = parser.parse_args(arguments)
    return run_command("training.evaluate", lambda: evaluate(options))


def check_flags(options: argparse.Namespace) -> None:
    """Refuse flags that would do nothing, and a table that could not be written.

    Raises:
        Refusal: naming them.
    """
    idle: tuple[str, ...]
    if is_onnx_file(options.checkpoint):
        idle = ("labels", "tta", "csv", "write", "half", "unknown", "eval_batch")
        if options.device not in ("auto", "cpu"):
            raise DataError(f"--device {options.device} has no effect on an ONNX file, which runs on the CPU")
        why = "has no effect on an ONNX file; measure the checkpoint it was made from"
    elif options.write:
        idle, why = ("tta", "csv", "json"), "has no effect beside --write; measure without it"
    else:
        idle, why = ("half",), "says how --write stores the weights; give both, or none"
    if given := [flag(name) for name in idle if getattr(options, name)]:
        raise DataError(f"{', '.join(given)} {why}")
    check_csv(options.csv)
    check_unknown(options.unknown)


def evaluate(options: argparse.Namespace) -> int:
    """Measure and compare with the card; 1 where they differ. With --write, write what was measured."""
    check_flags(options)
    if is_onnx_file(options.checkpoint):
        check_runs_file(options.engine, options.precision)
        return evaluate_file(options)
    options.data = data_source(options.data, options.labels)
    # With --write a run directory, also where a shipped checkpoint has its name.
    source = Path(options.checkpoint).resolve() if options.write else options.checkpoint
    device = pick_device(options.device)
    choose_kernels(device, deterministic=False)
    model = from_pretrained(source).to(device)
    if options.write:
        write_again(model, options)
        return 0
    return compare(model, options)


def compare(model, options: argparse.Namespace) -> int:
    """Measure, say what was found and what the card says otherwise; 1 where they differ."""
    choose(model, options.engine, options.precision)
    card = model_card(model)
    test, which = images_to_measure(model, card, options.data)
    refuse_known(options.unknown, test)
    engine = engine_for(model, len(test))
    ask = partial(predict_each, model, test, model.preprocess, batch_size=options.eval_batch)
    answered = ask()
    results = measure(model, test, options.tta, options.unknown, answered, options.eval_batch)
    if engine.precision in HALVES and not model.calibration.class_thresholds:
        choose(model, "eager")
        results["against_fp32"] = against_fp32(model, ask(), answered)
    if options.csv:
        write_csv(options.csv, predictions.answers(model, test, answered, Path(str(options.data))))
    differences = card_differences(model, card, results) if is_comparable(card, results) else {}
    print(f"measured {results['images']:,} images: {which}", file=sys.stderr if options.json else sys.stdout)
    print(as_json(results, engine, differences) if options.json else as_text(results, engine, options.tta))
    for line in remarks(card, results, differences, options):
        print(line, file=sys.stderr)
    return 1 if differences else 0


def is_comparable(card: str, results: dict) -> bool:
    """Whether the card's figures may be of the same images."""
    return stated_figures(card).get("images") in (None, results["images"])


def as_json(results: dict, engine: Engine, differences: dict[str, tuple[float, float]]) -> str:
    """What was measured as one document; it has no NaN."""
    differs = {name: (said if said == said else None, found) for name, (said, found) in differences.items()}
    return json.dumps(results | {"engine": str(engine), "differs_from_card": differs}, indent=2)


def as_text(results: dict, engine: Engine, tta: bool) -> str:
    """What was measured, a figure a line."""
    half = [in_words(engine.precision, results["against_fp32"])] if "against_fp32" in results else []
    return "\n".join([f"{'engine':22} {engine}", *figure_lines(results, tta), *half])


def remarks(
    card: str, results: dict, differences: dict[str, tuple[float, float]], options: argparse.Namespace
) -> list[str]:
    """What the comparison with the card found, or why there was none."""
    if not is_comparable(card, results):
        count = stated_figures(card)["images"]
        return [f"not compared with the card, whose figures are of {count:,} other images"]
    if not card_figures(card):
        return [f"not compared: {options.checkpoint} has no card that states figures"]
    left = sorted(stated_detections(card).keys() - {each.what for each in options.unknown})
    return [
        *(f"not measured: images of {what}; give --unknown '{what}=DIR'" for what in left),
        *(  # NaN where the card contradicts itself
            f"the card says {name} {said if said == said else 'two ways'}, measured {found:.4f}"
            for name, (said, found) in differences.items()
        ),
    ]


def figure_lines(results: dict, tta: bool) -> list[str]:
    """The figures to look at, one a line, and a line for each set of images of other things."""
    shown = ["top1", "top5", "balanced_accuracy", "mean_average_precision", "exact_match", "macro_f1"]
    shown += ["calibration_error", "loss", *["top1_flip_tta", "top1_shift_tta"] * tta]
    lines = [f"{name:22} {results[name]:.4f}" for name in shown if name in results]
    for what, one in results["unfamiliar"].items():
        share, low, high = one["flagged"]
        flagged = f"{share:.2%} ({low:.2%} to {high:.2%}) of {one['images']:,} called unfamiliar"
        share = one["right_unflagged"]
        right = f"in an even mix with test images, {share:.1%} of those not flagged are answered correctly"
        lines.append(f"{what}: {flagged}, AUROC {one['auroc']:.3f}; {right}")
    return lines


def images_to_measure(model, card: str, data: str | LabelTable) -> tuple[Images, str]:
    """The images that `data` names for a test, labelled by the model's classes, and which ones they are.

    That is the test part of a data set, or all images of a folder of classes. Only where the model was
    trained on that very folder it is the one in seven that training left.

    Raises:
        DataError: for a class that the model does not have.
    """
    several = bool(model.calibration.class_thresholds)
    if not isinstance(data, str) or not is_folder(data) or parts_of(Path(data)):
        test = load_data(data, "test", model.preprocess)
        return with_classes(test, model.labels, several), f"the test part of {data}"
    root = Path(data)
    everything = find_images(root, model.preprocess)
    left: Images = find_images(root, model.preprocess, "test")
    stated = stated_figures(card).get("images")
    if isinstance(stated, int) and len(left) >= stated:  # the card counts what can be read
        left = in_memory(left)
    if not is_called_like_a_part(root) and _was_trained_on(model, root, len(left) == stated):
        which = f"those of the {len(everything):,} in {data} that training left for the test"
        return with_classes(in_memory(left), model.labels, several), which
    return with_classes(in_memory(everything), model.labels, several), f"all of {data}"


def _was_trained_on(model, root: Path, is_as_many: bool) -> bool:
    """Whether the images that a model was trained on are those of this folder: its run directory names it, or
    recorded the same split; without a record, whether as many are left for the test as its card states."""
    run = Path(str(model.source))
    if model.revision != "local" or not (run / RECORD).is_file():
        return is_as_many
    record = extend.read_record(run)
    if Path(record["data"]).resolve() == root.resolve():
        return True
    if "split" not in record:
        return is_as_many
    with suppress(DataError):  # too few to hold out as many
        parts = find_images_to_train(str(root), record["split"][1], record["seed"], model.preprocess)
        return split_record(*parts) == record["split"]
    return False


def model_card(model) -> str:
    """The card of a loaded model, from the very commit its weights are from; empty where it has none."""
    return fetch_card(model.source, revision=commit_of(model.revision)) or ""


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
