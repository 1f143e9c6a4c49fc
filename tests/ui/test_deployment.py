"""The promises of the app about the machine it runs on: proxies, folders of others, a path below a domain."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from gradio_client import Client, handle_file
from helpers import ROOT
from helpers.browsing import CHROMIUM, NO_CHROMIUM
from helpers.images import image
from helpers.serving import served

from resnet_hub import from_pretrained
from resnet_hub.predict import DEFAULT_MODEL, classify
from resnet_hub.ui.classify.page import statement
from resnet_hub.ui.shared import startup

COMMAND = [sys.executable, "app.py"]
KEPT_BACK = {"host", "connection", "content-length", "transfer-encoding"}


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class Forbidding(BaseHTTPRequestHandler):
    """A proxy that answers everything with 403."""

    def do_GET(self) -> None:
        self.send_error(403)

    do_HEAD = do_POST = do_CONNECT = do_GET  # noqa: N815

    def log_message(self, *_) -> None:
        pass


def test_the_app_starts_behind_a_proxy(tmp_path):
    with answering(Forbidding) as proxy:
        http = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy"), proxy)
        socks = dict.fromkeys(("ALL_PROXY", "all_proxy"), "socks5://127.0.0.1:9")
        # The test asks without the proxy.
        with served(COMMAND, tmp_path, **http, **socks) as page:
            assert page


def test_an_upload_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    env = os.environ | {"GRADIO_TEMP_DIR": str(tmp_path / "file" / "uploads")}
    done = subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.match(r"app.py: GRADIO_TEMP_DIR .* cannot be written \(Not a directory\)", done.stderr)


def test_the_proxy_is_back_after_the_start_except_for_loopback(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    monkeypatch.setenv("no_proxy", "")
    with startup.without_proxy(everywhere=True):
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "*"
    assert os.environ["NO_PROXY"] == "intranet.example,localhost,127.0.0.1,::1"
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"]


# Below a path


def reverse_proxy(address: str, prefix: str) -> type[BaseHTTPRequestHandler]:
    """What nginx does with `location /prefix/ { proxy_pass http://app/; }`; anything else is 404."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                return self.send_error(404)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            headers = {name: value for name, value in self.headers.items() if name.lower() not in KEPT_BACK}
            headers["X-Forwarded-Host"] = self.headers["Host"]
            request = Request(address + self.path[len(prefix) + 1 :], body, headers, method=self.command)
            try:
                answer = urlopen(request, timeout=60)
            except HTTPError as error:
                answer = error
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in KEPT_BACK:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while chunk := answer.read1(1 << 16):
                self.wfile.write(chunk)
                self.wfile.flush()

        do_POST = do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_) -> None:
            pass

    return Proxy


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    folder = tmp_path_factory.mktemp("below")
    with (
        served([*COMMAND, "--root-path", "/tools/resnet"], folder) as address,
        answering(reverse_proxy(address, "/tools/resnet")) as proxy,
    ):
        yield f"{proxy}/tools/resnet/"


@pytest.mark.browser  # so that CI starts this app once
def test_a_client_classifies_below_a_path(below, tmp_path):
    photo = tmp_path / "photo.png"
    image(1, (32, 32)).save(photo)
    answer = Client(below, verbose=False).predict(handle_file(photo), api_name="/classify")
    assert (answer[0] if isinstance(answer, (list, tuple)) else answer)["label"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_a_browser_classifies_below_a_path(below, browser, tmp_path):
    photo = tmp_path / "photo.png"
    image(1, (32, 32)).save(photo)
    page = browser.new_page()
    failed = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.goto(below)
    page.locator("#panel .verdict").first.wait_for(timeout=60_000)
    page.locator("#photo input[type=file]").first.set_input_files(photo)
    (answer,) = classify(from_pretrained(DEFAULT_MODEL), [photo])
    page.locator("#panel .verdict", has_text=statement("en", answer)).wait_for(timeout=60_000)
    assert not [url for url in failed if "favicon" not in url]
    page.close()


@pytest.mark.parametrize("wrong", ["resnet", "ftp://a/b", "/a b"])
def test_a_wrong_root_path_is_one_line(wrong, capsys):
    import app

    with pytest.raises(SystemExit) as end:
        app.parse_arguments(["--root-path", wrong])
    assert end.value.code == 2 and "is not a path like /resnet" in capsys.readouterr().err.splitlines()[-1]


# In a container


def copied(dockerfile: str, here: Path) -> None:
    """Do what the COPY lines do."""
    for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, here / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (here / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, here / target)


def test_what_the_dockerfile_copies_runs_and_writes_nothing_there(tmp_path):
    """Its files and commands without a base image, in an empty folder; uploads and caches are in another."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    copied(text, here := tmp_path / "app")
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    (probe,) = re.findall(r"^HEALTHCHECK .* CMD (.+)$", text, re.MULTILINE)
    assert int(re.search(r"^USER (\d+)", text, re.MULTILINE)[1]) > 0
    command = [sys.executable, *json.loads(entry)[1:], "--operations"]
    environment = {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    with served(command, tmp_path, cwd=here, **environment) as address:
        code = json.loads(probe)[2].replace("http://127.0.0.1:7860/", address)
        for _ in range(60):
            if not subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30).returncode:
                break
            time.sleep(0.5)
        else:
            pytest.fail("the health check never succeeded")
        assert urlopen(f"{address}healthz").read() == b"ok\n"
        assert b"resnet_hub_memory_bytes" in urlopen(f"{address}metrics").read()
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
