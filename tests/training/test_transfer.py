"""The promises of `training.transfer`: weights from where people keep them, exactly the layers that were
asked for learn, and everything else stays bit for bit. Oracles: torchvision, the course's parameter counts,
and the checkpoint before training."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from resnet_hub import create_model, from_pretrained
from training import transfer
from training.data import load_data, whole_image
from training.optim import freeze, frozen_norms, share_of_each
from training.transfer import chosen_mode, load_weights, mode_rates, with_new_head

QUICK = ["--epochs", "2", "--batch-size", "8", "--held-out", "6", "--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """train/ with 24 bright and 8 dark images and a broken one, val/ with 4 of each, 40x32."""
    root, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for part, counts in (("train", (24, 8)), ("val", (4, 4))):
        for name, low, count in zip(("bright", "dark"), (150, 0), counts, strict=True):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(low, low + 100, (32, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i:02}.png")
    (root / "train" / "dark" / "broken.gif").write_bytes(b"GIF89a and no more")
    return root


def test_checkpoint_prepares_images_as_training_did():
    """Trained and measured on the whole short side, it must not crop 0.875 of it afterwards."""
    source = create_model("resnet18")
    source.preprocess = replace(
        source.preprocess, crop_pct=0.875, interpolation="bilinear", mean=(0.1, 0.2, 0.3)
    )
    made = with_new_head(source, ("a", "b"), {}).preprocess
    assert (made.crop_pct, made.interpolation, made.mean) == (1.0, "bicubic", (0.1, 0.2, 0.3))


def test_rate_of_the_head_counts_on_cached_features(photos, pretrained, tmp_path):
    for share in ("0", "1e-9"):
        status = fine_tune(pretrained, photos, tmp_path / share, "--rate", f"fc={share}1", "--rate", "=0")
        assert status == 0
    slow, fast = (load_file(tmp_path / share / "model.safetensors") for share in ("1e-9", "0"))
    torch.manual_seed(0)
    start = with_new_head(from_pretrained(pretrained), ("bright", "dark"), {}).state_dict()["fc.weight"]
    torch.testing.assert_close(slow["fc.weight"], start, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(fast["fc.weight"], start, rtol=1e-4, atol=1e-6)


def test_whitening_a_pretrained_stem_is_refused(photos, pretrained, tmp_path, capsys):
    assert fine_tune(pretrained, photos, tmp_path / "run", "--whiten") == 2
    assert "--no-whiten" in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A ResNet-20 whose batch norms have seen something."""
    torch.manual_seed(3)
    model = create_model("resnet20_cifar")
    model(torch.randn(8, 3, 32, 32))
    directory = tmp_path_factory.mktemp("pretrained")
    model.save_pretrained(directory)
    return directory


def fine_tune(weights, data: Path, run: Path, *more: str) -> int:
    return transfer.main(["--weights", str(weights), "--data", str(data), "--out", str(run), *QUICK, *more])


def rates_of(name: str, mode: str, classes: int = 2):
    model = create_model(name, num_classes=classes)
    return model, mode_rates(mode, model.config, model.classifier_name)


# What learns


@pytest.mark.parametrize(
    ("mode", "learning"), [("feature", 4_098), ("partial", 14_968_834), ("full", 23_512_130)]
)
def test_resnet50_with_two_classes_learns_as_many_parameters_as_counted_by_hand(mode, learning):
    model, rates = rates_of("resnet50", mode)
    freeze(model, rates)
    assert sum(p.numel() for p in model.parameters()) == 23_512_130
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == learning


def test_partial_mode_has_the_courses_rates():
    model, rates = rates_of("resnet50", "partial")
    shares = {name: 1e-3 * share for name, share in freeze(model, rates).items()}
    assert {name for name in shares if not name.startswith("layer4.")} == {"fc.weight", "fc.bias"}
    assert all(
        rate == pytest.approx(1e-3 if name.startswith("fc") else 1e-5) for name, rate in shares.items()
    )


