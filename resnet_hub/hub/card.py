"""Facts -> model card, and back: the figures a card states. A free function of a model and what a run
recorded; it measures nothing itself.

What is not known is left out whole: an untrained network's card has no results and no placeholder.
"""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from resnet_hub.geometry import stages, totals, trace
from resnet_hub.hub.card_merge import marked
from resnet_hub.hub.fetch import REPO_ID, shipped_names
from resnet_hub.models.registry import list_models
from resnet_hub.models.timm_names import SAME_IN_TIMM, architecture

TEMPLATE = Path(__file__).with_name("card_template.md")
METRICS = {  # figure in `results` -> (metric type of the Hub, name on the card)
    "top1": ("accuracy", "Top-1 accuracy"),
    "top5": ("accuracy", "Top-5 accuracy"),
    "top1_flip_tta": ("accuracy", "Top-1 accuracy, flip test-time augmentation"),
    "calibration_error": ("expected_calibration_error", "Expected calibration error, 15 bins"),
}
ROWS = {  # figure in `results` -> words in the card's table
    "top1": "top-1 accuracy",
    "top1_flip_tta": "top-1 with flip test-time augmentation",
    "top5": "top-5 accuracy",
    "loss": "cross entropy, calibrated",
    "calibration_error": "expected calibration error, 15 bins, calibrated",
    "calibration_error_uncalibrated": "the same before calibration",
}
NOT_SHARES = {"loss"}
MOST_LISTED = 100  # classes in a table by class
MOST_CROSSED = 20  # classes in a table of classes by classes
STEMS = {
    "imagenet": "7x7 convolution with stride 2",
    "cifar": "3x3 convolution with stride 1, which keeps small images whole",
    "deep": "three 3x3 convolutions, the first with stride 2",
}
SCHEDULES = {
    "one_cycle": "fall to 0 in a straight line",
    "cosine": "fall along half a cosine",
    "step": "drop tenfold at half and three quarters",
    "constant": "stay",
}
MODES = {
    "feature": "feature extraction (only the last layer trained)",
    "partial": "partial fine-tuning (the last stage and the last layer)",
    "full": "full fine-tuning",
    "given": "rates given by pattern",
}
AUGMENTATIONS = {
    "crop": "random crop from a border of {crop_padding} reflected pixels (at 32x32)",
    "flip": "flip alternating by epoch",
    "resized_crop": "random resized crop",
    "trivial": "TrivialAugment",
    "erase": "random erasing",
    "rotate": "rotation",
    "affine": "affine transformation",
    "jitter": "colour jitter",
    "blur": "blur",
}


def render_card(model, facts: dict | None = None, *, load_from: str) -> str:
    """The model card of a `Network`.

    Args:
        facts: what a run recorded (its `run.json`); None for a network that was not trained here.
        load_from: repository or directory for the card's loading examples.

    Returns:
        Markdown with YAML front matter that `huggingface_hub.ModelCard` parses, its sections between the
        comments by which `card_merge` knows them again.
    """
    name = model.config.name
    data = facts and data_name(facts["data"])
    timm_name, _ = architecture(model.config)
    card = ModelCard.from_template(
        card_data=_front_matter(model, facts, data, load_from),
        template_path=str(TEMPLATE),
        title=f"{name}, trained on {_inline(data)}" if facts else name,
        summary=_summary(model, facts),
        inline=_inline,
        facts=facts and facts | {"data": _inline(data), "command": without_absolute_paths(facts["command"])},
        calibration=model.calibration,
        percent=_percent,
        network_words=_network_words(model.config),
        network_table=_network_table(model.config),
        results_table=facts and _results_table(facts["results"]),
        per_class_table=facts and _per_class_table(model.labels, facts["results"]["per_class"]),
        confusion_table=facts and _confusion_table(model.labels, facts["results"]["confusion"]),
        images=facts.get("images", ["curves.png", "confusion.png"]) if facts else [],
        base=facts and base_words(facts.get("base_model")),
        mode=facts and MODES.get(facts.get("mode"), facts.get("mode")),
        optimizer_words=facts and _optimizer_words(facts["recipe"]),
        loss_words=facts and _loss_words(facts["recipe"], base_words(facts.get("teacher"))),
        augmentation_words=facts and _augmentation_words(facts["recipe"]),
        load_from=load_from,
        timm_loads_it=bool(REPO_ID.fullmatch(load_from)) and name in list_models(),
        stock_timm=timm_name in SAME_IN_TIMM,
        input_words=_input_words(model.preprocess),
        classes_words=", ".join(map(_inline, model.labels)) if len(model.labels) <= 20 else len(model.labels),
        limits=_limits(model, facts),
    )
    return marked(str(card))


