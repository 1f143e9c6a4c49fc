"""`python -m training.quantize REPO_OR_DIR --data DIR`: an int8 version, its accuracy and speed beside fp32.

Post-training static quantization by ONNX Runtime: weights per channel, activations by the range they take on
training images. Needs the [export] packages.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tqdm import tqdm

from resnet_hub import from_pretrained
from resnet_hub.command import program_name, run_command
from resnet_hub.errors import Refusal
from resnet_hub.interop.onnx import describe, export_normalised, onnx_metadata
from resnet_hub.models.base import Network
from resnet_hub.onnx_file import open_session
from training.command import data_source
from training.data import DOWNLOADS, Images, find_data, in_memory, normalise, with_classes
from training.engine import write_json
from training.inference import folded

CALIBRATED_ON = 512  # training images
CPU = torch.device("cpu")
Runner = Callable[[np.ndarray], np.ndarray]  # images (N, C, H, W) -> logits (N, classes)


def quantize(fp32: Path, int8: Path, batches: list[np.ndarray]) -> None:
    """Write the int8 version of an ONNX network, calibrated on `batches` (N, C, H, W)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict | None:
            batch = next(self.left, None)
            return None if batch is None else {"pixels": batch}

    prepared = int8.with_suffix(".prepared.onnx")
    # Folds batch norms into the convolutions. Symbolic shape inference fails on global max pooling.
    quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(int8), Reader(), per_channel=True, weight_type=QuantType.QInt8, reduce_range=True
    )
    prepared.unlink()


def onnx_runner(path: Path) -> Runner:
    """The network in an ONNX file, on the CPU."""
    session = open_session(path)
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def torch_runner(model: Network) -> Runner:
    """The network itself, as fast as torch runs it."""
    engine = folded(model.eval())

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> np.ndarray:
        return engine(torch.from_numpy(pixels)).numpy()

    return run


def batches_of(
    data: Images, model: Network, count: int, size: int = 128
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(normalised pixels, labels), `size` at a time, of `count` images spread evenly over `data`."""
    index = torch.linspace(0, len(data) - 1, min(count, len(data))).long()
    for pixels, read in data.fetch(index.split(size)):
        yield normalise(pixels, model.preprocess, CPU).contiguous().numpy(), data.labels[read].numpy()


def compare(
    runners: dict[str, Runner], model: Network, test: Images, rounds: int
) -> dict[str, dict[str, float]]:
    """Accuracy, agreement with fp32, and milliseconds an image for batches of 1 and of 32."""
    labels, answers = predictions(runners, model, test)
    ((images, _),) = batches_of(test, model, 32)
    one, many = (seconds_per_image(runners, images[:size], rounds) for size in (1, 32))
    return {
        name: {
            "top1": float(np.mean(answers[name] == labels)),
            "agrees_with_fp32": float(np.mean(answers[name] == answers["torch fp32"])),
            "ms_one": 1000 * one[name],
            "ms_in_32": 1000 * many[name],
        }
        for name in runners
    }


def predictions(
    runners: dict[str, Runner], model: Network, test: Images
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The labels (N,) of the test images, and each runner's predicted classes (N,)."""
    labels: list[np.ndarray] = []
    answers: dict[str, list[np.ndarray]] = {name: [] for name in runners}
    for images, true in tqdm(batches_of(test, model, len(test)), "measuring", leave=False):
        labels.append(true)
        for name, run in runners.items():
            answers[name].append(run(images).argmax(1))
    return np.concatenate(labels), {name: np.concatenate(parts) for name, parts in answers.items()}


def seconds_per_image(runners: dict[str, Runner], images: np.ndarray, rounds: int) -> dict[str, float]:
    """The median over `rounds`; the runners take turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            started = time.perf_counter()
            run(images)
            times[name].append((time.perf_counter() - started) / len(images))
    return {name: statistics.median(measured) for name, measured in times.items()}


def quantize_and_compare(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Export, quantize, measure; the files stay where `--out` says.

    Raises:
        Refusal: for data of other classes, a full disk, missing packages.
    """
    model = from_pretrained(options.checkpoint)
    data = data_source(options.data, None)
    train, test = (find_data(data, part, model.preprocess) for part in ("train", "test"))
    test = with_classes(test, model.labels)
    with TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
        try:
            export_normalised(model, fp32)
            quantize(fp32, int8, [x for x, _ in batches_of(train, model, CALIBRATED_ON)])
            describe(int8, onnx_metadata(model, "int8"))
            onnx = {"ONNX fp32": onnx_runner(fp32), "ONNX int8": onnx_runner(int8)}
        except ImportError as error:
            raise Refusal(f"{error}; pip install -e '.[export]'") from error
        results = compare({"torch fp32": torch_runner(model)} | onnx, model, in_memory(test), options.rounds)
        for name, file in (("ONNX fp32", fp32), ("ONNX int8", int8)):
            results[name]["bytes"] = file.stat().st_size
        if options.out:
            write_json(folder / "quantized.json", results)
    return results


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as aligned text."""
    head = f"{'':12} {'top-1':>8} {'agrees':>8} {'ms, one':>9} {'ms, by 32':>9} {'bytes':>12}"
    rows = [
        f"{name:12} {row['top1']:8.2%} {row['agrees_with_fp32']:8.2%} {row['ms_one']:9.2f} "
        f"{row['ms_in_32']:9.2f} {row.get('bytes', ''):>12}"
        for name, row in results.items()
    ]
    return "\n".join([head, *rows])


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        program_name("training.quantize"),
        description="An int8 version, compared with fp32 in accuracy and speed.",
    )
    parser.add_argument("checkpoint", metavar="REPO_OR_DIR")
    words = f"{', '.join(DOWNLOADS)}, or a folder: train/ calibrates, test/ measures"
    parser.add_argument("--data", required=True, help=words)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="keep fp32.onnx, int8.onnx and quantized.json"
    )
    parser.add_argument("--rounds", type=int, default=30, help="timed runs; the median is shown")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse_arguments(arguments)

    def run() -> None:
        results = quantize_and_compare(options)
        print(json.dumps(results, indent=2) if options.json else table(results))

    return run_command("training.quantize", run)


if __name__ == "__main__":
    sys.exit(main())
