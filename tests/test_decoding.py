"""Images decoded in a process that can be ended: the same pixels, a deadline, no more than a few waiting."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from helpers.images import image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet_hub import decoding, preprocess
from resnet_hub.decoding import Decoder
from resnet_hub.preprocess import ImageError, Preprocess, load_image


@pytest.fixture(scope="module")
def process():
    one = Decoder(seconds=60)
    yield one
    one.end()


@pytest.fixture
def decoder(process):
    preprocess.decode_apart(process.decode)
    yield process
    preprocess.decode_apart(None)


def encoded(mode: str = "RGB", kind: str = "png", size: tuple[int, int] = (90, 60), **options) -> bytes:
    image(0, size).convert(mode).save(buffer := BytesIO(), kind, **options)
    return buffer.getvalue()


def plain_ppm(numbers: int) -> bytes:
    """A text of numbers that PIL reads in Python, some seconds a megabyte."""
    side = int((numbers / 3) ** 0.5) + 1
    return b"P3\n%d %d\n255\n" % (side, side) + b"1 " * (3 * side * side)


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(data)
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("then", [None, Preprocess().crop, lambda image: image.rotate(90)])
@pytest.mark.parametrize(("kind", "options"), [("png", {}), ("jpeg", {"progressive": True}), ("webp", {})])
def test_the_pixels_are_those_of_this_process(decoder, kind, options, then):
    data = encoded("RGB", kind, **options)
    there, here = decoder.decode(data, then=then), preprocess.decode(data, then=then)
    assert (there.mode, there.size) == (here.mode, here.size)
    np.testing.assert_array_equal(np.asarray(there), np.asarray(here))


def test_a_grey_crop_comes_back_as_it_is(decoder):
    grey = Preprocess(input_size=(1, 28, 28), mean=(0.5,), std=(0.5,)).crop
    assert decoder.decode(encoded(), then=grey).mode == "L"


def test_an_ordinary_photo_starts_no_process(monkeypatch):
    monkeypatch.setattr(decoding, "start", lambda: pytest.fail("a process was started"))
    preprocess.decode_apart(Decoder().decode)
    try:
        for data in (encoded("RGB", "jpeg", (4000, 3000)), encoded("RGB", "png", (1600, 900))):
            load_image(data)
    finally:
        preprocess.decode_apart(None)


@pytest.mark.parametrize("name", ["progressive", "png", "ppm", "tiff", "chunks"])
def test_what_may_be_dear_is_decoded_there(decoder, monkeypatch, name):
    data = {
        "progressive": lambda: encoded("L", "jpeg", (3000, 3000), progressive=True),
        "png": lambda: encoded("L", "png", (2400, 1700)),
        "ppm": lambda: plain_ppm(60_000),
        "tiff": lambda: encoded("RGB", "tiff"),
        "chunks": lambda: encoded() + bytes(preprocess.DEAR_BYTES),
    }[name]()
    monkeypatch.setattr(preprocess, "_decoded", lambda *_: pytest.fail("it was decoded here"))
    load_image(data)


def test_what_is_refused_there_is_refused_here_in_the_same_words(decoder):
    broken = encoded(size=(300, 300))[:-60_000]
    for data in (b"P3\n900000 900000\n255\n" + b"1 " * 60_000, broken + bytes(preprocess.DEAR_BYTES)):
        with pytest.raises(ImageError) as here:
            preprocess.decode(data)
        with pytest.raises(ImageError) as there:
            load_image(data)
        assert (str(there.value), there.value.code, there.value.facts) == (
            str(here.value), here.value.code, here.value.facts
        )  # fmt: skip


def test_the_deadline_ends_the_process_and_the_next_image_is_read(decoder, monkeypatch):
    decoder.decode(encoded())
    first = decoder._process
    monkeypatch.setattr(decoder, "seconds", 0.5)
    started = time.monotonic()
    assert refused(plain_ppm(9_000_000)) == "too_slow"
    assert time.monotonic() - started < 20 and first.wait(10)
    monkeypatch.setattr(decoder, "seconds", 60)
    assert decoder.decode(encoded()).size == (90, 60)


def test_only_a_few_wait_and_the_rest_are_refused_at_once():
    few = Decoder(waiting=1)
    with few._one:  # as while an image is decoded
        waiting = [threading.Thread(target=few.decode, args=(encoded(),)) for _ in range(2)]
        for each in waiting:
            each.start()
        until = time.monotonic() + 10
        while few._places._value and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(ImageError) as caught:
            few.decode(encoded())
        assert caught.value.code == "crowded"
    for each in waiting:
        each.join()
    few.end()


def test_a_fork_has_a_process_of_its_own(decoder):
    decoder.decode(encoded())
    with decoder._one:  # as where another thread of the parent decodes
        child = os.fork()
        if not child:
            ok = decoder.decode(encoded()).size == (90, 60)
            decoder.end()
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert decoder.decode(encoded()).size == (90, 60)


def test_a_process_that_ended_by_itself_is_replaced(decoder):
    decoder.decode(encoded())
    decoder._process.kill()
    decoder._process.wait()
    assert decoder.decode(encoded()).size == (90, 60)


def test_a_process_that_says_nothing_is_replaced(decoder, monkeypatch):
    decoder.decode(encoded())
    silent = decoder._process
    real = decoding.ended_after
    soon = lambda process, seconds: real(process, 0.5 if process is silent else seconds)  # noqa: E731
    monkeypatch.setattr(decoding, "ended_after", soon)
    os.kill(silent.pid, signal.SIGSTOP)
    assert decoder.decode(encoded()).size == (90, 60) and silent.wait(10)


def test_what_an_unexpected_error_leaves_behind_is_nobody_else_s_answer(decoder, monkeypatch):
    def full(pipe):
        raise MemoryError

    decoder.decode(encoded())
    left = decoder._process
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "answer", full)
        with pytest.raises(MemoryError):
            decoder.decode(encoded())
    assert left.wait(10)
    assert decoder.decode(encoded(size=(40, 30))).size == (40, 30)


@pytest.mark.skipif(not os.path.exists("/proc"), reason="reads /proc")  # noqa: PTH110
def test_the_process_takes_bounded_memory(decoder):
    decoder.decode(encoded())
    limits = open(f"/proc/{decoder._process.pid}/limits").read()  # noqa: PTH123, SIM115
    line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert line.split()[3] == str(decoding.MOST_MEMORY)


@settings(max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda said, pixels: decoding.LENGTHS.pack(len(said), len(pixels)) + said + pixels,
            st.one_of(
                st.binary(max_size=40),
                st.recursive(
                    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["RGB", "L", "P"]),
                    lambda inner: (
                        st.lists(inner, max_size=3)
                        | st.dictionaries(
                            st.sampled_from(["mode", "size", "message", "code", "facts"]), inner
                        )
                    ),
                    max_leaves=6,
                ).map(lambda value: json.dumps(value).encode()),
            ),
            st.binary(max_size=20),
        ),
    )
)
def test_whatever_a_captured_process_sends_is_an_image_or_refused(sent):
    with suppress(ImageError, ValueError, EOFError):
        assert isinstance(decoding.answer(BytesIO(sent)), Image.Image)
