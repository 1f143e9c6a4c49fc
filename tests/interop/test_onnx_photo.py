"""The ONNX file that takes the photo, run by ONNX Runtime beside Python's own answers."""

import json
import re

import numpy as np
import onnx
import pytest
import torch
from helpers.checkpoints import lively
from PIL import Image

from resnet_hub import create_model, from_pretrained
from resnet_hub.errors import Refusal
from resnet_hub.interop import convert, photo_graph
from resnet_hub.interop.onnx import check_photo_file, checked_images, onnx_metadata, photo_differences
from resnet_hub.models.calibration import Calibration
from resnet_hub.onnx_file import PREFIX, OnnxFile
from resnet_hub.predict import classify, saliency
from resnet_hub.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")


def preprocessed(preprocess: Preprocess, images: list[Image.Image]) -> list[np.ndarray]:
    """`pixels` as the graph alone makes them, times 255."""
    from onnx import TensorProto, helper
    from onnxruntime import InferenceSession

    g = photo_graph.Graph("test")
    photo_graph.add_preprocessing(g, preprocess)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["h", "w", 3])
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, *preprocess.input_size])
    graph = helper.make_graph(g.nodes, "photo", [image], [pixels], g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(None, {"image": np.asarray(each)})[0] for each in images]


@pytest.mark.parametrize(
    "given",
    [
        {"input_size": (3, 32, 32), "crop_pct": 1.0},
        {"input_size": (3, 64, 48), "crop_pct": 0.9},
        {"input_size": (3, 40, 40), "interpolation": "bilinear", "crop_mode": "squash"},
        {"input_size": (3, 40, 56), "crop_mode": "border", "crop_pct": 0.95},
        {"input_size": (3, 56, 40), "crop_mode": "border", "crop_pct": 0.7},
        {"input_size": (3, 33, 33), "interpolation": "nearest"},
        {"input_size": (1, 28, 28), "crop_pct": 1.0, "mean": (0.5,), "std": (0.5,)},
    ],
)
def test_pixels_are_pillow_s_on_images_of_all_shapes(given):
    preprocess = Preprocess(**given)
    images = checked_images()
    for image, theirs in zip(images, preprocessed(preprocess, images), strict=True):
        ours = preprocess.tensor(image).numpy()
        apart = np.abs(theirs[0] - ours) * 255 * np.reshape(preprocess.std, (-1, 1, 1))
        assert apart.max() <= 1.01, image.size  # one step of 255
        assert (apart > 0.01).mean() <= 0.05, image.size  # ties, where an upscaled value ends in a half


def test_an_image_too_elongated_to_be_resized_whole_is_cut_to_its_middle():
    preprocess = Preprocess(input_size=(3, 224, 224))
    values = np.linspace(0, 255, 4000).astype(np.uint8)
    long = Image.fromarray(np.broadcast_to(values[:, None, None], (4000, 1, 3)).copy())
    (theirs,) = preprocessed(preprocess, [long])
    ours = preprocess.tensor(long).numpy()
    assert np.abs(theirs[0] - ours).max() * 255 * max(preprocess.std) <= 1.5


@pytest.fixture(scope="module")
def written(photo_file):
    return OnnxFile(photo_file), from_pretrained("resnet20_cifar10")


def test_answers_are_python_s(written):
    file, model = written
    found = photo_differences(model, file, checked_images())
    assert found.images == 10 and found.familiar == 0
    assert found.share < 0.01 and found.logit < 2e-3
    image = checked_images()[3]
    answer, (prediction,) = file.answer(image), classify(model, [image], top_k=10)
    assert np.abs(answer["seen"].astype(int) - np.asarray(prediction.seen)).max() <= 1
    assert answer["score"] == pytest.approx(prediction.energy, abs=2e-3)
    assert bool(answer["familiar"]) is not prediction.unfamiliar
    assert [file.labels[i] for i in answer["probabilities"].argsort()[::-1][:3]] == [
        label for label, _ in prediction.top[:3]
    ]


