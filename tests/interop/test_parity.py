"""Ours against timm's and torchvision's networks, and that the comparison would notice if they differed."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import ROOT
from PIL import Image
from torch import nn

from resnet_hub import create_model, list_models, model_config
from resnet_hub.config import ResNetConfig
from resnet_hub.interop import parity
from resnet_hub.interop.counterpart import LIBRARIES, counterpart, has_counterpart, provenance
from resnet_hub.interop.parity import VARIANTS, cases, compare
from resnet_hub.models.base import default_preprocess
from resnet_hub.models.build import build_network
from resnet_hub.models.initialise import SkipRandomFill

PHOTOS = sorted((ROOT / "resnet_hub" / "examples").glob("*.jpg"))
PAIRS = cases([], LIBRARIES)
HEAVY = {"resnet101", "resnet152", "wide_resnet50_2", "resnet50_cifar", "resnet101_cifar", "vgg16"}


# Many tiny operations: on a busy machine more threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    found = [Image.open(path).convert("RGB") for path in PHOTOS]
    return [found[i % len(found)].rotate(90 * (i // len(found))) for i in range(7)]


def said(pair) -> str:
    return f"{parity.label(pair[0])}-{pair[1]}".replace(" ", "-")


def batch(config, size: int, photos: list, noise: int) -> torch.Tensor:
    """Photos, then images of noise."""
    preprocess = default_preprocess(replace(config, input_size=(size, size)))
    drawn = torch.randn(noise, 3, size, size, generator=torch.Generator().manual_seed(size))
    return torch.cat([preprocess.batch(photos), drawn]) if photos else drawn


def twins(config, library: str) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs with the same drawn weights, in eval mode."""
    with SkipRandomFill():
        pair = build_network(config), counterpart(config, library)
    weights = parity.random_weights(pair[1])
    for net in pair:
        net.load_state_dict(weights)
        net.eval()
    return pair


@torch.inference_mode()
def assert_same_logits(ours: nn.Module, theirs: nn.Module, pixels: torch.Tensor) -> None:
    expected = theirs(pixels)
    assert expected.isfinite().all() and expected.std() > 0
    assert (ours(pixels) - expected).abs().max() <= 1e-5 * expected.abs().max()


# A network costs what its stem and size make it cost, so the heavy ones and the large sizes take turns.


@pytest.mark.parametrize("pair", PAIRS, ids=said)
def test_logits_of_photos_and_noise_are_the_same(pair, photos):
    config = pair[0]
    if config.name == "vgg16":  # its head is made for one size
        config = replace(config, input_size=(32, 32))
    nets = twins(config, pair[1])
    assert_same_logits(*nets, batch(config, 32, photos[:4], noise=3))
    if config.name not in HEAVY:
        assert_same_logits(*nets, batch(config, 64, photos[:1], noise=0))
        assert_same_logits(*nets, batch(config, 75, [], noise=1))


