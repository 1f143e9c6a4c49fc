"""The operations tab's counts: percentiles, threads, failures."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from resnet_hub.ui.operations import report
from resnet_hub.ui.recorder import KEPT, MOST_MODELS, Recorder, percentile


def test_percentiles_are_nearest_ranks():
    values = sorted(np.random.default_rng(0).permutation(100).astype(float).tolist())
    assert [percentile(values, share) for share in (50, 95, 99)] == [49, 94, 98]
    oracle = [float(np.percentile(values, share, method="inverted_cdf")) for share in (50, 95, 99)]
    assert [percentile(values, share) for share in (50, 95, 99)] == oracle
    assert percentile([], 50) is None


def test_the_recorder_counts_from_many_threads_in_bounded_memory():
    recorder = Recorder()

    def work(seed: int) -> None:
        for i in range(500):
            recorder.answered("net", "r1", 0.01 * (i % 10 + 1), flagged=i % 5 == 0)
            if i % 10 == 0:
                recorder.failed("net", "r1")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (line,) = recorder.lines()
    assert line.requests == 8 * 550 and line.errors == pytest.approx(50 / 550)
    assert line.flagged == pytest.approx(0.2) and line.latencies == pytest.approx((0.05, 0.1, 0.1), abs=0.011)
    assert len(dict(recorder._counts.items())["net", "r1"].seconds) == KEPT
    for i in range(3 * MOST_MODELS):
        recorder.failed(f"net{i}", "")
    assert len(recorder.lines()) == MOST_MODELS


def test_failures_are_counted_and_raised():
    recorder = Recorder()
    with pytest.raises(KeyError), recorder.failures("net", "r2"):
        raise KeyError("x")
    assert dataclasses.astuple(recorder.lines()[0])[:3] == ("net", "r2", 1)
    assert "100.0 %" in report("en", recorder) and "<script>" not in report("en", recorder)
