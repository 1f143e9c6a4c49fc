"""The promise of one checkpoint for three libraries: timm and transformers, in a process of their own, answer
as resnet_hub does, and never silently otherwise. They load from a Hub on loopback named by HF_ENDPOINT.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.checkpoints import lively, logits, photo
from helpers.loopback_hub import LoopbackHub, serve
from PIL import Image

from resnet_hub import create_model, from_pretrained, list_models, model_config
from resnet_hub.models.timm_names import SAME_IN_TIMM, architecture, registered_name
from resnet_hub.preprocess import Preprocess

pytest.importorskip("timm")
pytest.importorskip("transformers")
STOCK = {
    "resnet18": ("resnet18", {"num_classes": 3}),
    "bottleneck": ("resnet50", {"num_classes": 3}),
    "grey-max-pool": ("resnet18", {"num_classes": 3, "in_chans": 1, "global_pool": "max"}),
    "deep-stem-96": ("resnet18", {"num_classes": 3, "stem": "deep", "drop_rate": 0.3, "input_size": 96}),
}
OWN = {
    "cifar": ("resnet20_cifar", {"num_classes": 3}),
    "cifar-stem": ("resnet18", {"num_classes": 3, "stem": "cifar"}),
    "other-strides": ("resnet18", {"num_classes": 3, "strides": (1, 1, 2, 2)}),
    "no-maxpool": ("resnet18", {"num_classes": 3, "maxpool": False}),
    "v1": ("resnet50", {"num_classes": 3, "stride_in": "1x1"}),
    "wide": ("wrn16_4_cifar", {"num_classes": 3}),
    "lenet-colour": ("lenet5", {"num_classes": 3, "in_chans": 3, "input_size": 32}),
    "vgg": ("vgg_cifar", {"num_classes": 3}),
}
# The same checkpoints with convolution and linear weights in float16.
HALF = {f"{name}-half": (STOCK | OWN)[name] for name in ("resnet18", "deep-stem-96", "cifar", "wide", "vgg")}
STOCK |= {name: network for name, network in HALF.items() if name.removesuffix("-half") in STOCK}
OWN |= {name: network for name, network in HALF.items() if name not in STOCK}
LABELS = ("tabby, tabby cat", "ねこ", "a dog")

CHILD = """
import json, sys, timm, torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
import resnet_hub

folder, names = sys.argv[1], json.loads(sys.argv[2])
inputs = load_file(folder + "/inputs.safetensors")
image = Image.open(folder + "/photo.png")

def with_timm(name):
    model = timm.create_model("hf-hub:somebody/" + name, pretrained=True).eval()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    seen = model(transform(image)[None])[0].tolist() if config["input_size"][0] == 3 else None
    return {"logits": model(inputs[name])[0].tolist(), "image": seen,
            "labels": model.pretrained_cfg["label_names"]}

def with_transformers(name):
    model = AutoModelForImageClassification.from_pretrained("somebody/" + name).eval()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    logits = model(inputs[name]).logits[0].tolist()
    if inputs[name].shape[1] != 3:
        return {"logits": logits}
    processor = AutoImageProcessor.from_pretrained("somebody/" + name)
    seen = model(**processor(image, return_tensors="pt")).logits[0].tolist()
    answer = {"logits": logits, "image": seen, "labels": list(model.config.id2label.values())}
    if name.removesuffix("-half") in ("resnet18", "cifar"):
        classify = pipeline("image-classification", model="somebody/" + name)
        assert classify.model.dtype == torch.float32
        answer["shares"] = {x["label"]: x["score"] for x in classify(image)}
    return answer

def with_ours(name):
    model = resnet_hub.from_pretrained("somebody/" + name)
    return {"logits": model(inputs[name])[0].tolist(), "labels": list(model.labels),
            "image": model(model.preprocess.tensor(image)[None])[0].tolist(),
            "shares": dict(model.predict(image)[0])}

def attempt(load, name):
    try:
        with torch.no_grad():
            return load(name)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}

