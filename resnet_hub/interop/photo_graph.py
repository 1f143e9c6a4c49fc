"""The ONNX graph around a network that takes the photo itself: resize, crop, normalise; then probabilities.

Images are resized as uint8, because ONNX Runtime's antialiased uint8 kernel follows Pillow's fixed-point
arithmetic (at most 0.1 % of the values differ, by one); its float32 kernel does not. Sizes and offsets follow
`Preprocess`, rounding included. Needs the [export] packages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from resnet_hub.errors import Refusal
from resnet_hub.models.calibration import Calibration
from resnet_hub.preprocess import MAX_RESIZED_PIXELS, Preprocess

IMAGE = "image"  # uint8 (height, width, 3)
SEEN = "seen"
PIXELS, LOGITS, CAM = "pixels", "batch_logits", "batch_cam"  # of the network inside
# As in Pillow, "antialias" widens the kernel when shrinking, "exclude_outside" renormalises it at the border.
PILLOW: dict[str, Any] = {
    "coordinate_transformation_mode": "half_pixel",
    "antialias": 1,
    "exclude_outside": 1,
    "axes": [2, 3],
}
RESIZE: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}
EXPRESSIBLE = ("nearest", *RESIZE)
GREY = (19595, 38470, 7471)  # Pillow's shares of red, green and blue, of 65536


@dataclass
class Graph:
    """Nodes and constants under construction; each value is known by its name."""

    prefix: str
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, value: Any, dtype: type) -> str:
        """A constant tensor."""
        name = f"{self.prefix}_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 vector."""
        return self.constant(values, np.int64)

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node with one output, which is called `name`."""
        name = name or f"{self.prefix}_{len(self.nodes)}_{operator}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def cast(self, value: str, to: int, name: str = "") -> str:
        """The value in another type of `TensorProto`."""
        return self.add("Cast", value, to=to, name=name)


def photo_model(network: Any, preprocess: Preprocess, calibration: Calibration) -> Any:
    """A model from the photo to the answer.

    Args:
        network: an ONNX model `PIXELS` (1, C, H, W) -> `LOGITS` (1, classes) and, if it has one, `CAM`
            (1, classes, h, w).

    Returns:
        An ONNX model, uint8 `image` (height, width, 3) -> `probabilities` and `logits` (classes,), `score`
        (), `familiar` () where a threshold was measured, `cam` (classes, h, w) where the network has one, and
        `seen`, the network's input before normalisation, uint8 (H, W, C).

    Raises:
        Refusal: for an interpolation that ONNX does not have.
    """
    if preprocess.interpolation not in EXPRESSIBLE:
        raise Refusal(
            f"ONNX has no {preprocess.interpolation!r} resizing like Pillow's, only "
            f"{', '.join(EXPRESSIBLE)}; write the network alone with --normalised and resize with Pillow"
        )
    if preprocess.input_size[0] not in (1, 3):
        raise Refusal(
            f"a photo has 3 channels and the network takes {preprocess.input_size[0]}; write the network "
            "alone with --normalised"
        )
    before, after = Graph("before"), Graph("after")
    add_preprocessing(before, preprocess)
    channels, height, width = preprocess.input_size
    outputs = add_answers(after, network, calibration)
    outputs.append(helper.make_tensor_value_info(SEEN, TensorProto.UINT8, [height, width, channels]))
    graph = helper.make_graph(
        [*before.nodes, *network.graph.node, *after.nodes],
        "photo",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["height", "width", 3])],
        outputs,
        [*before.constants, *network.graph.initializer, *after.constants],
    )
    model = helper.make_model(graph, opset_imports=network.opset_import, functions=network.functions)
    model.ir_version = network.ir_version
    onnx.checker.check_model(model)
    return model


# The photo -> the network's pixels


def add_preprocessing(g: Graph, preprocess: Preprocess) -> None:
    """`IMAGE` -> `PIXELS`, as `Preprocess.tensor` computes it, and `seen`, as `Preprocess.crop` does."""
    image = g.add("Transpose", IMAGE, perm=[2, 0, 1])  # (3, h, w)
    if preprocess.input_size[0] == 1:
        image = add_grey(g, image)
    image = g.add("Unsqueeze", image, g.ints(0))  # (1, C, h, w)
    image = add_cut(g, image, preprocess)
    size = g.add("Shape", image, start=2)  # (2,): h, w
    resized = add_resized_size(g, size, preprocess)
    want = g.ints(*preprocess.input_size[1:])
    offset = add_offset(g, resized, want)
    start = g.add("Max", offset, g.ints(0))
    end = g.add("Min", g.add("Add", offset, want), resized)
    if preprocess.interpolation == "nearest":
        seen = add_nearest(g, image, size, resized, start, end)
    else:
        how = RESIZE[preprocess.interpolation]
        whole = g.add("Resize", image, "", "", resized, **PILLOW, **how)
        seen = g.add("Slice", whole, start, end, g.ints(2, 3))
    values = g.cast(seen, TensorProto.FLOAT)
    if preprocess.crop_mode == "border":
        values = add_border(g, values, offset, start, end, preprocess)
    crop = g.add("Reshape", g.cast(values, TensorProto.UINT8), g.ints(*preprocess.input_size))
    g.add("Transpose", crop, perm=[1, 2, 0], name=SEEN)
    add_normalised(g, values, preprocess)


def add_grey(g: Graph, image: str) -> str:
    """uint8 (3, h, w) -> (1, h, w), in Pillow's integers."""
    weighed = g.add("Mul", g.cast(image, TensorProto.INT32), g.constant([[[w]] for w in GREY], np.int32))
    total = g.add("ReduceSum", weighed, g.ints(0), keepdims=1)
    half, whole = (g.constant(value, np.int32) for value in (0x8000, 0x10000))
    return g.cast(g.add("Div", g.add("Add", total, half), whole), TensorProto.UINT8)


