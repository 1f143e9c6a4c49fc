"""The running app under a stranger's requests."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import pytest
from helpers import ROOT
from helpers.images import scan_bomb
from helpers.serving import free_port, served

from resnet_hub.ui.shared.page import EXAMPLES

PHOTO = {"meta": {"_type": "gradio.FileData"}}


def sent(address: str, name: str, data: bytes) -> dict:
    """A file uploaded as the page does it."""
    [path] = httpx.post(f"{address}gradio_api/upload", files={"files": (name, data)}, timeout=120).json()
    return {"path": path} | PHOTO


def event(address: str, name: str) -> int:
    config = httpx.get(f"{address}config", timeout=60).json()
    return next(each["id"] for each in config["dependencies"] if each["api_name"] == name)


def answer(address: str, name: str, data: list) -> dict:
    """What the queue answers to a bare request."""
    session = uuid.uuid4().hex
    request = {"data": data, "fn_index": event(address, name), "session_hash": session}
    httpx.post(f"{address}gradio_api/queue/join", json=request, timeout=120).raise_for_status()
    stream = f"{address}gradio_api/queue/data"
    with httpx.stream("GET", stream, params={"session_hash": session}, timeout=120) as lines:
        line = next(line for line in lines.iter_lines() if "process_completed" in line)
    return json.loads(line.removeprefix("data:"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """(address, folder) of `python PATH/app.py`, started in another directory, with its own uploads."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with served([sys.executable, str(ROOT / "app.py")], folder, cwd=folder) as address:
        yield address, folder


def test_an_example_is_answered_wherever_the_app_was_started(elsewhere):
    address, _ = elsewhere
    config = httpx.get(f"{address}config", timeout=60).json()
    gallery = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == "examples")
    click = next(each for each in config["dependencies"] if [gallery, "click"] in map(list, each["targets"]))
    request = {"data": [], "fn_index": click["id"], "session_hash": uuid.uuid4().hex}
    request["event_data"] = {"example": EXAMPLES[0].stem}
    shown = httpx.post(f"{address}gradio_api/run/predict", json=request, timeout=60).json()["data"][0]
    assert shown["path"].endswith(EXAMPLES[0].name)
    assert answer(address, "classify", [shown | PHOTO, "resnet20_cifar10", "en"])["success"]


@pytest.mark.parametrize("name", ["classify", "compare"])
def test_direct_calls_that_pass_by_the_queue_are_closed(elsewhere, name):
    address, _ = elsewhere
    for path in ("run", "api"):
        reply = httpx.post(f"{address}gradio_api/{path}/{name}", json={"data": [None, "x", "en"]}, timeout=60)
        assert reply.status_code == 404


@pytest.mark.parametrize("name", ["classify", "compare"])
def test_null_is_an_error_for_a_program(elsewhere, name):
    address, _ = elsewhere
    data = [None, "resnet20_cifar10"] + (["counterpart"] if name == "compare" else []) + ["en"]
    reply = answer(address, name, data)
    assert not reply["success"] and "No image was sent" in reply["output"]["error"]


def test_a_scan_bomb_is_refused_at_once(elsewhere):
    address, _ = elsewhere
    bomb = sent(address, "bomb.jpg", scan_bomb(2000))
    started = time.monotonic()
    reply = answer(address, "classify", [bomb, "resnet20_cifar10", "en"])
    assert "scans" in reply["output"]["error"] or "layers" in reply["output"]["error"]
    assert time.monotonic() - started < 20


ODD = [5, "x", [], {}, {"path": 5}, {"url": ["x"]}, {"path": "/etc/passwd"} | PHOTO, "\u202e\x1b[31m"]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_values_of_wrong_types_are_refused_without_traceback_or_folder(elsewhere, odd):
    address, folder = elsewhere
    for name, inputs in (("classify", 3), ("compare", 4), ("explore", 7)):
        reply = answer(address, name, [odd] + [None] * (inputs - 1))
        assert (
            not reply["success"]
            and str(folder) not in json.dumps(reply)
            and str(ROOT) not in json.dumps(reply)
        )
    assert "Traceback" not in (folder / "log.txt").read_text()


def test_long_names_are_bounded(elsewhere):
    address, _ = elsewhere
    photo = sent(address, "photo.png", EXAMPLES[0].read_bytes())
    long = "m" * 5_000_000
    for name, data in (("classify", [photo, long, "en"]), ("explore", [long] + [None] * 6)):
        reply = answer(address, name, data)
        assert not reply["success"] and len(json.dumps(reply)) < 5000


def test_nothing_is_left_after_sigterm(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    process, port = None, free_port()
    try:
        log = tmp_path / "log.txt"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
                cwd=tmp_path,
                env=environment | {"TMPDIR": str(tmp_path / "tmp")},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        (tmp_path / "tmp").mkdir(exist_ok=True)
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            try:
                photo = sent(f"http://127.0.0.1:{port}/", "photo.png", b"x" * 100)
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        assert Path(photo["path"]).exists()
    finally:
        if process:
            process.terminate()
            process.wait(20)
    assert not [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]
