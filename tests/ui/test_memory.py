"""The page gives back what it no longer needs, and says what it holds."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers import ROOT

from resnet_hub.ui import memory

IN_MANY_THREADS = """
import sys, threading
from resnet_hub.ui.memory import bound_heaps, give_back, resident
bound_heaps()
def work():
    blocks = [bytearray(40_000) for _ in range(3000)]  # below every threshold: from the heap
    barrier.wait()
    still_used.append(blocks[::20])  # so what is freed are holes, which free() keeps
before, barrier, still_used = resident(), threading.Barrier(8), []
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
held = resident() - before
give_back()
print(*[amount / (8 * 3000 * 40_000) for amount in (held, resident() - before)])
"""


@pytest.mark.skipif(memory.libc() is None, reason="glibc's heaps, and this is another library")
def test_what_threads_freed_goes_back_to_the_system():
    ran = subprocess.run(
        [sys.executable, "-c", IN_MANY_THREADS], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    freed_alone, given_back = map(float, ran.stdout.split())
    assert freed_alone > 0.5 and given_back < 0.1, ran.stderr


def test_memory_is_known_and_looked_at():
    watch = memory.Watch()
    assert memory.resident() > 1_000_000
    assert watch.look().most >= watch.memory.settled > 0


FROZEN = """
import gc
from resnet_hub.ui.memory import Watch
kept = [[i] for i in range(50_000)]
Watch().start()
new = [[i] for i in range(100)]
print(gc.get_freeze_count(), len(gc.get_objects()))
"""


def test_a_collection_looks_through_nothing_that_the_start_made():
    ran = subprocess.run(
        [sys.executable, "-c", FROZEN], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    frozen, looked_through = map(int, ran.stdout.split())
    assert frozen > 50_000 and looked_through < 10_000, ran.stderr
