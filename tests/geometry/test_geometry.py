"""The promises of `resnet_hub.geometry`: every row is what the built network does. Oracles: forward hooks on
the network itself, torch's FLOP counter, the support of a positive network's gradient, the course's table."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from resnet_hub import create_model, list_models, model_config
from resnet_hub.config import BaselineConfig
from resnet_hub.geometry import InputTooSmall, stages, totals, trace
from resnet_hub.geometry import __main__ as the_command
from resnet_hub.geometry.formulas import padding_share
from resnet_hub.models.build import build_network
from resnet_hub.models.flags import parse_size, parse_strides
from resnet_hub.models.resnet import GlobalMaxPool

BASELINES = [name for name in list_models() if isinstance(model_config(name), BaselineConfig)]
RESNETS = [name for name in list_models() if name not in BASELINES]
LIGHT = [name for name in RESNETS if name not in ("resnet101", "resnet152", "resnet110_cifar")]
ODD_SIZES = [(33, 33), (47, 61), (225, 225), (1, 1)]
OPS = {
    nn.Conv2d: "conv",
    nn.BatchNorm2d: "batch_norm",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Dropout: "dropout",
    nn.MaxPool2d: "max_pool",
    nn.AvgPool2d: "avg_pool",
    nn.AdaptiveAvgPool2d: "global_avg_pool",
    GlobalMaxPool: "global_max_pool",
    nn.Linear: "linear",
}


def on_meta(config) -> nn.Module:
    with torch.device("meta"):
        return build_network(config).eval()


def measured(net: nn.Module, size: tuple[int, int]) -> list[dict]:
    """What forward hooks and the FLOP counter see in each leaf module, in the order of execution."""
    seen: list[dict] = []
    for name, module in net.named_modules():
        if not isinstance(module, nn.Identity) and not list(module.children()):
            module.register_forward_hook(lambda m, _, out, name=name: seen.append(observation(name, m, out)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, net.config.in_chans, *size, device="meta"))
    flops = counter.get_flop_counts()
    for row in seen:
        row["macs"] = sum(flops.get(f"{type(net).__name__}.{row['name']}", {}).values()) / 2
    assert sum(row["macs"] for row in seen) == counter.get_total_flops() / 2
    return seen


def observation(name: str, module: nn.Module, out: torch.Tensor) -> dict:
    return {
        "name": name,
        "op": OPS.get(type(module), "zero_pad"),
        "out_channels": out.shape[1],
        "out_size": tuple(out.shape[2:]) or (1, 1),
        "params": sum(p.numel() for p in module.parameters(recurse=False)),
        "activation_bytes": out.numel() * 4,
        "window": window(module),
    }


def window(module: nn.Module) -> list[int] | None:
    """[kernel, stride, padding] of a convolution or pooling, which are square here."""
    if not isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        return None
    values = (module.kernel_size, module.stride, module.padding)
    return [value if isinstance(value, int) else value[0] for value in values]


def assert_rows_are_what_runs(rows, net: nn.Module, size: tuple[int, int]) -> None:
    seen = measured(net, size)
    assert [row.name for row in rows] == [layer["name"] for layer in seen]
    for row, layer in zip(rows, seen, strict=True):
        if (expected := layer.pop("window")) is not None:
            assert [row.kernel, row.stride, row.padding] == expected, row.name
        assert {key: getattr(row, key) for key in layer} == layer
    assert totals(rows).params == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", list_models())
def test_every_network_at_its_own_size(name):
    config = model_config(name)
    assert_rows_are_what_runs(trace(name), on_meta(config), config.input_size)


@pytest.mark.parametrize("name", list_models())
def test_every_network_at_an_odd_size(name):
    size = (67, 81)  # AlexNet needs 63
    assert_rows_are_what_runs(trace(name, size), on_meta(model_config(name, input_size=size)), size)


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20_cifar", "plain20_cifar", "wrn16_4_cifar"])
def test_odd_sizes(name, size):
    assert_rows_are_what_runs(trace(name, size), on_meta(model_config(name)), size)


def random_overrides(rng: random.Random, name: str) -> dict:
    config = model_config(name)
    options = {
        "num_classes": lambda: rng.choice((0, 2, 1000)),
        "in_chans": lambda: rng.choice((1, 3, 4)),
        "drop_rate": lambda: rng.choice((0.0, 0.3)),
        "stem": lambda: rng.choice(("imagenet", "cifar", "deep")),
        "maxpool": lambda: rng.choice((True, False)),
        "strides": lambda: tuple(rng.randint(1, 3) for _ in config.depths),
        "shortcut": lambda: rng.choice(("projection", "zeropad", "none")),
        "stride_in": lambda: rng.choice(("3x3", "1x1")),
        "global_pool": lambda: rng.choice(("avg", "max")),
        "batch_norm": lambda: rng.choice((True, False)),
    }
    known = {field.name for field in dataclasses.fields(config)} - config.idle_fields()
    return {field: draw() for field, draw in options.items() if field in known and rng.random() < 0.5}


@pytest.mark.parametrize("seed", range(80))
def test_random_overrides(seed):
    rng = random.Random(seed)
    name = rng.choice(LIGHT if seed % 5 else BASELINES)
    size = (rng.randint(64, 130), rng.randint(64, 130))
    overrides = random_overrides(rng, name)
    config = model_config(name, input_size=size, **overrides)
    assert_rows_are_what_runs(trace(name, size, **overrides), on_meta(config), size)


def test_a_configuration_is_traced_as_it_is_built():
    config = model_config("resnet18", stem="deep", num_classes=7)
    assert trace(config) == trace("resnet18", stem="deep", num_classes=7)
    assert trace(config, 96) == trace("resnet18", (96, 96), stem="deep", num_classes=7)
    assert trace(config, stem="cifar") == trace("resnet18", stem="cifar", num_classes=7)


# Channels do not change what a position sees, so the copies are thin and the oracle is quick.
THIN = {"widths": (2, 4, 6, 8), "stem_width": 2, "in_chans": 1, "num_classes": 0}
DESIGNS = {
    "resnet18": (model_config("resnet18"), 435),
    "resnet50, v1.5": (model_config("resnet50"), 427),
    "resnet50, v1": (model_config("resnet50", stride_in="1x1"), 483),
    "resnet18, deep stem, no pooling": (model_config("resnet18", stem="deep", maxpool=False), None),
    "resnet18_cifar, other strides": (model_config("resnet18_cifar", strides=(1, 3, 1, 2)), None),
    "resnet34_cifar, zeropad": (model_config("resnet34_cifar", shortcut="zeropad"), None),
    "resnet20_cifar": (model_config("resnet20_cifar"), None),
    "plain20_cifar, maxpool": (model_config("plain20_cifar", maxpool=True), None),
    "wrn16_4_cifar": (model_config("wrn16_4_cifar"), None),
    "lenet5": (model_config("lenet5"), 16),
    "alexnet": (model_config("alexnet"), 195),
    "cifar10net": (model_config("cifar10net"), None),
}


def thin(config):
    if isinstance(config, BaselineConfig):
        return config.override(num_classes=0)
    stages = len(config.depths)
    return dataclasses.replace(config, **THIN | {"widths": THIN["widths"][:stages]})


def all_positive(net: nn.Module) -> nn.Module:
    """The network with averages for maxima, nothing that saturates, and weights that never cancel."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            elif isinstance(child, (nn.BatchNorm2d, nn.Tanh)):
                setattr(parent, name, nn.Identity())
    for parameter in net.parameters():
        nn.init.constant_(parameter, 1 / parameter[0].numel())
    return net.double().eval()