@pytest.mark.parametrize("pair", cases(["resnet18", "resnet20_cifar"], ("timm",))[:2], ids=said)
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("size", [64, 97, 224])
def test_logits_are_the_same_at_every_size_and_batch(pair, size, count, photos):
    nets = twins(*pair)
    assert_same_logits(*nets, batch(pair[0], size, photos[: count // 2 + 1], noise=count // 2))


@pytest.mark.parametrize("name", sorted(HEAVY - {"vgg16"} | {"resnet50"}))
def test_logits_of_a_heavy_network_are_the_same_at_a_large_size(name, photos):
    config, size = model_config(name), 97 if "cifar" in name else 224
    assert_same_logits(*twins(config, "torchvision"), batch(config, size, photos[:1], noise=0))


REPORTED = [("resnet18", {}), ("resnet20_cifar", {}), ("resnet50", {"stem": "deep"})]


@pytest.mark.parametrize(("name", "more"), REPORTED)
def test_everything_is_compared_in_both_modes_and_precisions_and_is_the_same(name, more):
    config = model_config(name, **more)
    report = compare(config, "timm", parity.sample(config)[:, :, :48, :48])
    assert report.is_equal, [d for d in report.differences if not d.is_equal]
    stages = {f"layer{i + 1}" for i in range(len(config.depths))}
    for mode in ("eval", "train"):
        for precision in ("fp32", "bf16"):
            rows = [d for d in report.differences if (d.mode, d.precision) == (mode, precision)]
            wanted = {"logits", "gradients"} | stages | ({"statistics"} if mode == "train" else set())
            assert {d.what for d in rows} == wanted
    tolerances = {(d.precision, d.what == "gradients"): d.tolerance for d in report.differences}
    assert tolerances == {
        ("fp32", False): 1e-5, ("fp32", True): 1e-4, ("bf16", False): 2e-2, ("bf16", True): 2e-2
    }  # fmt: skip
    assert report.macs[0] == report.macs[1] > 1e6
    assert report.parameters[0] == report.parameters[1] > 1e5


def test_a_design_of_one_s_own_is_compared_too():
    config = ResNetConfig(name="mine", depths=(1, 1, 1, 1))
    report = compare(config, "timm", torch.randn(1, 3, 33, 33))
    assert report.is_equal and report.model.startswith("mine")


def test_a_network_without_batch_norm_has_no_statistics_to_compare():
    report = compare(model_config("vgg16"), "torchvision", torch.randn(1, 3, 32, 32))
    assert report.is_equal and {"train", "eval"} == {d.mode for d in report.differences}
    assert "statistics" not in {d.what for d in report.differences}


def test_train_mode_is_left_out_where_a_batch_norm_sees_one_value():
    report = compare(model_config("resnet18"), "timm", torch.randn(1, 3, 32, 32))
    assert {d.mode for d in report.differences} == {"eval"}
    assert not parity.train_mode_fits(model_config("resnet18", input_size=32), 1)
    assert parity.train_mode_fits(model_config("resnet18", input_size=32), 2)
    assert parity.train_mode_fits(model_config("resnet18_cifar"), 1)


@pytest.mark.parametrize("library", LIBRARIES)
def test_who_has_a_counterpart(library):
    without = {name for name in list_models() if not has_counterpart(model_config(name), library)}
    assert without >= {"plain18", "plain34", "plain20_cifar", "plain56_cifar", "wrn16_4_cifar", "alexnet"}
    assert without & {"resnet18", "resnet152", "resnet101_cifar", "resnet110_cifar", "simple_resnet"} == set()
    with pytest.raises(match="plain18 has no counterpart"):
        counterpart(model_config("plain18"), library)


def test_the_stock_networks_are_the_library_s_own():
    assert "replaced" not in provenance(model_config("resnet50"), "timm")
    assert provenance(model_config("resnet18_cifar"), "timm") == "timm resnet18, stem replaced"
    assert provenance(model_config("resnet50", stem="deep"), "timm") == "timm resnet50c"


# It notices


def tampered(monkeypatch, change) -> parity.Report:
    """The report on resnet20_cifar when the counterpart was changed after it was built."""
    build = parity.counterpart

    def other(config, library):
        net = build(config, library)
        change(net)
        return net

    monkeypatch.setattr(parity, "counterpart", other)
    config = model_config("resnet20_cifar")
    return compare(config, "timm", parity.sample(config))


def wrong(report) -> set[tuple[str, str]]:
    return {(d.precision, d.what) for d in report.differences if not d.is_equal}


def test_a_stride_elsewhere_is_noticed(monkeypatch):
    def change(net):
        net.layer2[0].conv1.stride, net.layer2[0].conv2.stride = (1, 1), (2, 2)

    report = tampered(monkeypatch, change)
    assert not report.is_equal and report.parameters[0] == report.parameters[1]
    assert report.macs[0] < report.macs[1]
    assert ("fp32", "layer1") not in wrong(report)
    assert wrong(report) >= {(p, w) for p in ("fp32", "bf16") for w in ("layer2", "layer3", "logits")}


def test_another_epsilon_is_noticed_in_fp32(monkeypatch):
    def change(net):
        net.layer3[2].bn2.eps = 1e-3

    assert wrong(tampered(monkeypatch, change)) >= {("fp32", "layer3"), ("fp32", "logits")}


def test_another_momentum_is_noticed_in_the_statistics_only(monkeypatch):
    def change(net):
        net.bn1.momentum = 0.2

    report = tampered(monkeypatch, change)
    assert {what for _, what in wrong(report)} == {"statistics"}
    assert {d.where for d in report.differences if not d.is_equal} <= {"bn1.running_mean", "bn1.running_var"}


def test_a_branch_that_timm_starts_at_zero_is_compared():
    config = model_config("resnet18")
    fresh = counterpart(config, "timm")
    assert not fresh.layer1[0].bn2.weight.any()
    assert all(weight.any() for weight in parity.random_weights(fresh).values())


def test_a_missing_key_is_named(monkeypatch):
    def change(net):
        net.layer1[0].downsample = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False))

    report = tampered(monkeypatch, change)
    assert report.unexpected == ["layer1.0.downsample.0.weight"] and not report.is_equal
    assert any("only in theirs: layer1.0.downsample.0.weight" in line for line in parity.lines(report))


def test_nan_is_a_difference():
    apart = parity.difference(torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0]))
    assert not parity.Difference("eval", "fp32", "logits", "", *apart, 1e-5).is_equal