assert "register_timm" not in str([m for m in sys.modules if m.startswith("resnet_hub.")])
answers = {"ours": {name: attempt(with_ours, name) for name in names}}
answers["stock timm"] = {name: attempt(with_timm, name) for name in names}
answers["stock transformers"] = {name: attempt(with_transformers, name) for name in names}
resnet_hub.register_timm()
resnet_hub.register_timm()
answers["timm"] = {name: attempt(with_timm, name) for name in names}
answers["transformers"] = {name: attempt(with_transformers, name) for name in names}
print("ANSWERS" + json.dumps(answers))
"""


def published_model(name: str):
    network, overrides = (STOCK | OWN)[name]
    torch.manual_seed(1)
    model = lively(create_model(network, **overrides))
    model.labels = LABELS
    channels = model.config.in_chans
    model.preprocess = Preprocess(
        input_size=(channels, *(min(side, 96) for side in model.config.input_size)),
        crop_pct=0.9,
        interpolation="bilinear",
        mean=(0.4, 0.5, 0.6)[:channels],
        std=(0.2, 0.25, 0.3)[:channels],
    )
    return model


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict:
    from safetensors.torch import save_file

    folder, hub = tmp_path_factory.mktemp("libraries"), LoopbackHub()
    inputs = {}
    for name in STOCK | OWN:
        model = published_model(name)
        model.save_pretrained(folder / name, half=name in HALF)
        hub.add(f"somebody/{name}", folder / name)
        inputs[name] = torch.randn(2, *model.preprocess.input_size)
    save_file(inputs, folder / "inputs.safetensors")
    pixels = np.random.default_rng(5).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((180, 140)).save(folder / "photo.png")
    server = serve(hub)
    env = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-c", CHILD, str(folder), json.dumps([*STOCK, *OWN])]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    server.shutdown()
    assert "ANSWERS" in ran.stdout, ran.stderr
    return json.loads(ran.stdout.split("ANSWERS")[1])


def assert_same(theirs: dict, ours: dict) -> None:
    assert "error" not in theirs, theirs
    assert theirs["logits"] == pytest.approx(ours["logits"], abs=1e-5, rel=1e-5)
    if theirs.get("image") is not None:
        assert theirs["image"] == pytest.approx(ours["image"], abs=1e-5, rel=1e-5)
        assert theirs["labels"] == ours["labels"] == list(LABELS)
    if "shares" in theirs:
        assert theirs["shares"] == pytest.approx(ours["shares"], abs=1e-5)


@pytest.mark.parametrize("library", ["stock timm", "stock transformers", "timm", "transformers"])
@pytest.mark.parametrize("name", STOCK)
def test_an_imagenet_stem_checkpoint_gives_the_same_answers_everywhere(answers, name, library):
    assert_same(answers[library][name], answers["ours"][name])


@pytest.mark.parametrize("library", ["timm", "transformers"])
@pytest.mark.parametrize("name", OWN)
def test_any_other_checkpoint_gives_the_same_answers_once_registered(answers, name, library):
    assert_same(answers[library][name], answers["ours"][name])


@pytest.mark.parametrize("library", ["stock timm", "stock transformers"])
@pytest.mark.parametrize("name", OWN)
def test_what_stock_libraries_cannot_build_they_refuse_by_name(answers, name, library):
    said = answers[library][name].get("error", "")
    assert architecture(model_config((OWN)[name][0], **OWN[name][1]))[0] in said
    assert "Unknown model" in said or "not supported" in said


@pytest.mark.parametrize("half", ["", "-half"])
def test_the_pipelines_were_asked(answers, half):
    assert "shares" in answers["stock transformers"]["resnet18" + half]
    assert "shares" in answers["transformers"]["cifar" + half]


@pytest.mark.parametrize("name", HALF)
def test_half_precision_changes_the_answers(answers, name):
    """Otherwise nothing above would compare rounded weights."""
    assert answers["ours"][name]["logits"] != answers["ours"][name.removesuffix("-half")]["logits"]


# Names


@pytest.mark.parametrize("name", list_models())
def test_every_network_can_be_built_by_timm(name):
    import timm

    import resnet_hub

    resnet_hub.register_timm()
    with torch.device("meta"):  # the shapes alone: some have 138 million weights
        model = timm.create_model(registered_name(name), num_classes=2)
    assert model.config.name == name and model.num_classes == 2


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet20_cifar", "wrn16_4_cifar", "resnet8_cifar", "vgg16", "lenet5"]
)
def test_a_network_is_taken_apart_as_timms_are(name):
    size = 64 if name == "vgg16" else 32
    model = lively(create_model(name, num_classes=3, input_size=size)).eval()
    x = torch.randn(2, model.config.in_chans, size, size)
    last = model.forward_features(x)
    assert last.shape[1] == model.num_features
    torch.testing.assert_close(model.forward_head(last), model(x), rtol=0, atol=0)
    entering = model.forward_head(last, pre_logits=True)
    torch.testing.assert_close(model.get_classifier()(entering), model(x), rtol=0, atol=0)


@torch.no_grad()
def test_the_parts_are_those_of_timms_network():
    import timm

    ours, theirs = (
        lively(create_model("resnet18", num_classes=3)).eval(),
        timm.create_model("resnet18", num_classes=3),
    )
    theirs.load_state_dict(ours.state_dict())
    x, theirs = torch.randn(1, 3, 96, 96), theirs.eval()
    assert ours.num_features == theirs.num_features
    features = ours.forward_features(x)
    torch.testing.assert_close(features, theirs.forward_features(x), rtol=1e-4, atol=1e-5)
    entering = (net.forward_head(features, pre_logits=True) for net in (ours, theirs))
    torch.testing.assert_close(*entering, rtol=1e-5, atol=1e-6)


def test_registering_leaves_timms_own_networks_alone():
    import timm

    import resnet_hub

    before = {name: timm.models.model_entrypoint(name) for name in [*SAME_IN_TIMM, "vgg16"]}
    resnet_hub.register_timm()
    assert before == {name: timm.models.model_entrypoint(name) for name in before}


def test_features_only_is_refused_rather_than_wrong():
    import timm

    import resnet_hub

    resnet_hub.register_timm()
    with pytest.raises(ValueError, match=r"model.features"):
        timm.create_model("resnet20_cifar", features_only=True)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vgg_cifar", {"img_size": 64}),
        ("resnet18_cifar", {"input_size": (64, 64)}),
        ("vgg_cifar", {"img_size": 64, "pretrained_cfg_overlay": {"crop_pct": 0.9}}),
    ],
)
def test_another_size_reaches_the_preprocessing(name, size):
    import timm

    import resnet_hub

    resnet_hub.register_timm()
    model = timm.create_model(name, **size)
    assert model.preprocess.input_size == (3, 64, 64)
    usual = timm.create_model(name).preprocess
    assert usual.input_size == (3, 32, 32)
    assert model.preprocess.crop_pct == (0.9 if "pretrained_cfg_overlay" in size else usual.crop_pct)


def test_num_classes_is_not_among_the_model_args():
    for name in list_models():
        assert "num_classes" not in architecture(model_config(name, num_classes=3))[1]


# The other way


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "resnet50.a1_in1k", "resnet34.tv_in1k"])
def test_timms_own_repositories_load_here(hub, name, tmp_path):
    """Made by timm's own exporter from timm's own pretrained_cfg; the weights are random here."""
    import timm
    from timm.models import save_for_hf

    theirs = lively(timm.create_model(name, zero_init_last=False))
    save_for_hf(theirs, str(tmp_path / "net"), safe_serialization=True)
    hub.add(f"timm/{name}", Path(tmp_path / "net"))
    ours = from_pretrained(f"timm/{name}")
    config = timm.data.resolve_model_data_config(theirs)
    transform = timm.data.create_transform(**config, is_training=False)
    x = transform(photo())[None]
    assert torch.equal(ours.preprocess.tensor(photo())[None], x)
    torch.testing.assert_close(logits(ours, x), logits(theirs, x), rtol=1e-5, atol=1e-5)
    assert ours.labels[207].startswith("golden retriever")
