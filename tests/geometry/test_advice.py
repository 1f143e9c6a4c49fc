"""Advice on designs: none for published ones, a warning where one goes wrong, and a change that repairs it.

Oracle: rows of the changed design, which `test_geometry.py` compares with the network.
"""

import json
import random
from dataclasses import asdict

import pytest
import torch
import torchvision

from resnet_hub import create_model, list_models, model_config
from resnet_hub.geometry import trace
from resnet_hub.geometry.advice import RULES, advise

IMAGENET_STEM, CIFAR_STEM = {"stem": "imagenet", "maxpool": True}, {"stem": "cifar", "maxpool": False}


def advice(name: str, size=None, **overrides) -> dict:
    config = model_config(name, **overrides)
    size = size or config.input_size
    return {found.code: found for found in advise(trace(config, size), config, size)}


@pytest.mark.parametrize("name", list_models())
def test_published_networks_at_their_own_size_need_no_advice(name):
    assert advice(name) == {}


@pytest.mark.parametrize(("name", "size"), [("resnet18", 96), ("resnet50", 384), ("resnet18_cifar", 64)])
def test_usual_sizes_need_no_advice(name, size):
    assert advice(name, size) == {}


def test_the_imagenet_stem_ruins_small_images():
    found = advice("resnet50", 32)
    assert list(found) == ["last_map_small", "padding_over_half", "field_far_above"]
    assert found["last_map_small"].facts == {"out_size": [1, 1]}
    assert found["last_map_small"].overrides == CIFAR_STEM
    assert found["padding_over_half"].facts["share"] == pytest.approx(8 / 9)
    assert found["field_far_above"].facts["receptive_field"] == 427
    assert advice("resnet50", 32, **CIFAR_STEM) == {}


def test_a_2x2_map_is_read_together_with_more_padding():
    found = advice("resnet18", 64)
    assert list(found) == ["last_map_small", "padding_over_half"]
    assert found["padding_over_half"].facts["share"] == pytest.approx(5 / 9)


def test_the_gentlest_change_is_proposed():
    assert advice("resnet18", 64)["last_map_small"].overrides == {"maxpool": False}
    assert advice("resnet18", 16)["last_map_small"].overrides == CIFAR_STEM | {"strides": (1, 1, 2, 2)}
    assert advice("resnet18", 2)["last_map_small"].overrides == {"input_size": (96, 96)}


def test_the_cifar_stem_ruins_large_images():
    found = advice("resnet18", 224, stem="cifar")
    assert list(found) == ["field_far_below", "stem_keeps_large_image"]
    assert found["field_far_below"].facts == {"receptive_field": 109, "side": 224}
    assert round(found["stem_keeps_large_image"].facts["times"], 1) == 15.0
    assert found["stem_keeps_large_image"].overrides == IMAGENET_STEM


def test_an_image_larger_than_the_field_is_made_smaller():
    """To the largest multiple of 32 of which the field of 435 is half."""
    assert advice("resnet18", 1024)["field_far_below"].overrides == {"input_size": (864, 864)}


@pytest.mark.parametrize("size", [65, 72, 80, 96, 1024, (32, 384), 200])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet18_cifar", "resnet18_64px"])
def test_who_follows_an_advice_gets_no_other_one_where_that_can_be_avoided(name, size):
    """Where a second change of the same kind has no new fault, the first that has one is not proposed."""
    before = advice(name, size)
    for code, found in before.items():
        after = advice(name, **{"input_size": size} | found.overrides)
        new = set(after) - set(before) - {"weights_mean_something_else"}
        assert code not in after or not found.overrides
        if code == "size_rounded":
            assert not new


@pytest.mark.parametrize(
    ("size", "rest", "repaired"),
    [
        (225, [1, 1], (224, 224)),
        ((224, 250), [0, 26], (224, 256)),
        (4095, [31, 31], (4096, 4096)),
    ],
)
def test_sizes_that_are_rounded(size, rest, repaired):
    found = advice("resnet50", size)["size_rounded"]
    assert found.facts == {"jump": 32, "rest": rest}
    assert found.overrides == {"input_size": repaired}