def test_full_mode_has_the_courses_rates_and_does_not_forget_bn1():
    model, rates = rates_of("resnet50", "full")
    shares = {name: 1e-3 * share for name, share in freeze(model, rates).items()}
    expected = {
        "conv1.weight": 1e-6, "bn1.weight": 1e-6, "layer1.0.conv1.weight": 1e-6, "layer2.0.bn1.bias": 1e-5,
        "layer3.5.conv3.weight": 1e-5, "layer4.0.downsample.0.weight": 1e-4,
        "fc.weight": 1e-3, "fc.bias": 1e-3,
    }  # fmt: skip
    assert {name: shares[name] for name in expected} == pytest.approx(expected)
    assert shares.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("name", ["resnet18", "resnet20_cifar", "wrn16_4_cifar", "vgg_cifar", "cifar10net"])
@pytest.mark.parametrize("mode", ["feature", "full"])
def test_modes_fit_every_kind_of_network(name, mode):
    model, rates = rates_of(name, mode)
    learning = freeze(model, rates).keys()
    head = {f"{model.classifier_name}.weight", f"{model.classifier_name}.bias"}
    assert learning == (head if mode == "feature" else dict(model.named_parameters()).keys())


def test_pattern_that_decides_for_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"'layer9'.* decide for no parameter"):
        share_of_each(["conv1.weight", "fc.weight"], (("layer9", 1.0), ("", 0.0)))


def test_parameter_that_no_pattern_matches_is_an_error():
    with pytest.raises(ValueError, match=r"no pattern matches parameter conv1.weight"):
        share_of_each(["conv1.weight", "fc.weight"], (("fc", 1.0),))


def test_first_match_counts():
    shares = share_of_each(["layer1.0.w", "layer1.1.w"], ((r"layer1\.0", 0.5), ("layer1", 0.1)))
    assert shares == {"layer1.0.w": 0.5, "layer1.1.w": 0.1}


