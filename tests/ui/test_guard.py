"""What a stranger's request may be, and what becomes of visitors' files."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_hub.errors import Refusal
from resnet_hub.predict import DEFAULT_MODEL
from resnet_hub.ui.limits import Limits, read_limits, table
from resnet_hub.ui.shared import uploads
from resnet_hub.ui.shared.guard import MOST_ADDRESSES, Guard, Rate
from resnet_hub.ui.shared.text import say
from resnet_hub.ui.shared.uploads import Uploads
from resnet_hub.ui.shelf import Crowded, Recent, Shelf, Turns

SMALL = Limits(request_bytes=100_000, request_items=1000, upload_request_bytes=200_000)


def asked(parts, path="/gradio_api/queue/join", status=200, limits=SMALL, held=0, client=None, **headers):
    """(status, headers, body, what the app read) of a request whose body comes in `parts`."""
    sent, read = [], []

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            read.append(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"from gradio"})

    waiting = [
        {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
        for i, part in enumerate(parts)
    ]

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    folder = Uploads(ROOT, 600, 60)
    folder.held = held
    names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": names, "client": client}
    with ThreadPoolExecutor(1) as thread:  # a browser test in this process keeps a loop running in ours
        thread.submit(asyncio.run, Guard(app, limits, folder)(scope, receive, send)).result()
    start, *bodies = sent
    return start["status"], dict(start["headers"]), b"".join(each["body"] for each in bodies), b"".join(read)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_a_body_within_the_limits_reaches_the_app_as_it_was_sent(parts):
    status, headers, body, read = asked(parts)
    assert (status, body, read) == (200, b"from gradio", b"".join(parts))
    assert b"default-src 'self'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(("path", "most"), [("/gradio_api/run", 100_000), ("/gradio_api/upload", 200_000)])
def test_a_body_above_the_limit_is_refused_whether_or_not_it_says_its_length(path, most):
    for parts, headers in (([b""], {"content_length": str(most + 1)}), ([bytes(60_000)] * 4, {})):
        status, _, body, read = asked(parts, path, accept_language="ja", **headers)
        assert status == 413 and len(read) <= most
        if path.endswith("upload"):  # Gradio's clients show what comes with it as it is
            assert body.decode().startswith("送信データが大きすぎます")
        else:
            assert "大きすぎます" in json.loads(body)["detail"] == json.loads(body)["error"]


@settings(max_examples=20)
@given(st.sampled_from(["[", "{", '"a":', "1,"]), st.integers(1, 10))
def test_json_of_many_small_things_is_refused_however_it_is_cut(piece, cuts):
    text = (piece * 2000).encode()
    parts = [text[i::cuts] for i in range(cuts)]
    assert asked(parts)[0] == 413
    assert asked(parts, "/gradio_api/upload")[0] == 200  # files are no JSON


def test_a_full_queue_is_said_in_the_visitor_s_language():
    status, _, body, _ = asked([b"{}"], status=503, accept_language="ja")
    assert status == 503 and "順番待ち" in json.loads(body)["detail"]
    switched = "http://127.0.0.1/?tab=lab&lang=en"
    _, _, body, _ = asked([b"{}"], status=503, accept_language="ja", referer=switched)
    assert json.loads(body)["detail"] == say("en", "queue_full")


def test_no_more_is_uploaded_than_the_disk_may_hold():
    status, _, body, read = asked([b"x"], "/gradio_api/upload", held=3 * 10**9)
    assert status == 503 and not read and body.decode() == say("en", "uploads_full")


def test_bytes_of_uploads_count_before_the_next_sweep(tmp_path):
    uploads = Uploads(tmp_path, 600, 60)
    waiting = [{"type": "http.request", "body": bytes(700), "more_body": False}]

    async def receive():
        return waiting.pop()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, Guard(None, SMALL, uploads).held(receive)()).result()
    assert uploads.held == 700
    uploads.sweep()
    assert uploads.held == 0


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=https://a.org/x.png", "/file/http://a.org/x", "/r/gradio_api/file=HTTP://a.org/x"],
)
def test_no_file_of_another_host_is_sent_on(path):
    status, _, body, read = asked([b""], path)
    assert status == 404 and not read and b"from gradio" not in body


def test_one_address_uploads_only_so_often_in_a_minute():
    now = 0.0
    rate = Rate(3, lambda: now)
    assert [rate.allows("a") for _ in range(4)] == [True] * 3 + [False]
    assert rate.allows("b")
    now = 60.0
    assert rate.allows("a")
    for i in range(250_000):
        rate.allows(str(i))
    assert len(rate._counts) <= MOST_ADDRESSES + 1


def test_who_uploads_too_often_is_told_in_their_language(monkeypatch):
    monkeypatch.setattr(Rate, "allows", lambda self, address: address != "::9")
    assert asked([b"x"], "/gradio_api/upload")[0] == 200
    status, _, body, read = asked([b"x"], "/gradio_api/upload", client=("::9", 1), accept_language="ja")
    assert status == 429 and not read and body.decode() == say("ja", "uploads_too_often")
    assert asked([b"x"], client=("::9", 1))[0] == 200  # no upload


@pytest.mark.parametrize("path", ["/gradio_api/deep_link", "/gradio_api/process_recording"])
def test_what_writes_to_the_disk_unasked_is_closed(path):
    assert asked([b""], path)[0] == 404


# Uploads


def test_files_are_deleted_at_their_age_wherever_they_are_and_however_they_came(tmp_path):
    kept = tmp_path / "aaa" / "example.jpg"
    for path in (
        kept,
        tmp_path / "bbb" / "photo.jpg",
        tmp_path / "tmpcutoff",
        tmp_path / "deep_links/x/state.json",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (0, 0))  # a copy keeps its original's time, and is young all the same
    folder = Uploads(tmp_path, 60, 60)
    folder.kept = lambda: [str(kept)]
    assert not folder.sweep() and folder.held == 400
    assert len(folder.sweep(time.time() + 1)) == 3 and folder.held == 100 and kept.exists()
    folder.clear()
    assert not tmp_path.exists()


def test_uploads_that_arrive_during_a_sweep_do_not_end_it(tmp_path):
    folder = Uploads(tmp_path, 0.05, 0.01)
    folder.watch()
    until = time.monotonic() + 2

    def upload(visitor: int) -> None:
        count = 0
        while time.monotonic() < until:
            path = tmp_path / f"{visitor}-{(count := count + 1)}" / "photo.jpg"
            path.parent.mkdir()
            with suppress(FileNotFoundError):  # the folder was swept before
                path.write_bytes(b"x")
            time.sleep(0.002)

    visitors = [threading.Thread(target=upload, args=(i,)) for i in range(4)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    until = time.monotonic() + 20
    while (left := [*os.walk(tmp_path)][1:]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def test_the_folder_is_this_process_s_own_and_those_of_dead_ones_go(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # which is put back, whatever is set here
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    monkeypatch.setattr(uploads.tempfile, "gettempdir", lambda: str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    parent = tmp_path / f"resnet_hub-{os.getuid()}"
    for name in (dead.pid, 1):
        (parent / str(name)).mkdir(parents=True)
        (parent / str(name) / "photo.jpg").touch()
    folder = uploads.own_folder()
    assert folder == parent / str(os.getpid()) and folder.stat().st_mode & 0o77 == 0
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
    assert not (parent / str(dead.pid)).exists() and (parent / "1" / "photo.jpg").exists()


def test_a_folder_that_the_owner_names_is_shared_and_its_other_files_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "asked"))
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "thesis.pdf").touch()
    own = Uploads(uploads.own_folder(), 0, 60)
    assert own.folder.is_relative_to(tmp_path / "asked") and os.environ["GRADIO_TEMP_DIR"] == str(own.folder)
    (own.folder / "photo.jpg").touch()
    own.clear()
    assert (tmp_path / "asked" / "thesis.pdf").exists() and not own.folder.exists()


# Limits


def test_a_limit_is_changed_by_the_environment_and_by_a_flag():
    limits = read_limits(["sessions=5"], {"RESNET_HUB_SESSIONS": "7", "RESNET_HUB_WAITING": "9"})
    assert (limits.sessions, limits.waiting, limits.models) == (5, 9, Limits().models)
    shown = table(limits)
    assert len(shown.splitlines()) == len(Limits.__dataclass_fields__) + 3


@pytest.mark.parametrize("flag", ["nothing=1", "sessions=0", "sessions=-1", "sessions=many", "=", ""])
def test_a_wrong_limit_is_one_clear_line(flag):
    with pytest.raises(Refusal, match="limit"):
        read_limits([flag], {})


def test_the_table_is_printed():
    out = subprocess.run(
        [sys.executable, "app.py", "--limits", "--limit", "sessions=1234"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "1,234" in out and "decoded_pixels" in out


def test_models_are_bounded_by_their_bytes():
    kept: Recent[str, int] = Recent(4, 100, lambda weight: weight)
    for key, weight in (("a", 40), ("b", 40), ("c", 40)):
        kept.put(key, weight)
    assert [key for key, _ in kept.items()] == ["b", "c"]
    kept.put("d", 1000)  # the last one stays, however large
    assert [key for key, _ in kept.items()] == ["d"]
    kept.put("d", 10)
    kept.put("e", 90)
    assert [key for key, _ in kept.items()] == ["d", "e"]


def test_a_slow_model_of_a_visitor_s_takes_half_of_the_places_and_no_more():
    shelf = Shelf(limits=Limits())
    with ExitStack() as held:
        slow = threading.Thread(
            target=lambda: [held.enter_context(shelf.computing("who/ever")) for _ in range(4)]
        )
        slow.start()
        slow.join()
        waiting = [
            threading.Thread(target=lambda: shelf.computing("who/ever").__enter__(), daemon=True)
            for _ in range(2)
        ]
        for each in waiting:
            each.start()
        turns = shelf._computing.peek("who/ever", None)
        until = time.monotonic() + 10
        while turns._inside._value and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(Crowded) as error, shelf.computing("who/ever"):
            pass
        assert error.value.code == "model_busy" and say("ja", "model_busy") != say("en", "model_busy")
        with shelf.computing(DEFAULT_MODEL):  # nobody else waits
            pass


def test_loading_keeps_few_places_and_turns_the_rest_away():
    turns, inside, most = Turns(at_once=2, waiting=1, seconds=20), [], []
    leave = threading.Event()

    def work() -> None:
        with turns.take():
            inside.append(1)
            most.append(len(inside))
            leave.wait(20)
            inside.pop()

    loaders = [threading.Thread(target=work) for _ in range(3)]
    for loader in loaders:
        loader.start()
    until = time.monotonic() + 10
    while turns._inside._value and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(Crowded), turns.take():
        pass
    leave.set()
    for loader in loaders:
        loader.join()
    assert max(most) == 2
    with turns.take():
        pass
