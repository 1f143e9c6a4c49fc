"""Where visitors' files lie, and their deletion by age.

Gradio's own sweep ends for good when an upload arrives while it runs, and knows neither uploads that were cut
off nor what an earlier run left. This one goes by the files that are there.
"""

from __future__ import annotations

import atexit
import errno
import math
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from resnet_hub.errors import Refusal


def own_folder() -> Path:
    """A folder for the uploads of this process alone, which only this user can read: in `GRADIO_TEMP_DIR` if
    that is set, else in the system's temporary folder. Those of dead processes are removed.

    Raises:
        Refusal: when `GRADIO_TEMP_DIR` cannot be written.
    """
    asked = os.environ.get("GRADIO_TEMP_DIR")
    user = os.getuid() if hasattr(os, "getuid") else 0
    parent = Path(asked or tempfile.gettempdir(), f"resnet_hub-{user}")
    try:
        parent.parent.mkdir(parents=True, exist_ok=True)
        parent.mkdir(mode=0o700, exist_ok=True)
        if parent.is_symlink() or parent.stat().st_uid != user:
            raise PermissionError(errno.EPERM, "its folder there is another user's")
        for left in parent.iterdir():
            if left.name.isdecimal() and not is_running(int(left.name)):
                shutil.rmtree(left, ignore_errors=True)
        folder = parent / str(os.getpid())
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:  # another user's, or not writable
        if asked:
            why = f"cannot be written ({error.strerror}); name another folder"
            raise Refusal(f"GRADIO_TEMP_DIR {asked} {why}") from error
        folder = Path(tempfile.mkdtemp(prefix="resnet_hub-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class Uploads:
    """The files below a folder, deleted at an age.

    Args:
        folder: of uploads alone.
        seconds: the age, from a file's last change of any kind.
        every: seconds between sweeps.
    """

    def __init__(self, folder: Path, seconds: float, every: float) -> None:
        self.folder, self.seconds, self.every = folder, seconds, every
        self.held = 0  # bytes, at the last sweep and received since
        self.kept: Callable[[], Iterable[str]] = lambda: ()  # what is no visitor's: the examples' copies

    def sweep(self, until: float | None = None) -> list[str]:
        """Delete what is older, or from before a time, and empty folders; the names of the files deleted."""
        until = time.time() - self.seconds if until is None else until
        kept, deleted, held = {os.path.realpath(path) for path in self.kept()}, [], 0
        for here, _, files in os.walk(self.folder, topdown=False):
            for name in files:
                path = f"{here}{os.sep}{name}"
                with suppress(OSError):  # somebody else was faster
                    about = os.lstat(path)
                    # Not the time of modification: a copy keeps that of its original.
                    if about.st_ctime <= until and os.path.realpath(path) not in kept:
                        Path(path).unlink()
                        deleted.append(path)
                    else:
                        held += about.st_size
            with suppress(OSError):  # not empty; a young one may be about to be filled
                if here != str(self.folder) and os.lstat(here).st_ctime <= until:
                    Path(here).rmdir()
        self.held = held
        return deleted

    def clear(self) -> None:
        """Delete everything, at the end."""
        self.kept = lambda: ()
        self.sweep(until=math.inf)
        with suppress(OSError):
            self.folder.rmdir()

    def watch(self, after: Callable[[list[str]], None] = lambda deleted: None) -> None:
        """Sweep now and from now on."""

        def work() -> None:
            while True:
                time.sleep(self.every)
                with suppress(Exception):  # the next one may succeed
                    after(self.sweep())

        self.sweep()
        threading.Thread(target=work, name="uploads", daemon=True).start()

    def clear_at_the_end(self) -> None:
        """Clear at SIGTERM, and at an ordinary exit; to be called by the main thread."""
        atexit.register(self.clear)
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, number: int, frame: object) -> None:
        self.clear()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # end as if there were no handler
        os._exit(128 + number)  # in a container: the first process has no default for a signal