def add_cut(g: Graph, image: str, preprocess: Preprocess) -> str:
    """The middle of an image so elongated that resizing all of it would take too much memory."""
    if preprocess.crop_mode != "center":
        return image
    most = MAX_RESIZED_PIXELS // math.prod(_target(preprocess))  # times as long as wide
    size = g.add("Shape", image, start=2)
    other = g.add("Gather", size, g.ints(1, 0))
    surplus = g.add("Sub", size, g.add("Mul", other, g.ints(most)))
    start = g.add("Div", g.add("Max", surplus, g.ints(0)), g.ints(2))
    return g.add("Slice", image, start, g.add("Sub", size, start), g.ints(2, 3))


def _target(preprocess: Preprocess) -> tuple[int, int]:
    """(height, width) that the image is resized to, or to cover, or to fit into."""
    height, width = (math.floor(side / preprocess.crop_pct) for side in preprocess.input_size[1:])
    return height, width


def add_resized_size(g: Graph, size: str, preprocess: Preprocess) -> str:
    """(h, w) of the image -> (h, w) after resizing, as `Preprocess` rounds it."""
    target = _target(preprocess)
    if preprocess.crop_mode == "squash":
        return g.ints(*target)
    if preprocess.crop_mode == "center" and target[0] == target[1]:
        short = g.add("ReduceMin", size, keepdims=1)
        return g.add("Div", g.add("Mul", size, g.ints(target[0])), short)
    sides = g.cast(size, TensorProto.DOUBLE)
    ratios = g.add("Div", sides, g.constant(target, np.float64))
    ratio = g.add("ReduceMax" if preprocess.crop_mode == "border" else "ReduceMin", ratios, keepdims=1)
    rounded = g.cast(g.add("Round", g.add("Div", sides, ratio)), TensorProto.INT64)
    return g.add("Max", rounded, g.ints(1))


def add_offset(g: Graph, have: str, want: str) -> str:
    """Where a centred crop starts; negative for padding."""
    more = g.add("Sub", have, want)
    half = g.add("Div", g.cast(more, TensorProto.DOUBLE), g.constant(2, np.float64))
    rounded = g.cast(g.add("Round", half), TensorProto.INT64)
    less = g.add("Div", more, g.ints(2))  # towards zero
    return g.add("Where", g.add("Less", more, g.ints(0)), less, rounded)


def add_nearest(g: Graph, image: str, size: str, resized: str, start: str, end: str) -> str:
    """The window of the image resized to the nearest pixels, whose places are added up as Pillow does it."""
    for axis in (0, 1):
        have, new, first, last = (g.add("Gather", each, g.ints(axis)) for each in (size, resized, start, end))
        step = g.add("Div", g.cast(have, TensorProto.DOUBLE), g.cast(new, TensorProto.DOUBLE))
        half = g.add("Mul", step, g.constant(0.5, np.float64))
        steps = g.add("Concat", half, g.add("Expand", step, g.add("Sub", new, g.ints(1))), axis=0)
        places = g.cast(g.add("CumSum", steps, g.constant(0, np.int64)), TensorProto.INT64)
        inside = g.add("Min", places, g.add("Sub", have, g.ints(1)))
        image = g.add("Gather", image, g.add("Slice", inside, first, last), axis=2 + axis)
    return image