def support(net: nn.Module, side: int, stage: int, position: int) -> tuple[int, int]:
    """First and last image row that a position near the middle of a stage's map depends on."""
    image = torch.ones(1, net.config.in_chans, side, side, dtype=torch.double, requires_grad=True)
    seen = net.features(image)[stage][0, :, position, position].sum()
    (gradient,) = torch.autograd.grad(seen, image)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.numel() == rows[-1] - rows[0] + 1  # no holes, so first and last say it all
    return rows[0].item(), rows[-1].item()


@pytest.mark.parametrize("design", DESIGNS)
def test_the_receptive_field_is_the_support_of_the_gradient(design):
    """Of every stage's map, as Explore shows them."""
    config, published = DESIGNS[design]
    rows = trace(config)
    side = rows[-1].receptive_field + 4 * rows[-1].jump
    net = all_positive(build_network(thin(config)))
    for stage, info in enumerate(net.feature_info):
        module = info["module"]
        inside = [row for row in rows if row.name == module or row.name.startswith(module + ".")]
        field, jump = max(row.receptive_field for row in inside), inside[-1].jump
        middle = side // jump // 2 - 1
        first, end = support(net, side, stage, middle)
        assert first > 0 and end < side - 1  # the edges cut nothing off
        assert field == end - first + 1
        assert jump == support(net, side, stage, middle + 1)[0] - first
    assert published in (None, field)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 8), (7, 3), (224, 224)])
