"""The promises of `--device` and `--precision`: what is there is taken, what is not there is said."""

from __future__ import annotations

import argparse

import pytest
import torch

from resnet_hub import device
from resnet_hub.device import add_device_flags, pick_device, pick_precision


def machine_with(monkeypatch, *kinds: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)


@pytest.mark.parametrize(
    ("there", "expected"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("mps", "cuda"), "cuda")]
)
def test_auto_takes_the_fastest_kind_there_is(monkeypatch, there, expected):
    machine_with(monkeypatch, *there)
    assert pick_device("auto") == torch.device(expected)


def test_cpu_is_taken_when_asked_for_beside_a_gpu(monkeypatch):
    machine_with(monkeypatch, "cuda")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps", "tpu"])
def test_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch, name):
    machine_with(monkeypatch)
    with pytest.raises(ValueError, match=f"^--device {name} is not on this machine; it has cpu$"):
        pick_device(name)


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_precision_is_the_one_asked_for(monkeypatch, name, dtype):
    monkeypatch.delattr(device, "_bf16_is_faster")  # nothing is measured for it
    assert pick_precision(name, torch.device("cpu")) is dtype


@pytest.mark.parametrize(("faster", "dtype"), [(True, torch.bfloat16), (False, None)])
def test_auto_precision_is_bf16_only_where_the_probe_shows_it_faster(monkeypatch, faster, dtype):
    monkeypatch.setattr(device, "_bf16_is_faster", lambda device: faster)
    assert pick_precision("auto", torch.device("cpu")) is dtype


@pytest.mark.parametrize(("steps_in_bf16", "expected"), [(12, True), (5, False)])
def test_probe_says_yes_exactly_where_bf16_takes_more_steps(monkeypatch, steps_in_bf16, expected):
    """A made clock: half a second holds 10 steps in float32 and `steps_in_bf16` under bf16 autocast."""
    now, in_bf16 = [0.0], [False]
    autocast = torch.autocast

    def noted_autocast(kind, dtype, enabled):
        in_bf16[0] = enabled
        return autocast(kind, dtype, enabled=enabled)

    def clock():
        now[0] += 0.5 / (steps_in_bf16 if in_bf16[0] else 10)
        return now[0]

    monkeypatch.setattr(torch, "autocast", noted_autocast)
    monkeypatch.setattr(device.time, "perf_counter", clock)
    assert device._bf16_is_faster(torch.device("cpu")) is expected


def test_flags_default_to_auto():
    parser = argparse.ArgumentParser()
    add_device_flags(parser)
    assert vars(parser.parse_args([])) == {"device": "auto", "precision": "auto"}


def test_commands_that_do_not_train_take_no_precision():
    parser = argparse.ArgumentParser()
    add_device_flags(parser, precision=False)
    assert vars(parser.parse_args([])) == {"device": "auto"}
