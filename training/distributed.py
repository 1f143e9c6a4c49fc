"""One run on several processes, started by `torchrun`; on one process every function here does nothing.

Knows of ranks and collective operations only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist


def world_size() -> int:
    """Processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, which `torchrun` says; only 0 writes and prints."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes `torchrun` started; yields this process's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", local_rank())
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def summed(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def any_process(flags: list[bool], device: torch.device) -> list[bool]:
    """For each flag, whether it is set on any process."""
    if world_size() == 1:
        return flags
    return summed(torch.tensor(flags, dtype=torch.float32, device=device)).bool().tolist()


def share_buffers(module: torch.nn.Module) -> None:
    """Give every process rank 0's buffers: each one's batch norms have seen its own micro-batches only."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def wait() -> None:
    """Until every process is here."""
    if world_size() > 1:
        dist.barrier()
