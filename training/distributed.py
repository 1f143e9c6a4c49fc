"""One run on several processes started by `torchrun`; with one process every function here does nothing."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from resnet_hub.errors import Refusal, first_line

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=2)  # of the processes for one that reads or downloads a data set


def world_size() -> int:
    """Number of processes in this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Rank of this process, set by `torchrun`; only rank 0 writes and prints."""
    return int(os.environ.get("RANK", "0"))


def place() -> int:
    """This process's number among those that share the work; 0 where `torchrun` started it and it joined no
    group."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """Rank of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_each() -> int:
    """What each process of this run has of them where all on this machine take as many."""
    return max(available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def restarts() -> int:
    """How often `torchrun --max-restarts` started the processes of this run again, 0 for the first time."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes `torchrun` started; yield this process's device.

    The launcher's store outlives its processes, so each restart has keys of its own: under those of the first
    start a process would find the addresses of the ones that died.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        if local_rank() >= (count := torch.cuda.device_count()):
            raise Refusal(
                f"this machine has {count} GPU{'s' * (count != 1)}, too few for "
                f"{os.environ.get('LOCAL_WORLD_SIZE', local_rank() + 1)} processes; lower --nproc-per-node"
            )
        device = torch.device("cuda", local_rank())
        torch.cuda.set_device(device)
    store, number, processes = next(dist.rendezvous("env://"))
    store.set_timeout(LONGEST_WAIT)  # through which NCCL's processes find each other at their first operation
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore(f"restart-{restarts()}", store),
        rank=number,
        world_size=processes,
        timeout=LONGEST_WAIT,
    )
    try:
        yield device
    finally:
        dist.destroy_process_group()


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def any_process(flags: list[bool], device: torch.device) -> list[bool]:
    """For each flag, whether it is set on any process."""
    if world_size() == 1:
        return flags
    return summed(torch.tensor(flags, dtype=torch.float32, device=device)).bool().tolist()


def share_buffers(module: torch.nn.Module) -> None:
    """Copy rank 0's buffers to every process, whose batch norms saw only its own micro-batches."""
    for buffer in module.buffers():
        share(buffer)


def share(value: Tensor) -> None:
    """Copy rank 0's value to every process."""
    if world_size() > 1:
        dist.broadcast(value, 0)


def read_once(read: Callable[[], T]) -> T:
    """What `read` returns (tensors, in lists or tuples), read by the first process of each machine and mapped
    by all of them, so that they hold it in memory once."""
    if world_size() == 1:
        return read()
    names = [uuid.uuid4().hex]
    dist.broadcast_object_list(names, 0)
    machine = os.environ.get("GROUP_RANK", "0")  # they may share TMPDIR
    file = Path(tempfile.gettempdir()) / f"resnet_hub-{names[0]}-{machine}"
    if local_rank() == 0:
        try:
            _save(read(), file)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
    wait()
    found = torch.load(file, mmap=True, weights_only=True)
    wait()
    if local_rank() == 0:
        file.unlink()  # the mappings stay
    return found


def _save(found: object, file: Path) -> None:
    try:
        torch.save(found, file)
    except RuntimeError as error:  # torch's own of a full disk
        why = first_line(error)
        raise OSError(f"{file} cannot be written ({why}); set TMPDIR to a folder with room") from error


def wait() -> None:
    """Block until every process gets here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def first_on_machine() -> Iterator[None]:
    """Let one process of each machine do something, a download say, before the others do it too."""
    if local_rank() > 0:
        wait()
    try:
        yield
    finally:
        if local_rank() == 0:
            wait()