def add_border(g: Graph, values: str, offset: str, start: str, end: str, preprocess: Preprocess) -> str:
    """The image with the mean colour around it where it does not cover the canvas."""
    fill = g.constant([[[round(255 * value)]] for value in preprocess.mean], np.float32)  # (C, 1, 1)
    before = g.add("Max", g.add("Neg", offset), g.ints(0))
    seen = g.add("Sub", end, start)
    after = g.add("Sub", g.add("Sub", g.ints(*preprocess.input_size[1:]), seen), before)
    pads = g.add("Concat", before, after, axis=0)
    padded = g.add("Pad", g.add("Sub", values, fill), pads, g.constant(0, np.float32), g.ints(2, 3))
    return g.add("Add", padded, fill)


def add_normalised(g: Graph, values: str, preprocess: Preprocess) -> None:
    """0 to 255 -> `PIXELS`."""
    channels, height, width = preprocess.input_size
    mean, std = (
        g.constant(np.reshape(stat, (1, -1, 1, 1)), np.float32) for stat in (preprocess.mean, preprocess.std)
    )
    shares = g.add("Div", values, g.constant(255, np.float32))
    normalised = g.add("Div", g.add("Sub", shares, mean), std)
    g.add("Reshape", normalised, g.ints(1, channels, height, width), name=PIXELS)  # states the shape


# The network's logits -> the answer


def add_answers(g: Graph, network: Any, calibration: Calibration) -> list[Any]:
    """What the graph gives, with its types and shapes."""
    shapes = {value.name: _shape(value) for value in network.graph.output}
    classes = shapes[LOGITS][1]
    logits = g.add("Squeeze", LOGITS, g.ints(0), name="logits")
    scaled = g.add("Div", logits, g.constant(calibration.temperature, np.float32))
    if calibration.class_thresholds:  # each class has a probability of its own
        g.add("Sigmoid", scaled, name="probabilities")
    else:
        g.add("Softmax", scaled, axis=-1, name="probabilities")
    g.add("ReduceLogSumExp", logits, keepdims=0, name="score")
    outputs: list[tuple[str, int, Sequence[int]]] = [
        ("probabilities", TensorProto.FLOAT, [classes]),
        ("logits", TensorProto.FLOAT, [classes]),
        ("score", TensorProto.FLOAT, []),
    ]
    if calibration.energy_threshold is not None:
        unfamiliar = g.add("Less", "score", g.constant(calibration.energy_threshold, np.float32))
        g.add("Not", unfamiliar, name="familiar")
        outputs.append(("familiar", TensorProto.BOOL, []))
    if CAM in shapes:
        g.add("Squeeze", CAM, g.ints(0), name="cam")
        outputs.append(("cam", TensorProto.FLOAT, shapes[CAM][1:]))
    return [helper.make_tensor_value_info(*output) for output in outputs]


def _shape(value: Any) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


# Smaller files


def with_small_weights(model: Any, precision: str) -> Any:
    """The model with the weights of convolutions and linear layers in another precision.

    They are widened again when a session is made, so that everything is computed in float32.

    Args:
        precision: "fp32", "fp16" or "int8" (one scale an output channel).
    """
    if precision == "fp32":
        return model
    graph, casts, kept = model.graph, Graph("weights"), []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < 256:
            kept.append(tensor)
            continue
        small, scale = _rounded(values, precision)
        stored = f"{tensor.name}_{precision}"
        casts.constants.append(numpy_helper.from_array(small, stored))
        if scale is None:
            casts.cast(stored, TensorProto.FLOAT, name=tensor.name)
        else:
            wide = casts.cast(stored, TensorProto.FLOAT, name=f"{stored}_wide")
            casts.constants.append(numpy_helper.from_array(scale, f"{stored}_scale"))
            casts.add("Mul", wide, f"{stored}_scale", name=tensor.name)
    nodes = [*casts.nodes, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*kept, *casts.constants])
    graph.node.extend(nodes)
    return model


def _rounded(weights: np.ndarray, precision: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights (out, ...) in the precision, and for int8 the factor of each output channel."""
    if precision == "fp16":
        small = weights.astype(np.float16)
        if not np.isfinite(small).all():
            raise Refusal("a weight is beyond float16's range; write the file with --precision fp32")
        return small, None
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    scale = np.maximum(largest, 1e-12).astype(np.float32) / np.float32(127)
    return np.round(weights / scale).astype(np.int8), scale
