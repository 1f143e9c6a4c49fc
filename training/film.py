"""`python -m training.film --data DIR`: film a plain and a residual network in training.

After each epoch loss and accuracy; before the first epoch too, the filters of the first convolution and the
first channels of the map that leaves each stage for one of the page's example images. All of it goes as bytes
into one JSON file, `results/film.json`; no image of the data set does.
"""

from __future__ import annotations

import argparse
import base64
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from resnet_hub.command import program_name
from resnet_hub.models.base import Network
from resnet_hub.predict import stage_maps
from resnet_hub.preprocess import load_image
from training import cifar
from training.command import data_source, load_images_to_train, new_trainer, run_identity
from training.data import whole_image
from training.engine import keep_freed_memory
from training.recipes import recipe_from
from training.record import add_record_flags, made_with, run_recorded, write_record
from training.study import SHORT_RUN

NETWORKS = ("plain20_cifar", "resnet20_cifar")
CHANNELS = 4  # of each stage's map
FEW = ("--held-out", "500", "--batch-size", "32")  # many steps from few images
EXAMPLES = Path(cifar.__file__).parents[1] / "resnet_hub" / "examples"
SHOWN = ("train_loss", "train_acc", "val_loss", "val_acc")


def as_bytes(values: np.ndarray) -> dict[str, Any]:
    """An array (n, ...) with each of its n parts scaled to 0 to 255, as base64 and its shape."""
    flat = values.reshape(len(values), -1)
    low, high = flat.min(1, keepdims=True), flat.max(1, keepdims=True)
    scaled = np.round(255 * (flat - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    return {"shape": list(values.shape), "data": base64.b64encode(scaled.tobytes()).decode()}


def frame(model: Network, image: Path) -> dict[str, Any]:
    """What the Lab shows of a network at one moment of its training."""
    filters = model.state_dict()[f"{model.first_conv}.weight"].cpu().numpy()
    maps = stage_maps(model, model.preprocess.crop(load_image(image)), CHANNELS)
    return {"filters": as_bytes(filters), "maps": [as_bytes(each) for each in maps]}


def film(name: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train one network: its history, and a frame before the first epoch and after each."""
    with TemporaryDirectory() as run:
        arguments = [
            name, *shlex.split(SHORT_RUN), *FEW, "--data", str(data_source(options.data, None)), "--out", run,
            "--device", str(device), "--train-images", str(options.train_images),
            "--epochs", str(options.epochs),
        ]  # fmt: skip
        given = cifar.parse_arguments(arguments)
        training, held_out, _ = load_images_to_train(given, recipe_from(given), whole_image((32, 32)))
        model = cifar.build_model(given, training)
        trainer = new_trainer(
            model, recipe_from(given), training, model.preprocess, given, device,
            identity=run_identity(model, training, held_out),
        )  # fmt: skip
        frames = [frame(model, options.image)]
        while not trainer.is_done():
            trainer.train_epoch(Path(run))
            trainer.finish_epoch(held_out, Path(run))
            frames.append(frame(model, options.image))
    history = [{key: round(line[key], 4) for key in SHOWN} for line in trainer.history]
    sizes = {"train_images": len(training), "held_out_images": len(held_out)}
    return {"history": history, "frames": frames} | sizes


def record(options: argparse.Namespace, command: str) -> None:
    """Film both networks and write `film.json` into the results."""
    device = torch.device("cpu")
    keep_freed_memory()
    document = {
        "command": command,
        "data": options.data_name or options.data,
        "image": options.image.stem,
        "epochs": options.epochs,
        **made_with(device),
        "networks": {name: film(name, options, device) for name in NETWORKS},
    }
    write_record("film", options.results, document)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(program_name("training.film"), description=__doc__.split("\n")[0])
    parser.add_argument("--train-images", type=int, default=1_000, help="default: 1000")
    parser.add_argument("--epochs", type=int, default=12, help="default: 12")
    parser.add_argument("--image", type=Path, default=EXAMPLES / "cat.jpg", help="the image to look at")
    add_record_flags(parser, data="as for training.cifar")
    return run_recorded("training.film", record, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
