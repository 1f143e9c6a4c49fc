"""What keeps the page's memory bounded: fewer heaps, large blocks outside them, freed pages given back.

glibc makes a heap for every few threads and keeps what is freed in each. A page answers on forty threads, so
every large photo leaves its hole in another heap. Elsewhere than on glibc all of this does nothing.
"""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from time import sleep
from typing import Any

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h
HEAPS = 2
LARGE_BLOCK = 8 << 20  # bytes; PIL allocates 16 MiB at a time, ResNet-50's largest map has 3
SECONDS = 20  # between two looks
WORTH = 32 << 20  # bytes by which memory has grown, to give some back


@dataclass
class Memory:
    """Bytes this process holds: after the start, the most that was seen, after pages were last given back."""

    started: int = 0
    most: int = 0
    settled: int = 0


def libc() -> Any:
    """glibc; None elsewhere."""
    with suppress(OSError, AttributeError):
        found = ctypes.CDLL("libc.so.6")
        found.malloc_trim, found.mallopt  # noqa: B018  # AttributeError where it is another library
        return found
    return None


def bound_heaps() -> None:
    """To be called before threads begin: few heaps, and every large block in pages of its own."""
    if (found := libc()) is not None:
        found.mallopt(M_ARENA_MAX, HEAPS)
        found.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def give_back() -> None:
    """Return freed memory to the system."""
    gc.collect()
    if (found := libc()) is not None:
        found.malloc_trim(0)


def resident() -> int:
    """Bytes of memory this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Looks at this process's memory now and then, and gives back what it has grown by."""

    def __init__(self) -> None:
        self.memory = Memory()
        self._lock = Lock()

    def start(self) -> None:
        """Take the memory of now for that after the start, and look from now on."""
        give_back()
        gc.freeze()  # else each collection stops all threads for 0.4 s, to look through what the start made
        self.memory = Memory(*[resident()] * 3)
        Thread(target=self._watch, name="memory", daemon=True).start()

    def _watch(self) -> None:
        while True:
            sleep(SECONDS)
            self.look()

    def look(self) -> Memory:
        """The memory, after giving back what was freed where there is much of it."""
        with self._lock:
            now = resident()
            self.memory.most = max(self.memory.most, now)
            if now > self.memory.settled + WORTH:
                give_back()
                self.memory.settled = resident()
            return self.memory