def test_the_class_activation_map_is_the_app_s(written):
    file, model = written
    image = checked_images()[5]
    (prediction,) = classify(model, [image])
    best = prediction.class_indices[0]
    cam = np.maximum(file.answer(image)["cam"][best], 0)
    ours = saliency(model, prediction.seen, best)
    assert cam.shape == ours.shape and ours.max() == 1
    assert cam / cam.max() == pytest.approx(ours, abs=5e-3)


def test_metadata_says_where_the_file_is_from_and_what_its_answers_mean(written):
    file, model = written
    assert (file.made_from, file.revision) == ("resnet20_cifar10", "shipped")
    assert (file.labels, file.preprocess, file.calibration) == (
        model.labels,
        model.preprocess,
        model.calibration,
    )
    assert file.facts["licence"] == "imagenet-research" and file.facts["precision"] == "fp32"
    assert "crop the central 32x32" in file.facts["preprocessing"]


def test_check_repeats_the_comparison_and_refuses_a_file_that_answers_otherwise(photo_file, tmp_path, capsys):
    assert convert.main(["--check", str(photo_file)]) == 0
    assert "on 10 images of all shapes" in capsys.readouterr().out
    other = onnx.load(photo_file)
    weights = next(each for each in other.graph.initializer if len(each.dims) == 2)
    changed = onnx.numpy_helper.from_array(np.roll(onnx.numpy_helper.to_array(weights), 1, 0), weights.name)
    weights.CopyFrom(changed)
    onnx.save(other, tmp_path / "other.onnx")
    assert convert.main(["--check", str(tmp_path / "other.onnx")]) == 2
    assert "do not use this file" in capsys.readouterr().err


def test_check_refuses_a_file_with_another_threshold(photo_file, tmp_path, capsys):
    other = onnx.load(photo_file)
    threshold = next(
        node.input[1] for node in other.graph.node if node.op_type == "Less" and node.input[0] == "score"
    )
    (constant,) = (each for each in other.graph.initializer if each.name == threshold)
    constant.CopyFrom(onnx.numpy_helper.from_array(np.float32(1000), threshold))
    onnx.save(other, tmp_path / "other.onnx")
    assert convert.main(["--check", str(tmp_path / "other.onnx")]) == 2
    assert "and Python disagree on whether" in capsys.readouterr().err


def without_output(proto: onnx.ModelProto, name: str) -> None:
    proto.graph.output.remove(next(each for each in proto.graph.output if each.name == name))


def with_nan(proto: onnx.ModelProto, name: str) -> None:
    """The output of that name times a NaN."""
    node = next(each for each in proto.graph.node if name in each.output)
    node.output[[*node.output].index(name)] = "before"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32("nan"), "nan"))
    proto.graph.node.append(onnx.helper.make_node("Mul", ["before", "nan"], [name]))


