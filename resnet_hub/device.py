"""Devices and precisions: the `--device` and `--precision` flags of every command."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from resnet_hub.errors import Refusal

if TYPE_CHECKING:
    import torch


def add_device_flags(parser: argparse.ArgumentParser, *, precision: bool = True) -> None:
    """Add `--device` and, for training, `--precision`."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    if precision:
        parser.add_argument(
            "--precision",
            choices=["auto", "fp32", "bf16", "fp16"],
            default="auto",
            help="auto: on a GPU bf16, else fp16, if it has units for it; on a CPU bf16 if a one-second "
            "probe finds it faster (may vary on a busy machine); otherwise fp32",
        )


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: when this machine does not have it.
    """
    import torch

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [kind for kind, is_available in has.items() if is_available]
    if name == "auto":
        name = available[0]
    if name not in available:
        raise Refusal(f"--device {name} is not on this machine; it has {', '.join(available)}")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype for `--precision name`; None means float32 throughout."""
    import torch

    if name == "auto" and device.type == "cuda":
        name = _has_units_for(torch.cuda.get_device_capability(device))
    elif name == "auto":
        name = "bf16" if _bf16_is_faster(device) else "fp32"
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def _has_units_for(capability: tuple[int, int]) -> str:
    """The precision a GPU of this compute capability multiplies fastest in: bfloat16 since Ampere, float16
    since Volta. Short steps wait for their launches, so that a probe would measure those."""
    return "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"


def _bf16_is_faster(device: torch.device) -> bool:
    """Whether training steps of a small network are faster under bf16; each is timed for half a second."""
    import torch
    from torch import nn

    net = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3))
    net = net.to(device).to(memory_format=torch.channels_last)
    x = torch.zeros(32, 16, 32, 32, device=device).contiguous(memory_format=torch.channels_last)

    def steps(dtype: torch.dtype | None) -> int:
        count, until = -1, float("inf")  # the first step warms up and starts the clock
        while time.perf_counter() < until:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = net(x).float().square().mean()
            loss.backward()
            loss.item()
            count += 1
            if count == 0:
                until = time.perf_counter() + 0.5
        return count

    return steps(torch.bfloat16) > steps(None)