@pytest.mark.parametrize("window", [(3, 1, 1), (3, 2, 1), (5, 1, 2), (7, 2, 3), (3, 8, 1), (1, 2, 0)])
def test_padding_share_is_what_a_convolution_of_ones_misses(size, window):
    kernel, stride, padding = window
    ones, taps = torch.ones(1, 1, *size).double(), torch.ones(1, 1, kernel, kernel).double()
    inside = F.conv2d(ones, taps, stride=stride, padding=padding).mean() / kernel**2
    assert padding_share(size, kernel, stride, padding) == pytest.approx(1 - inside.item())


def test_padding_share_is_of_the_map_the_layer_reads():
    shares = {row.name: row.padding_share for row in trace("resnet18", 32)}
    assert shares["layer4.1.conv2"] == pytest.approx(8 / 9)  # a 3x3 window on a 1x1 map
    assert shares["layer4.0.conv1"] == pytest.approx(5 / 9)  # one 3x3 window, stride 2, on a 2x2 map
    assert shares["layer4.0.downsample.0"] == shares["fc"] == 0


@pytest.mark.parametrize(
    ("stem", "sides"), [("imagenet", [16, 8, 8, 4, 2, 1]), ("cifar", [32, 32, 16, 8, 4])]
)
def test_resnet50_at_32x32_has_the_courses_map_sizes(stem, sides):
    assert [stage.out_size for stage in stages(trace("resnet50", 32, stem=stem))[:-1]] == [
        (n, n) for n in sides
    ]


@pytest.mark.parametrize(("name", "times"), [("resnet18", 15.0), ("resnet50", 15.6)])
def test_cost_of_a_cifar_stem_at_224(name, times):
    wide, usual = totals(trace(name, 224, stem="cifar")), totals(trace(name, 224))
    assert round(wide.macs / usual.macs, 1) == times


@pytest.mark.parametrize("name", list_models())
def test_stages_split_the_rows(name):
    rows = trace(name)
    parts = stages(rows)
    assert len({stage.name for stage in parts}) == len(parts)
    for column in totals(rows)._fields:
        assert sum(getattr(stage, column) for stage in parts) == getattr(totals(rows), column)
    assert parts[-1].name == "head" and parts[-1].receptive_field == rows[-1].receptive_field


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("resnet18", ["stem", "maxpool", "layer1", "layer2", "layer3", "layer4", "head"]),
        ("wrn16_4_cifar", ["stem", "layer1", "layer2", "layer3", "head"]),
        ("lenet5", ["stage1", "stage2", "head"]),
    ],
)
def test_stages_are_named_in_order(name, names):
    assert [stage.name for stage in stages(trace(name))] == names


def test_a_stage_of_one_block_has_its_branchs_receptive_field():
    config = dataclasses.replace(model_config("resnet18"), depths=(1, 1, 1, 1))
    rows = trace(config)
    branch = next(row for row in rows if row.name == "layer4.0.conv2")
    assert stages(rows)[-2].receptive_field == branch.receptive_field == rows[-1].receptive_field


@pytest.mark.parametrize("name", BASELINES)
def test_an_image_too_small_is_refused_with_the_smallest_size(name):
    with pytest.raises(InputTooSmall, match="layer features") as refused:
        trace(name, 1)
    least = int(str(refused.value).split("input_size=")[1].split()[0])
    assert refused.value.facts["least"] == least and refused.value.facts["layer"] in str(refused.value)
    assert trace(name, least)
    with pytest.raises(ValueError, match=f"input_size={least} or larger"):
        trace(name, least - 1)
    with pytest.raises(ValueError, match=f"use {least}x{least} or larger"):
        create_model(name, input_size=least - 1)


