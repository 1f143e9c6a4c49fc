"""Every way to run a network: one builder a back end. No other module of the project knows one of them.

A builder takes a network in eval mode, the shape of one input and a precision, and returns a function from
float32 pixels (N, C, H, W) to float32 logits (N, classes) on the pixels' device.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from resnet_hub.engine import OPTIONAL, check_installed
from resnet_hub.engine.fused import Cast, fused
from resnet_hub.errors import Refusal, first_line

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROUNDS = 3  # runs of which the fastest counts
Run = Callable[[Tensor], Tensor]


def build(name: str, net: nn.Module, shape: tuple[int, ...], precision: str) -> Run:
    """The network on the back end called `name`.

    Raises:
        Refusal: when its package is not installed, or it does not run this network, device or precision.
    """
    device = next(net.parameters()).device
    check_installed(name)
    if name in OPTIONAL and device.type != "cpu":
        raise Refusal(f"--engine {name} runs on the CPU here, not on {device.type}; give --device cpu")
    try:
        return BUILDERS[name](net, shape, precision)
    except Refusal:
        raise
    except Exception as error:  # each library has errors of its own
        why = first_line(error)[:200]
        raise Refusal(f"--engine {name} --precision {precision} cannot run this network: {why}") from error


def has_fast_half(precision: str, device: torch.device) -> bool:
    """Whether this device computes in bf16 or fp16 without emulating it; only then is it worth a probe."""
    if device.type == "cuda":
        return precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or precision != "bf16":
        return False
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return supported is not None and supported()


def eager(net: nn.Module, shape: tuple[int, ...], precision: str) -> Run:
    """The network itself, in another precision a copy of it."""
    dtype = DTYPES[precision]
    return net if dtype == torch.float32 else Cast(copy.deepcopy(net).to(dtype), dtype)


def folded(net: nn.Module, shape: tuple[int, ...], precision: str) -> Run:
    """The folded graph; with oneDNN's convolutions where they run this network and are faster."""
    dtype = DTYPES[precision]
    plain = fused(net, dtype)
    if next(net.parameters()).device.type != "cpu":
        return plain
    # oneDNN lays weights out in one way for a single image, and in another for any larger batch.
    alone, several = (faster(plain, net, dtype, (images, *shape)) for images in (1, 2))
    return lambda pixels: (alone if len(pixels) == 1 else several)(pixels)


def faster(plain: nn.Module, net: nn.Module, dtype: torch.dtype, size: tuple[int, ...]) -> nn.Module:
    """The folded graph of a network as it is or with oneDNN's convolutions, for batches of this size."""
    try:
        packed = fused(net, dtype, size=size)
        of_packed, of_plain = seconds([packed, plain], torch.zeros(size))
        return packed if of_packed < of_plain else plain
    except (RuntimeError, AttributeError):  # a private operator of torch that changed, a processor without it
        return plain


def seconds(runs: Sequence[Run], pixels: Tensor) -> list[float]:
    """The least that a batch takes in each; after a run to warm up in turns, so that other work hits all."""
    for run in runs:
        run(pixels).cpu()
    turns = [[timed(run, pixels) for run in runs] for _ in range(ROUNDS)]
    return [min(taken) for taken in zip(*turns, strict=True)]


def timed(run: Run, pixels: Tensor) -> float:
    """Seconds that a batch takes now."""
    started = time.perf_counter()
    run(pixels).cpu()
    return time.perf_counter() - started


def openvino(net: nn.Module, shape: tuple[int, ...], precision: str) -> Run:
    """OpenVINO on as many threads as torch uses."""
    import openvino as ov

    with quiet():
        converted = ov.convert_model(copy.deepcopy(net), example_input=torch.zeros(2, *shape))
    converted.reshape([-1, *shape])
    hint = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision]
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = ov.Core().compile_model(converted, "CPU", options)
    requests = threading.local()  # one request serves one caller at a time

    def run(pixels: Tensor) -> Tensor:
        if not hasattr(requests, "mine"):
            requests.mine = compiled.create_infer_request()
        (logits,) = requests.mine.infer([pixels.contiguous().numpy()], share_inputs=True).values()
        return torch.from_numpy(logits.copy())

    return run


def onnxruntime(net: nn.Module, shape: tuple[int, ...], precision: str) -> Run:
    """ONNX Runtime on as many threads as torch uses."""
    import onnxruntime as ort

    if precision != "fp32":
        raise Refusal(f"--engine onnxruntime computes in fp32 on the CPU, not in {precision}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin between calls would slow down whatever comes next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    program = onnx_program(net, torch.zeros(2, *shape)).SerializeToString()
    session = ort.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.contiguous().numpy()})[0])


def onnx_program(
    net: nn.Module, example: Tensor, pixels: str = "pixels", outputs: tuple[str, ...] = ("logits",)
) -> Any:
    """A network in eval mode as an ONNX model: `pixels` (N, C, H, W) -> `outputs`.

    Args:
        example: one image (1, C, H, W), and the model takes one at a time; or two, and it takes any number.

    Raises:
        ImportError: without the [export] packages.
    """
    any_number = ({0: torch.export.Dim("batch")},) if len(example) > 1 else None
    with quiet():
        program: Any = torch.onnx.export(
            net,
            (example,),
            input_names=[pixels],
            output_names=list(outputs),
            dynamic_shapes=any_number,
            dynamo=True,
            verbose=False,
        )
    return program.model_proto


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and log lines of tracers and converters, which say nothing a user can act on."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


BUILDERS: dict[str, Callable[[nn.Module, tuple[int, ...], str], Run]] = {
    "eager": eager,
    "fused": folded,
    "openvino": openvino,
    "onnxruntime": onnxruntime,
}
