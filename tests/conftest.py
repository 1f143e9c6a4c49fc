"""What several test files share: the app served by its own command, and pictures made on the spot."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import urlopen

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: more threads would only fight
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import loopback_hub
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PORTS = count()
PATIENCE = 60_000  # milliseconds; a busy 2-core machine is slow to paint
IN_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With RESNET_HUB_NO_SKIPS a skipped test fails, except one that needs a GPU."""
    report = yield
    if report.skipped and os.environ.get("RESNET_HUB_NO_SKIPS") and not item.get_closest_marker("gpu"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report


def free_port() -> int:
    """A port nobody holds; outside the range from which others are handed out meanwhile."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port := 20_000 + 500 * worker + next(PORTS) % 500))
            return port


@contextmanager
def deaf_port():
    """A port that is taken and refuses every connection: a server out of reach."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def closed_port():
    with deaf_port() as port:
        yield port


@contextmanager
def served(command: list[str], folder: Path, seconds: float = 120, **environment: str):
    """Run a server command with its uploads and caches under `folder`, the Hub out of reach as on a machine
    without network; yields its address."""
    port = free_port()
    with deaf_port() as closed:
        yield from _served(command, folder, seconds, port, closed, environment)


def _served(command, folder, seconds, port, closed, environment):
    env = (
        os.environ
        | {
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
            "HF_HOME": str(folder / "hub"),
            "HF_ENDPOINT": f"http://127.0.0.1:{closed}",
            "OMP_NUM_THREADS": "2",
        }
        | environment
    )
    log = folder / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)
    address, until = f"http://127.0.0.1:{port}/", time.monotonic() + seconds
    try:
        while True:
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the app did not start:\n{log.read_text()}")
            try:
                if urlopen(address, timeout=10).status == 200:
                    break
            except (URLError, OSError):
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def one_thread():
    """torch on one thread while a file's tests run."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def app_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="session")
def app_url(app_folder):
    """`python app.py` with one more model, a wider network with random weights."""
    import torch

    import resnet_hub

    torch.manual_seed(1)
    resnet_hub.create_model("wrn16_4_cifar").save_pretrained(app_folder / "other")
    command = [sys.executable, "app.py", "--model", str(app_folder / "other")]
    with served(command, app_folder) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser):
    """context(**options) -> the browser's context of these options, whose cache later pages find filled."""
    usual = {"locale": "en-US", "viewport": {"width": 1280, "height": 900}}
    kept = {}

    def context_(**options):
        key = json.dumps(usual | options, sort_keys=True)
        if key not in kept:
            kept[key] = browser.new_context(**usual | options)
        return kept[key]

    return context_


@contextmanager
def pages(context, app_url: str):
    """Yields open(query, address=..., **context options) -> a loaded page; closes all of them in the end."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    opened = []

    def open_(query: str = "", address: str = app_url, **options):
        opened.append(page := context(**options).new_page())
        page.set_default_timeout(PATIENCE)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(urlparse(request.url).hostname))
        page.goto(address + query)
        expect(page.locator("#design-A .drawing svg" if query else "#panel")).to_be_visible()
        return page

    yield open_
    for page in opened:
        page.close()


@pytest.fixture
def open_page(context, app_url):
    """open_page(query, **context options) -> a loaded page; the hosts it asks are in `page.hosts`."""
    with pages(context, app_url) as open_:
        yield open_


@pytest.fixture(scope="module")
def open_lasting_page(context, app_url):
    """The same for a page that several tests of a file share."""
    with pages(context, app_url) as open_:
        yield open_


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty Hub on loopback that huggingface_hub talks to, with a cache of its own and no token."""
    from huggingface_hub import constants

    hub = loopback_hub.LoopbackHub()
    server = loopback_hub.serve(hub)
    loopback_hub.point_client_to(hub.endpoint, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def photo(tmp_path) -> Path:
    """A smooth coloured picture, 90x60."""
    path = tmp_path / "photo.png"
    picture(0).save(path)
    return path


def picture(seed: int, size: tuple[int, int] = (90, 60)) -> Image.Image:
    """A smooth random picture of (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def open_tab(page, language: str, key: str, shown: str) -> None:
    """Select a tab, which a phone keeps in its overflow menu, and wait for `shown` in it."""
    from playwright.sync_api import expect

    from resnet_hub.ui.text import say

    name = say(language, key)
    find = """name => [...document.querySelectorAll("[role=tab], .overflow-dropdown button")]
        .find(tab => tab.textContent.trim() === name)"""
    page.wait_for_function(find, arg=name)
    page.evaluate(f"name => ({find})(name).click()", name)
    expect(page.locator(shown).first).to_be_visible()
