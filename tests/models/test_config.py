"""Configurations: what is accepted, what is refused and with which words. No torch here."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_hub.config import BaselineConfig, ResNetConfig, config_from_dict
from resnet_hub.models.registry import list_models, model_config

ROOT = Path(__file__).parents[2]


def message(call, *args, **kwargs) -> str:
    """The text of the ValueError that a call raises; it must be one line."""
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_the_names_are_the_published_ones():
    published = """
        resnet18 resnet34 resnet50 resnet101 resnet152 wide_resnet50_2 plain18 plain34 resnet18_cifar
        resnet34_cifar resnet50_cifar resnet101_cifar resnet20_cifar resnet32_cifar resnet44_cifar
        resnet56_cifar resnet110_cifar plain20_cifar plain56_cifar wrn16_4_cifar wrn28_10_cifar lenet5 alexnet
        vgg16 vgg_cifar resnet8_cifar resnet8_wide_cifar resnet18_64px simple_resnet cifar10net"""
    assert sorted(list_models()) == sorted(published.split())


@pytest.mark.parametrize("name", list_models())
def test_a_configuration_survives_json(name):
    config = model_config(name)
    assert config_from_dict(json.loads(json.dumps(config.to_dict(), allow_nan=False))) == config


def test_an_overridden_configuration_survives_json():
    config = model_config(
        "resnet50", num_classes=7, input_size=(96, 160), stem="deep", strides=(2, 1, 2, 1), maxpool=False,
        stride_in="1x1", shortcut="zeropad", drop_rate=0.25, zero_init_residual=True, global_pool="max",
    )  # fmt: skip
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", list_models())
def test_classes_are_1000_for_imagenet_nets_and_10_for_the_others(name):
    imagenet = model_config(name).input_size == (224, 224)
    assert model_config(name).num_classes == (1000 if imagenet else 10)
    assert model_config(name, num_classes=0).num_classes == 0


@pytest.mark.parametrize(
    ("name", "shortcut"),
    [
        ("resnet50", "projection"),
        ("resnet18_cifar", "projection"),
        ("resnet110_cifar", "zeropad"),
        ("plain34", "none"),
        ("plain20_cifar", "none"),
        ("wrn16_4_cifar", "projection"),
        ("simple_resnet", "projection"),
    ],
)
def test_default_shortcut(name, shortcut):
    assert model_config(name).shortcut == shortcut


@pytest.mark.parametrize(
    ("wrong", "meant"), [("resnet5", "resnet50"), ("resnet20cifar", "resnet20_cifar"), ("vg16", "vgg16")]
)
def test_an_unknown_name_gets_the_nearest_known_one(wrong, meant):
    text = message(model_config, wrong)
    assert repr(wrong) in text and meant in text


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("resnet18", {"stride_in": "1x1"}),
        ("resnet20_cifar", {"stride_in": "3x3"}),
        ("wrn16_4_cifar", {"stride_in": "1x1"}),
        ("plain18", {"zero_init_residual": True}),
        ("wrn16_4_cifar", {"zero_init_residual": True}),
        ("lenet5", {"drop_rate": 0.5}),
        ("vgg_cifar", {"drop_rate": 0.5}),
        ("vgg16", {"stem": "cifar"}),
        ("alexnet", {"strides": (1, 2, 2, 2)}),
        ("cifar10net", {"shortcut": "none"}),
        ("resnet18", {"stems": "cifar"}),
    ],
)
def test_an_override_without_effect_is_refused_and_the_useful_ones_listed(name, override):
    text = message(model_config, name, **override)
    (field,) = override
    assert name in text and field in text and "input_size" in text


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("resnet18", {"depths": (1, 1, 1, 1)}),
        ("resnet50", {"block": "basic"}),
        ("vgg16", {"kind": "alexnet"}),
    ],
)
def test_what_a_name_stands_for_is_not_overridden_but_built_under_another_name(name, override):
    text = message(model_config, name, **override)
    (field,) = override
    config = type(model_config(name))
    assert name in text and f"build_network({config.__name__}(name=..., {field}=..., ...))" in text
    assert getattr(config(name="mine", **override), field) == override[field]


def test_zero_init_needs_a_shortcut():
    text = message(model_config, "resnet18", shortcut="none", zero_init_residual=True)
    assert "zero_init_residual" in text and "shortcut='none'" in text


def test_a_plain_net_given_shortcuts_takes_what_a_residual_net_takes():
    assert model_config("plain18", shortcut="projection", zero_init_residual=True).zero_init_residual


@pytest.mark.parametrize(
    ("name", "strides"), [("resnet18", (1, 2, 2)), ("resnet20_cifar", (1, 2, 2, 2)), ("resnet50", (1,))]
)
def test_strides_are_one_a_stage(name, strides):
    text = message(model_config, name, strides=strides)
    assert str(strides) in text and str(len(model_config(name).depths)) in text


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ({"stem": "imagenette"}, "imagenet, cifar, deep"),
        ({"stem": None}, "imagenet, cifar, deep"),
        ({"stem": ["cifar"]}, "imagenet, cifar, deep"),
        ({"shortcut": "identity"}, "projection, zeropad, none"),
        ({"stride_in": "5x5"}, "3x3, 1x1"),
        ({"global_pool": "sum"}, "avg, max"),
        ({"maxpool": 1}, "True or False"),
        ({"maxpool": "no"}, "True or False"),
        ({"zero_init_residual": None}, "True or False"),
        ({"num_classes": True}, "0 to 100000"),
        ({"num_classes": -1}, "0 to 100000"),
        ({"num_classes": 10.0}, "0 to 100000"),
        ({"num_classes": "10"}, "0 to 100000"),
        ({"num_classes": 10**9}, "0 to 100000"),
        ({"num_classes": 10**400}, "0 to 100000"),
        ({"in_chans": 0}, "1 to 64"),
        ({"drop_rate": math.nan}, "0.0 to 0.95"),
        ({"drop_rate": math.inf}, "0.0 to 0.95"),
        ({"drop_rate": 1.0}, "0.0 to 0.95"),
        ({"drop_rate": True}, "0.0 to 0.95"),
        ({"drop_rate": "0.5"}, "0.0 to 0.95"),
        ({"drop_rate": None}, "0.0 to 0.95"),
        ({"drop_rate": 10**400}, "0.0 to 0.95"),
        ({"input_size": 10**6}, "1 to 4096"),
        ({"input_size": (224, 0)}, "1 to 4096"),
        ({"input_size": (224, 224, 3)}, "1 to 4096"),
        ({"input_size": ()}, "1 to 4096"),
        ({"input_size": True}, "1 to 4096"),
        ({"input_size": "224"}, "1 to 4096"),
        ({"input_size": 224.0}, "1 to 4096"),
        ({"strides": (1, 2, 2, 99)}, "1 to 8"),
        ({"strides": (1, 2, 2, 0)}, "1 to 8"),
        ({"strides": (True, 2, 2, 2)}, "1 to 8"),
        ({"strides": 2}, "1 to 8"),
        ({"strides": "1222"}, "1 to 8"),
        ({"strides": ()}, ""),
        ({"strides": (1,) * 1000}, ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_value_is_refused_with_what_is_allowed(override, allowed):
    (field,) = override
    text = message(model_config, "resnet50", **override)
    assert "resnet50" in text and field in text and allowed in text


def test_a_bad_value_is_shown():
    assert "'imagenette'" in message(model_config, "resnet18", stem="imagenette")
    assert "-5" in message(model_config, "resnet18", num_classes=-5)


def test_an_input_size_of_one_number_is_a_square():
    assert model_config("resnet18", input_size=96).input_size == (96, 96)
    assert model_config("resnet18", input_size=[96, 128]).input_size == (96, 128)


@pytest.mark.parametrize("maxpool", [None, True, False])
@pytest.mark.parametrize("stem", ["imagenet", "cifar", "deep"])
def test_maxpool_follows_the_stem_unless_said_otherwise(stem, maxpool):
    config = model_config("resnet18", stem=stem, maxpool=maxpool)
    assert config.has_maxpool == ((stem != "cifar") if maxpool is None else maxpool)


RESNET = model_config("resnet18").to_dict()
HOSTILE = {
    "an unknown field": {"trust_remote_code": True},
    "a text too long": {"name": "x" * 10_000},
    "no name": {"name": None},
    "no stages": {"depths": [], "widths": [], "strides": []},
    "an endless net": {"depths": [10**9, 2, 2, 2]},
    "an endlessly wide net": {"widths": [10**9, 2, 2, 2]},
    "nested lists": {"depths": [[2], 2, 2, 2]},
    "a stem of nothing": {"stem": "deep", "stem_width": 1},
    "an object for a number": {"num_classes": {"a": 1}},
    "a bottleneck with nothing inside": {"block": "bottleneck", "base_width": 1, "widths": [1, 1, 1, 1]},
    "a zeropad that would drop channels": {"shortcut": "zeropad", "stem_width": 512},
    "more weights than any memory": {
        "depths": [200] * 8, "widths": [4096] * 8, "strides": [1] * 8, "block": "basic",
    },
}  # fmt: skip


@pytest.mark.parametrize("values", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_configuration_is_refused(values):
    message(config_from_dict, RESNET | values)


def test_a_missing_name_is_named():
    assert "name" in message(config_from_dict, {"num_classes": 10})


def test_a_configuration_cannot_be_changed():
    config = model_config("resnet18")
    with pytest.raises(AttributeError):
        config.num_classes = 5
    assert isinstance(config, ResNetConfig) and isinstance(model_config("vgg16"), BaselineConfig)


def loaded_modules(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after `code`."""
    code += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_and_listing_models_needs_no_torch():
    loaded = loaded_modules("import resnet_hub; resnet_hub.list_models()")
    assert "resnet_hub" in loaded
    assert not loaded & {"torch", "gradio", "timm", "torchvision", "matplotlib"}


def test_building_a_network_loads_no_other_library():
    loaded = loaded_modules("import resnet_hub; resnet_hub.create_model('resnet20_cifar')")
    assert "torch" in loaded
    assert not loaded & {"gradio", "timm", "torchvision", "matplotlib", "huggingface_hub", "safetensors"}


def test_networks_are_built_without_geometry_and_hub():
    code = (
        "import sys, resnet_hub\n"
        "for name in ('resnet20_cifar', 'wrn16_4_cifar', 'resnet8_cifar', 'lenet5'):\n"
        "    resnet_hub.create_model(name)\n"
        "above = [f'resnet_hub.{each}' for each in ('geometry', 'hub', 'predict', 'lab', 'interop', 'ui')]\n"
        "print([each for each in above if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_base_class_has_both_its_names():
    from resnet_hub import HubModel, Network, create_model

    assert HubModel is Network and isinstance(create_model("lenet5"), HubModel)
