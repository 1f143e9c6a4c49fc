"""The page gives back what it no longer needs, and says what it holds."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from helpers import ROOT

from resnet_hub.ui import memory
from resnet_hub.ui.lab.turns import Visitors

IN_MANY_THREADS = """
import sys, threading
from resnet_hub.ui.memory import bound_heaps, give_back, resident
bound_heaps()
def work():
    kept = [bytearray(40_000) for _ in range(3000)]  # below every threshold: from the heap
    barrier.wait()
before, barrier = resident(), threading.Barrier(8)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
give_back()
print((resident() - before) / (8 * 3000 * 40_000))
"""


@pytest.mark.skipif(memory.libc() is None, reason="glibc's heaps, and this is another library")
def test_what_threads_freed_goes_back_to_the_system():
    ran = subprocess.run(
        [sys.executable, "-c", IN_MANY_THREADS], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert float(ran.stdout) < 0.1, ran.stderr


def test_memory_is_known_and_looked_at():
    watch = memory.Watch()
    assert memory.resident() > 1_000_000
    assert watch.look().most >= watch.memory.settled > 0


# The Lab's questions


def test_a_visitor_s_questions_are_answered_in_order_and_the_others_do_not_wait():
    visitors, entered, go = Visitors(), threading.Event(), threading.Event()

    def slow():
        with visitors.turn("a", 1.0):
            entered.set()
            assert go.wait(20)

    thread = threading.Thread(target=slow)
    thread.start()
    assert entered.wait(20)
    with visitors.turn("b", 1.0) as is_wanted:
        assert is_wanted
    go.set()
    thread.join(20)
    with visitors.turn("a", 2.0) as is_wanted:
        assert is_wanted
    with visitors.turn("a", 1.0) as is_wanted:
        assert not is_wanted


def test_a_question_that_a_later_one_overtook_while_waiting_is_skipped():
    visitors = Visitors()
    found = {}

    def ask(order):
        with visitors.turn("a", order, skips=True) as is_wanted:
            found[order] = is_wanted

    with visitors.turn("a", 1.0):
        threads = [threading.Thread(target=ask, args=(order,)) for order in (2.0, 3.0)]
        for thread in threads:
            thread.start()
        for _ in range(2000):
            if visitors._visitors.items()[0][1].asked == 3.0:
                break
            threading.Event().wait(0.005)
    for thread in threads:
        thread.join(20)
    assert found[3.0] and len(found) == 2
