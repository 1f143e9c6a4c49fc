"""Facts -> model card, and back: the figures a card states. It measures nothing itself.

What is not known is left out whole: an untrained network's card has no results and no placeholder.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.folders import part_named
from resnet_hub.geometry import stages, totals, trace
from resnet_hub.hub import figures
from resnet_hub.hub.card_merge import RESEARCH, block, split_front_matter, stored_facts
from resnet_hub.hub.fetch import REPO_ID, SHIPPED, shipped_names
from resnet_hub.hub.figures import METRICS, inline, percent
from resnet_hub.models.calibration import FOLDS
from resnet_hub.models.registry import list_models
from resnet_hub.models.timm_names import SAME_IN_TIMM, architecture
from resnet_hub.preprocess import Preprocess

if TYPE_CHECKING:
    from resnet_hub.models.base import Network

TEMPLATE = Path(__file__).with_name("card_template.md")
STEMS = {
    "imagenet": "7x7 convolution with stride 2",
    "cifar": "3x3 convolution with stride 1, for small images",
    "deep": "three 3x3 convolutions, the first with stride 2",
}
SCHEDULES = {
    "one_cycle": "fall linearly to 0",
    "cosine": "follow a cosine down to 0",
    "step": "drop tenfold at half and three quarters",
    "constant": "stay constant",
}
IMAGENET_TERMS = "https://image-net.org/download.php"
LOCAL = "local"  # stands for a source of weights that only the machine that trained knows
MODES = {
    "feature": "feature extraction (the last layer only)",
    "partial": "partial fine-tuning (the last stage and the last layer)",
    "full": "full fine-tuning",
    "given": "learning rates set layer by layer",
}
KEPT = {
    "best": "best validation {metric}",
    "last": "the last epoch{unchosen}",
    "ema": "averaged over the end of the run",
}
BALANCES = {
    "weights": ", each class weighted by the inverse of its number of images",
    "sampler": ", each class drawn as often as any other",
}
AUGMENTATIONS = {
    "crop": "random crop after reflecting {crop_padding} pixels at the border (at 32x32)",
    "flip": "horizontal flip, alternating by epoch",
    "zoom": "random resized crop of the whole batch, 35 to 100 % of the area",
    "cutout": "cutout of a quarter of the side",
    "resized_crop": "random resized crop",
    "trivial": "TrivialAugment",
    "rand": "RandAugment",
    "erase": "random erasing",
    "rotate": "rotation",
    "affine": "affine transformation",
    "jitter": "colour jitter",
    "blur": "blur",
}


def render_card(
    model: Network, facts: dict[str, Any] | None = None, *, load_from: str, half: bool = False
) -> str:
    """The model card of a network; the same facts make the same card.

    Args:
        model: its configuration, labels, preprocessing, calibration and source are read, its weights are not.
        facts: what a run recorded (its `run.json`, or `run_facts` of an earlier card); None for a network
            that was not trained here.
        load_from: repository or directory for the card's loading examples.
        half: the weights are stored as float16, which the fact `weights_dtype` records.

    Returns:
        Markdown with YAML front matter that `huggingface_hub.ModelCard` parses; all below it lies in one
        generated block (see `card_merge`), which ends with the facts.
    """
    stored_as = {"weights_dtype": "float16"} if half else {}
    run = public_facts(facts | stored_as) if facts else None
    stated = figures.gathered(model, facts["results"], model.calibration.detections) if facts else {}
    card = ModelCard.from_template(
        card_data=_front_matter(model, run, stated, load_from),
        template_path=str(TEMPLATE),
        **_network_context(model, load_from),
        **(_run_context(run, stated) if run else {"facts": None}),
        is_half=(run or stored_as).get("weights_dtype") == "float16",
        summary=_summary(model, run),
        limits=_limits(model, run),
    )
    front, body = split_front_matter(str(card))
    stored = {"run": run, "figures": stated} if run else {}
    return f"{front}\n{block(body, stored)}"


def _network_context(model: Network, load_from: str) -> dict[str, Any]:
    """What the template needs to know of the network."""
    name = model.config.name
    listed = ", ".join(map(inline, model.labels)) if len(model.labels) <= 20 else len(model.labels)
    return {
        "title": name,
        "inline": inline,
        "percent": percent,
        "network_words": _network_words(model.config),
        "network_table": _network_table(model.config),
        "load_from": load_from,
        "timm_loads_it": bool(REPO_ID.fullmatch(load_from)) and name in list_models(),
        "stock_timm": architecture(model.config)[0] in SAME_IN_TIMM,
        "input_words": _input_words(model.preprocess),
        "classes_words": listed,
    }


def _run_context(run: dict[str, Any], stated: dict[str, Any]) -> dict[str, Any]:
    """What the template needs to know of a run; its figures come as tables."""
    recipe, kept, held_out = run["recipe"], run.get("keep", "best"), run["held_out_images"]
    is_unchosen = held_out and not recipe.get("patience")
    return {
        "facts": run | {"data": inline(run["data"])},
        "stated": stated,
        "tables": {section: figures.table(stated, section) for section in figures.SECTIONS},
        "missed": [what for what, share in flagged_shares(stated).items() if share < 0.5],
        "images": run.get("images", ["curves.png", "confusion.png"]),
        "base": base_words(run.get("base_model")),
        "mode": MODES.get(run.get("mode", ""), run.get("mode")),
        "optimizer_words": _optimizer_words(recipe),
        "loss_words": _loss_words(recipe, base_words(run.get("teacher")), "class_threshold" in stated),
        "augmentation_words": _augmentation_words(recipe, run.get("low_res_epochs")),
        "seconds_words": _seconds_words(run),
        "kept_words": KEPT[kept].format(
            metric=(run.get("metric") or recipe.get("metric", "accuracy")).replace("_", " "),
            unchosen=f", not chosen on the {held_out} validation images" if is_unchosen else "",
        ),
        "choices": _choices(run, kept),
        "calibration_words": _calibration_words(run),
        "alarm_words": _alarm_words(run.get("calibration") or {}),
        "firm_words": _firm_words(run.get("calibration") or {}),
        "shown_words": _shown_words(run.get("calibration") or {}),
    }


def run_facts(card: str) -> dict[str, Any] | None:
    """The facts of the run a card was made from, for `render_card`; None where it holds none."""
    stored = stored_facts(card)
    return stored["run"] | {"results": stored["figures"]} if stored.get("run") else None


def public_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """A run's facts without its results and without any folder of the machine that made it."""
    hidden: dict[str, Any] = {
        "command": without_absolute_paths(facts["command"]),
        "data": data_name(facts["data"]),
    }
    for key in ("base_model", "teacher"):
        source = facts.get(key)
        hidden[key] = source if not source or source in shipped_names() or is_public_name(source) else LOCAL
    if more := facts.get("extended"):
        hidden["extended"] = [{**each, "command": without_absolute_paths(each["command"])} for each in more]
    return {key: value for key, value in (facts | hidden).items() if key != "results" and value is not None}


