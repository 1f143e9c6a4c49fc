"""`python -m training.quantize REPO_OR_DIR --data DIR`: an int8 version, its accuracy and speed beside fp32.

Post-training static quantization by ONNX Runtime: weights by channel, activations by the range they take on
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
from resnet_hub.interop.onnx import export_onnx
from resnet_hub.models.base import Network
from training.data import FolderSet, ImageSet, find_data, in_memory, normalise
from training.engine import TrainingError, write_json
from training.evaluate import check_classes

CALIBRATED_ON = 512  # training images
CPU = torch.device("cpu")


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
    # Folds batch norms into the convolutions. Symbolic shapes fail on a maximum over the whole map.
    quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(int8), Reader(), per_channel=True, weight_type=QuantType.QInt8, reduce_range=True
    )
    prepared.unlink()


def onnx_runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Images (N, C, H, W) -> logits, by ONNX Runtime on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads that spin between calls would be timed as slowness of whoever runs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def torch_runner(model: Network) -> Callable[[np.ndarray], np.ndarray]:
    """The same by the network itself."""
    model = model.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(pixels)).numpy()

    return run


def batches_of(
    data: ImageSet | FolderSet, model: Network, count: int, size: int = 128
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(pixels, labels) of the first `count` images of `data` spread over its classes, normalised."""
    index = torch.linspace(0, len(data) - 1, min(count, len(data))).long()
    for pixels, read in data.fetch(index.split(size)):
        yield normalise(pixels, model.preprocess, CPU).contiguous().numpy(), data.labels[read].numpy()


def compare(runners: dict[str, Callable], model: Network, test: ImageSet, rounds: int) -> dict[str, dict]:
    """Accuracy, agreement with fp32 and milliseconds an image, one at a time and by 32, in turn."""
    labels, answers = [], {name: [] for name in runners}
    for images, true in tqdm(batches_of(test, model, len(test)), "measuring", leave=False):
        labels.append(true)
        for name, run in runners.items():
            answers[name].append(run(images).argmax(1))
    labels, answers = np.concatenate(labels), {name: np.concatenate(a) for name, a in answers.items()}
    ((images, _),) = batches_of(test, model, 32)
    times: dict[str, dict[int, list[float]]] = {name: {1: [], 32: []} for name in runners}
    for _ in range(rounds):
        for size in (1, 32):
            for name, run in runners.items():
                started = time.perf_counter()
                run(images[:size])
                times[name][size].append((time.perf_counter() - started) / len(images[:size]))
    return {
        name: {
            "top1": float((answers[name] == labels).mean()),
            "agrees_with_fp32": float((answers[name] == answers["torch fp32"]).mean()),
            "ms_one": 1000 * statistics.median(times[name][1]),
            "ms_in_32": 1000 * statistics.median(times[name][32]),
        }
        for name in runners
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m training.quantize", description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", metavar="REPO_OR_DIR")
    parser.add_argument(
        "--data", required=True, help="'cifar10', or a folder: train/ calibrates, test/ measures"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="keep fp32.onnx, int8.onnx and quantized.json"
    )
    parser.add_argument("--rounds", type=int, default=30, help="of timing; the median is shown")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    try:
        results = quantized_and_compared(options)
    except (TrainingError, ValueError, OSError) as error:  # DataError is a ValueError
        print(f"training.quantize: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"training.quantize: {error}; pip install -e '.[export]'", file=sys.stderr)
        return 2
    print(json.dumps(results, indent=2) if options.json else table(results))
    return 0


def quantized_and_compared(options) -> dict:
    """Export, quantize, measure; the files stay where `--out` says."""
    model = from_pretrained(options.checkpoint)
    train, test = (find_data(options.data, part, model.preprocess) for part in ("train", "test"))
    check_classes(model, test)
    with TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
        export_onnx(model, fp32)
        quantize(fp32, int8, [x for x, _ in batches_of(train, model, CALIBRATED_ON)])
        runners = {
            "torch fp32": torch_runner(model),
            "ONNX fp32": onnx_runner(fp32),
            "ONNX int8": onnx_runner(int8),
        }
        results = compare(runners, model, in_memory(test), options.rounds)
        for name, file in (("ONNX fp32", fp32), ("ONNX int8", int8)):
            results[name]["bytes"] = file.stat().st_size
        if options.out:
            write_json(folder / "quantized.json", results)
    return results


def table(results: dict[str, dict]) -> str:
    """The results as aligned text."""
    head = f"{'':12} {'top-1':>8} {'agrees':>8} {'ms, one':>9} {'ms, by 32':>9} {'bytes':>12}"
    rows = [
        f"{name:12} {row['top1']:8.2%} {row['agrees_with_fp32']:8.2%} {row['ms_one']:9.2f} "
        f"{row['ms_in_32']:9.2f} {row.get('bytes', ''):>12}"
        for name, row in results.items()
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    sys.exit(main())
