"""Weights across, against the real libraries: every bit arrives, and both sides answer the same."""

import json

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers.images import image
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, ResNetForImageClassification

from resnet_hub import create_model, from_pretrained
from resnet_hub.config import ResNetConfig
from resnet_hub.errors import Refusal
from resnet_hub.hub.card import render_card
from resnet_hub.interop import convert
from resnet_hub.interop.parity import random_weights
from resnet_hub.models.build import build_network
from resnet_hub.models.calibration import Calibration
from resnet_hub.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(name: str, **overrides):
    """One of our networks with weights of its own, in eval mode."""
    model = create_model(name, **overrides)
    model.load_state_dict(random_weights(model))
    return model.eval()


def pixels(model) -> torch.Tensor:
    size = (2, model.config.in_chans, *(min(side, 64) for side in model.config.input_size))
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def assert_same_bits(a: dict, b: dict) -> None:
    assert list(a) == list(b)
    assert all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


@torch.inference_mode()
def assert_same_logits(ours, theirs, x: torch.Tensor) -> None:
    expected = theirs(x)
    expected = getattr(expected, "logits", expected)
    assert expected.std() > 0
    assert (ours(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "more"),
    [("resnet18", {"in_chans": 1}), ("resnet50", {}), ("resnet50", {"stride_in": "1x1", "num_classes": 7})],
)  # fmt: skip
def test_transformers_loads_ours_and_ours_loads_transformers(tmp_path, name, more):
    ours = drawn(name, **more)
    ours.labels = tuple(f"thing {i}" for i in range(ours.config.num_classes))
    convert.save(ours, tmp_path / "there", "transformers")
    theirs, notes = ResNetForImageClassification.from_pretrained(tmp_path / "there", output_loading_info=True)
    assert not any(notes[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_logits(ours, theirs.eval(), pixels(ours))
    assert theirs.config.id2label[3] == "thing 3"
    theirs.save_pretrained(tmp_path / "again")  # what transformers itself writes
    back = convert.load(str(tmp_path / "again"))
    assert_same_bits(back.state_dict(), ours.state_dict())
    assert back.config.to_dict() | {"input_size": 0, "drop_rate": 0} == ours.config.to_dict() | {
        "input_size": 0, "drop_rate": 0
    }  # fmt: skip
    assert back.labels == ours.labels


def test_keys_of_transformers_come_back_as_they_were():
    from transformers import ResNetConfig

    theirs = ResNetForImageClassification(ResNetConfig(num_labels=10)).state_dict()
    ours = convert.from_transformers(theirs)
    assert sorted(ours) == sorted(create_model("resnet50", num_classes=10).state_dict())
    assert_same_bits(convert.to_transformers(ours), theirs)


def test_transformers_processor_makes_the_same_pixels(tmp_path):
    ours = drawn("resnet18", num_classes=3)
    convert.save(ours, tmp_path, "transformers")
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    noise = np.random.default_rng(3).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    photo = Image.fromarray(noise)  # a crop one pixel away would be another image
    theirs = torch.as_tensor(np.asarray(processor(photo)["pixel_values"])[0])
    assert theirs.shape == (3, 224, 224)
    assert (ours.preprocess.tensor(photo) - theirs).abs().max() <= 1.01 / 255 / min(ours.preprocess.std)
    back = convert.load(str(tmp_path))
    assert back.preprocess == ours.preprocess


def test_a_hub_repository_of_transformers_is_read_with_its_processor_and_labels(hub, tmp_path):
    """As microsoft/resnet-50 is: `size` a number, and two classes of one name."""
    ours = drawn("resnet18", num_classes=12)
    ours.labels = tuple(f"thing {i}" for i in range(12))
    convert.save(ours, tmp_path, "transformers")
    config = json.loads((tmp_path / "config.json").read_text())
    labels = config["id2label"] | {"2": "crane", "11": "crane"}
    config["id2label"] = dict(sorted(labels.items()))  # "10" before "2"
    processor = {
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "crop_pct": 0.9,
        "size": 160,
        "resample": 2,
    }
    hub.add(
        "microsoft/resnet-tiny",
        {
            "config.json": json.dumps(config).encode(),
            "preprocessor_config.json": json.dumps(processor).encode(),
            "model.safetensors": (tmp_path / "model.safetensors").read_bytes(),
        },
    )
    theirs = convert.load("microsoft/resnet-tiny")
    assert_same_bits(theirs.state_dict(), ours.state_dict())
    assert theirs.labels == ("thing 0", "thing 1", "crane (2)", *ours.labels[3:11], "crane (11)")
    found = theirs.preprocess
    assert (found.input_size, found.crop_pct, found.interpolation) == ((3, 160, 160), 0.9, "bilinear")
    assert theirs.revision == hub.repo("microsoft/resnet-tiny").refs["main"]


def test_a_network_of_a_depth_of_its_own_becomes_a_checkpoint(tmp_path):
    from transformers import ResNetConfig

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"}
    theirs = ResNetForImageClassification(ResNetConfig(num_labels=3, **sizes)).eval()
    theirs.load_state_dict(random_weights(theirs))
    theirs.save_pretrained(tmp_path / "theirs")
    assert convert.main([str(tmp_path / "theirs"), str(tmp_path / "ours"), "--to", "resnet_hub"]) == 0
    ours = from_pretrained(str(tmp_path / "ours"))
    assert_same_logits(ours, theirs, pixels(ours))
    assert not timm.is_model(json.loads((tmp_path / "ours" / "config.json").read_text())["architecture"])
    assert "(a design of its own)" in (tmp_path / "ours" / "README.md").read_text()
    assert "timm" not in render_card(ours, load_from="somebody/net")


def test_a_checkpoint_whose_card_cannot_be_made_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr("resnet_hub.hub.save.render_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        create_model("lenet5").save_pretrained(tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_a_network_that_answers_each_class_by_itself_goes_to_transformers_and_back(tmp_path):
    ours = drawn("resnet18", num_classes=3)
    ours.calibration = Calibration(class_thresholds=(0.3, 0.5, 0.9))
    convert.save(ours, tmp_path / "theirs", "transformers")
    back = convert.load(str(tmp_path / "theirs"))
    assert back.calibration == Calibration(class_thresholds=(0.5,) * 3)  # transformers states no thresholds
    theirs = ResNetForImageClassification.from_pretrained(tmp_path / "theirs").eval()
    assert theirs.config.problem_type == "multi_label_classification"
    x = pixels(ours)
    with torch.no_grad():
        torch.testing.assert_close(
            back.calibration.probabilities(back(x)), theirs(x).logits.sigmoid(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", b"[]", "config.json: holds a JSON list"),
        ("config.json", b'{"model_type": "resnet", "depths": null}', "config.json: "),
        ("model.safetensors", None, "model.safetensors: "),
        ("preprocessor_config.json", b"\xff", "preprocessor_config.json: "),
        ("preprocessor_config.json", b'{"size": 4096}', "preprocessor_config.json: input_size 4096x4096"),
        ("preprocessor_config.json", b'{"image_processor_type": "BitImageProcessor"}', "BitImageProcessor"),
        ("preprocessor_config.json", b'{"size": {"height": 224, "width": 224}}', "'height': 224"),
        ("preprocessor_config.json", b'{"do_normalize": false}', "do_normalize=False has no counterpart"),
    ],
)
def test_a_bad_transformers_directory_is_2_and_one_line(tmp_path, capsys, file, content, expected):
    small = {"depths": (1,), "widths": (8,), "strides": (1,), "stem_width": 64, "num_classes": 3}
    convert.save(build_network(ResNetConfig(name="small", **small)), tmp_path / "theirs", "transformers")
    path = tmp_path / "theirs" / file
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    assert convert.main([str(path.parent), str(tmp_path / "out"), "--to", "resnet_hub"]) == 2
    error = capsys.readouterr().err
    assert str(path.parent) in error and expected in error and error.count("\n") == 1


def test_from_384_pixels_on_transformers_squashes_and_so_is_read_and_refused(tmp_path):
    config = create_model("resnet18", num_classes=3).config
    read = convert.preprocess_from_transformers({"size": {"shortest_edge": 384}, "crop_pct": 0.9}, config)
    assert (read.crop_mode, read.crop_pct) == ("squash", 1.0)
    with pytest.raises(Refusal, match="below 384"):
        convert.preprocess_to_transformers(Preprocess(input_size=(3, 384, 384)))


@pytest.mark.parametrize("layout", ["resnet_hub", "timm", "torchvision", "transformers", "onnx"])
def test_a_half_checkpoint_is_converted_widened(tmp_path, layout):
    ours = drawn("resnet18", num_classes=3)
    ours.save_pretrained(tmp_path / "half", half=True)
    rounded = from_pretrained(tmp_path / "half")
    suffix = {"timm": ".safetensors", "torchvision": ".pth", "onnx": ".onnx"}.get(layout, "")
    out = tmp_path / f"out{suffix}"
    if layout == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the [export] packages")
        assert convert.main([str(tmp_path / "half"), str(out), "--to", layout, "--normalised"]) == 0
        assert convert.onnx_difference(rounded, out) < 1e-4 < convert.onnx_difference(ours, out)
        return
    assert convert.main([str(tmp_path / "half"), str(out), "--to", layout]) == 0
    back = convert.load(str(out), "resnet18")
    assert_same_bits(back.state_dict(), rounded.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.double, torch.int8])
@pytest.mark.parametrize("library", ["file", "transformers"])
def test_weights_of_other_types_are_widened_or_refused_by_name(tmp_path, capsys, library, dtype):
    ours = drawn("resnet18", num_classes=3)
    if library == "transformers":
        convert.save(ours, source := tmp_path / "theirs", "transformers")
        file = source / "model.safetensors"
    else:
        convert.save(ours, source := tmp_path / "net.safetensors", "timm")
        file = source
    state = {k: v.to(dtype) if v.dim() > 1 else v for k, v in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    code = convert.main([str(source), str(tmp_path / "out"), "--to", "resnet_hub", "--model", "resnet18"])
    if dtype in (torch.float16, torch.bfloat16):
        assert code == 0
        expected = {k: v.to(dtype).float() if v.dim() > 1 else v for k, v in ours.state_dict().items()}
        assert_same_bits(from_pretrained(tmp_path / "out").state_dict(), expected)
    else:
        error = capsys.readouterr().err
        assert code == 2 and error.count("\n") == 1
        assert str(source) in error and f"weight is of type {dtype}" in error


@pytest.mark.parametrize(("library", "name"), [("timm", "resnet18"), ("torchvision", "resnet50")])
def test_a_library_s_file_becomes_ours_and_goes_back(tmp_path, library, name):
    build = timm.create_model if library == "timm" else torchvision.models.get_model
    theirs = build(name, num_classes=5).eval()
    theirs.load_state_dict(random_weights(theirs))
    if library == "timm":
        save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
        file = tmp_path / "weights.safetensors"
    else:
        torch.save(theirs.state_dict(), file := tmp_path / "weights.pth")
    assert convert.main([str(file), str(tmp_path / "ours"), "--to", "resnet_hub", "--model", name]) == 0
    ours = from_pretrained(str(tmp_path / "ours"))
    assert_same_logits(ours, theirs, pixels(ours))
    back = tmp_path / "deeper" / file.name
    assert convert.main([str(tmp_path / "ours"), str(back), "--to", library]) == 0
    again = build(name, num_classes=5)
    state = load_file(back) if library == "timm" else torch.load(back, weights_only=True)
    again.load_state_dict(state, strict=True)
    assert_same_bits(again.state_dict(), theirs.state_dict())


def test_the_command_takes_a_transformers_directory_to_a_checkpoint_and_back(tmp_path):
    ours = drawn("resnet18", num_classes=4)
    convert.save(ours, tmp_path / "theirs", "transformers")
    steps = [("theirs", "ours", "resnet_hub"), ("ours", "back", "transformers")]
    for source, out, layout in steps:
        assert convert.main([str(tmp_path / source), str(tmp_path / out), "--to", layout]) == 0
    files = [load_file(tmp_path / folder / "model.safetensors") for folder in ("theirs", "back")]
    assert_same_bits(*files)


REFUSED = [
    ("resnet18_cifar", {}, "transformers", "stem='imagenet' only"),
    ("wide_resnet50_2", {}, "transformers", "base_width=64 only"),
    ("wrn16_4_cifar", {}, "transformers", "not a ResNet of basic or bottleneck"),
    ("resnet18_cifar", {}, "timm", "load silently into a wrong network"),
    ("resnet50", {"stride_in": "1x1"}, "torchvision", "load silently into a wrong network"),
    ("plain18", {}, "timm", "load silently into a wrong network"),
]


@pytest.mark.parametrize(("name", "more", "layout", "expected"), REFUSED)
def test_what_a_layout_cannot_say_is_refused(tmp_path, name, more, layout, expected):
    with pytest.raises(Refusal, match=expected) as caught:
        convert.save(create_model(name, **more), tmp_path / "out", layout)
    assert "\n" not in str(caught.value)


def test_a_directory_in_a_file_s_place_is_2_and_one_line(tmp_path, capsys):
    assert convert.main(["resnet20_cifar10", str(tmp_path), "--to", "onnx"]) == 2
    error = capsys.readouterr().err
    assert "is a directory" in error and error.count("\n") == 1


class Harm:
    def __reduce__(self):
        return (open, ("harm.txt", "w"))


@pytest.mark.parametrize(
    ("make", "more", "expected"),
    [
        (lambda file: torch.save({"fc.weight": Harm()}, file), ["--model", "resnet18"], "it is not run"),
        (lambda file: file.write_bytes(b"nothing"), ["--model", "resnet18"], "it is not run"),
        (lambda file: file.write_bytes(b""), ["--model", "resnet18"], "cannot be read as weights"),
        (lambda file: torch.save([torch.zeros(2)], file), ["--model", "resnet18"], "tensors by name"),
        (lambda file: torch.save({}, file), [], "--model"),
        (lambda file: torch.save({}, file), ["--model", "resnet18"], "does not fit resnet18"),
        (lambda file: torch.save({}, file), ["--model", "resnet180"], "did you mean"),
    ],
)
def test_a_bad_file_is_2_and_one_line(tmp_path, monkeypatch, capsys, make, more, expected):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "weights.pth")
    assert convert.main([str(tmp_path / "weights.pth"), "out", "--to", "resnet_hub", *more]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert not (tmp_path / "harm.txt").exists()


def test_the_shipped_checkpoint_as_onnx_says_its_preprocessing_and_agrees_with_onnx_runtime(tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the [export] packages")
    file = tmp_path / "resnet20.onnx"
    assert convert.main(["resnet20_cifar10", str(file), "--to", "onnx", "--normalised"]) == 0
    assert "ONNX Runtime differs by" in capsys.readouterr().out
    model = from_pretrained("resnet20_cifar10")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["resnet_hub.labels"]) == list(model.labels)
    cfg = json.loads(said["resnet_hub.pretrained_cfg"])
    assert cfg == model.preprocess.to_pretrained_cfg()
    words = said["resnet_hub.preprocessing"]
    assert "crop the central 32x32" in words and str(cfg["mean"]) in words
    # Who follows the file alone gets the library's own answer.
    photo = image(5)
    by_hand = photo.resize((48, 32), 3).crop((8, 0, 40, 32))
    values = (np.asarray(by_hand, np.float32) / 255 - cfg["mean"]) / cfg["std"]
    (logits,) = session.run(None, {"pixels": values.transpose(2, 0, 1)[None].astype(np.float32)})
    scaled = logits[0] / float(said["resnet_hub.temperature"])
    shares = np.exp(scaled) / np.exp(scaled).sum()
    label, share = model.predict(photo, top_k=1)[0][0]
    assert model.labels[shares.argmax()] == label
    assert shares.max() == pytest.approx(share, abs=1e-4)


def test_a_file_that_answers_otherwise_is_reported(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="needs the [export] packages")
    export = convert.export_normalised
    monkeypatch.setattr(convert, "export_normalised", lambda model, *given: export(drawn("lenet5"), *given))
    other = drawn("lenet5")
    with torch.no_grad():
        list(other.parameters())[-1].add_(5)
    other.save_pretrained(tmp_path / "other")
    assert (
        convert.main([str(tmp_path / "other"), str(tmp_path / "net.onnx"), "--to", "onnx", "--normalised"])
        == 2
    )
    assert "do not use this file" in capsys.readouterr().err