def data_name(data: str) -> str:
    """What the card calls the data: never a path on the machine that read it."""
    is_path = re.match(r"[/~.]|[A-Za-z]:\\", data) or re.fullmatch(r"[^\s]*[/\\][^\s]*", data)
    if not is_path:
        return data
    parts = re.split(r"[/\\]", data.rstrip("/\\"))
    has_set = len(parts) > 1 and parts[-2] not in ("", ".", "..", "~")
    return parts[-2] if part_named(parts[-1]) and has_set else parts[-1]


def without_absolute_paths(command: str) -> str:
    """Commands, one per line, with their absolute paths, which may name a person, cut to their last part."""
    absolute = re.compile(r"(^|=)(/|~|[A-Za-z]:\\).*?([^/\\]+)[/\\]?$")
    lines = (shlex.split(line) for line in command.splitlines())
    return "\n".join(shlex.join(absolute.sub(r"\1\3", word) for word in words) for words in lines)


def base_words(base_model: str | None) -> str | None:
    """Where weights or a teacher came from, without naming a local directory."""
    if not base_model:
        return None
    if base_model in shipped_names():
        return f"`{base_model}`, which resnet_hub ships"
    return f"`{base_model}`" if is_public_name(base_model) else "a local checkpoint that was not published"


def is_public_name(name: str) -> bool:
    """Whether others can use this name of a source of weights: `owner/name`, and no directory here."""
    return bool(REPO_ID.fullmatch(name)) and not Path(name).exists()


