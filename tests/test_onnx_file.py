"""An ONNX file in the place of a network: predict, evaluate and the app take it, without torch."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers import ROOT
from helpers.checkpoints import lively
from helpers.images import image

from resnet_hub import create_model, from_pretrained
from resnet_hub.interop import convert
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.predict import classify, main, saliency
from resnet_hub.ui.classify.tab import Tab
from resnet_hub.ui.shelf import Shelf
from training import evaluate

WITHOUT_TORCH = """
import sys
from resnet_hub.predict import main
status = main(sys.argv[1:])
print(status, sorted({"torch", "torchvision", "timm"} & set(sys.modules)), file=sys.stderr)
"""


def test_predict_takes_the_file_gives_the_network_s_answers_and_imports_no_torch(photo_file, photo):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(photo), "--model", str(photo_file), "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.stderr.strip() == "0 []"
    said = json.loads(ran.stdout)
    (prediction,) = classify(from_pretrained("resnet20_cifar10"), [photo])
    (theirs,) = said["predictions"]
    assert [each["label"] for each in theirs["top"]] == [label for label, _ in prediction.top]
    assert theirs["top"][0]["probability"] == pytest.approx(prediction.top[0][1], abs=2e-3)
    assert (theirs["familiar"], theirs["certainty"]) == (not prediction.unfamiliar, prediction.certainty)
    assert (said["model"], said["revision"]) == (str(photo_file), "shipped")


def test_a_missing_file_is_2_and_one_line(tmp_path, photo, capsys):
    assert main([str(photo), "--model", str(tmp_path / "no.onnx")]) == 2
    assert "check the path" in capsys.readouterr().err


def test_the_map_of_a_file_is_the_network_s(photo_file):
    model, file = from_pretrained("resnet20_cifar10"), OnnxFile(photo_file)
    ours, theirs = (classify(each, [image(3)])[0] for each in (model, file))
    best = ours.class_indices[0]
    assert saliency(file, theirs.seen, best) == pytest.approx(saliency(model, ours.seen, best), abs=0.02)


def test_evaluate_measures_the_file_on_the_photos_as_they_are(photo_file, tmp_path, capsys):
    model = from_pretrained("resnet20_cifar10")
    photos = {label: image(seed, (90 + seed, 60)) for seed, label in enumerate(model.labels)}
    for label, each in photos.items():
        (tmp_path / "test" / label).mkdir(parents=True)
        each.save(tmp_path / "test" / label / "0.png")
    assert evaluate.main([str(photo_file), "--data", str(tmp_path), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    answers = classify(model, [*photos.values()])
    right = [prediction.top[0][0] == label for label, prediction in zip(model.labels, answers, strict=True)]
    assert (results["images"], results["precision"]) == (10, "fp32")
    assert results["top1"] == pytest.approx(sum(right) / 10)
    assert results["called_unfamiliar"] == pytest.approx(sum(bool(each.unfamiliar) for each in answers) / 10)


def test_evaluating_a_file_of_few_classes_gives_no_top5_and_needs_a_readable_photo(tmp_path, capsys):
    model = lively(create_model("resnet20_cifar", num_classes=3))
    model.labels = ("a", "b", "c")
    convert.save(model, tmp_path / "net.onnx", "onnx")
    for label in model.labels:
        (tmp_path / "data" / "test" / label).mkdir(parents=True)
        image(0, (40, 40)).save(tmp_path / "data" / "test" / label / "0.png")
    words = [str(tmp_path / "net.onnx"), "--data", str(tmp_path / "data"), "--json"]
    assert evaluate.main(words) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["images"] == 3 and "top1" in results and "top5" not in results
    for file in (tmp_path / "data").rglob("*.png"):
        file.write_bytes(b"no image")
    assert evaluate.main(words) == 2
    assert "holds no readable image" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("has_maps", [True, False])
def test_the_page_opens_with_the_file_s_answer_and_stays_up(photo_file, monkeypatch, has_maps):
    if not has_maps:
        monkeypatch.setattr(OnnxFile, "has_maps", False)
    shelf = Shelf([str(photo_file)])
    tab = Tab(shelf, SimpleNamespace())
    tab.prepare()
    assert shelf.first == str(photo_file) and (tab.first[""].heat is not None) == has_maps
    assert shelf.card(shelf.first) is None


def test_what_needs_weights_refuses_the_file_in_one_sentence(photo_file):
    import gradio as gr

    from resnet_hub.ui.shared.loading import load

    shelf, progress = Shelf([str(photo_file)]), lambda *args, **kwargs: None
    assert isinstance(load(shelf, str(photo_file), "en", progress), OnnxFile)
    with pytest.raises(gr.Error, match="Choose the checkpoint"):
        load(shelf, str(photo_file), "en", progress, needs_weights=True)
