"""Files named by an address: from public hosts alone, no larger and no slower than allowed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from resnet_hub.ui.shared import remote
from resnet_hub.ui.shared.remote import NotFetched, Remote
from resnet_hub.ui.shared.uploads import Uploads

MOST = 100_000
BODY = b"photo" * 1000


AWAY = {"/away": "/photo.jpg", "/round": "/round", "/inside": "http://10.0.0.1/x", "/nowhere": "http://[x"}


class Answers(BaseHTTPRequestHandler):
    """/photo.jpg; /large and, at ten bytes a second, /slow without end; /away, /round, /inside redirect."""

    def do_GET(self) -> None:
        where = AWAY.get(self.path)
        self.send_response(302 if where else 404 if self.path == "/gone" else 200)
        if where:
            self.send_header("Location", where)
        self.end_headers()
        if self.path == "/photo.jpg":
            self.wfile.write(BODY if self.headers["Accept-Encoding"] == "identity" else b"packed")
        while self.path in ("/large", "/slow"):
            try:
                self.wfile.write(b"x" * (10_000 if self.path == "/large" else 1))
            except OSError:
                return
            time.sleep(0 if self.path == "/large" else 0.1)

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def address(monkeypatch) -> Iterator[str]:
    """A server on loopback, which is let through as if it were public."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    real = remote.public_ip

    async def loopback(host: str) -> str:
        return "127.0.0.1" if host == "photos.test" else await real(host)

    monkeypatch.setattr(remote, "public_ip", loopback)
    yield f"http://photos.test:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def fetched(payload, folder, held: int = 0):
    uploads = Uploads(folder, 600, 60)
    uploads.held = held
    with ThreadPoolExecutor(1) as thread:  # a browser test in this process keeps a loop running in ours
        return thread.submit(asyncio.run, Remote(uploads, MOST, 10 * MOST).fetched(payload)).result()


@pytest.mark.parametrize("path", ["/photo.jpg", "/away"])
def test_a_file_is_put_where_uploads_are(address, tmp_path, path):
    given = [None, "text", [{"image": {"path": address + path, "meta": {"_type": "gradio.FileData"}}}]]
    _, text, [entry] = fetched(given, tmp_path)
    file = tmp_path / entry["image"]["path"]
    assert text == "text" and entry["image"]["meta"] == {"_type": "gradio.FileData"}
    assert file.read_bytes() == BODY and file.is_relative_to(tmp_path) and file.name == "photo.jpg"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/large", "more than 100,000 bytes"), ("/gone", "HTTPStatusError"), ("/round", "redirects"),
        ("/slow", "TimeoutError"), ("/inside", "no public address"), ("/nowhere", "InvalidURL|ValueError"),
        ("/a%00.jpg", "ValueError"),
    ],
)  # fmt: skip
def test_what_is_too_large_too_slow_or_leads_inside_is_not_fetched(
    address, tmp_path, monkeypatch, path, said
):
    monkeypatch.setattr(remote, "SECONDS", 1)
    with pytest.raises(NotFetched, match=said):
        fetched({"path": address + path}, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < MOST


@pytest.mark.parametrize(
    "host", ["127.0.0.1:1", "localhost:1", "10.1.2.3", "169.254.169.254", "100.100.100.200", "[::1]:1", ""]
)
def test_no_host_of_a_private_or_provider_s_network_is_asked(tmp_path, host):
    with pytest.raises(NotFetched, match=r"no public address|no such host"):
        fetched({"path": f"http://{host}/photo.jpg"}, tmp_path)


def nested(payload, depth: int):
    for _ in range(depth):
        payload = [payload]
    return payload


@pytest.mark.parametrize(
    ("held", "payload", "said"),
    [
        (11 * MOST, lambda file: file, "no room for files here"),
        (0, lambda file: nested(file, 20), "nested more than 8 deep"),
        (0, lambda file: [{"path": f"{file['path']}?{i}"} for i in range(17)], "17 addresses; at most 16"),
        (0, lambda file: file | {"more": {"path": "http://10.0.0.1/x"}}, "no public address"),
    ],
)
def test_what_a_request_may_fetch_is_bounded_however_it_is_put(address, tmp_path, held, payload, said):
    with pytest.raises(NotFetched, match=said):
        fetched(payload({"path": f"{address}/photo.jpg"}), tmp_path, held)


def test_without_a_folder_none_is_fetched(address):
    with ThreadPoolExecutor(1) as thread, pytest.raises(NotFetched, match="no room for files here"):
        thread.submit(asyncio.run, Remote().fetched({"path": f"{address}/photo.jpg"})).result()


def test_paths_and_values_that_name_no_address_stay_as_they_are(tmp_path):
    for payload in (
        {"path": "/tmp/x.jpg"},
        {"path": 5},
        [1, None, "http://a.org/x"],
        {"url": "http://a.org"},
    ):
        assert fetched(payload, tmp_path) == payload