def data_name(data: str) -> str:
    """What the card calls the data: never a path of the machine it was read on."""
    is_path = re.match(r"[/~.]|[A-Za-z]:\\", data) or re.fullmatch(r"[^\s]*[/\\][^\s]*", data)
    if not is_path:
        return data
    parts = re.split(r"[/\\]", data.rstrip("/\\"))
    return parts[-2] if parts[-1] in ("train", "test") and len(parts) > 1 else parts[-1]


def without_absolute_paths(command: str) -> str:
    """A command with absolute paths, which name a person's folders, cut to their last part."""
    words = shlex.split(command)
    return shlex.join(re.sub(r"(^|=)(/|~|[A-Za-z]:\\).*?([^/\\]+)[/\\]?$", r"\1\3", word) for word in words)


def base_words(base_model: str | None) -> str | None:
    """Where weights or a teacher came from; a directory of the machine is not named."""
    if not base_model:
        return None
    if base_model in shipped_names():
        return f"`{base_model}`, which resnet_hub ships"
    return f"`{base_model}`" if is_public_name(base_model) else "a checkpoint on the machine that trained it"


def is_public_name(name: str) -> bool:
    """Whether a source of weights is a name others can use: `owner/name`, and no directory here."""
    return bool(REPO_ID.fullmatch(name)) and not Path(name).exists()


def card_results(text: str) -> dict[str, float]:
    """The figures in a card's `model-index`, by their name in `results`."""
    names = {words: figure for figure, (_, words) in METRICS.items()}
    stated = ModelCard(text, ignore_metadata_errors=True).data.eval_results or []
    return {names[r.metric_name]: r.metric_value for r in stated if r.metric_name in names}


def card_figures(text: str, labels: tuple[str, ...]) -> dict[str, float]:
    """Every figure a card states that can be measured again: front matter, tables, calibration.

    Keys are those of `measured_figures`.
    """
    figures: dict[str, float] = dict(card_results(text))
    by_words = {words: f"{figure} in the table" for figure, words in ROWS.items()}
    by_words |= {_cell(label): f"class {label}" for label in labels}
    crossed = {f"**{_cell(label)}**": label for label in labels}
    for line in text.splitlines():
        first, *cells = _cells(line) or [""]
        if first in crossed and len(cells) == len(labels):
            names = (f"{crossed[first]} called {label}" for label in labels)
            figures |= {name: number(cell) for name, cell in zip(names, cells, strict=True)}
        elif first in by_words and len(cells) == 1:
            figures[by_words[first]] = number(cells[0])
    for name, pattern in PROSE_FIGURES.items():
        found = re.search(pattern, text)
        if found:
            figures[name] = number(found.group(1))
    figures |= {f"{what} called unfamiliar": share for what, share in stated_detections(text).items()}
    return figures


PROSE_FIGURES = {
    "temperature": r"temperature of\s+([\d.]+\d)",
    "energy_threshold": r"is under\s+(-?[\d.]+\d) is called unfamiliar",
    "false_alarms": r"wrongly flags ([\d.]+ %) of the test",
}


def stated_detections(text: str) -> dict[str, float]:
    """{what: share called unfamiliar} of the images a card says the network was not trained on."""
    found = re.findall(r"images of things it was not trained on \((.*)\) it flags ([\d.]+ %)", text)
    return {what: number(share) for what, share in found}


def measured_figures(model, results: dict, tolerance: float) -> dict[str, tuple[float, float]]:
    """{figure: (value, how far the card's may be from it)}.

    Args:
        results: what `training.evaluate.measure` returns.
        tolerance: share of the images that may fall either way between two processors.
    """
    rounding = 5.1e-5  # figures have four digits, or two in per cent
    figures = {name: (results[name], tolerance) for name in METRICS if name in results}
    figures |= {
        f"{name} in the table": (results[name], tolerance + rounding) for name in ROWS if name in results
    }
    images = tolerance * results["images"]
    for label, share, row in zip(model.labels, results["per_class"], results["confusion"], strict=True):
        figures[f"class {label}"] = (share, images / max(sum(row), 1) + 5.1e-4)
        figures |= {
            f"{label} called {other}": (count, images) for other, count in zip(model.labels, row, strict=True)
        }
    figures["temperature"] = (model.calibration.temperature, 1e-6)
    if model.calibration.energy_threshold is not None:
        figures["energy_threshold"] = (model.calibration.energy_threshold, 1e-6)
    if "false_alarms" in results:
        figures["false_alarms"] = (results["false_alarms"], tolerance + 2 * rounding)
    for what, count, share in results.get("detections", ()):
        figures[f"{_inline(what)} called unfamiliar"] = (share, 1 / count + 2 * rounding)
    return figures


