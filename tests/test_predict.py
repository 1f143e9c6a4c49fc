"""The promises of `resnet_hub.predict`: probabilities are the softmax of the network on timm's transform, a
model is left as it was, the saliency map is Grad-CAM, and the command never ends in a traceback. Oracles:
timm, and the same quantities written out here with hooks and autograd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_hub import create_model, engine, predict
from resnet_hub.models.calibration import Calibration
from resnet_hub.per_image import Answer, worst_first
from resnet_hub.predict import classify, main, saliency
from resnet_hub.preprocess import ImageError

LABELS = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def photo(seed: int = 0, width: int = 60, height: int = 45) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def network(name: str = "resnet20_cifar", **overrides):
    """A network in eval mode whose answers differ from image to image."""
    torch.manual_seed(0)
    model = create_model(name, **overrides).eval()
    model.labels = LABELS[: model.config.num_classes]
    with torch.no_grad():  # running statistics of noise, so that no class wins every time
        model.train()(torch.randn(32, 3, *model.config.input_size))
        model.eval()
    return model


def timm_logits(model, image: Image.Image) -> torch.Tensor:
    """Logits (num_classes,) of the network on timm's evaluation transform."""
    timm = pytest.importorskip("timm")
    transform = timm.data.create_transform(**model.preprocess.to_pretrained_cfg(), is_training=False)
    with torch.no_grad():
        return model(transform(image)[None])[0]


# Probabilities


def test_nothing_on_the_way_to_an_answer_is_of_a_type_that_mps_lacks(monkeypatch):
    def no_float64(tensor: torch.Tensor) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    monkeypatch.setattr(torch.Tensor, "double", no_float64)
    model = network()
    assert [len(model.predict([photo()] * count)) for count in (1, 1, 10)] == [1, 1, 10]


@pytest.mark.parametrize("change", [lambda m: m.half(), lambda m: m.bfloat16(), lambda m: m.double()])
def test_weights_of_another_type_are_refused_with_the_way_out(change):
    model = change(network())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"the weights are {dtype}; call model\.float\(\)"):
        model.predict(photo())
    assert len(model.float().predict(photo())[0]) == 5


def test_a_head_that_has_no_labels_yet_is_refused():
    model = network()
    model.fc = torch.nn.Linear(64, 20)
    with pytest.raises(
        ValueError, match=r"gives 20 numbers for an image and has 10 labels; set model\.labels"
    ):
        model.predict(photo())


