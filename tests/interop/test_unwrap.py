"""Weights as training scripts leave them: what is unambiguous is unwrapped and said, the rest refused with
the keys that were not expected. The oracle is the network before it was wrapped."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import timm
import torch
from helpers.checkpoints import lively
from safetensors.torch import save_file

from resnet_hub import create_model, from_pretrained
from resnet_hub.hub.fetch import CheckpointError
from resnet_hub.interop import convert

STATE = lively(create_model("resnet18", num_classes=3)).state_dict()


def prefixed(prefix: str, state: dict) -> dict:
    return {f"{prefix}{key}": value for key, value in state.items()}


def moved(before: str, after: str) -> dict:
    return {key.replace(before, after) if key.startswith(before) else key: v for key, v in STATE.items()}


def converted(held, tmp_path: Path, *more: str) -> int:
    torch.save(held, tmp_path / "w.pth")
    words = [
        str(tmp_path / "w.pth"),
        str(tmp_path / "out"),
        "--to",
        "resnet_hub",
        "--model",
        "resnet18",
        *more,
    ]
    return convert.main(words)


def test_weights_from_a_bare_file_do_not_get_this_project_s_licence(tmp_path):
    assert converted(STATE, tmp_path) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license" not in card.split("---")[1] and "loaded from a local checkpoint" in card
    assert str(tmp_path) not in card


OUTSIDE = {key if key.startswith("fc") else f"backbone.{key}": value for key, value in STATE.items()}


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (prefixed("module.", STATE), "without 'module.'"),
        (prefixed("_orig_mod.module.", STATE), "without '_orig_mod.module.'"),
        ({"epoch": 3, "state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, "under 'state_dict'"),
        (
            {"state_dict": prefixed("model.", STATE) | {"criterion.weight": torch.ones(3)}, "epoch": 1},
            "without criterion.weight",
        ),
        (moved("fc.", "fc.1."), "fc.1 as fc"),
        (moved("fc.", "fc.0."), "fc.0 as fc"),
        (OUTSIDE, "without 'backbone.'"),
        (
            {k: v.half() if k.endswith("num_batches_tracked") else v for k, v in STATE.items()},
            "counts as whole numbers",
        ),
    ],
    ids=["parallel", "compiled", "dictionary", "lightning", "dropout", "sequential", "backbone", "half"],
)
def test_what_is_unambiguous_is_unwrapped_and_said(tmp_path, capsys, held, said):
    assert converted(held, tmp_path) == 0
    assert said in capsys.readouterr().out
    ours = from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(ours[key], value) for key, value in STATE.items())


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            prefixed("student.", STATE) | prefixed("teacher.", STATE),
            "several networks, 'student.', 'teacher.'",
        ),
        ({"model": STATE, "model_ema": STATE}, "several networks, 'model', 'model_ema'"),
        (moved("fc.", "fc.0.") | {"fc.3.weight": torch.ones(3, 3)}, "unexpected: fc.0.bias, fc.0.weight"),
        (STATE | {"extra.weight": torch.ones(2)}, "unexpected: extra.weight"),
        ({"optimizer": {"lr": 1}}, "it holds 'optimizer'"),
        (STATE | {"fc.bias": torch.tensor([1.0, float("nan"), 0.0])}, "fc.bias holds NaN"),
    ],
)
def test_what_is_not_is_one_line_with_the_keys(tmp_path, capsys, held, said):
    assert converted(held, tmp_path) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_network_of_one_channel_is_read_as_one(tmp_path):
    theirs = lively_timm(in_chans=1)
    assert converted(theirs.state_dict(), tmp_path) == 0
    ours, x = from_pretrained(tmp_path / "out"), torch.randn(2, 1, 64, 64)
    assert torch.equal(ours(x), theirs(x)) and ours.preprocess.input_size[0] == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.txt", "rust\nspot\nhealthy\n"), ("l.json", '["rust", "spot", "healthy"]'),
     ("l.json", '{"1": "spot", "0": "rust", "2": "healthy"}')],
)  # fmt: skip
def test_labels_come_from_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert converted(STATE, tmp_path, "--labels", str(tmp_path / name)) == 0
    assert from_pretrained(tmp_path / "out").labels == ("rust", "spot", "healthy")


@pytest.mark.parametrize("text", [None, "rust\nspot\n", "rust\nrust\nspot\n"])
def test_labels_that_do_not_fit_are_one_line(tmp_path, capsys, text):
    if text is not None:
        (tmp_path / "l.txt").write_text(text)
    assert converted(STATE, tmp_path, "--labels", str(tmp_path / "l.txt")) == 2
    error = capsys.readouterr().err
    assert "--labels" in error and error.count("\n") == 1


def test_weights_with_nan_are_never_written(tmp_path):
    model = create_model("resnet20_cifar")
    model.conv1.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"conv1\.weight .* would hold NaN"):
        model.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


# Configurations of other libraries


def lively_timm(**options):
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=3, **options).eval()
    for name, value in theirs.state_dict().items():
        if name.endswith("bn2.weight"):  # timm starts them at 0
            value.fill_(0.5)
    return theirs


SEEN = {
    "input_size": [3, 64, 64],
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
}
OLD = {
    "architecture": "resnet18",
    "num_classes": 3,
    "labels": ["rust", "spot", "healthy"],
    "first_conv": "conv1",
}


def directory(tmp_path: Path, config: dict, theirs, prefix: str = "") -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = {k: v.contiguous() for k, v in prefixed(prefix, theirs.state_dict()).items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


@pytest.mark.parametrize(
    "config",
    [
        OLD | SEEN,
        {
            "architecture": "resnet18.a1_in1k",
            "pretrained_cfg": SEEN | {"num_classes": 3, "label_names": OLD["labels"]},
        },
        {"architecture": "resnet18", "num_classes": 3, "label_names": OLD["labels"], "pretrained_cfg": SEEN},
    ],
    ids=["root", "tag and pretrained_cfg", "today"],
)
def test_timm_s_configurations_of_all_years_are_read_as_timm_reads_them(tmp_path, config):
    theirs = lively_timm()
    ours = from_pretrained(directory(tmp_path, config, theirs))
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    seen = timm.data.resolve_model_data_config(again)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(x), again(x)) and torch.equal(ours(x), theirs(x))
    assert ours.labels == tuple(again.pretrained_cfg["label_names"]) == ("rust", "spot", "healthy")
    for name in ("input_size", "mean", "std", "crop_pct", "interpolation"):
        value = getattr(ours.preprocess, name)
        assert value == (tuple(seen[name]) if isinstance(value, tuple) else seen[name])


def test_a_fine_tuned_timm_wrapper_loads_with_its_own_labels(tmp_path):
    config = {
        "architecture": "resnet18", "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper", "id2label": {"0": "rust", "1": "spot", "2": "healthy"},
        "num_classes": 1000, "pretrained_cfg": SEEN | {"num_classes": 1000},
    }  # fmt: skip
    theirs, x = lively_timm(), torch.randn(2, 3, 64, 64)
    ours = from_pretrained(directory(tmp_path, config, theirs, "timm_model."))
    assert ours.labels == ("rust", "spot", "healthy") and torch.equal(ours(x), theirs(x))
    assert ours.preprocess.std == (0.25,) * 3


def test_one_channel_is_told_by_the_input_size_as_timm_does(tmp_path):
    seen = SEEN | {"input_size": [1, 64, 64], "mean": [0.5], "std": [0.5]}
    theirs, x = lively_timm(in_chans=1), torch.randn(1, 1, 64, 64)
    config = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": seen}
    assert torch.equal(from_pretrained(directory(tmp_path, config, theirs))(x), theirs(x))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mean": [0.1] * 3}, "mean is .* at the root and .* in pretrained_cfg"),
        ({"global_pool": "catavgmax"}, "global_pool='catavgmax' is not allowed"),
        ({"model_type": "resnet"}, "resnet_hub.convert"),
        ({"pretrained_cfg": [1]}, "pretrained_cfg is a JSON list"),
        ({"label_names": ["a"]}, "1 label_names"),
        ({"architecture": "resnet18d"}, "'resnet18d' is not one of"),
    ],
)
def test_what_is_recognised_but_not_understood_is_refused(tmp_path, change, said):
    config = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": SEEN} | change
    with pytest.raises(CheckpointError, match=said) as caught:
        from_pretrained(directory(tmp_path, config, lively_timm()))
    assert "\n" not in str(caught.value)