@pytest.mark.parametrize(
    ("overrides", "repaired"),
    [
        ({"strides": (1, 2, 2, 1)}, {"strides": (1, 2, 2, 2)}),
        ({"stride_in": "1x1"}, {"stride_in": "3x3"}),
        ({"maxpool": False}, {"maxpool": True}),
    ],
)
def test_designs_that_other_libraries_load_silently_wrong_are_named(overrides, repaired):
    found = advice("resnet50", **overrides)["weights_mean_something_else"]
    assert found.overrides == repaired


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("resnet50", {"stem": "deep", "strides": (1, 2, 2, 1)}),
        ("resnet50", {"shortcut": "zeropad"}),
        ("resnet18", {"strides": (2, 2, 2, 2)}),  # its first block gets a projection
        ("resnet50", {"global_pool": "max"}),  # timm can be told
    ],
)
def test_no_silent_load_warning_where_other_libraries_refuse_or_can_be_configured(name, overrides):
    assert "weights_mean_something_else" not in advice(name, **overrides)


@pytest.mark.parametrize(
    "overrides", [{"strides": (2, 2, 2, 2)}, {"strides": (1, 2, 2, 1)}, {"maxpool": False}]
)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_silent_load_warning_matches_what_torchvision_loads(name, overrides):
    weights = create_model(name, **overrides).state_dict()
    try:
        getattr(torchvision.models, name)().load_state_dict(weights)
    except RuntimeError:
        is_silent = False
    else:
        is_silent = True
    assert ("weights_mean_something_else" in advice(name, **overrides)) == is_silent


@pytest.mark.parametrize(
    ("size", "overrides"),
    [
        ((16, 128), {}),
        ((24, 112), {}),
        (128, {"strides": (8, 8, 2)}),
    ],  # the proposed stem would leave nothing
)
def test_a_change_that_leaves_no_map_is_not_proposed(size, overrides):
    for found in advice("resnet8_cifar", size, **overrides).values():
        changed = {"input_size": size} | overrides | found.overrides
        assert trace("resnet8_cifar", changed.pop("input_size"), **changed)


def test_pooled_blocks_drop_what_their_windows_do_not_fill():
    found = advice("resnet8_cifar", (36, 32))
    assert found["size_cut"].facts == {"jump": 8, "rest": [4, 0]} and "size_rounded" not in found
    net = create_model("resnet8_cifar").eval()
    assert net.features(torch.zeros(1, 3, 36, 32))[-1].shape[2:] == (4, 4)  # strides would leave 5 rows


@pytest.mark.parametrize("seed", range(60))
def test_every_proposed_change_repairs_what_it_is_proposed_for(seed):
    rng = random.Random(seed)
    size = rng.choice((8, 32, 47, 96, 224, 500)), rng.choice((16, 32, 61, 224))
    overrides = {
        "stem": rng.choice(("imagenet", "cifar", "deep")),
        "strides": tuple(rng.randint(1, 3) for _ in range(4)),
        "maxpool": rng.choice((True, False)),
    }
    found = advice("resnet50", size, **overrides)
    for code, one in found.items():
        assert one.overrides, code
        changed = {"input_size": size} | overrides | one.overrides
        assert code not in advice("resnet50", changed.pop("input_size"), **changed)


def test_advice_is_json_ready():
    found = advice("resnet50", (31, 33), strides=(1, 2, 2, 1), stride_in="1x1")
    assert len(found) > 3
    for one in found.values():
        assert json.loads(json.dumps(asdict(one)))["code"] in {rule.code for rule in RULES}


def test_a_size_out_of_bounds_is_refused():
    config = model_config("resnet18")
    with pytest.raises(ValueError, match="from 1 to 4096"):
        advise(trace(config), config, 5000)