def test_one_image_that_is_not_read_yet_may_be_given_many_times(tmp_path):
    photo(width=900, height=700).save(tmp_path / "a.jpg")
    model = network()
    (expected,) = model.predict(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as lazy:
        answers = model.predict([lazy] * 24)
    assert all(dict(answer) == pytest.approx(dict(expected), abs=1e-6) for answer in answers)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_probabilities_are_the_tempered_softmax_on_timms_transform(temperature):
    model = network()
    model.calibration = Calibration(temperature=temperature)
    exponentials = np.exp(timm_logits(model, photo()).double().numpy() / temperature)
    expected = dict(zip(LABELS, exponentials / exponentials.sum(), strict=True))
    assert dict(model.predict(photo(), top_k=10)[0]) == pytest.approx(expected, abs=1e-6)


def test_most_probable_class_comes_first():
    answers = network().predict(photo(), top_k=10)[0]
    assert [p for _, p in answers] == sorted((p for _, p in answers), reverse=True)


def test_a_single_image_gives_a_list_of_one_list():
    model = network()
    assert dict(model.predict(photo())[0]) == pytest.approx(dict(model.predict([photo()])[0]), abs=1e-5)
    assert len(model.predict(photo())) == 1


def test_answers_keep_the_order_of_the_images():
    model = network()
    images = [photo(seed) for seed in range(4)]
    one_by_one = [max(model.predict(image)[0], key=lambda pair: pair[1])[1] for image in images]
    assert len({round(p, 5) for p in one_by_one}) == 4
    assert [answer[0][1] for answer in model.predict(images)] == pytest.approx(one_by_one, abs=1e-6)


def test_paths_bytes_and_open_files_are_images_too(tmp_path):
    photo().save(tmp_path / "photo.png")
    model, path = network(), tmp_path / "photo.png"
    with path.open("rb") as file:
        answers = model.predict([str(path), path, path.read_bytes(), file])
    assert [dict(answer) for answer in answers] == [pytest.approx(dict(model.predict(photo())[0]))] * 4


def test_five_classes_are_returned_unless_asked_otherwise():
    assert [len(network().predict(photo(), **k)[0]) for k in ({}, {"top_k": 1}, {"top_k": 7})] == [5, 1, 7]


def test_top_k_is_capped_at_the_number_of_classes():
    assert len(network(num_classes=3).predict(photo(), top_k=100)[0]) == 3


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_below_one_is_refused_with_the_range(top_k):
    with pytest.raises(ValueError, match=f"top_k={top_k} is not allowed; give 1 to 10"):
        network().predict(photo(), top_k=top_k)


def test_headless_network_cannot_classify_and_says_what_to_do():
    with pytest.raises(ValueError, match="num_classes of 1 or more"):
        create_model("resnet20_cifar", num_classes=0).predict(photo())


def test_no_images_no_answers():
    assert network().predict([]) == []


def test_one_bad_image_is_an_image_error(tmp_path):
    (tmp_path / "note.jpg").write_text("not an image")
    with pytest.raises(ImageError):
        network().predict([photo(), tmp_path / "note.jpg"])


def test_more_images_than_a_batch_are_answered_as_one_by_one(monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 3)
    model = network()
    images = [photo(seed) for seed in range(7)]
    together, alone = classify(model, images), [classify(model, [p])[0] for p in images]
    assert [p.class_indices for p in together] == [p.class_indices for p in alone]
    assert [p.energy for p in together] == pytest.approx([p.energy for p in alone], abs=1e-5)


def test_class_indices_are_positions_in_the_labels():
    (prediction,) = classify(network(), [photo()])
    assert [LABELS[i] for i in prediction.class_indices] == [label for label, _ in prediction.top]


def test_grey_networks_take_colour_images():
    torch.manual_seed(0)
    model = create_model("lenet5").eval()
    assert classify(model, [photo()])[0].seen.mode == "L"


def test_seen_is_the_image_at_the_networks_size():
    assert classify(network(), [photo()])[0].seen.size == (32, 32)


# What a model is left as


def test_training_network_is_classified_in_eval_mode_and_goes_on_training():
    model = network()
    expected = model.predict(photo())
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):  # the second answer is a prepared engine's
        assert dict(model.predict(photo())[0]) == pytest.approx(dict(expected[0]), abs=1e-5)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_batch_norm_of_a_training_network_stays_frozen():
    model = network().train()
    model.bn1.eval()
    model.predict(photo())
    assert not model.bn1.training and model.layer1.training


def test_no_gradient_is_kept():
    model = network()
    saliency(model, classify(model, [photo()])[0].seen, 0)
    assert all(p.grad is None for p in model.parameters())


def test_large_images_go_through_the_network_a_few_at_a_time(monkeypatch):
    assert engine.batch_size((3, 224, 224), 64) == 64
    assert engine.batch_size((3, 1024, 768), 64) == 4 and engine.batch_size((3, 4096, 4096), 64) == 1
    monkeypatch.setattr(engine, "MOST_PIXELS", 4 * 32 * 32)
    model, sizes = network(), []
    model.conv1.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    assert len(classify(model, [photo(i) for i in range(6)])) == 6
    assert sizes == [4, 2]


# Unfamiliar images


def test_energy_is_the_logsumexp_of_the_untempered_logits():
    model = network()
    model.calibration = Calibration(temperature=3.0)
    expected = np.log(np.exp(timm_logits(model, photo()).double().numpy()).sum())
    assert classify(model, [photo()])[0].energy == pytest.approx(expected, abs=1e-5)


def test_images_under_the_energy_threshold_are_unfamiliar():
    model = network()
    images = [photo(seed) for seed in range(5)]
    energies = [p.energy for p in classify(model, images)]
    threshold = float(np.median(energies))
    model.calibration = Calibration(energy_threshold=threshold + 1e-6)
    flags = [p.unfamiliar for p in classify(model, images)]
    assert (
        flags == [energy < threshold + 1e-6 for energy in energies]
        and sorted(flags) == [False] * 2 + [True] * 3
    )


def test_without_a_threshold_nothing_is_called_familiar_or_not():
    assert classify(network(), [photo()])[0].unfamiliar is None


# Saliency


