"""The running app under a stranger's requests."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from helpers import ROOT
from helpers.asking import PHOTO, answer, ask, classify_zip, event, sent, told, upload, zipped
from helpers.images import scan_bomb
from helpers.serving import free_port, served

from resnet_hub.ui.shared.page import EXAMPLES
from resnet_hub.ui.shared.text import say


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """(address, folder) of `python PATH/app.py`, started in another directory, with its own uploads."""
    folder = tmp_path_factory.mktemp("elsewhere")
    command = [
        sys.executable,
        str(ROOT / "app.py"),
        "--operations",
        "--log-json",
        "--limit",
        "decode_seconds=2",
        "--models-only-from",
        "owner/offered",
    ]
    with served(command, folder, cwd=folder) as address:
        yield address, folder


def test_an_example_is_answered_wherever_the_app_was_started_and_logged_as_json(elsewhere):
    address, folder = elsewhere
    config = httpx.get(f"{address}config", timeout=60).json()
    gallery = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == "examples")
    click = next(each for each in config["dependencies"] if [gallery, "click"] in map(list, each["targets"]))
    request = {"data": [], "fn_index": click["id"], "session_hash": uuid.uuid4().hex}
    request["event_data"] = {"example": EXAMPLES[0].stem}
    shown = httpx.post(f"{address}gradio_api/run/predict", json=request, timeout=60).json()["data"][0]
    assert shown["path"].endswith(EXAMPLES[0].name)
    assert answer(address, "classify", [shown | PHOTO, "resnet20_cifar10", "en"])["success"]
    lines = [line for line in (folder / "log.txt").read_text().splitlines() if line.startswith("{")]
    assert any(json.loads(line)["model"] == "resnet20_cifar10" for line in lines)


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
    assert "scans and would take too long to read" in reply["output"]["error"]
    assert time.monotonic() - started < 20


def test_an_image_that_decodes_for_ever_is_given_up_while_others_are_answered(elsewhere):
    address, folder = elsewhere
    side = 1700  # nine million numbers, which PIL reads in Python
    slow = sent(address, "slow.ppm", b"P3\n%d %d\n255\n" % (side, side) + b"1 " * (3 * side * side))
    data = [slow, "resnet20_cifar10", "en"]
    hostile = [ask(address, event(address, "classify"), data) for _ in range(6)]
    photo = sent(address, "photo.jpg", EXAMPLES[0].read_bytes())
    assert answer(address, "classify", [photo, "resnet20_cifar10", "en"])["success"]
    said = [told(address, session)["output"]["error"] for session in hostile]
    assert any("too long to read" in each for each in said)
    assert all("too long to read" in each or "Several large images" in each for each in said)
    assert "Traceback" not in (folder / "log.txt").read_text()


def memory(address: str) -> int:
    lines = httpx.get(f"{address}metrics", timeout=60).text.splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("resnet_hub_memory_bytes "))


@contextmanager
def watched_memory(address: str):
    """The app's memory while the block runs, in a list that ends with what it is afterwards."""
    seen, done = [], threading.Event()

    def look():
        while not done.wait(0.05):
            seen.append(memory(address))

    (thread := threading.Thread(target=look)).start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
        seen.append(memory(address))


def test_a_zip_bomb_in_results_is_refused_in_little_memory(elsewhere):
    address, _ = elsewhere
    photo = EXAMPLES[0].read_bytes()
    honest = told(address, classify_zip(address, upload(address, "a.zip", zipped({"cat/1.jpg": photo})),
                                        "resnet20_cifar10"))  # fmt: skip
    assert honest["success"], honest
    before = memory(address)
    bomb = zipped({"cat/1.png": bytes(1_000_000_000)})
    lying = bomb.replace((1_000_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    with watched_memory(address) as seen:
        for data, said in (
            (bomb, say("en", "grid_too_large", most=60)),
            (lying, "is damaged, or its compression"),
        ):
            reply = told(address, classify_zip(address, upload(address, "b.zip", data), "resnet20_cifar10"))
            assert said in json.dumps(reply, ensure_ascii=False), reply
    assert seen[-1] < before + 100_000_000 and max(seen) < before + 400_000_000
    scans = zipped({"cat/1.jpg": scan_bomb(2000), "cat/2.jpg": photo})
    reply = told(address, classify_zip(address, upload(address, "c.zip", scans), "resnet20_cifar10"))
    assert reply["success"]


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


def test_a_photo_inside_the_network_is_not_fetched(elsewhere):
    address, folder = elsewhere
    reply = answer(address, "classify", [{"path": f"{address}config"} | PHOTO, None, "en"])
    assert say("en", "address_not_fetched") in json.dumps(reply, ensure_ascii=False)
    assert httpx.get(f"{address}gradio_api/file={address}config").status_code == 404
    assert "Traceback" not in (folder / "log.txt").read_text()


def test_a_model_that_is_not_on_the_owner_s_list_is_refused_with_those_that_are(elsewhere):
    address, _ = elsewhere
    photo = sent(address, "photo.png", EXAMPLES[0].read_bytes())
    reply = answer(address, "classify", [photo, "owner/other", "en"])
    assert "“owner/other” is not offered here" in reply["output"]["error"]
    assert "owner/offered" in reply["output"]["error"]


def test_long_names_are_bounded(elsewhere):
    address, _ = elsewhere
    photo = sent(address, "photo.png", EXAMPLES[0].read_bytes())
    long = "m" * 5_000_000
    for name, data in (("classify", [photo, long, "en"]), ("explore", [long] + [None] * 6)):
        reply = answer(address, name, data)
        assert not reply["success"] and len(json.dumps(reply)) < 5000


def test_uploads_are_deleted_at_their_age_and_none_is_left_after_sigterm(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    environment |= {"TMPDIR": str(tmp_path / "tmp"), "RESNET_HUB_UPLOAD_SECONDS": "6"}
    process, port = None, free_port()
    try:
        log = tmp_path / "log.txt"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "app.py"), "--port", str(port), "--limit", "sweep_seconds=1"],
                cwd=tmp_path,
                env=environment,
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
        old = Path(photo["path"])
        assert old.is_relative_to(tmp_path / "tmp") and old.exists()
        while time.monotonic() < until and old.exists():
            time.sleep(0.1)
        assert not old.exists()
        young = Path(sent(f"http://127.0.0.1:{port}/", "photo.png", b"x" * 100)["path"])
        assert young.exists()
    finally:
        if process:
            process.terminate()
            process.wait(20)
    assert not young.exists()
    assert not [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]
