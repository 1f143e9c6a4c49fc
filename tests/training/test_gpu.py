"""The promises of training on a GPU that a CPU can prove: flags set in time, figures printed as they come,
nothing for which a step would wait."""

from __future__ import annotations

import os

import pytest
import torch

from helpers.training import noise_set
from torch import nn

from resnet_hub.preprocess import Preprocess
from training import gpu
from training.augment import Feed
from training.command import choose_kernels
from training.engine import Trainer
from training.recipes import Recipe

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
VIEW = Preprocess((3, 12, 12), mean=(0.5,) * 3, std=(0.25,) * 3)
QUICK = ["--device", "cpu", "--images", "16", "--batch", "8", "--seconds", "0"]


def small_trainer(dtype: torch.dtype | None = None, **recipe) -> Trainer:
    """A trainer of two convolutions and a layer on 8 images of noise."""
    torch.manual_seed(0)
    convolutions = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    net = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8))
    own = Recipe(epochs=1, **({"batch_size": 4} | recipe))
    return Trainer(net, own, Feed(noise_set(8), VIEW, own, 0, CPU), seed=0, device=CPU, amp_dtype=dtype)


@pytest.fixture
def usual_kernels(monkeypatch):
    """The switches of `choose_kernels`, put back afterwards."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, False
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)


def test_what_cublas_needs_for_the_same_bits_is_set_before_the_first_product(usual_kernels):
    choose_kernels(CUDA, deterministic=False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_figures_are_printed_although_a_later_one_fails(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "pick_precision", lambda name, device: None)

    def failing(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu, "same_bits", failing)
    with pytest.raises(RuntimeError, match="no such kernel"):
        gpu.main(["resnet8_cifar", *QUICK])
    printed = capsys.readouterr().out
    assert "training float32" in printed
    assert "evaluation float32" in printed


@pytest.mark.parametrize(("then", "today"), [("float16", "bfloat16"), ("bfloat16", "float16")])
def test_the_gradients_scale_follows_the_precision_of_a_resumed_run(then, today, tmp_path):
    first, second = (small_trainer(getattr(torch, name)) for name in (then, today))
    first.scaler.scale(torch.ones(()))
    first.scaler.update(1024.0)
    first.save(tmp_path)
    second.load(tmp_path)
    assert second.amp_dtype is getattr(torch, then)
    assert second.scaler.is_enabled() == (then == "float16")
    assert second.scaler.state_dict() == first.scaler.state_dict()