def grad_cam(model, layer: torch.nn.Module, image: Image.Image, class_index: int) -> np.ndarray:
    """Selvaraju et al., arXiv 1610.02391, equations 1 and 2, scaled to a maximum of 1."""
    kept = {}

    def keep(module, inputs, output):
        output.retain_grad()
        kept["map"] = output
        return output.clone()  # whatever follows in place leaves the map alone

    handle = layer.register_forward_hook(keep)
    with torch.enable_grad():
        model(model.preprocess.tensor(image)[None])[0, class_index].backward()
    handle.remove()
    model.zero_grad()
    feature_map, gradient = kept["map"].detach()[0].numpy(), kept["map"].grad[0].numpy()
    cam = np.maximum(np.einsum("chw,c->hw", feature_map, gradient.mean((1, 2))), 0)
    return cam / max(cam.max(), 1e-8)


LAST_MAP = {
    "resnet20_cifar": lambda model: model.layer3,
    "resnet18_cifar": lambda model: model.layer4,
    "cifar10net": lambda model: model.features[-1],
    "vgg_cifar": lambda model: model.features[-1],
}


@pytest.mark.parametrize("name", LAST_MAP)
def test_saliency_is_grad_cam_of_the_last_feature_map(name):
    model = network(name)
    seen = classify(model, [photo(3)])[0].seen
    maps = [saliency(model, seen, c) for c in range(4)]
    expected = [grad_cam(model, LAST_MAP[name](model), photo(3), c) for c in range(4)]
    assert any(cam.max() == 1 for cam in expected)  # something speaks for one of them
    np.testing.assert_allclose(maps, expected, atol=2e-4)


def test_saliency_is_between_zero_and_one_at_the_maps_size():
    model = network()
    cam = saliency(model, classify(model, [photo()])[0].seen, 2)
    assert cam.shape == (8, 8) and cam.dtype == np.float32
    assert cam.min() >= 0 and cam.max() <= 1


def test_saliency_of_a_wide_network_reads_the_map_after_its_last_batch_norm():
    model = network("wrn16_4_cifar")
    seen = classify(model, [photo(3)])[0].seen
    with torch.no_grad():
        last = model.bn(
            model.layer3(model.layer2(model.layer1(model.conv1(model.preprocess.normalise(seen)[None]))))
        )
    last = last.relu()[0].numpy()  # (C, 8, 8)
    # The head is an average and a matrix, so the gradient's mean for class c is its weight row / 64.
    cam = np.maximum(np.einsum("chw,c->hw", last, model.fc.weight[1].detach().numpy() / 64), 0)
    np.testing.assert_allclose(saliency(model, seen, 1), cam / cam.max(), atol=2e-4)


def test_saliency_ignores_dropout_and_leaves_the_mode():
    model = network(drop_rate=0.5)
    seen = classify(model, [photo()])[0].seen
    expected = saliency(model, seen, 1)
    model.train()
    np.testing.assert_array_equal(saliency(model, seen, 1), expected)
    assert all(module.training for module in model.modules())


def test_saliency_works_where_gradients_are_switched_off():
    model = network()
    seen = classify(model, [photo()])[0].seen
    expected = saliency(model, seen, 1)
    with torch.no_grad():
        np.testing.assert_array_equal(saliency(model, seen, 1), expected)


# The command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("net")
    network().save_pretrained(directory)
    return directory


@pytest.fixture
def files(tmp_path) -> list[str]:
    for seed in range(2):
        photo(seed).save(tmp_path / f"{seed}.png")
    return [str(tmp_path / f"{seed}.png") for seed in range(2)]


def command(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "resnet_hub.predict", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )


