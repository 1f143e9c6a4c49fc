"""What a trained network does inside: blocks off, receptive fields, occlusion, Grad-CAM, recorded frames.

Oracles: the network written out with functions on its own weights, and autograd on it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ROOT
from PIL import Image
from torch.nn import functional as F

from resnet_hub import create_model, from_pretrained
from resnet_hub.geometry import stages, trace
from resnet_hub.lab import ablation, film, occlusion, receptive
from resnet_hub.models.build import build_network
from resnet_hub.models.registry import model_config
from resnet_hub.preprocess import load_image


@pytest.fixture(scope="module")
def shipped():
    return from_pretrained("resnet20_cifar10")


@pytest.fixture(scope="module")
def crop(shipped):
    return shipped.preprocess.crop(load_image(ROOT / "resnet_hub" / "examples" / "cat.jpg"))


def resnet20(weights, x, without=None, plain=False, upto=3):
    """ResNet-20 or plain-20 with functions alone: (logits, the map that leaves each stage)."""

    def norm(y, name):
        kept = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *kept)

    x = F.relu(norm(F.conv2d(x, weights["conv1.weight"], padding=1), "bn1"))
    maps = []
    for stage in range(1, 4):
        for block in range(3):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            beside = x
            if stride == 2:
                quarter = x.shape[1] // 2
                beside = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            if without == name:
                x = F.relu(beside)
                continue
            y = F.relu(
                norm(F.conv2d(x, weights[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1")
            )
            y = norm(F.conv2d(y, weights[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            x = F.relu(y if plain else y + beside)
        maps.append(x)
    return F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"]), maps


def test_a_block_switched_off_is_one_that_the_network_never_had(shipped, crop):
    x = shipped.preprocess.normalise(crop)[None]
    found = ablation.answers(shipped, crop)
    assert [answer.block for answer in found] == ["", *ablation.block_names(shipped)] and len(found) == 10
    first = None
    for answer in found:
        logits, _ = resnet20(shipped.state_dict(), x, answer.block)
        shares = (logits[0] / shipped.calibration.temperature).softmax(0)
        first = first or shipped.labels[int(shares.argmax())]
        assert answer.label == shipped.labels[int(shares.argmax())]
        assert answer.probability == pytest.approx(shares.max().item(), abs=1e-4)
        assert answer.kept == pytest.approx(shares[shipped.labels.index(first)].item(), abs=1e-4)


@pytest.mark.parametrize("name", ["plain20_cifar", "resnet20_cifar"])
def test_a_plain_block_switched_off_passes_its_input_on_as_its_twin_does(name):
    torch.manual_seed(0)
    model, x = create_model(name).eval(), torch.randn(2, 3, 32, 32)
    for block in ("layer1.1", "layer2.0", "layer3.2"):
        with torch.no_grad(), ablation.without(model, block):
            found = model(x)
        expected, _ = resnet20(model.state_dict(), x, block, plain=name.startswith("plain"))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(
            model(x), resnet20(model.state_dict(), x, plain=name.startswith("plain"))[0]
        )


def test_a_projection_shortcut_is_kept():
    torch.manual_seed(0)
    model, x = create_model("resnet18_cifar").eval(), torch.randn(1, 3, 32, 32)
    block, seen = model.layer2[0], {}
    hook = block.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    with torch.no_grad(), ablation.without(model, "layer2.0"):
        after = model.layer2[0](model.layer1(model.stem(x)))
    hook.remove()
    with torch.no_grad():
        torch.testing.assert_close(after, F.relu(block.downsample[1](block.downsample[0](seen["x"]))))


def test_only_blocks_that_are_there_can_be_switched_off(shipped):
    with pytest.raises(ValueError, match="layer9"), ablation.without(shipped, "layer9.0"):
        pass
    with pytest.raises(ValueError, match="no basic blocks"):
        ablation.block_names(create_model("lenet5"))


# receptive fields


@pytest.mark.parametrize(("stage", "place"), [(0, (4, 20)), (1, (0, 15)), (2, (4, 4))])
def test_weights_are_the_gradient_of_the_network_written_out(shipped, crop, stage, place):
    x = shipped.preprocess.normalise(crop)[None].requires_grad_()
    _, maps = resnet20(shipped.state_dict(), x)
    maps[stage][0, :, place[0], place[1]].sum().backward()
    expected = x.grad[0].norm(dim=0).numpy()
    found = receptive.field(shipped, crop, stage, *place)
    np.testing.assert_allclose(found.weights, expected / expected.sum(), atol=1e-5)
    assert found.formal == (15, 37, 81)[stage]


def test_half_of_a_last_position_s_gradient_lies_in_a_fraction_of_the_formal_field(shipped, crop):
    found = receptive.field(shipped, crop, 2, 4, 4)
    rows = slice(16 - 8, 16 + 9)
    assert found.inner_side in range(15, 22) and 0.4 < found.weights[rows, rows].sum() < 0.5


def test_a_position_that_no_pixel_moves_has_a_field_all_the_same(crop):
    model = create_model("plain20_cifar").eval()
    with torch.no_grad():
        model.bn1.weight.zero_()
        model.bn1.bias.fill_(-1)  # every unit is dead behind its ReLU
    found = receptive.field(model, crop, 0, 3, 3)
    assert found.weights.sum() == 0 and found.formal == 15


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet50", "wrn16_4_cifar", "resnet8_cifar", "lenet5", "resnet18_64px", "cifar10net"],
)
def test_no_gradient_leaves_the_formal_square_and_some_reaches_its_edges(name):
    """Oracle: autograd on the real module; the square's place comes from paddings and strides alone."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    noise = np.random.default_rng(0).integers(0, 256, (*model.config.input_size, 3), dtype=np.uint8)
    image = model.preprocess.crop(Image.fromarray(noise))
    names = receptive.stage_names(name)
    assert names == [s.name for s in stages(trace(name)) if s.name != "head" and "stem" not in s.name
                     and s.name != "maxpool"]  # fmt: skip
    height, width = receptive.map_size(model, 0)
    found = receptive.field(model, image, 0, height // 2, width // 2)
    top, left, bottom, right = found.box
    support = np.argwhere(found.weights > 0)
    assert (support.min(0) >= (top, left)).all() and (support.max(0) < (bottom, right)).all()
    if (bottom - top, right - left) == (found.formal, found.formal) and name != "resnet8_cifar":
        assert (support.max(0) - support.min(0) + 1 >= found.formal - 2).all()


def test_a_position_that_is_not_there_is_refused(shipped, crop):
    with pytest.raises(ValueError, match="row=8"):
        receptive.field(shipped, crop, 2, 8, 0)
    with pytest.raises(ValueError, match="stage=3"):
        receptive.field(shipped, crop, 3, 0, 0)


# occlusion and Grad-CAM


def test_occlusion_is_the_network_s_answer_to_an_image_covered_by_hand(shipped, crop):
    found = occlusion.occlude(shipped, crop, 10)
    x = shipped.preprocess.normalise(crop)[None]
    whole = shipped.predict(crop, top_k=1)[0][0]
    assert (found.label, found.probability) == (whole[0], pytest.approx(whole[1], abs=1e-4))
    for i, j in ((0, 0), (2, 1)):
        covered = x.clone()
        top, left = found.tops[i], found.lefts[j]
        covered[..., top : top + 10, left : left + 10] = 0
        logits, _ = resnet20(shipped.state_dict(), covered)
        shares = (logits[0] / shipped.calibration.temperature).softmax(0)
        expected = whole[1] - shares[shipped.labels.index(whole[0])].item()
        assert found.drops[i, j] == pytest.approx(expected, abs=1e-3)
    assert found.tops[0] == found.lefts[0] == 0 and found.tops[-1] == found.lefts[-1] == 32 - 10


def test_occlusion_covers_a_tall_image_to_its_end():
    model = create_model("resnet20_cifar", input_size=(64, 32)).eval()
    found = occlusion.occlude(model, Image.new("RGB", (32, 64), "grey"), 8)
    assert found.drops.shape == (len(found.tops), len(found.lefts))
    for firsts, length in ((found.tops, 64), (found.lefts, 32)):
        assert {at + i for at in firsts for i in range(8)} == set(range(length))


@pytest.mark.parametrize(("strides", "side"), [((1, 2, 2), 30), ((1, 4, 1), 10)])
@pytest.mark.parametrize("block", ["layer2.0", "layer3.0"])
def test_a_plain_block_left_out_of_an_odd_map_keeps_its_size(strides, side, block):
    config = replace(model_config("plain20_cifar"), strides=strides, input_size=(side, side))
    model = build_network(config).eval()
    x = torch.randn(1, 3, side, side)
    with torch.no_grad():
        sizes = [found.shape for found in model.features(x)]
        with ablation.without(model, block):
            assert [found.shape for found in model.features(x)] == sizes


@pytest.mark.parametrize("stage", range(3))
def test_grad_cam_of_each_stage_is_that_of_the_network_written_out(shipped, crop, stage):
    weights, label = shipped.state_dict(), 3
    x = shipped.preprocess.normalise(crop)[None].requires_grad_()
    logits, maps = resnet20(weights, x)
    (gradient,) = torch.autograd.grad(logits[0, label], maps[stage])
    cam = F.relu((maps[stage] * gradient.mean((2, 3), keepdim=True)).sum(1))[0]
    expected = (cam / cam.max().clamp(min=1e-8)).detach().numpy()
    np.testing.assert_allclose(occlusion.cams(shipped, crop, label)[stage], expected, atol=1e-3)


def test_filters_are_the_first_convolution_s_scaled_one_by_one(shipped):
    found, weights = occlusion.first_filters(shipped), shipped.state_dict()["conv1.weight"].numpy()
    assert found.shape == (16, 3, 3, 3) and found.min() == 0 and found.max() == 1
    for each, own in zip(found, weights, strict=True):
        assert np.corrcoef(each.ravel(), own.ravel())[0, 1] == pytest.approx(1, abs=1e-5)


# recorded training


def test_a_recorded_frame_is_read_back_as_it_was_written():
    values = np.arange(2 * 3 * 1 * 1, dtype=np.uint8).reshape(2, 3, 1, 1)
    packed = {"shape": [2, 3, 1, 1], "data": base64.b64encode(values.tobytes()).decode()}
    shown = {"filters": packed, "maps": [packed, packed]}
    history = [{"train_loss": 1.5, "val_acc": 0.25}]
    document = json.loads(json.dumps({"networks": {"a": {"frames": [shown, shown], "history": history}}}))
    start, end = (film.frame(document, "a", epoch) for epoch in (0, 1))
    np.testing.assert_array_equal(end.filters, values)
    assert (start.train_loss, end.train_loss, end.val_acc, len(end.maps)) == (None, 1.5, 0.25, 2)
    with pytest.raises(ValueError, match="epoch=2"):
        film.frame(document, "a", 2)
    with pytest.raises(ValueError, match="'b'"):
        film.frame(document, "b", 0)
