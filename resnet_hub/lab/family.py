"""Which network to choose: size, cost, published or measured accuracy, speed on this machine, use.

    python -m resnet_hub.family --measure

The one table of facts behind this command, the Compare tab's guide and the Lab's. Accuracies are quoted with
their source, never estimated. torch is imported only to measure.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from resnet_hub.command import program_name, run_command
from resnet_hub.config import ModelConfig
from resnet_hub.geometry import Totals, times, totals, trace
from resnet_hub.lab.bounds import one_of
from resnet_hub.models.registry import list_models, model_config

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")  # of the paper, table 1
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
USE: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("uses.toml").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Choice:
    """One network of the guide.

    Args:
        name: registry name.
        input_size: (height, width) in pixels.
        parameters: their number.
        macs: multiply-adds of one image at `input_size`.
        accuracy: top-1 in percent; None where there is no measurement.
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


@cache
def size(name: str) -> Totals:
    """Parameters and multiply-adds of a network, for one image of its own size."""
    return totals(trace(name))


def guide() -> list[Choice]:
    """Every network; a measured and a published accuracy are two entries."""
    shipped = shipped_accuracies()
    found = []
    for name in list_models():
        accuracies: list[Stated] = [*shipped.get(name, [])]
        if name in PUBLISHED:
            published, source = PUBLISHED[name]
            accuracies.append(Stated(model_config(name), published, "published", source))
        for config, top1, kind, source in accuracies or [Stated(model_config(name))]:
            counts = totals(trace(config))
            own = config.input_size, counts.params, counts.macs
            found.append(Choice(name, *own, top1, kind, source, USE[name]["en"]))
    return found


class Stated(NamedTuple):
    """A top-1 accuracy in percent, and the network that reached it: a checkpoint's may have other classes and
    another input size than its name's."""

    config: ModelConfig
    top1: float | None = None
    kind: str = ""
    source: str = ""


def shipped_accuracies() -> dict[str, list[Stated]]:
    """What the shipped checkpoints' cards state, by network."""
    from huggingface_hub import ModelCard

    from resnet_hub.hub.card import METRICS
    from resnet_hub.hub.fetch import SHIPPED, shipped_config, shipped_names

    found: dict[str, list] = {}
    for folder in (SHIPPED / name for name in shipped_names()):
        config = shipped_config(folder.name)
        for stated in ModelCard.load(folder / "README.md").data.eval_results or []:
            if stated.metric_name == METRICS["top1"][1]:
                source = f"card of {folder.name}, {stated.dataset_name}"
                of_network = found.setdefault(config.name, [])
                of_network.append(Stated(config, 100 * stated.metric_value, "measured", source))
    return found


def measured_of(row: Choice, seconds: Mapping[str, float]) -> float | None:
    """What one image takes in a network of the guide; None at another input size than was measured."""
    return seconds.get(row.name) if row.input_size == model_config(row.name).input_size else None


def measure(name: str, device: str = "auto", least: int = 3) -> float:
    """Median seconds for one image of the network's own size on this machine, over at least `least` runs."""
    import torch

    from resnet_hub.device import pick_device
    from resnet_hub.engine import choose
    from resnet_hub.models.build import create_model
    from resnet_hub.models.initialise import SkipRandomFill
    from resnet_hub.predict import latency

    with SkipRandomFill():
        model = create_model(name)
    with torch.no_grad():
        for parameter in model.parameters():  # what memory held may be subnormal, and slow
            parameter.zero_()
    model = model.to(pick_device(device)).eval()
    choose(model, "eager")  # preparing each of them would take longer than the measurement
    size = (model.config.in_chans, *model.config.input_size)
    return latency(model, size, seconds=0.5, min_runs=least).seconds


@cache
def latency(name: str) -> float:
    """Seconds for one image on this machine's CPU, measured once: a visitor is waiting.

    Raises:
        ValueError: for a network that is not one of `RESNETS`.
    """
    one_of("name", name, RESNETS)
    return measure(name, "cpu", least=1)


def table(rows: list[Choice], seconds: dict[str, float]) -> str:
    """The guide as aligned text."""
    lines = [["network", "input", "parameters", "MACs", "top-1", "source", "latency", "use"]]
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.2f} %"
        known = measured_of(row, seconds)
        time = "" if known is None else f"{1000 * known:.1f} ms"
        counts = [times(row.input_size), f"{row.parameters:,}", f"{row.macs:,}"]
        lines.append([row.name, *counts, accuracy, row.source, time, row.use])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.ljust, str.rjust, str.rjust, str.rjust, str.rjust, str.ljust, str.rjust, str.ljust]
    return "\n".join(
        "  ".join(side(cell, width) for side, cell, width in zip(sides, line, widths, strict=True)).rstrip()
        for line in lines
    )


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        program_name("resnet_hub.family"), description="Which network to choose."
    )
    parser.add_argument("--measure", action="store_true", help="time every network on this machine")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    return run_command("resnet_hub.family", lambda: print_guide(options))


def print_guide(options: argparse.Namespace) -> None:
    """The guide, with this machine's latencies where `options.measure` asks for them."""
    rows, seconds = guide(), {}
    for name in list_models() if options.measure else []:
        print(f"measuring {name}", file=sys.stderr)
        seconds[name] = measure(name)
    if options.json:
        documents = [asdict(row) | {"latency_seconds": measured_of(row, seconds)} for row in rows]
        print(json.dumps(documents, indent=2))
    else:
        print(table(rows, seconds))
