"""`resnet-hub COMMAND ...`: every command of the library, the app and the training scripts under one name.

`resnet-hub predict photo.jpg` does what `python -m resnet_hub.predict photo.jpg` does. A command's module is
imported when it runs, so that the list of commands needs no torch.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from resnet_hub import __version__
from resnet_hub.command import ONE_COMMAND

COMMANDS = {  # name -> (module with a `main`, what the command does)
    "predict": ("resnet_hub.predict", "classify images"),
    "app": ("app", "serve the Gradio app"),
    "geometry": ("resnet_hub.geometry.__main__", "list a network's layers: sizes, receptive field, cost"),
    "family": ("resnet_hub.family", "which network to choose"),
    "parity": ("resnet_hub.parity", "compare our networks with timm's and torchvision's"),
    "convert": ("resnet_hub.convert", "convert weights between libraries, or to ONNX"),
    "web": ("resnet_hub.web.__main__", "write a page that classifies photos without a server"),
    "train": ("training.cifar", "train a small-image network from scratch"),
    "transfer": ("training.transfer", "fine-tune a network on your own images"),
    "check": ("training.check", "find problems in a data set"),
    "evaluate": ("training.evaluate", "measure a checkpoint and compare it with its card"),
    "publish": ("training.publish", "upload a finished run to the Hub"),
    "study": ("training.study", "run a comparison and record its table and curves"),
    "ablation": ("training.ablation", "measure networks with each block switched off"),
    "film": ("training.film", "record the training of a plain and a residual network for the Lab"),
    "quantize": ("training.quantize", "make an int8 version and measure it"),
    "bench": ("training.bench", "measure the training speed"),
    "gpu": ("training.gpu", "measure training speed on a GPU and check reproducibility"),
    "scale": ("training.scale", "compute what an ImageNet-scale run takes"),
    "speed": ("resnet_hub.bench.__main__", "measure engines, photos, the app and its start"),
}


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command, and what follows it."""
    width = max(map(len, COMMANDS))
    listed = [f"  {name:{width}}  {does}" for name, (_, does) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        ONE_COMMAND,
        description="ResNets for PyTorch and the Hugging Face Hub.",
        epilog="\n".join(["commands:", *listed]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    command_help = f"one of those below; `{ONE_COMMAND} COMMAND --help` describes it"
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=command_help)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="passed on to it")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = parse_arguments(arguments)
    sys.argv[0] = f"{ONE_COMMAND} {options.command}"  # what the command's own --help and errors call it
    module, _ = COMMANDS[options.command]
    return import_module(module).main(options.arguments) or 0


if __name__ == "__main__":
    sys.exit(main())
