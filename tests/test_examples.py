"""examples/serve: Triton's configurations fit the files that they are written for."""

import re

import onnx
import pytest
from helpers import ROOT

from resnet_hub import from_pretrained
from resnet_hub.interop.onnx import export_normalised, export_onnx

SERVE = ROOT / "examples" / "serve"
TENSOR = re.compile(r'\{ name: "(\w+)", data_type: TYPE_(\w+), dims: \[([-\d, ]+)\] \}')
TYPES = {"UINT8": onnx.TensorProto.UINT8, "FP32": onnx.TensorProto.FLOAT, "BOOL": onnx.TensorProto.BOOL}


@pytest.fixture(scope="module")
def model():
    """The one of examples/serve/README.md."""
    assert "resnet18_tiny_imagenet" in (SERVE / "README.md").read_text()
    return from_pretrained("resnet18_tiny_imagenet")


def tensors(text: str) -> dict[str, tuple[int, list[int]]]:
    """{name: (type, dims)} of a config.pbtxt."""
    found = TENSOR.findall(text)
    return {name: (TYPES[kind], [int(each) for each in dims.split(",")]) for name, kind, dims in found}


@pytest.mark.parametrize(("name", "write"), [("photo", export_onnx), ("pixels", export_normalised)])
def test_triton_s_configuration_is_that_of_the_onnx_file(model, tmp_path, name, write):
    """By the rules of Triton's ONNX Runtime backend (CompareDimsSupported): inputs and outputs have the
    file's types and dims; with batches the first dimension is free and unwritten; a scalar is written as 1.
    """
    text = (SERVE / "triton" / name / "config.pbtxt").read_text()
    is_batched = "max_batch_size: 0" not in text
    write(model, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    file = {}
    for value in (*graph.input, *graph.output):
        tensor = value.type.tensor_type
        dims = [each.dim_value or -1 for each in tensor.shape.dim]
        assert not is_batched or dims[0] == -1
        file[value.name] = (tensor.elem_type, dims[is_batched:] or [1])
    configured = tensors(text)
    assert len(configured) == text.count("name:") - 1
    assert {value.name for value in graph.input} <= set(configured)
    assert configured == {each: file[each] for each in configured}
    assert ("dynamic_batching" in text) is is_batched
