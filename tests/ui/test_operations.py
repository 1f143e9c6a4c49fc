"""The operations tab's counts: percentiles, threads, failures."""

from __future__ import annotations

import dataclasses
import io
import json
import sqlite3
import threading

import numpy as np
import pytest

from resnet_hub.errors import Refusal
from resnet_hub.models.calibration import Calibration
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.operations import by_day, parts, report
from resnet_hub.ui.recorder import KEPT, MOST_MODELS, Recorder, json_line, metrics, percentile
from resnet_hub.ui.shared.errors import Toast, refusal, refuse


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


def test_a_full_disk_behind_the_log_costs_no_answer(monkeypatch):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    Recorder(log=json_line).answered("net", "r1", 0.1, flagged=False)


def test_each_days_counts_are_kept_across_restarts(tmp_path):
    for share in (0.5, 0.9):
        recorder = Recorder(tmp_path / "kept")
        recorder.answered("net", "r1", 0.1, flagged=share < 0.6, share=share)
        recorder.failed("net", "r1")
    (day,) = Recorder(tmp_path / "kept").days()
    assert day[1:6] == ("net", "r1", 2, 2, 0)
    assert (day.share("flagged"), day.share("top")) == pytest.approx((0.5, 0.7))
    assert day.latencies == pytest.approx((0.1, 0.1, 0.1), rel=0.1)
    for words in (day.day, "70.0 %", "50.0 %"):
        assert words in by_day("en", recorder) and words in by_day("ja", recorder)
    assert Recorder().days() == [] and by_day("en", Recorder()) == ""


def test_refusals_are_no_errors_and_trouble_of_the_hub_is_one(tmp_path):
    said: list[dict] = []
    recorder = Recorder(tmp_path, said.append)
    unknown = refuse("ja", "unknown_model", model="x", offered="y")
    gone = Toast("en", refusal("hub_unreachable", model="x"))
    for error in (ImageError("small", "truncated"), unknown, gone, ZeroDivisionError("private words")):
        with pytest.raises(type(error)), recorder.failures("net", "r1"):
            raise error
    (line,), (day,) = recorder.lines(), recorder.days()
    assert (line.counts.refused, line.counts.failed) == (2, 2) == (day.refused, day.failed)
    assert 'resnet_hub_refusals_total{model="net",revision="r1"} 2' in metrics(recorder).splitlines()
    assert [(each["event"], each["code"]) for each in said] == [
        ("refusal", "truncated"), ("refusal", "unknown_model"),
        ("error", "hub_unreachable"), ("error", "ZeroDivisionError"),
    ]  # fmt: skip
    assert "private" not in json.dumps(said)


def test_a_day_s_answers_stand_beside_what_the_card_states(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.expects("net", "r1", Calibration(false_alarms=0.05, firm_share=0.41))
    for i in range(10):
        recorder.answered("net", "r1", 0.1, flagged=i < 3, share=0.5, firm=i < 6)
    assert "30.0\N{NO-BREAK SPACE}% (card 5.0\N{NO-BREAK SPACE}%)" in by_day("en", recorder)
    assert "60.0\N{NO-BREAK SPACE}%（カード 41.0\N{NO-BREAK SPACE}%）" in by_day("ja", recorder)


def test_strangers_models_do_not_keep_the_owner_s_card_away(tmp_path):
    recorder = Recorder(tmp_path)
    for i in range(MOST_MODELS):
        recorder.expects(f"stranger/{i}", "r1", Calibration(false_alarms=0.5))
    recorder.expects("net", "r2", Calibration(false_alarms=0.05))
    recorder.answered("net", "r2", 0.1, flagged=False, share=0.5)
    assert "(card 5.0\N{NO-BREAK SPACE}%)" in by_day("en", recorder)


def test_percentiles_of_a_day_are_right_to_a_tenth(tmp_path):
    recorder, draw = Recorder(tmp_path), np.random.default_rng(1)
    seconds = draw.lognormal(-1.5, 1, 400)
    for each in seconds:
        recorder.answered("net", "r1", float(each), flagged=False)
    (day,) = Recorder(tmp_path).days()
    oracle = [np.percentile(seconds, share, method="inverted_cdf") for share in (50, 95, 99)]
    for found, exact in zip(day.latencies, oracle, strict=True):
        assert exact <= found <= 1.1 * exact


def test_counts_of_a_first_version_are_read_on(tmp_path):
    with sqlite3.connect(tmp_path / "operations.sqlite") as old:
        old.execute(
            "CREATE TABLE days (day TEXT, model TEXT, revision TEXT, answered INTEGER, failed INTEGER, "
            "flagged INTEGER, top REAL, PRIMARY KEY (day, model, revision))"
        )
        old.execute("INSERT INTO days VALUES ('2026-01-01', 'net', 'r1', 4, 1, 2, 3.0)")
    (day,) = Recorder(tmp_path).days()
    assert (day.answered, day.refused, day.firm, day.share("top")) == (4, 0, 0, 0.75)


def test_memory_is_told_by_part():
    recorder = Recorder()
    recorder.parts["models"] = lambda: 123_000_000
    assert 'resnet_hub_memory_part_bytes{part="models"} 123000000' in metrics(recorder).splitlines()
    assert "123 MB" in parts("en", recorder) and "モデル" in parts("ja", recorder)


def test_a_folder_for_the_counts_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match=r"--operations-dir .*name another folder"):
        Recorder(tmp_path / "file" / "kept")


def test_metrics_are_in_prometheus_format():
    recorder = Recorder()
    recorder.answered('a "net"', "r1", 0.25, flagged=True)
    recorder.failed('a "net"', "r1")
    lines = metrics(recorder).splitlines()
    names = 'model="a \\"net\\"",revision="r1"'
    for line in (
        "# TYPE resnet_hub_answers_total counter",
        f"resnet_hub_answers_total{{{names}}} 1",
        f"resnet_hub_errors_total{{{names}}} 1",
        f"resnet_hub_flagged_total{{{names}}} 1",
        f'resnet_hub_latency_seconds{{{names},quantile="0.5"}} 0.250000',
    ):
        assert line in lines
    assert int(lines[-1].split()[1]) > 10_000_000 and lines[-1].startswith("resnet_hub_memory_bytes ")
