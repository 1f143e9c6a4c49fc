"""The promises of training on a GPU that a CPU can prove: flags set in time, figures printed as they come,
nothing for which a step would wait."""

from __future__ import annotations

import os

import pytest
import torch

from training import gpu
from training.command import choose_kernels

CUDA = torch.device("cuda")
QUICK = ["--device", "cpu", "--images", "16", "--batch", "8", "--seconds", "0"]


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
