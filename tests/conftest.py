"""What several test files share: the app served by its own command, and images made on the spot."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: more threads would only fight
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from helpers import loopback_hub
from helpers.browsing import CHROMIUM, PATIENCE, pages
from helpers.images import image
from helpers.serving import deaf_port, served
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and one of nohup's that

settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault
settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With RESNET_HUB_NO_SKIPS a skipped test fails, except one that needs the npm registry, or packages
    installed from it, where there are none."""
    report = yield
    has = {
        "npm": "RESNET_HUB_HAS_REGISTRY" in os.environ,
        "node": "RESNET_HUB_HAS_REGISTRY" in os.environ and shutil.which("npm") is not None,
    }
    return unskipped(report, any(item.get_closest_marker(need) and not has[need] for need in has))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """The same of a file that skips itself."""
    return unskipped((yield), may_skip=False)


def unskipped(report, may_skip: bool):
    if report.skipped and os.environ.get("RESNET_HUB_NO_SKIPS") and not may_skip:
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report


@pytest.fixture
def closed_port():
    with deaf_port() as port:
        yield port


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
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    flags.append("--disable-dev-shm-usage")  # a container's 64 MB of shared memory crash a page now and then
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

    from resnet_hub.hub import fetch

    hub = loopback_hub.LoopbackHub()
    server = loopback_hub.serve(hub)
    loopback_hub.point_client_to(hub.endpoint, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(fetch, "RETRY_SECONDS", (0.01, 0.01))
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def photo_file(tmp_path_factory) -> Path:
    """The shipped ResNet-20 as an ONNX file that takes the photo."""
    pytest.importorskip("onnxruntime", reason="needs the [export] packages")
    from resnet_hub.interop import convert

    file = tmp_path_factory.mktemp("onnx") / "resnet20.onnx"
    assert convert.main(["resnet20_cifar10", str(file), "--to", "onnx"]) == 0
    return file


@pytest.fixture
def photo(tmp_path) -> Path:
    """A smooth coloured image, 90x60."""
    path = tmp_path / "photo.png"
    image(0).save(path)
    return path
