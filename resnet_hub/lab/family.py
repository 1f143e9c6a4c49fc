"""Which network to choose: size, cost, accuracy where somebody measured it, speed on this machine, use.

    python -m resnet_hub.family --measure

Accuracies are quoted, never estimated: each has its source, and a network nobody measured has none. Knows
nothing of the page; torch is imported only to measure.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

from resnet_hub.command import program_name
from resnet_hub.geometry import totals, trace
from resnet_hub.models.registry import list_models, model_config

TORCHVISION = "torchvision {}_Weights.IMAGENET1K_V1, ImageNet, one 224 crop"
PAPER = "arXiv 1512.03385 table 6, CIFAR-10"
PUBLISHED = {  # network -> (top-1 in percent, source)
    "resnet18": (69.758, TORCHVISION.format("ResNet18")),
    "resnet34": (73.314, TORCHVISION.format("ResNet34")),
    "resnet50": (76.130, TORCHVISION.format("ResNet50")),
    "resnet101": (77.374, TORCHVISION.format("ResNet101")),
    "resnet152": (78.312, TORCHVISION.format("ResNet152")),
    "wide_resnet50_2": (78.468, TORCHVISION.format("Wide_ResNet50_2")),
    "vgg16": (71.592, TORCHVISION.format("VGG16")),
    "resnet20_cifar": (91.25, PAPER),
    "resnet32_cifar": (92.49, PAPER),
    "resnet44_cifar": (92.83, PAPER),
    "resnet56_cifar": (93.03, PAPER),
    "resnet110_cifar": (93.57, PAPER),
}
USE = {
    "resnet18": "a first model on photos; fine-tuning with little data or a small machine",
    "resnet34": "more accurate than 18 at twice its cost, still without bottlenecks",
    "resnet50": "the usual choice on photos: baseline, backbone, fine-tuning",
    "resnet101": "a backbone for detection and segmentation where 50 is not enough",
    "resnet152": "the last points of accuracy, where time does not matter",
    "wide_resnet50_2": "width instead of depth: the accuracy of 152 in a third of its layers",
    "plain18": "to see what shortcuts do: ResNet-18 without them",
    "plain34": "to see degradation: deeper than plain18, and worse",
    "resnet18_cifar": "the usual strong choice for 32x32 images",
    "resnet34_cifar": "more depth at 32x32, at twice the cost",
    "resnet50_cifar": "bottlenecks at 32x32",
    "resnet101_cifar": "the deepest with a CIFAR stem, for a GPU",
    "resnet20_cifar": "small images on a small machine; trains in half an hour on two cores",
    "resnet32_cifar": "the next size of the paper",
    "resnet44_cifar": "the next size of the paper",
    "resnet56_cifar": "the paper's size most often compared with",
    "resnet110_cifar": "the paper's depth study: a hundred layers that train",
    "plain20_cifar": "to see what shortcuts do: ResNet-20 without them",
    "plain56_cifar": "to see degradation at 56 layers",
    "wrn16_4_cifar": "width instead of depth at 32x32; dropout inside the block",
    "wrn28_10_cifar": "the large wide network of its paper, for a GPU",
    "resnet8_cifar": "for short training at 32x32",
    "simple_resnet": "a ResNet small enough to read and change",
    "lenet5": "where it began: digits, 1998",
    "alexnet": "history: large kernels and a head of 59 million weights, 2012",
    "vgg16": "history: 3x3 only, and 138 million weights to move, 2014",
    "vgg_cifar": "VGG's layers with batch norm, to compare with ResNets at 32x32",
    "cifar10net": "a plain course network for 32x32",
}


@dataclass(frozen=True)
class Choice:
    """One network of the guide.

    Args:
        name: registry name.
        input_size: (height, width) in pixels.
        parameters: their number.
        macs: multiply-adds of one image at `input_size`.
        accuracy: top-1 in percent; None where nobody measured it.
        kind: "measured" by this project or "published"; "" without an accuracy.
        source: where the accuracy is from.
        use: what to use the network for.
    """

    name: str
    input_size: tuple[int, int]
    parameters: int
    macs: int
    accuracy: float | None
    kind: str
    source: str
    use: str


def guide() -> list[Choice]:
    """Every network; a measured and a published accuracy are two entries."""
    shipped = shipped_accuracies()
    found = []
    for name in list_models():
        config = model_config(name)
        total = totals(trace(config))
        published = [(*PUBLISHED[name][:1], "published", PUBLISHED[name][1])] if name in PUBLISHED else []
        for accuracy in [*shipped.get(name, []), *published] or [(None, "", "")]:
            found.append(Choice(name, config.input_size, total.params, total.macs, *accuracy, USE[name]))
    return found


def shipped_accuracies() -> dict[str, list[tuple[float, str, str]]]:
    """(top-1 in percent, "measured", source) of the shipped checkpoints' cards, by network."""
    from huggingface_hub import ModelCard

    from resnet_hub.hub.card import METRICS
    from resnet_hub.hub.fetch import SHIPPED, shipped_names

    found: dict[str, list] = {}
    for folder in (SHIPPED / name for name in shipped_names()):
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architecture"]
        for stated in ModelCard.load(folder / "README.md").data.eval_results or []:
            if stated.metric_name == METRICS["top1"][1]:
                source = f"card of {folder.name}, {stated.dataset_name}"
                found.setdefault(name, []).append((100 * stated.metric_value, "measured", source))
    return found


def measure(name: str, device: str = "auto", least: int = 3) -> float:
    """Median seconds of one image at the network's own size, warm, on this machine, of `least` runs up."""
    import torch

    from resnet_hub.device import pick_device
    from resnet_hub.models.build import create_model
    from resnet_hub.models.initialise import SkipRandomFill
    from resnet_hub.predict import latency

    with SkipRandomFill():
        model = create_model(name)
    with torch.no_grad():
        for parameter in model.parameters():  # what memory held could be subnormal, and slow
            parameter.zero_()
    model = model.to(pick_device(device)).eval()
    return latency(model, (model.config.in_chans, *model.config.input_size), seconds=0.5, min_runs=least)


def table(rows: list[Choice], seconds: dict[str, float]) -> str:
    """The guide as aligned text."""
    lines = [["network", "input", "parameters", "MACs", "top-1", "source", "latency", "for"]]
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.2f} %"
        latency = f"{1000 * seconds[row.name]:.1f} ms" if row.name in seconds else ""
        size = "x".join(map(str, row.input_size))
        counts = [f"{row.parameters:,}", f"{row.macs:,}"]
        lines.append([row.name, size, *counts, accuracy, row.source, latency, row.use])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.ljust, str.rjust, str.rjust, str.rjust, str.rjust, str.ljust, str.rjust, str.ljust]
    return "\n".join(
        "  ".join(side(cell, width) for side, cell, width in zip(sides, line, widths, strict=True)).rstrip()
        for line in lines
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; 0."""
    parser = argparse.ArgumentParser(
        program_name("resnet_hub.family"), description="Which network to choose."
    )
    parser.add_argument("--measure", action="store_true", help="time every network on this machine")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    rows, seconds = guide(), {}
    for name in list_models() if options.measure else []:
        print(f"measuring {name}", file=sys.stderr)
        seconds[name] = measure(name)
    if options.json:
        documents = [asdict(row) | {"latency_seconds": seconds.get(row.name)} for row in rows]
        print(json.dumps(documents, indent=2))
    else:
        print(table(rows, seconds))
    return 0
