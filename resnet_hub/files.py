"""Files that are written whole or not at all, with the permissions that the user's umask gives."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from resnet_hub.errors import Refusal, first_line

Writer = Callable[[BinaryIO], Any]
UNWRITABLE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EIO}
CRASHED = 2 * 86_400  # seconds after which what a process was to fill is taken for a dead one's
NEXT_STEP = "Make room or allow writing, then repeat the command, for a training run with --resume"


def write_atomically(path: Path, write: Writer, keep: Path | None = None) -> None:
    """Call `write(binary file)`, then put the result in place in one step, safe from a power cut.

    Args:
        keep: where what stood at `path` is kept; None replaces it.

    Raises:
        Refusal: when the disk is full or not writable; what stood at `path` is kept.
    """
    write_together({path: write}, {} if keep is None else {path: keep})


def write_whole(path: Path, content: bytes) -> None:
    """As `write_atomically`, for what is in memory."""
    write_contents({path: content})


def write_contents(contents: Mapping[Path, bytes]) -> None:
    """As `write_together`, for what is in memory."""
    write_together({path: partial(_write, content) for path, content in contents.items()})


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def write_together(writers: Mapping[Path, Writer], keep: Mapping[Path, Path] = MappingProxyType({})) -> None:
    """Write several files and put them in place once all of them are on the disk, in the given order.

    Args:
        keep: path -> where what stood there is kept.

    Raises:
        Refusal: when one cannot be written; what stood at every path is kept, but for those already put in
            place where a later one cannot be renamed.
    """
    with ExitStack() as unfinished:
        temporaries = {path: path.with_name(path.name + ".tmp") for path in writers}
        for path, write in writers.items():
            with _one_line(path):
                _make_folder(path.parent, unfinished)
                unfinished.callback(_remove, temporaries[path])
                with temporaries[path].open("w+b") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            with _one_line(path):
                if path in keep and path.exists():
                    path.replace(keep[path])
                temporary.replace(path)
        unfinished.pop_all()


def check_is_free(out: Path) -> None:
    """Raises Refusal for a file, and for a folder that is not empty."""
    if out.is_dir() and any(out.iterdir()):
        raise Refusal(f"{out} is not empty; name another folder")
    if out.exists() and not out.is_dir():
        raise Refusal(f"{out} is a file; name a folder")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder to fill, which takes the place of `folder`, missing or empty, at the end.

    Raises:
        Refusal: at once where `folder` is neither, and when something cannot be written; then there is
            nothing new at `folder`.
    """
    check_is_free(folder)
    for left in folder.parent.glob(f"{glob.escape(folder.name)}.{'[0-9a-f]' * 32}.tmp"):
        if time.time() - left.stat().st_mtime > CRASHED:
            shutil.rmtree(left, ignore_errors=True)
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")  # another process may do the same
    with ExitStack() as unfinished, _one_line(folder, is_ours=partial(_is_of_writing, folder=folder)):
        unfinished.callback(shutil.rmtree, temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        with suppress(FileNotFoundError):
            folder.rmdir()
        temporary.replace(folder)
        unfinished.pop_all()


@contextmanager
def _one_line(path: Path, is_ours: Callable[[Any], bool] = lambda error: True) -> Iterator[None]:
    """Turn what writing raises into a Refusal; other errors of a caller's are not `is_ours`."""
    try:
        yield
    except Refusal:
        raise
    except shutil.Error as error:  # (source, copy, why) of each file that was not copied
        why = str(error.args[0][0][-1])
        raise Refusal(f"{path} cannot be written ({why}). {NEXT_STEP}") from error
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        if not is_ours(error):
            raise
        why = getattr(error, "strerror", None) or first_line(error)
        raise Refusal(
            f"{path} cannot be written ({why}); what was saved before is kept. {NEXT_STEP}"
        ) from error


def _is_of_writing(error: Exception, folder: Path) -> bool:
    """Whether the disk or the folder is to blame, and not what was to be written."""
    is_there = str(getattr(error, "filename", None) or "").startswith(str(folder))
    return is_there or getattr(error, "errno", None) in UNWRITABLE


def _make_folder(folder: Path, unfinished: ExitStack) -> None:
    """Make a folder, and take it away again where nothing comes to lie in it."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        unfinished.callback(_remove, folder)


def _remove(path: Path) -> None:
    with suppress(OSError):  # not there, or on a file system that has become read-only
        path.rmdir() if path.is_dir() else path.unlink()