# The command


def test_the_command_prints_a_line_for_each_setting_and_succeeds(capsys):
    assert parity.main(["resnet32_cifar", "--reference", "torchvision"]) == 0
    out = capsys.readouterr().out
    assert "parameters 464,154" in out and "1 pairs, 0 different" in out
    for setting in ("eval  fp32", "train fp32", "eval  bf16", "train bf16"):
        assert f"  {setting}  logits" in out


def test_json_is_one_document_and_a_difference_is_1(capsys, monkeypatch):
    build = create_model("resnet20_cifar").__class__

    class Other(build):
        def head(self, x):
            return super().head(x) * 1.001

    monkeypatch.setattr(parity, "build_network", Other)
    assert parity.main(["resnet20_cifar", "--reference", "timm", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["equal"] is False
    assert len(document["reports"]) == 1 + sum(name == "resnet20_cifar" for name, _ in VARIANTS)


def test_the_grid_compares_every_size_batch_and_kind_of_image(capsys, monkeypatch):
    monkeypatch.setattr(parity, "GRID_SIZES", (32, 45))
    assert parity.main(["resnet20_cifar", "--reference", "timm", "--grid", "--json"]) == 0
    for report in json.loads(capsys.readouterr().out)["reports"]:
        wanted = {
            f"{size}x{size} {n} {kind}" for size in (32, 45) for n in (1, 7) for kind in ("photos", "noise")
        }
        assert set(report["logits"]) == wanted and max(report["logits"].values()) <= 1e-5


def test_a_difference_that_one_size_shows_alone_fails_the_grid(capsys, monkeypatch):
    """Reflected borders of a pooling that only an odd size reaches, say; here all images of 45 pixels."""
    build = create_model("resnet20_cifar").__class__

    class Other(build):
        def head(self, x):
            return super().head(x) * (1.001 if x.shape[-1] == 12 else 1)

    monkeypatch.setattr(parity, "build_network", Other)
    monkeypatch.setattr(parity, "GRID_SIZES", (32, 45))
    assert parity.main(["resnet20_cifar", "--reference", "timm", "--grid"]) == 1
    out = capsys.readouterr().out
    assert "resnet20_cifar = timm" in out and "DIFFERENT, fp32 logits 1.0e-03 at most" in out
    assert "worst of 45x45 7 noise: 1.0e-03" in out and "worst of 32x32 7 noise: 0.0e+00" in out


def test_nan_fails_the_grid():
    assert parity.largest([0.0, float("nan"), 1e-7]) > 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet5", "did you mean"), ("plain18", "has no counterpart"), ("lenet5", "resnet18,")],
)
def test_a_name_that_cannot_be_compared_is_2_and_one_line(capsys, name, expected):
    assert parity.main([name]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