def test_command_prints_one_json_document_and_nothing_else(checkpoint, files):
    ran = command(*files, "--model", checkpoint, "--top-k", 3, "--json")
    answer = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [p["image"] for p in answer["predictions"]] == files and answer["errors"] == []
    assert [len(p["top"]) for p in answer["predictions"]] == [3, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 are files on Linux alone")
def test_a_file_name_that_is_not_text_comes_back_in_json_byte_for_byte(checkpoint, files):
    name = os.fsencode(files[0]) + b"caf\xe9.png"
    os.rename(files[0], name)  # noqa: PTH104
    ran = command(os.fsdecode(name), "--model", checkpoint, "--json")
    (prediction,) = json.loads(ran.stdout)["predictions"]
    assert (ran.returncode, os.fsencode(prediction["image"])) == (0, name)


def test_json_probabilities_are_the_librarys(checkpoint, files, capsys):
    main([*files, "--model", str(checkpoint), "--json"])
    answer = json.loads(capsys.readouterr().out)
    stated = [{t["label"]: t["probability"] for t in p["top"]} for p in answer["predictions"]]
    assert stated == [pytest.approx(dict(top), abs=1e-5) for top in network().predict(files)]


def test_a_bad_file_among_good_ones_costs_only_its_own_answer(checkpoint, files, tmp_path, capsys):
    (tmp_path / "note.jpg").write_text("not an image")
    code = main([files[0], str(tmp_path / "note.jpg"), files[1], "--model", str(checkpoint)])
    printed = capsys.readouterr()
    assert code == 2
    assert all(file in printed.out for file in files) and "note.jpg" not in printed.out
    assert len(printed.err.splitlines()) == 1 and "note.jpg" in printed.err


def test_the_sentence_does_not_depend_on_how_many_classes_are_listed(files, tmp_path, capsys):
    model = network()
    torch.nn.init.zeros_(model.fc.weight)  # every class is as probable as the others
    model.calibration = Calibration(energy_threshold=-1e6, firm_threshold=0.9)
    model.save_pretrained(tmp_path / "even")
    said = []
    for top_k in (1, 5):
        main([files[0], "--model", str(tmp_path / "even"), "--top-k", str(top_k)])
        lines = capsys.readouterr().out.splitlines()
        said.append(lines[0])
        assert len(lines) == 1 + top_k
    assert said[0] == said[1] and " or " in said[0]


def test_answers_are_printed_as_they_come(checkpoint, files, tmp_path, capsys, monkeypatch):
    printed = []
    real = predict.classify_files

    def watched(*args, **more):
        for answer in real(*args, **more):
            yield answer
            printed.append(capsys.readouterr().out)

    monkeypatch.setattr(predict, "classify_files", watched)
    assert main([*files, "--model", str(checkpoint)]) == 0
    assert [text.splitlines()[0].partition(": ")[0] for text in printed] == files


def test_a_bad_file_is_in_the_json_too(checkpoint, files, tmp_path, capsys):
    code = main([files[0], str(tmp_path / "absent.jpg"), "--model", str(checkpoint), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (code, len(answer["predictions"])) == (2, 1)
    assert [e["image"] for e in answer["errors"]] == [str(tmp_path / "absent.jpg")]


def test_an_unfamiliar_image_is_said_to_be_one(checkpoint, files, tmp_path, capsys):
    model = network()
    model.calibration = Calibration(energy_threshold=1e6)
    model.save_pretrained(tmp_path / "wary")
    main([files[0], "--model", str(tmp_path / "wary")])
    assert f"{files[0]}: This does not look like anything I know.\n" in capsys.readouterr().out


def test_missing_model_is_one_line_and_no_traceback(files, capsys):
    assert main([files[0], "--model", "no_such_model"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1 and "no_such_model" in printed.err


@pytest.mark.parametrize("options", [["--top-k", "0"], ["--device", "cuda"]])
def test_impossible_options_are_one_line(checkpoint, files, capsys, options, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([files[0], "--model", str(checkpoint), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("options", [["--engine", "fused"], ["--precision", "bf16"]])
def test_an_engine_named_for_an_onnx_file_is_refused(files, capsys, options):
    assert main([files[0], "--model", "net.onnx", *options]) == 2
    assert "ONNX Runtime runs an ONNX file" in capsys.readouterr().err


def test_a_stranger_s_labels_reach_neither_the_terminal_nor_an_encoder_as_they_are(tmp_path, photo, capsys):
    folder = tmp_path / "net"
    create_model("resnet20_cifar", num_classes=2).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["label_names"] = ["\x1b[31mred", "lone \ud800"]
    (folder / "config.json").write_text(json.dumps(config))
    assert main([str(photo), "--model", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and printed.encode() and "\ufffd[31mred" in printed


@pytest.mark.parametrize("odd", [np.zeros((4, 4, 3), np.uint8), 5, None])
def test_what_is_no_image_is_refused_with_what_is(odd):
    with pytest.raises(
        ImageError, match=f"A {type(odd).__name__} is not read as an image; give a path, a PIL image"
    ):
        network().predict(odd)


def test_the_table_without_true_classes_begins_with_the_least_confident():
    shares = {"a": 0.9, "b": 0.2, "c": 0.5}
    answers = [Answer(file, None, "cat", share, None, None) for file, share in shares.items()]
    assert [each.file for each in worst_first(answers)] == ["b", "c", "a"]


def test_a_full_gpu_is_one_line(monkeypatch, photo, capsys):
    def full(*anything, **options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nMore.")

    monkeypatch.setattr(predict, "classify_files", full)
    assert predict.main([str(photo)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("CUDA out of memory. Give --device cpu, or fewer images at a time.")