def card_results(text: str) -> dict[str, float]:
    """The figures in a card's `model-index`, by their name in `results`."""
    names = {name: key for key, (_, name) in METRICS.items()}
    data: Any = ModelCard(text, ignore_metadata_errors=True).data
    stated = data.eval_results or []
    return {names[r.metric_name]: r.metric_value for r in stated if r.metric_name in names}


def stated_figures(text: str) -> dict[str, Any]:
    """The figures in a card's facts, as `figures.gathered` returns them; empty where none can be read."""
    stated = stored_facts(text).get("figures", {})
    try:
        list(figures.entries(stated))
    except (TypeError, ValueError, KeyError, AttributeError):  # a card may come from anybody
        return {}
    return stated


def card_figures(text: str) -> dict[str, float]:
    """Every figure of a card that can be measured again, by the names of `measured_figures`.

    NaN where facts, text and front matter disagree. A card without facts states what its front matter does.
    """
    lines = set(text.splitlines())
    found = {
        entry.name: entry.value if entry.line in lines else float("nan")
        for entry in figures.entries(stated_figures(text))
    }
    for key, value in card_results(text).items():
        found[key] = value if found.get(key, value) == value else float("nan")
    return found


def stated_detections(text: str) -> dict[str, float]:
    """{what: share called unfamiliar} of the images a card says the network was not trained on."""
    return flagged_shares(stated_figures(text))


def flagged_shares(stated: dict[str, Any]) -> dict[str, float]:
    """{what: share called unfamiliar} of `figures.gathered`."""
    return {what: figures.number(one["flagged"]) for what, one in stated.get("unfamiliar", {}).items()}


def measured_figures(
    model: Network, results: dict[str, Any], tolerance: float
) -> dict[str, tuple[float, float]]:
    """{figure: (value, how far the card's may be from it)}.

    Args:
        results: what `training.evaluate.measure` returns.
        tolerance: share of the images that may fall either way between two processors.
    """
    found = results.get("unfamiliar", {}).items()
    detections = [(what, one["images"], figures.number(one["flagged"])) for what, one in found]
    measured = figures.gathered(model, results, detections)
    return {entry.name: (entry.value, entry.slack) for entry in figures.entries(measured, tolerance)}


def _front_matter(model: Network, run: dict | None, stated: dict[str, Any], load_from: str) -> ModelCardData:
    stock = ["timm", "transformers"] if architecture(model.config)[0] in SAME_IN_TIMM else []
    base = (run.get("base_model") if run else model.source) or ""
    fields: Any = ModelCardData(
        **_licence(run, base),
        library_name="resnet_hub",
        pipeline_tag="image-classification",
        tags=["resnet", "image-classification", "pytorch", *stock],
    )
    if is_public_name(base) and base != load_from and not base.startswith("torchvision/"):
        fields.base_model = base
        fields.base_model_relation = "finetune" if run else None
    if run:
        is_cifar = re.search(r"cifar-?10(?!\d)", run["data"], re.IGNORECASE) is not None
        fields.model_name = run["name"]
        known = run.get("hub_dataset") or ("cifar10" if is_cifar else None)
        fields.datasets = [known] if known else None
        fields.metrics = ["accuracy" if "top1" in stated else "mean_average_precision"]
        fields.eval_results = _eval_results(run, stated, known or "imagefolder")
    return fields


def _licence(run: dict | None, base: str) -> dict[str, Any]:
    """Front matter: weights from elsewhere have the licence of their owner, which is not known here."""
    if is_for_research(run, base):
        return {"license": "other", "license_name": RESEARCH, "license_link": IMAGENET_TERMS}
    return {"license": "mit"} if not base or base in shipped_names() else {}


def _eval_results(run: dict[str, Any], stated: dict[str, Any], kind: str) -> list[EvalResult]:
    split = run.get("test_part", "test")
    test = {"dataset_type": kind, "dataset_name": run["data"], "dataset_split": split}
    return [
        EvalResult(
            "image-classification",
            metric_type=metric,
            metric_name=name,
            metric_value=figures.number(stated[key]),
            **test,
        )
        for key, (metric, name) in METRICS.items()
        if key in stated
    ]


def _summary(model: Network, run: dict | None) -> str:
    own = "" if model.config.name in list_models() else " (a design of its own)"
    what = f"A `{model.config.name}` network{own} with {totals(trace(model.config)).params:,} parameters"
    if run and model.calibration.class_thresholds:
        return f"{what} that says which of {len(model.labels)} things an image shows, each by itself."
    if run:
        return f"{what} that classifies images into {len(model.labels)} classes."
    if model.source is None:
        return f"{what}. Its weights were not trained by a run of this project."
    is_named = model.revision == "shipped" or is_public_name(model.source)
    source = f"`{model.source}`" if is_named else "a local checkpoint"
    return f"{what}. Its weights were loaded from {source}; any changes made since are not recorded."


