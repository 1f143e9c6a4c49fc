"""Facts -> model card. A free function of a model and what a run recorded; it measures nothing itself.

What is not known is left out whole: an untrained network's card has no results and no placeholder.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

TEMPLATE = Path(__file__).with_name("card_template.md")
METRICS = {  # figure in `results` -> (metric type of the Hub, name on the card)
    "top1": ("accuracy", "Top-1 accuracy"),
    "top5": ("accuracy", "Top-5 accuracy"),
    "top1_flip_tta": ("accuracy", "Top-1 accuracy, flip test-time augmentation"),
    "calibration_error": ("expected_calibration_error", "Expected calibration error, 15 bins"),
}


def render_card(model, facts: dict | None = None, *, load_from: str) -> str:
    """The model card of a `HubModel`.

    Args:
        facts: what a run recorded (its `run.json`); None for a network that was not trained here.
        load_from: repository or directory for the card's loading example.

    Returns:
        Markdown with YAML front matter that `huggingface_hub.ModelCard` parses.
    """
    name = model.config.name
    card = ModelCard.from_template(
        card_data=_front_matter(model, facts),
        template_path=str(TEMPLATE),
        title=f"{name}, trained on {facts['data']}" if facts else name,
        summary=_summary(model, facts),
        facts=facts,
        calibration=model.calibration,
        percent=lambda share, digits=2: f"{100 * share:.{digits}f} %",
        per_class_table=facts and _per_class_table(model.labels, facts["results"]["per_class"]),
        confusion_table=facts and _confusion_table(model.labels, facts["results"]["confusion"]),
        optimizer_words=facts and _optimizer_words(facts["recipe"]),
        load_from=load_from,
        input_words=_input_words(model.preprocess),
        classes_words=", ".join(model.labels) if len(model.labels) <= 20 else f"{len(model.labels)}",
        limits=_limits(model, facts),
    )
    return str(card)


def card_results(path: Path) -> dict[str, float]:
    """The figures a card states, by their name in `results`."""
    names = {words: figure for figure, (_, words) in METRICS.items()}
    if not path.is_file():
        return {}
    stated = ModelCard.load(path).data.eval_results or []
    return {names[r.metric_name]: r.metric_value for r in stated if r.metric_name in names}


def _front_matter(model, facts: dict | None) -> ModelCardData:
    data = ModelCardData(
        license="mit",
        library_name="resnet_hub",
        pipeline_tag="image-classification",
        tags=["resnet", "image-classification", "pytorch"],
    )
    if facts:
        data.model_name = facts["name"]
        data.datasets = ["cifar10"] if "CIFAR-10" in facts["data"] else None
        data.metrics = ["accuracy"]
        data.eval_results = [
            EvalResult(
                task_type="image-classification",
                dataset_type="cifar10" if "CIFAR-10" in facts["data"] else "imagefolder",
                dataset_name=facts["data"],
                dataset_split="test",
                metric_type=kind,
                metric_name=words,
                metric_value=round(facts["results"][figure], 4),
            )
            for figure, (kind, words) in METRICS.items()
        ]
    return data


def _summary(model, facts: dict | None) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    what = f"A `{model.config.name}` network with {parameters:,} parameters"
    if facts is None:
        return f"{what}. Its weights were not trained by a run of this project."
    return f"{what} that sorts pictures into {len(model.labels)} classes."


def _per_class_table(labels: tuple[str, ...], shares: list[float]) -> str:
    rows = [f"| {label} | {100 * share:.1f} % |" for label, share in zip(labels, shares, strict=True)]
    return "\n".join(["| class | accuracy |", "|---|---|", *rows])


def _confusion_table(labels: tuple[str, ...], confusion: list[list[int]]) -> str:
    head = "| | " + " | ".join(labels) + " |"
    rows = [
        f"| **{label}** | " + " | ".join(map(str, row)) + " |"
        for label, row in zip(labels, confusion, strict=True)
    ]
    return "\n".join([head, "|---" * (len(labels) + 1) + "|", *rows])


def _optimizer_words(recipe: dict) -> str:
    sgd = f"SGD with Nesterov momentum 0.9, peak rate {recipe['lr']}, weight decay {recipe['weight_decay']}"
    where = " (none on norms and biases)"
    schedule = (
        f"; rates rise for {100 * recipe['warmup']:.0f} % of the run, then fall to 0 in a straight line"
    )
    if recipe["optimizer"] == "muon":
        convs = f"Muon on every convolution but the first, peak rate {recipe['muon_lr']}; on the rest "
        return f"{convs}{sgd}{where}{schedule}"
    return f"{sgd}{where}{schedule}"


def _input_words(preprocess) -> str:
    channels, height, width = preprocess.input_size
    how = f"short side resized ({preprocess.interpolation}), centre crop"
    return f"{height}x{width} pixels, {channels} channels; {how}"


def _limits(model, facts: dict | None) -> str:
    lines = [
        "It answers with one of its classes whatever it is shown, and was not tested for any decision about "
        "people, safety or health. It was trained on small, centred pictures; a thing that fills a corner of "
        "a photo is seen badly."
        if facts and max(model.config.input_size) <= 64
        else "It answers with one of its classes whatever it is shown."
    ]
    return " ".join(lines + ([facts["limits"]] if facts and facts.get("limits") else []))