def number(text: str) -> float:
    """12, 0.35 or 87.98 % as a number, a share for the last; NaN for anything else."""
    try:
        return float(text.replace(",", "").removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return float("nan")


def _front_matter(model, facts: dict | None, data: str | None, load_from: str) -> ModelCardData:
    timm_name, _ = architecture(model.config)
    stock = ["timm", "transformers"] if timm_name in SAME_IN_TIMM else []
    # Weights from elsewhere have the licence of their owner.
    base = (facts.get("base_model") if facts else model.source) or ""
    is_ours = not base or base in shipped_names()
    fields = ModelCardData(
        license="mit" if is_ours else None,
        library_name="resnet_hub",
        pipeline_tag="image-classification",
        tags=["resnet", "image-classification", "pytorch", *stock],
    )
    if is_public_name(base) and base != load_from and not base.startswith("torchvision/"):
        fields.base_model = base
        fields.base_model_relation = "finetune" if facts else None
    if not facts:
        return fields
    is_cifar = re.search(r"cifar-?10(?!\d)", data, re.IGNORECASE) is not None
    fields.model_name = facts["name"]
    fields.datasets = ["cifar10"] if is_cifar else None
    fields.metrics = ["accuracy"]
    fields.eval_results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="cifar10" if is_cifar else "imagefolder",
            dataset_name=data,
            dataset_split="test",
            metric_type=kind,
            metric_name=words,
            metric_value=round(facts["results"][figure], 4),
        )
        for figure, (kind, words) in METRICS.items()
        if figure in facts["results"]
    ]
    return fields


def _summary(model, facts: dict | None) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    own = "" if model.config.name in list_models() else " (a design of its own)"
    what = f"A `{model.config.name}` network{own} with {parameters:,} parameters"
    if facts is None and model.source is None:
        return f"{what}. Its weights were not trained by a run of this project."
    if facts is None:
        is_named = model.revision == "shipped" or is_public_name(model.source)
        source = f"`{model.source}`" if is_named else "a checkpoint on somebody's machine"
        return f"{what}. Its weights were loaded from {source}; what was done to them since is not recorded."
    return f"{what} that sorts images into {len(model.labels)} classes."


def _network_words(config) -> str:
    if not hasattr(config, "stem"):
        return f"`{config.name}`, a network without residual connections."
    pool = "followed by 3x3 max pooling with stride 2" if config.has_maxpool else "without max pooling"
    strides = ", ".join(map(str, config.strides))
    beside = {"none": "no shortcuts (a plain net)", "zeropad": "zero-padded shortcuts (option A)"}
    shortcut = beside.get(config.shortcut, "projection shortcuts where shapes change")
    if config.block == "pooled" and config.shortcut != "none":
        shortcut = "shortcuts from behind the pooling, where shapes agree"
    how = {
        "bottleneck": f", striding in the {config.stride_in} convolution",
        "pooled": ", by max pooling after the block's first convolution; GELU for ReLU",
    }
    return (
        f"Stem: {STEMS[config.stem]}, {pool}. {sum(config.depths)} {config.block} blocks in stages of "
        f"{', '.join(map(str, config.depths))}, strides {strides}{how.get(config.block, '')}; {shortcut}."
    )


def _network_table(config) -> str:
    rows = trace(config)
    all_rows = totals(rows)
    head = "| stage | channels | map | receptive field | stride | parameters | multiply-adds |"
    lines = [
        f"| {s.name} | {s.out_channels} | {s.out_size[0]}x{s.out_size[1]} | {s.receptive_field} | {s.jump} | "
        f"{s.params:,} | {s.macs:,} |"
        for s in stages(rows)
    ]
    total = f"| all | | | | | {all_rows.params:,} | {all_rows.macs:,} |"
    return "\n".join([head, "|---" * 7 + "|", *lines, total])