def _network_words(config: ModelConfig) -> str:
    if not isinstance(config, ResNetConfig):
        return f"`{config.name}`, a network without residual connections."
    pool = "followed by 3x3 max pooling with stride 2" if config.has_maxpool else "without max pooling"
    strides = ", ".join(map(str, config.strides))
    beside = {"none": "no shortcuts (a plain net)", "zeropad": "zero-padded shortcuts (option A)"}
    shortcut = beside.get(config.shortcut, "projection shortcuts where shapes change")
    if config.block == "pooled" and config.shortcut != "none":
        shortcut = "shortcuts that start after the pooling, where shapes match"
    how = {
        "bottleneck": f", striding in the {config.stride_in} convolution",
        "pooled": ", by max pooling after the block's first convolution; GELU instead of ReLU",
    }
    return (
        f"Stem: {STEMS[config.stem]}, {pool}. {sum(config.depths)} {config.block} blocks in stages of "
        f"{', '.join(map(str, config.depths))}, strides {strides}{how.get(config.block, '')}; {shortcut}."
    )


def _network_table(config: ModelConfig) -> str:
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


def _optimizer_words(recipe: dict[str, Any]) -> str:
    optimizer, decay = recipe["optimizer"], recipe["weight_decay"]
    if optimizer in ("sgd", "muon"):
        words = f"SGD with Nesterov momentum 0.9, peak learning rate {recipe['lr']}, weight decay {decay}"
    else:
        names = {"adam": "Adam", "adamw": "AdamW"}
        words = f"{names.get(optimizer, optimizer)}, peak learning rate {recipe['lr']}, weight decay {decay}"
    words += " (none on batch norms and biases)"
    if recipe.get("bias_lr"):
        words += f", peak learning rate {recipe['bias_lr']} for batch-norm biases"
    if optimizer == "muon":
        muon = f"momentum {recipe.get('muon_momentum', 0.9)}, peak learning rate {recipe['muon_lr']}"
        words = f"Muon for all convolutions but the first, {muon}; for the rest {words}"
    rise = f"warm up over {percent(recipe['warmup'], 0)} of the run, then " if recipe["warmup"] else ""
    return f"{words}; learning rates {rise}{SCHEDULES[recipe.get('schedule', 'one_cycle')]}"


def _loss_words(recipe: dict[str, Any], teacher: str | None, several: bool = False) -> str:
    taught = f"half cross entropy, half distillation from {teacher} (arXiv 1503.02531)"
    words = taught if teacher else "binary cross entropy of each class" if several else "cross entropy"
    words += BALANCES.get(recipe.get("balance", "none"), "")
    if recipe.get("label_smoothing"):
        words += f" with label smoothing {recipe['label_smoothing']}"
    for name in ("mixup", "cutmix"):
        words += f", {name} {recipe[name]}" if recipe.get(name) else ""
    if recipe.get("hard_share", 1) < 1:
        words += f" on the {percent(recipe['hard_share'], 0)} of the images shown that are hardest for a "
        words += "small network trained alongside"
    words += f"; moving average of the weights (decay {recipe['ema']} per step)" if recipe.get("ema") else ""
    return words + (f"; stochastic depth {recipe['drop_path']}" if recipe.get("drop_path") else "")


def _choices(run: dict[str, Any], kept: str) -> str:
    """What was chosen on the validation set; cards of earlier runs do not say what it was too small for."""
    fitted = run.get("calibration")
    made = {
        "the epoch": kept == "best",
        "when to stop": run["recipe"].get("patience", 0) > 0,
        "the temperature": fitted is None or fitted["images"] >= FOLDS,
        "the thresholds": fitted is None or any(fitted.get(k) for k in ("false_alarms", "firm", "shown")),
    }
    return ", ".join(what for what, was_chosen in made.items() if was_chosen) or "none"


