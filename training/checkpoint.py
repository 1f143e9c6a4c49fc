"""A run's resume file: `last.ckpt` with a checksum, `last.ckpt.prev` saved before it, and the lock of the run
directory."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from resnet_hub.errors import Refusal, first_line
from resnet_hub.files import write_atomically
from training.distributed import rank

LAST, PREVIOUS = "last.ckpt", "last.ckpt.prev"
MARK = b"sha256:"  # with the 32 bytes of the digest at the end of the file; torch.load reads past neither


class TrainingError(Refusal):
    """Training cannot go on; the message says why and what is kept."""


def held(run: Path) -> list[str]:
    """Names of the resume files in a run directory, the latest first."""
    return [name for name in (LAST, PREVIOUS) if (run / name).exists()]


def drop(run: Path) -> None:
    """Delete the resume files of a finished run."""
    for name in (PREVIOUS, LAST):
        (run / name).unlink(missing_ok=True)


def kept(run: Path) -> str:
    """What an interrupted run leaves to go on from."""
    names = held(run)
    return f"--resume goes on from {run}/{names[0]}" if names else "nothing was trained yet"


def write(run: Path, state: dict[str, Any]) -> None:
    """Write `last.ckpt`; the one before it becomes `last.ckpt.prev`.

    Raises:
        Refusal: when it cannot be written; both files are kept.
    """

    def whole(file: BinaryIO) -> None:
        torch.save(state, file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        file.write(MARK + digest)

    write_atomically(run / LAST, whole, keep=run / PREVIOUS)


def read(run: Path) -> tuple[Path, dict[str, Any]]:
    """(path, contents) of `last.ckpt`, or of the one before it where that is damaged, which is said.

    Tensors are on the CPU, where Adam's counts of steps have to stay: on a GPU it would wait for each.

    Raises:
        TrainingError: when neither can be read.
    """
    problems = [] if (run / LAST).exists() else [f"{run / LAST} is missing"]
    for path in (run / name for name in held(run)):
        try:
            check(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
        except PermissionError as error:
            raise TrainingError(
                f"{path} cannot be read ({error.strerror}); look at its permissions"
            ) from error
        except Exception as error:  # whatever unpickling a damaged file raises
            problems.append(f"{path} cannot be read ({first_line(error)})")
            continue
        if problems and rank() == 0:
            print(f"{problems[0]}; going on from {path}, which was saved before it", file=sys.stderr)
        return path, state
    raise TrainingError(f"{'; '.join(problems)}; delete what is damaged to start afresh")


def check(path: Path) -> None:
    """Compare a resume file with its checksum; one of an earlier version has none.

    Raises:
        TrainingError: when they differ.
    """
    length = len(MARK) + hashlib.sha256().digest_size
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - length, 0))
        end = file.read()
        if not end.startswith(MARK):
            if not size:
                raise TrainingError("it is empty")
            return
        file.seek(0)
        digest, left = hashlib.sha256(), size - length
        while left:
            chunk = file.read(min(left, 1 << 20))
            digest.update(chunk)
            left -= len(chunk)
    if digest.digest() != end[len(MARK) :]:
        raise TrainingError("it is damaged: its checksum differs")


_LOCKS: set[int] = set()  # held by this process


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other training runs out of a directory; the system lifts the lock when this process ends.

    Raises:
        TrainingError: when another run holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    directory = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(directory)
        raise TrainingError(
            f"{run} is being written by another training run; wait for it, or choose another --out"
        ) from error
    except OSError:  # a network file system without locks
        pass
    _LOCKS.add(directory)
    try:
        yield
    finally:
        if directory in _LOCKS:  # not in a process that was forked meanwhile
            _LOCKS.discard(directory)
            os.close(directory)


def _let_go() -> None:
    """In a forked reader of files: a lock is held by all who have its file open, also when this one dies."""
    while _LOCKS:
        os.close(_LOCKS.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
