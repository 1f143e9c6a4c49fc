"""The running app through its API, as another program uses it."""

import base64
import io
import json
import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from helpers import ROOT, asking
from helpers.asking import ask, component, event_of, sent, told
from helpers.images import image
from PIL import Image

import resnet_hub
from resnet_hub.predict import DEFAULT_MODEL
from resnet_hub.ui.shared.page import EXAMPLES
from resnet_hub.ui.shared.text import say


@pytest.fixture(scope="module")
def client(app_url, tmp_path_factory):
    return Client(app_url, verbose=False, download_files=str(tmp_path_factory.mktemp("client")))


@pytest.fixture(scope="module")
def model():
    return resnet_hub.from_pretrained(DEFAULT_MODEL)


def confidences(answer) -> dict[str, float]:
    return {c["label"]: c["confidence"] for c in answer[0]["confidences"]}


def test_classify_gives_the_library_s_own_answer(client, model, photo):
    expected = dict(model.predict(photo)[0])
    answer = confidences(client.predict(handle_file(str(photo)), api_name="/classify"))
    assert list(answer) == list(expected)
    assert answer == pytest.approx(expected, abs=1e-6)


def test_classify_takes_another_offered_model(client, app_folder, photo):
    other = str(app_folder / "other")
    expected = dict(resnet_hub.from_pretrained(other).predict(photo)[0])
    answer = confidences(client.predict(handle_file(str(photo)), other, api_name="/classify"))
    assert answer == pytest.approx(expected, abs=1e-6)


def test_the_panel_is_translated_and_the_labels_are_not(client, photo):
    english, japanese = (
        client.predict(handle_file(str(photo)), "resnet20_cifar10", language, api_name="/classify")
        for language in ("en", "ja")
    )
    assert say("en", "seen", width=32, height=32) in english[1]
    assert say("ja", "seen", width=32, height=32) in japanese[1]
    assert confidences(japanese) == pytest.approx(confidences(english), abs=1e-5)


API = {
    "/classify": ["image", "model"],
    "/compare": ["image", "model", "reference"],
    "/explore": ["model", "stem", "input_size", "strides", "maxpool", "stride_in"],
}