@pytest.mark.parametrize(("name", "layer"), [("lenet5", "classifier.0"), ("vgg_cifar", "fc")])
def test_a_head_built_for_one_size_refuses_another(name, layer):
    config = model_config(name)
    with pytest.raises(ValueError, match=f"layer {layer} is built for .* input_size=\\(64, 48\\)"):
        trace(config, (64, 48))
    assert trace(config.override(input_size=(64, 48))) == trace(name, (64, 48))


def test_a_configuration_that_takes_any_size_is_traced_at_another():
    config = model_config("cifar10net")
    assert_rows_are_what_runs(trace(config, (47, 61)), on_meta(config), (47, 61))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet17",), "did you mean"),
        (("resnet18", 5000), "from 1 to 4096"),
        (("resnet18", 0), "from 1 to 4096"),
        (("resnet18", "32"), "two numbers"),
        (("resnet18", (32, 32, 32)), "two numbers"),
    ],
)
def test_impossible_sizes_and_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        trace(*arguments)


@pytest.mark.parametrize("strides", [(1, 2, 2), (1, 2, 2, 0), (1, 2, 2, 9), "1222"])
def test_impossible_strides(strides):
    with pytest.raises(ValueError, match="strides="):
        trace("resnet18", strides=strides)


def test_sizes_and_strides_are_read_from_text():
    assert parse_size("32") == (32, 32)
    assert parse_size("47x61") == parse_size(" 47 X 61 ") == (47, 61)
    assert parse_strides("1,2, 2,2") == (1, 2, 2, 2)
    for text in ("", "x", "32x", "1.5", "axb", "1x2x3", "9" * 5000):
        with pytest.raises(ValueError, match="give N or HxW"):
            parse_size(text)
    for text in ("", "1,,2", "a"):
        with pytest.raises(ValueError, match="give one for each stage"):
            parse_strides(text)


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def test_tracing_does_not_need_torch():
    listing = "import sys, resnet_hub.geometry as g, resnet_hub as r; [g.trace(n) for n in r.list_models()]"
    result = command("-c", f"{listing}; print('torch' in sys.modules)")
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_the_command_prints_an_aligned_table():
    result = command("-m", "resnet_hub.geometry", "resnet50", "--input", "32", "--stem", "cifar")
    header, *lines, last = result.stdout.splitlines()
    assert result.returncode == 0
    assert len(lines) == len(trace("resnet50")) - 1  # the CIFAR stem has no pooling
    assert len({len(line) for line in [header, *lines, last]}) == 1
    macs = totals(trace("resnet50", 32, stem="cifar")).macs
    assert last.split()[:3] == ["total", "25,549,352", f"{macs:,}"]


def test_the_commands_json_holds_every_row(capsys):
    flags = "--input 47x61 --strides 1,2,1,2 --no-maxpool --shortcut zeropad --stride-in 1x1 --stem deep"
    assert the_command.main(["resnet50", *flags.split(), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = trace(
        "resnet50",
        (47, 61),
        strides=(1, 2, 1, 2),
        maxpool=False,
        shortcut="zeropad",
        stride_in="1x1",
        stem="deep",
    )
    assert document["rows"] == json.loads(json.dumps([dataclasses.asdict(row) for row in rows]))
    assert document["totals"] == totals(rows)._asdict()
    assert document["config"]["input_size"] == [47, 61]
    assert [stage["name"] for stage in document["stages"]] == [stage.name for stage in stages(rows)]


@pytest.mark.parametrize(
    "line",
    [
        "resnet17",
        "resnet18 --input axb",
        "resnet18 --input 5000",
        "resnet18 --strides 1,2",
        "resnet18 --strides one",
        "resnet18 --stem 5x5",
        "resnet18 --stride-in 1x1",
        "lenet5 --stem cifar",
        "vgg16 --input 16",
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(line, capsys):
    assert the_command.main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("resnet_hub.geometry: ") and printed.err.count("\n") == 1