def _results_table(results: dict) -> str:
    rows = [
        f"| {words} | {results[name]:.4f} |"
        if name in NOT_SHARES
        else f"| {words} | {_percent(results[name])} |"
        for name, words in ROWS.items()
        if name in results
    ]
    return "\n".join(["| figure | value |", "|---|---|", *rows])


def _per_class_table(labels: tuple[str, ...], shares: list[float]) -> str:
    if len(labels) > MOST_LISTED:
        return ""
    rows = [f"| {_cell(label)} | {_percent(share, 1)} |" for label, share in zip(labels, shares, strict=True)]
    return "\n".join(["| class | accuracy |", "|---|---|", *rows])


def _confusion_table(labels: tuple[str, ...], confusion: list[list[int]]) -> str:
    if len(labels) > MOST_CROSSED:
        return ""
    head = "| | " + " | ".join(map(_cell, labels)) + " |"
    rows = [
        f"| **{_cell(label)}** | " + " | ".join(map(str, row)) + " |"
        for label, row in zip(labels, confusion, strict=True)
    ]
    return "\n".join([head, "|---" * (len(labels) + 1) + "|", *rows])


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _inline(text: str) -> str:
    """A label inside a sentence: one line, nothing in it read as HTML."""
    return html.escape(" ".join(text.split()), quote=False)


def _cell(text: str) -> str:
    """A label inside a table, where a bar would end its cell."""
    return _inline(text).replace("\\", "\\\\").replace("|", "\\|")


def _cells(line: str) -> list[str]:
    """The cells of a table's line as they are written; none for another line."""
    if not (line.startswith("| ") and line.rstrip().endswith("|")):
        return []
    # A bar after an odd number of backslashes is part of a label.
    cells = re.findall(r"(?:\\.|[^|\\])*(?=\|)", line.strip()[1:])
    return [cell.strip() for cell in cells if cell]


def _optimizer_words(recipe: dict[str, Any]) -> str:
    optimizer, decay = recipe["optimizer"], recipe["weight_decay"]
    if optimizer in ("sgd", "muon"):
        words = f"SGD with Nesterov momentum 0.9, peak rate {recipe['lr']}, weight decay {decay}"
    else:
        names = {"adam": "Adam", "adamw": "AdamW"}
        words = f"{names.get(optimizer, optimizer)}, peak rate {recipe['lr']}, weight decay {decay}"
    words += " (none on norms and biases)"
    if recipe.get("bias_lr"):
        words += f", peak rate {recipe['bias_lr']} on the shifts of batch norms"
    if optimizer == "muon":
        muon = f"momentum {recipe.get('muon_momentum', 0.9)}, peak rate {recipe['muon_lr']}"
        words = f"Muon on every convolution but the first, {muon}; on the rest {words}"
    rise = f"rise for {_percent(recipe['warmup'], 0)} of the run, then " if recipe["warmup"] else ""
    return f"{words}; rates {rise}{SCHEDULES[recipe.get('schedule', 'one_cycle')]}"


def _loss_words(recipe: dict[str, Any], teacher: str | None) -> str:
    taught = f"half cross entropy, half distillation from {teacher} (arXiv 1503.02531)"
    words = taught if teacher else "cross entropy"
    if recipe.get("label_smoothing"):
        words += f" with label smoothing {recipe['label_smoothing']}"
    for name in ("mixup", "cutmix"):
        words += f", {name} {recipe[name]}" if recipe.get(name) else ""
    return words + (f"; averaged weights (decay {recipe['ema']} a step)" if recipe.get("ema") else "")


def _augmentation_words(recipe: dict[str, Any]) -> str:
    words = [AUGMENTATIONS.get(name, name).format(**recipe) for name in recipe.get("augment") or ()]
    if recipe.get("low_res"):
        side, share = recipe["low_res"], _percent(recipe["low_res_until"], 0)
        words.append(f"the first {share} of the epochs at {side}x{side} pixels")
    return "; ".join(words)


def _input_words(preprocess) -> str:
    channels, height, width = preprocess.input_size
    return f"{height}x{width} pixels, {channels} channel{'s' * (channels > 1)}; {preprocess.crop_words()}"


def _limits(model, facts: dict | None) -> str:
    lines = ["It answers with one of its classes whatever it is shown."] if model.labels else []
    if facts:
        lines.append("It was not tested for any decision about people, safety or health.")
    if facts and max(model.config.input_size) <= 64:
        lines.append(
            "It was trained on small, centred images; a thing that fills a corner of a photo is seen badly."
        )
    return " ".join(lines + ([facts["limits"]] if facts and facts.get("limits") else []))