def test_the_api_has_the_fixed_names_and_every_input_after_the_first_a_default(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert endpoints.keys() == API.keys()
    for name, first in API.items():
        given = endpoints[name]["parameters"]
        assert [each["parameter_name"] for each in given][: len(first)] == first
        assert [each["parameter_has_default"] for each in given] == [False] + [True] * (len(given) - 1)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header claims 60000x60000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


BAD = {
    "empty.png": (lambda: b"", "empty"),
    "text.jpg": (lambda: b"this is not an image", "not an image"),
    "truncated.jpg": (lambda: encoded(image(1, (400, 300)), "jpeg")[:2000], "is incomplete"),
    "bomb.png": (bomb, "million pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_one_clear_line_and_the_service_goes_on(client, photo, tmp_path, name):
    make, expected = BAD[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(AppError) as error:
        client.predict(handle_file(str(tmp_path / name)), api_name="/classify")
    assert expected in str(error.value) and "\n" not in str(error.value)
    assert confidences(client.predict(handle_file(str(photo)), api_name="/classify"))


def test_a_file_over_the_limit_is_refused_and_the_service_goes_on(client, app_url, photo):
    files = {"files": ("x.png", os.urandom(31_000_000))}  # Gradio's client would not even send it
    assert httpx.post(f"{app_url}gradio_api/upload", files=files, timeout=120).status_code == 413
    assert confidences(client.predict(handle_file(str(photo)), api_name="/classify"))


def joined(address: str, payload) -> dict:
    """What the server says to a visitor's bare request, without the client's own care for files."""
    return asking.answer(address, "classify", [payload, DEFAULT_MODEL, "en"])


def test_the_page_s_photo_is_answered_once_however_often_it_is_asked(app_url):
    """Gradio's `change` fires twice for an upload over another photo. What was asked in between counts."""
    first, other = (sent(app_url, path.name, path.read_bytes()) for path in EXAMPLES[:2])
    event, part = event_of(app_url, "photo", "change"), component(app_url, "photo")
    session = uuid.uuid4().hex

    def asked(image) -> str | None:
        data = [image, DEFAULT_MODEL, "en", ""]
        ask(app_url, event, data, session=session, part=part)
        label = told(app_url, session)["output"]["data"][0]
        return None if label is None or "label" not in label else label["label"]

    assert asked(first)
    assert asked(first) is None, "the second event leaves the answer as it stands"
    assert asked(other) and asked(first)
    assert asked(None) is None and asked(first), "a removed photo may come again"


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
@pytest.mark.parametrize("field", ["path", "url"])
def test_an_image_of_this_machine_that_was_not_uploaded_is_not_read(app_url, photo, field, meta):
    answer = joined(app_url, {"path": None, field: str(photo)} | meta)
    assert not answer["success"] and "confidence" not in json.dumps(answer)


def test_an_image_inside_a_data_address_is_answered_and_a_damaged_one_is_not(app_url, model, photo):
    address = "data:image/png;base64," + base64.b64encode(photo.read_bytes()).decode()
    label, *_ = joined(app_url, {"path": None, "url": address})["output"]["data"]
    assert label["label"] == model.predict(photo)[0][0][0]
    for damaged in (address[:-300], "data:image/png;base64,abc"):
        assert "is incomplete" in joined(app_url, {"path": None, "url": damaged})["output"]["error"]


ODD = {
    "animated.gif": lambda: encoded(
        image(1), "gif", save_all=True, append_images=[image(2), image(3)], duration=50
    ),
    "cmyk.jpg": lambda: encoded(image(2).convert("CMYK"), "jpeg"),
    "deep.png": lambda: encoded(
        Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)), "png"
    ),
    "pixel.png": lambda: encoded(image(3, (1, 1)), "png"),
    "thread.png": lambda: encoded(image(4, (3000, 1)), "png"),
    "glass.png": lambda: encoded(image(5).convert("RGBA"), "png"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_image_is_answered_as_the_library_answers_it(client, model, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(ODD[name]())
    answer = confidences(client.predict(handle_file(str(path)), api_name="/classify"))
    assert answer == pytest.approx(dict(model.predict(path)[0]), abs=1e-6)


@pytest.mark.parametrize("source", ["/etc", "../other"])
def test_no_folder_of_the_machine_is_loaded(client, photo, source):
    with pytest.raises(AppError, match="is not a repository on the Hugging Face Hub"):
        client.predict(handle_file(str(photo)), source, api_name="/classify")


def test_a_model_out_of_reach_ends_in_one_line_soon(client, photo):
    started = time.monotonic()
    with pytest.raises(
        AppError, match=r"timm/resnet18.a1_in1k cannot be downloaded: Hugging Face cannot be reached"
    ) as error:
        client.predict(handle_file(str(photo)), "timm/resnet18.a1_in1k", api_name="/classify")
    assert "Traceback" not in str(error.value) and "\n" not in str(error.value)
    assert time.monotonic() - started < 20


def test_thirty_two_clients_at_once_each_get_their_own_answer(app_url, model, tmp_path):
    paths = [tmp_path / f"{seed}.png" for seed in range(32)]
    for seed, path in enumerate(paths):
        image(seed).save(path)
    expected = [dict(answer) for answer in model.predict(paths)]
    assert len({max(answer.values()) for answer in expected}) == 32, (
        "the images must differ, or answers could be swapped"
    )

    def answer_to(path):
        return confidences(joined(app_url, sent(app_url, path.name, path.read_bytes()))["output"]["data"])

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(answer_to, paths))
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer == pytest.approx(wanted, abs=1e-5)


def test_help_does_not_wait_for_gradio():
    code = (
        "import sys, app\n"
        "try: app.main(['--help'])\n"
        "except SystemExit as end: print(end.code, 'gradio' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(("flags", "environment", "port"), [
    (["--port", "99999"], "7860", None), (["--port", "0"], "7860", None), ([], "abc", None),
    (["--port", "8001"], "abc", 8001), ([], "8002", 8002),
])  # fmt: skip
def test_a_bad_port_ends_with_one_line_and_2(flags, environment, port):
    code = f"import app; print(app.parse_arguments({flags}).port)"
    env = os.environ | {"GRADIO_SERVER_PORT": environment}
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=env)
    if port:
        assert out.stdout.split() == [str(port)]
    else:
        assert out.returncode == 2 and "Traceback" not in out.stderr
        assert "a number from 1 to 65535" in out.stderr.splitlines()[-1]


def test_a_missing_model_ends_with_one_line_and_2():
    out = subprocess.run(
        [sys.executable, "app.py", "--model", "/nowhere/at/all"], cwd=ROOT, capture_output=True, text=True
    )
    assert out.returncode == 2
    assert "/nowhere/at/all" in out.stderr.splitlines()[-1] and "Traceback" not in out.stderr


STARTED = """
import sys
from pathlib import Path
from resnet_hub.ui.shared.startup import import_gradio_without_stubs
import_gradio_without_stubs()
read, seen = Path.read_text, []
Path.read_text = lambda path, *a, **k: (seen.append(path.suffix), read(path, *a, **k))[1]
import app
from resnet_hub.ui.shelf import Shelf
app.build_app(Shelf(only=("owner/a",)))
print([m for m in ("torch", "timm", "torchvision", "matplotlib") if m in sys.modules], seen.count(".pyi"))
"""


def test_the_page_is_built_without_the_hub_without_torch_and_without_gradio_s_stub_files():
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    out = subprocess.run([sys.executable, "-c", STARTED], cwd=ROOT, env=env, capture_output=True, text=True)
    assert out.stdout.strip() == "[] 0", out.stderr
