"""A half precision stands for float32 only where the answers to the test images were measured to agree."""

import math

import pytest
import torch
from helpers.training import noise_set

from resnet_hub import create_model, from_pretrained
from resnet_hub.engine import race
from resnet_hub.errors import Refusal
from resnet_hub.models.calibration import Calibration
from training.data import ImageSet
from training.engine import Answered, predict_each
from training.half import against_fp32, is_kept, measure_half

AGREE = {"same": 1.0, "moved": 0.01, "flagged": 0.0, "error": 0.0}


def answered(logits, labels) -> Answered:
    return Answered(torch.tensor(logits), torch.tensor(labels), torch.arange(len(labels)))


def test_the_four_figures_are_those_computed_by_hand():
    model = create_model("lenet5")
    model.calibration = Calibration(energy_threshold=math.log(2))  # of two classes with logits 0: just below
    plain = answered([[0.0, 0.0], [math.log(3), 0.0]], [0, 0])
    half = answered([[0.0, -0.1], [0.0, math.log(3)]], [0, 0])
    found = against_fp32(model, plain, half)
    first = 1 / (1 + math.exp(-0.1))
    assert found["same"] == 0.5
    assert found["moved"] == pytest.approx(first - 0.5, abs=1e-6)
    assert found["flagged"] == 0.5
    # Before: one image at 0.5, one at 0.75, both right, each in a bin of its own. After: the second is wrong.
    assert found["error"] == pytest.approx(abs(((1 - first) + 0.75) / 2 - (0.5 + 0.25) / 2), abs=1e-6)


@pytest.mark.parametrize("worse", [{"same": 0.994}, {"moved": 0.021}, {"flagged": 0.006}, {"error": 0.003}])
def test_one_figure_out_of_bounds_is_enough(worse):
    assert is_kept(AGREE)
    assert not is_kept(AGREE | worse)


@pytest.mark.parametrize(("scale", "named"), [(1, ("bf16",)), (-1, ())])
def test_the_calibration_names_a_precision_that_agrees(scale, named):
    torch.manual_seed(0)
    model = create_model("lenet5", input_size=32, in_chans=3).eval()
    pixels = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    images = ImageSet(pixels, torch.zeros(40).long(), tuple("abcdefghij"), "noise")
    with torch.autocast("cpu", torch.bfloat16):
        half = predict_each(model, images, model.preprocess)
    plain = half._replace(logits=scale * half.logits)
    measure_half(model, images, plain, "eager", "bf16")
    assert model.calibration.half_precisions == named


def test_a_half_precision_is_measured_in_that_precision():
    torch.manual_seed(0)
    model = create_model("lenet5", input_size=32, in_chans=3).eval()
    images = noise_set(40, 32, classes=10)
    plain = predict_each(model, images, model.preprocess)
    assert measure_half(model, images, plain, "eager", "bf16")["moved"] > 0


@pytest.mark.parametrize("measured", [(), ("bf16",)])
def test_auto_tries_a_half_precision_only_where_it_was_measured(measured, monkeypatch):
    monkeypatch.setattr(race, "has_fast_half", lambda precision, device: True)
    model = create_model("lenet5").eval()
    model.calibration = Calibration(half_precisions=measured)
    tried = race.pairs("auto", ["eager"], torch.device("cpu"), race.measured_halves(model))
    assert tried == [("eager", "fp32"), *(("eager", each) for each in measured)]


def test_a_configuration_that_names_something_else_is_read_without_it():
    assert Calibration.from_dict({"half_precisions": ["bf16", "int1", 5]}).half_precisions == ("bf16",)


def test_where_no_engine_answers_in_half_precision_none_is_recorded(monkeypatch):
    """With "auto" few images, or engines that disagree, leave the network in float32."""
    model = from_pretrained("resnet20_cifar10")
    test = noise_set(4, 32, classes=10)
    plain = predict_each(model, test, model.preprocess)
    with pytest.raises(Refusal, match="--precision bf16: eager fp32 would answer"):
        measure_half(model, test, plain, "auto", "bf16")
    assert (
        model.calibration.half_precisions == from_pretrained("resnet20_cifar10").calibration.half_precisions
    )


def test_of_several_labels_an_image_no_top_1_is_compared():
    model = create_model("lenet5", num_classes=2).eval()
    model.calibration = Calibration(class_thresholds=(0.5, 0.5))
    with pytest.raises(Refusal, match="several labels have none; leave it out"):
        measure_half(model, None, answered([[0.0, 0.0]], [[1, 0]]), "eager", "bf16")