def _calibration_words(run: dict[str, Any]) -> str:
    """How the temperature was found; cards of earlier runs do not say on how many images."""
    fitted = run.get("calibration")
    if not run["held_out_images"]:
        return "All images were used for training, so no temperature and no threshold was fitted."
    if fitted is None:
        return "The logits are divided by a temperature fitted on the validation set."
    images = f"{fitted['images']:,} validation images"
    if not fitted.get("temperature") and fitted["images"] < FOLDS:
        return f"The temperature stays 1: it takes {FOLDS} validation images to fit it."
    if not fitted.get("temperature"):
        return f"The temperature stays 1: no fitted one was better in cross-validation on the {images}."
    low, high = fitted["temperature"]
    return (
        f"The logits are divided by a temperature fitted on the {images} with a prior toward 1 "
        f"(95 % interval {low:.3g} to {high:.3g})."
    )


def _alarm_words(fitted: dict[str, Any]) -> str:
    if not fitted.get("false_alarms"):
        return ""
    share, low, high = (percent(each, 1) for each in fitted["false_alarms"])
    images = f"{fitted['images']:,} images"
    return f"; estimated from {images}, {share} of new images like them fall below it ({low} to {high})"


def _firm_words(fitted: dict[str, Any]) -> str:
    if not fitted.get("firm"):
        return ""
    count, *shares = fitted["firm"]
    share, low, high = (percent(each, 1) for each in shares)
    firmly = f"{count:,} are answered firmly, {share} of them correctly; 95 % interval {low} to {high}"
    return f" (fitted on {fitted['images']:,} images, of which {firmly})"


def _shown_words(fitted: dict[str, Any]) -> str:
    if not fitted.get("shown"):
        return ""
    fewest, most = fitted["shown"]
    return f" ({fitted['images']:,} images, of which from {fewest:,} to {most:,} show a class)"


def _seconds_words(run: dict[str, Any]) -> str:
    seconds, features = run["seconds"], run.get("feature_seconds", 0.0)
    words = f"{seconds:,.0f} seconds" if seconds >= 10 else f"{seconds:.1f} seconds"
    return words + (f", {features:.1f} of them for the features," if features else "")


def _augmentation_words(recipe: dict[str, Any], low_epochs: int | None) -> str:
    """How images were augmented; cards of earlier runs do not say how many epochs had small ones."""
    words = [AUGMENTATIONS.get(name, name).format(**recipe) for name in recipe.get("augment") or ()]
    if recipe.get("low_res") and low_epochs:
        first = "epoch" if low_epochs == 1 else f"{low_epochs} epochs"
        words.append(f"the first {first} at a short side of {recipe['low_res']} pixels")
    elif recipe.get("low_res") and low_epochs is None:
        side, share = recipe["low_res"], percent(recipe["low_res_until"], 0)
        words.append(f"the first {share} of the epochs at {side}x{side} pixels")
    return "; ".join(words)


def _input_words(preprocess: Preprocess) -> str:
    channels, height, width = preprocess.input_size
    return f"{height}x{width} pixels, {channels} channel{'s' * (channels > 1)}; {preprocess.crop_words()}"


def is_for_research(run: dict[str, Any] | None, base: str | None = None) -> bool:
    """Whether images of ImageNet, for research and teaching only, were trained on, maybe at first; of weights
    without a run, whether those of `base` were."""
    if run and _names_imagenet(run):
        return True
    base = run.get("base_model") if run else base
    if base not in shipped_names():
        return False
    text = (SHIPPED / base / "README.md").read_text(encoding="utf-8")
    return is_for_research(stored_facts(text)["run"])


def _names_imagenet(run: dict[str, Any]) -> bool:
    named = f"{run['data']} {run.get('outliers', {}).get('data', '')}"
    return "imagenet" in re.sub(r"\W", "", named).lower()


def _limits(model: Network, run: dict | None) -> str:
    is_one_answer = model.labels and not model.calibration.class_thresholds
    lines = (
        ["It always answers with one of its classes, even if the image shows none of them."]
        if is_one_answer
        else []
    )
    if run:
        lines.append("It was not tested for any decision about people, safety or health.")
    if is_for_research(run, model.source):
        lines.append(
            "It was trained on images of ImageNet, whose terms allow research and teaching but no commercial "
            "use."
        )
    if run and max(model.config.input_size) <= 64:
        lines.append(
            "It was trained on small, centred images; an object in the corner of a photo is easily missed."
        )
    return " ".join([*lines, *([run["limits"]] if run and run.get("limits") else [])])
