"""`python -m training.ablation CHECKPOINT ... --data DIR`: accuracy with each block switched off.

The Lab shows it beside the answer to a visitor's image (Veit et al., arXiv 1605.06431). Writes
`results/ablation.json` and `ablation.md`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from resnet_hub import from_pretrained
from resnet_hub.command import number_up_to, program_name
from resnet_hub.errors import Refusal, listed
from resnet_hub.lab.ablation import block_names, without
from resnet_hub.models.base import Network
from training.data import Images, load_data, with_classes
from training.engine import predict_logits
from training.record import add_record_flags, made_with, run_recorded, write_record

QUESTION = (
    "How accurate is a trained network when one block is switched off and only its shortcut remains "
    "(arXiv 1605.06431)? A plain block has no shortcut; its input is passed on as in the residual network. "
    "The two networks were trained differently and start at different accuracies, so compare what each "
    "loses. With one network of each kind, this says little about others."
)


def accuracies(model: Network, test: Images) -> dict[str, float]:
    """{block: top-1 accuracy without it}, first "" for the whole network."""
    found = {}
    for block in ["", *block_names(model)]:
        with without(model, block):
            logits, labels = predict_logits(model, test, model.preprocess)
        found[block] = (logits.argmax(1) == labels).float().mean().item()
        print(f"{model.source} without {block or 'nothing'}: {found[block]:.2%}")
    return found


def markdown(document: dict[str, Any]) -> str:
    """The record as a page."""
    names = list(document["accuracies"])
    rows = [*document["accuracies"][names[0]]]
    cells = [
        f"| {block or 'none'} | "
        + " | ".join(f"{document['accuracies'][n][block]:.2%}" for n in names)
        + " |"
        for block in rows
    ]
    return "\n".join(
        [
            "# ablation",
            "",
            QUESTION,
            "",
            f"`{document['command']}`: {document['test_images']:,} test images of {document['data']}; "
            f"{document['hardware']}, torch {document['versions']['torch']}.",
            "",
            f"| switched off | {' | '.join(names)} |",
            "|---|" + "---|" * len(names),
            *cells,
            "",
        ]
    )


def record(options: argparse.Namespace, command: str) -> None:
    """Measure every checkpoint on the same test images and write the record.

    Raises:
        Refusal: for networks whose blocks cannot stand side by side.
    """
    names = [Path(source).resolve().name for source in options.checkpoints]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise Refusal(f"two checkpoints are called {listed(twice)}; they need names of their own")
    models = [from_pretrained(source) for source in options.checkpoints]
    blocks = [block_names(model) for model in models]
    for source, found in zip(options.checkpoints, blocks, strict=True):
        if found != blocks[0]:
            raise Refusal(
                f"{source} has the blocks {listed(found, 3)}, {options.checkpoints[0]} has "
                f"{listed(blocks[0], 3)}; give networks with the same blocks"
            )
    test = load_data(options.data, "test", models[0].preprocess)
    test = test.subset(torch.linspace(0, len(test) - 1, min(options.images, len(test))).long())
    measured = {
        name: accuracies(model, with_classes(test, model.labels))
        for name, model in zip(names, models, strict=True)
    }
    document = {
        "command": command,
        "data": options.data_name or options.data,
        "test_images": len(test),
        **made_with(torch.device("cpu")),
        "accuracies": measured,
    }
    write_record("ablation", options.results, document, markdown(document))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(program_name("training.ablation"), description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="networks with the same blocks")
    parser.add_argument(
        "--images",
        type=number_up_to(1_000_000),
        metavar="N",
        default=2_000,
        help="test images, evenly spaced; default: 2000",
    )
    add_record_flags(parser, data="'cifar10', or a folder with test/")
    return run_recorded("training.ablation", record, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