def test_check_refuses_a_file_of_before_the_threshold_was_fitted(photo_file, tmp_path, capsys):
    other = onnx.load(photo_file)
    without_output(other, "familiar")
    onnx.save(other, tmp_path / "other.onnx")
    assert convert.main(["--check", str(tmp_path / "other.onnx")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "differ in having an energy threshold" in line


def test_check_refuses_a_file_that_answers_no_numbers(tmp_path):
    model = lively(create_model("resnet20_cifar", num_classes=3))
    convert.save(model, tmp_path / "net.onnx", "onnx")
    other = onnx.load(tmp_path / "net.onnx")
    with_nan(other, "probabilities")
    onnx.save(other, tmp_path / "net.onnx")
    with pytest.raises(Refusal, match="by at most nan"):
        check_photo_file(model, tmp_path / "net.onnx")


def test_a_file_in_int8_keeps_the_thresholds_and_claims_nothing_that_was_measured_in_fp32():
    model = from_pretrained("resnet20_cifar10")
    whole, small = (json.loads(onnx_metadata(model, each)["calibration"]) for each in ("fp32", "int8"))
    same = ("temperature", "energy_threshold", "firm_threshold", "class_thresholds")
    assert all(small[name] == whole[name] for name in same)
    assert whole["firm_right"] and whole["detections"]
    for name in ("firm_right", "firm_share", "firm_unknown", "false_alarms", "detections"):
        assert not small[name]


@pytest.mark.parametrize(("precision", "share", "size"), [("fp16", 0.01, 0.62), ("int8", 0.1, 0.45)])
def test_smaller_files_answer_nearly_the_same(photo_file, tmp_path, precision, share, size):
    small = tmp_path / "small.onnx"
    model = photo_graph.with_small_weights(onnx.load(photo_file), precision)
    onnx.checker.check_model(model)
    onnx.save(model, small)
    found = photo_differences(from_pretrained("resnet20_cifar10"), OnnxFile(small), checked_images())
    assert 0 < found.share < share
    assert small.stat().st_size < size * photo_file.stat().st_size


def test_a_network_without_thresholds_or_average_pooling_has_no_such_output(tmp_path):
    model = lively(create_model("resnet8_cifar", num_classes=3))
    model.calibration = Calibration(temperature=2.0)
    convert.save(model, tmp_path / "net.onnx", "onnx")
    file = OnnxFile(tmp_path / "net.onnx")
    assert file.outputs == ["probabilities", "logits", "score", "seen"]
    answer = file.answer(checked_images()[0])
    expected = torch.from_numpy(answer["logits"] / 2).softmax(0).numpy()
    assert answer["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_a_network_in_training_stays_in_training(tmp_path):
    model = lively(create_model("resnet20_cifar", num_classes=3)).train()
    model.labels = ("a", "b", "c")
    model.layer1[0].eval()
    modes = [module.training for module in model.modules()]
    convert.save(model, tmp_path / "net.onnx", "onnx")
    assert [module.training for module in model.modules()] == modes


def test_what_onnx_cannot_resize_is_refused_by_name(tmp_path):
    model = create_model("resnet20_cifar")
    model.preprocess = Preprocess(input_size=(3, 32, 32), interpolation="lanczos")
    with pytest.raises(Refusal, match=r"lanczos.*bicubic.*--normalised"):
        convert.save(model, tmp_path / "net.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"pretrained_cfg": []}, "its metadata cannot be read"),
        ({"calibration": []}, "its metadata cannot be read"),
        ({"labels": ["a", "b"]}, "2 distinct labels and probabilities of shape [10]"),
        ({"labels": [*"abcdefghi", "a"]}, "9 distinct labels and probabilities of shape [10]"),
    ],
)
def test_metadata_that_does_not_fit_is_one_line(photo_file, tmp_path, facts, said):
    other = onnx.load(photo_file)
    for entry in other.metadata_props:
        if (name := entry.key.removeprefix(PREFIX)) in facts:
            entry.value = json.dumps(facts[name])
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(Refusal, match=re.escape(said)):
        OnnxFile(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "check the path"),
        ("noise", "not an ONNX file"),
        ("pixels", "takes the photo"),
        ("broken", "write the file"),
    ],
)
def test_a_file_that_takes_no_photo_is_refused_in_one_line(photo_file, tmp_path, kind, said):
    path = tmp_path / "net.onnx"
    if kind == "noise":
        path.write_bytes(b"nothing")
    if kind in ("pixels", "broken"):
        model = onnx.load(photo_file)
        for each in model.metadata_props:
            if kind == "broken" and each.key == "resnet_hub.calibration":
                each.value = json.dumps({"temperature": 0})
        if kind == "pixels":
            del model.metadata_props[:]
        onnx.save(model, path)
    with pytest.raises(Refusal, match=said) as caught:
        OnnxFile(path)
    assert "\n" not in str(caught.value)
