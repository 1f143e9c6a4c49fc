"""Reading ahead keeps the order and the errors."""

from __future__ import annotations

import threading

import pytest

import resnet_hub
from resnet_hub.predict import classify, classify_files
from resnet_hub.preprocess import ImageError
from resnet_hub.reading import ahead, crops


def test_results_come_in_order_and_not_all_at_once():
    taken, started = 0, []

    def slow(i):
        started.append(i)
        return i

    for i in ahead(slow, range(100), most=4):
        assert i == taken
        taken += 1
        assert max(started) <= taken + 4
    assert taken == 100


def test_sources_are_read_by_other_threads():
    assert threading.get_ident() not in set(ahead(lambda _: threading.get_ident(), range(8)))


def test_who_stops_listening_stops_the_reading():
    started = []
    for _ in ahead(started.append, range(1000), most=4):
        break
    assert len(started) < 20


def test_a_broken_file_is_its_error_at_its_place(photo, tmp_path):
    (tmp_path / "note.jpg").write_text("not an image")
    model = resnet_hub.from_pretrained("resnet8_cifar10")
    found = list(classify_files(model, [photo, tmp_path / "note.jpg", photo]))
    assert isinstance(found[1], ImageError)
    shares = [dict(each.top) for each in (found[0], found[2], classify(model, [photo])[0])]
    assert shares == [pytest.approx(shares[0], abs=1e-4)] * 3
    assert [isinstance(each, ImageError) for each in crops([tmp_path / "no", photo], model.preprocess)] == [
        True,
        False,
    ]