def test_batch_norms_of_frozen_layers_are_still():
    model, rates = rates_of("resnet18", "partial")
    freeze(model, rates)
    still = {name for name, module in model.named_modules() if module in frozen_norms(model)}
    norms = {n for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert still == {name for name in norms if not name.startswith("layer4")}


@pytest.mark.parametrize(
    ("images", "mode"), [(500, "feature"), (1000, "feature"), (10_000, "partial"), (50_000, "full")]
)
def test_auto_chooses_by_the_number_of_images_and_says_why(images, mode, capsys):
    assert chosen_mode("auto", images, create_model("resnet18").config) == mode
    assert f"mode {mode}, because of {images:,} training images" in capsys.readouterr().out


# Whole runs


def test_auto_never_chooses_what_the_network_refuses(capsys):
    config = create_model("vgg_cifar").config
    mode = chosen_mode("auto", 5_000, config)
    assert mode == "feature" and mode_rates(mode, config, "fc")
    assert "mode feature, because vgg_cifar has no stages" in capsys.readouterr().out


@pytest.fixture(scope="module")
def runs(photos, pretrained, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    for mode in ("feature", "partial", "full"):
        assert fine_tune(pretrained, photos, root / mode, "--mode", mode) == 0
    return {mode: root / mode for mode in ("feature", "partial", "full")}


def changed(run: Path, pretrained: Path) -> set[str]:
    before, after = (load_file(d / "model.safetensors") for d in (pretrained, run))
    return {
        name for name in before if not name.startswith("fc.") and not torch.equal(before[name], after[name])
    }


def test_feature_mode_changes_nothing_but_the_head(runs, pretrained):
    assert changed(runs["feature"], pretrained) == set()


def test_partial_mode_changes_the_last_stage_alone_statistics_included(runs, pretrained):
    names = changed(runs["partial"], pretrained)
    assert {name.split(".")[0] for name in names} == {"layer3"}
    assert {"layer3.0.bn1.running_mean", "layer3.0.conv1.weight"} <= names


def test_full_mode_changes_everything(runs, pretrained):
    trained = {name for name, _ in create_model("resnet20_cifar").named_parameters()}
    assert {name for name in trained if not name.startswith("fc.")} <= changed(runs["full"], pretrained)


def test_run_records_what_learned_and_from_where(runs, pretrained):
    facts = json.loads((runs["partial"] / "run.json").read_text())
    model = create_model("resnet20_cifar", num_classes=2)
    last = sum(p.numel() for n, p in model.named_parameters() if n.startswith(("layer3", "fc")))
    assert (facts["trainable_params"], facts["total_params"]) == (
        last,
        sum(p.numel() for p in model.parameters()),
    )
    assert (facts["base_model"], facts["mode"]) == (str(pretrained), "partial")
    assert facts["results"]["images"] == 8  # val/ stands in for test/


def test_counts_and_imbalance_are_said_and_broken_files_listed(photos, pretrained, tmp_path, capsys):
    fine_tune(pretrained, photos, tmp_path / "run", "--mode", "feature", "--epochs", "1")
    said = capsys.readouterr()
    assert "mode feature: 130 of 269,202 parameters learn" in said.out
    assert "bright" in said.out and "out of balance: bright has" in said.out
    assert "left out" in said.err and "broken.gif" in said.err


def test_cached_features_are_what_the_head_sees(photos, pretrained):
    """The head on cached features answers as the whole network does."""
    model = with_new_head(load_weights(str(pretrained)), ("bright", "dark"), {}).eval()
    data = load_data(str(photos), "test", whole_image((32, 32)))
    features, _ = transfer.read_features(model, data, torch.device("cpu"))
    x = torch.stack(
        [model.preprocess.normalise(Image.fromarray(p.permute(1, 2, 0).numpy())) for p in data.images]
    )
    with torch.no_grad():
        torch.testing.assert_close(model.fc(features), model(x), rtol=1e-4, atol=1e-5)


def test_feature_mode_resumes_too(photos, pretrained, runs, tmp_path, monkeypatch, capsys):
    def power_cut(*anything):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "finish_run", power_cut)
        assert fine_tune(pretrained, photos, tmp_path / "run", "--mode", "feature") == 130
    words = ["--mode", "feature", "--resume"]
    assert fine_tune(pretrained, photos, tmp_path / "run", *words, "--precision", "bf16") == 2
    assert "another precision of the features: float32, now bfloat16" in capsys.readouterr().err
    assert fine_tune(pretrained, photos, tmp_path / "run", *words, "--engine", "eager") == 2
    assert "another engine: auto, now eager" in capsys.readouterr().err
    monkeypatch.setattr(transfer, "read_features", power_cut)  # they are on the disk
    assert fine_tune(pretrained, photos, tmp_path / "run", *words) == 0
    ends = [load_file(d / "model.safetensors")["fc.weight"] for d in (tmp_path / "run", runs["feature"])]
    assert torch.equal(*ends)


def test_given_rates_replace_the_modes(photos, pretrained, tmp_path):
    rates = ["--rate", "fc=1", "--rate", r"layer3\.2=0.1", "--rate", "=0"]
    assert fine_tune(pretrained, photos, tmp_path / "run", *rates, "--epochs", "1") == 0
    assert {name.rsplit(".", 2)[0] for name in changed(tmp_path / "run", pretrained)} == {"layer3.2"}


@pytest.mark.parametrize("rate", ["=0", "fc=-1", "fc=nan", "fc"])
def test_rates_with_which_nothing_learns_are_one_line(photos, pretrained, tmp_path, capsys, rate):
    assert fine_tune(pretrained, photos, tmp_path / "run", "--rate", rate) == 2
    assert "--rate" in capsys.readouterr().err.splitlines()[-1]


def test_a_network_for_grey_images_gets_grey_images(photos, tmp_path):
    create_model("resnet20_cifar", in_chans=1).save_pretrained(tmp_path / "grey")
    assert fine_tune(tmp_path / "grey", photos, tmp_path / "run", "--mode", "full") == 0
    assert from_pretrained(tmp_path / "run").preprocess.input_size == (1, 32, 32)


def test_a_folder_of_class_folders_is_split_the_same_every_time(tmp_path):
    for i in range(60):
        folder = tmp_path / ("odd" if i % 2 else "even")
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(folder / f"{i}.png")
    parts = [load_data(str(tmp_path), part, whole_image((8, 8))) for part in ("train", "test")]
    greys = [set(part.images[:, 0, 0, 0].tolist()) for part in parts]
    assert greys[0] | greys[1] == set(range(60)) and not greys[0] & greys[1]
    names = {i: f"{'odd' if i % 2 else 'even'}/{i}.png" for i in range(60)}
    assert greys[1] == {i for i, name in names.items() if zlib.crc32(name.encode()) % 7 == 0}


# Where weights come from


def test_torchvision_weights_are_read_from_torch_home(photos, tmp_path, monkeypatch):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(5)
    theirs = models.resnet18().eval()
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    folder = tmp_path / "home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs.state_dict(), folder / weights.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    ours = load_weights("torchvision/ResNet18_Weights.IMAGENET1K_V1")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert ours.labels[207] == "golden retriever" and ours.preprocess.crop_pct == pytest.approx(224 / 256)
    run = tmp_path / "run"
    source = "torchvision/ResNet18_Weights.IMAGENET1K_V1"
    assert fine_tune(source, photos, run, "--mode", "feature", "--input", "64", "--epochs", "1") == 0
    kept = load_file(run / "model.safetensors")
    assert torch.equal(kept["layer4.1.conv2.weight"], theirs.state_dict()["layer4.1.conv2.weight"])
    assert from_pretrained(run).labels == ("bright", "dark")


def test_timm_weights_come_from_the_hub_by_timm_s_default_tag(hub, photos, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(6)
    theirs = timm.create_model("resnet18").eval()
    timm.models.save_for_hf(theirs, tmp_path / "theirs", safe_serialization=True)
    hub.add("timm/resnet18.a1_in1k", tmp_path / "theirs")
    ours = load_weights("timm/resnet18")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    run = tmp_path / "run"
    assert fine_tune("timm/resnet18", photos, run, "--mode", "partial", "--input", "64", "--epochs", "1") == 0
    kept = load_file(run / "model.safetensors")
    assert torch.equal(kept["layer3.1.conv2.weight"], theirs.state_dict()["layer3.1.conv2.weight"])
    assert not torch.equal(kept["layer4.1.conv2.weight"], theirs.state_dict()["layer4.1.conv2.weight"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision/ResNet18_Weights.NO", "no such weights; e.g. torchvision/ResNet18_Weights"),
        ("timm/no_such_net", "timm has no pretrained weights of that name"),
        ("nowhere", "is not a directory here"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(photos, tmp_path, capsys, source, message):
    assert fine_tune(source, photos, tmp_path / "run") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


# Going on with the same classes


def test_going_on_with_the_same_classes_keeps_classifier_labels_and_their_order(photos, tmp_path, capsys):
    torch.manual_seed(5)
    first = create_model("resnet20_cifar", num_classes=2)
    first.labels = ("dark", "bright")  # folders are read in the other order
    first.save_pretrained(tmp_path / "first")
    still = ["--mode", "feature", "--epochs", "1", "--lr", "1e-12"]
    assert fine_tune(tmp_path / "first", photos, tmp_path / "run", *still) == 0
    assert "keeping the classifier of --weights" in capsys.readouterr().out
    again = from_pretrained(tmp_path / "run")
    assert again.labels == ("dark", "bright")
    torch.testing.assert_close(again.state_dict()["fc.weight"], first.state_dict()["fc.weight"])
    table = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[1:]
    assert all(Path(line.split(",")[0]).parent.name == line.split(",")[1] for line in table)
    # The answers are the first network's: labels were not swapped.
    file, _, said, *_ = table[0].split(",")
    assert said == first.eval().predict(photos / file, top_k=1)[0][0][0]
