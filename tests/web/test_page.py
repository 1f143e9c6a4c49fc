"""The static page in headless Chromium: its answers are Python's, and nothing leaves it."""

import base64
import functools
import hashlib
import json
import re
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

import numpy as np
import onnx
import pytest
from helpers.browsing import CHROMIUM, IN_BROWSER, PATIENCE
from helpers.photo_kinds import decoded_otherwise, photos, scene, stored

from resnet_hub import from_pretrained
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.predict import classify
from resnet_hub.preprocess import load_image
from resnet_hub.web import runtime
from resnet_hub.web.write import PAGE, write_page

pytestmark = [*IN_BROWSER, pytest.mark.npm, pytest.mark.usefixtures("one_thread")]

READY = re.compile("Ready|準備完了")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
CONTROLLED = """() => new Promise(resolve => {
    const workers = navigator.serviceWorker;
    workers.controller ? resolve() : workers.addEventListener("controllerchange", () => resolve());
})"""
WITHOUT_RUNTIME = "onnxruntime-web is not in the cache; `python -m resnet_hub.web` downloads it once"
ASK = """async photos => {
    const { Network } = await import(new URL("page.js", location.href).href);
    const network = (window.network ??= new Network(() => {}));
    const found = {};
    for (const [name, data] of Object.entries(photos)) {
        const bytes = Uint8Array.from(atob(data), each => each.charCodeAt(0));
        const { probabilities, familiar } = await network.ask(new Blob([bytes]));
        found[name] = { probabilities: [...probabilities], familiar };
    }
    return found;
}"""
SECONDS_OF_ANSWERS = """count => new Promise(resolve => {
    let started = 0;
    const counting = new MutationObserver(() => {
        started ||= performance.now();
        if (count-- === 0) resolve((performance.now() - started) / 1000);
    });
    counting.observe(document.querySelector("#details"), { childList: true });
})"""
JAVASCRIPT = "text/javascript"
INSTALLED = """async () => {
  const { installing, waiting, active } = await navigator.serviceWorker.register("sw.js");
  const worker = installing ?? waiting ?? active;
  return new Promise(resolve => {
    const look = () => ["redundant", "activated"].includes(worker.state) && resolve(worker.state);
    worker.onstatechange = look;
    look();
  });
}"""
NO_MEMORY = """
export const env = { wasm: {} };
export const InferenceSession = {
    create: async () => { throw new RangeError("WebAssembly.Memory(): could not allocate memory"); }
};
"""
DROP = """async ({ data, target }) => {
    const bytes = Uint8Array.from(atob(data), each => each.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
    const event = target === "paste" ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true })
        : new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
    document.querySelector("#drop").dispatchEvent(event);
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@contextmanager
def hosted(folder):
    """The address at which a static host serves the folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def folder(photo_file, tmp_path_factory):
    if not runtime.is_cached():
        pytest.skip(WITHOUT_RUNTIME)
    out = tmp_path_factory.mktemp("web") / "page"
    write_page(photo_file, out, "owner/net")
    return out


@pytest.fixture(scope="module")
def address(folder):
    with hosted(folder) as address:
        yield address


@pytest.fixture
def visit(browser, address):
    """visit(**context options) -> the loaded page, in a context of its own; `hosts` and `errors` are kept."""
    contexts = []

    def visit_(where=address, permissions=(), chromium=browser, **options):
        usual = {"locale": "en-US", "viewport": {"width": 1280, "height": 900}}
        contexts.append(context := chromium.new_context(**usual | options))
        context.grant_permissions(list(permissions))
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.hosts, page.errors = set(), []
        page.on("request", lambda request: page.hosts.add(urlparse(request.url).netloc))
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(where)
        expect(page.locator("#status")).to_have_text(READY)
        return page

    yield visit_
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def camera_browser(browser, tmp_path_factory):
    """Chromium with a camera that films one photo, 30 times a second."""
    film = tmp_path_factory.mktemp("camera") / "film.y4m"
    luma, blue, red = scene(3, (640, 480)).convert("YCbCr").split()
    planes = luma.tobytes() + b"".join(plane.resize((320, 240)).tobytes() for plane in (blue, red))
    film.write_bytes(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n" + b"FRAME\n" + planes)
    flags = [*FLAGS, "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
    with browser.browser_type.launch(executable_path=CHROMIUM, args=flags) as chromium:
        yield chromium


def expect(found):
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    return expect(found)


def photo(seed: int = 5, name: str = "photo.png") -> dict:
    return {"name": name, "mimeType": "image/png", "buffer": stored(scene(seed, (90, 60)), "PNG")}


def ask(page, files: dict[str, bytes]) -> dict:
    """The answers of the page's own network; a large argument goes in parts."""
    found = {}
    for name, data in files.items():
        found |= page.evaluate(ASK, {name: base64.b64encode(data).decode()})
    return found


# The same answers


def by_class(prediction) -> np.ndarray:
    """The probabilities of an answer that names every class, in the classes' order."""
    shares = [share for _, share in prediction.top]
    return np.array(shares)[np.argsort(prediction.class_indices)]


def test_python_onnx_runtime_and_chromium_give_the_same_answers(visit, photo_file, capsys):
    files = photos()
    page, model, file = visit(), from_pretrained("resnet20_cifar10"), OnnxFile(photo_file)
    ours = classify(model, [*files.values()], top_k=10)
    theirs = ask(page, files)
    threshold, worst = model.calibration.energy_threshold, {"ONNX Runtime": (0, ""), "Chromium": (0, "")}
    for (name, data), python in zip(files.items(), ours, strict=True):
        expected = by_class(python)
        for where, answer in (("ONNX Runtime", file.answer(load_image(data))), ("Chromium", theirs[name])):
            found = np.array(answer["probabilities"])
            apart = np.abs(found - expected).max()
            worst[where] = max(worst[where], (float(apart), name))
            is_tie = expected.max() - expected[found.argmax()] < 0.002
            assert apart < 0.01 and is_tie, (where, name)
            is_near = abs(python.energy - threshold) < 0.01
            assert is_near or bool(answer["familiar"]) is not python.unfamiliar, (where, name)
    with capsys.disabled():
        print("\nlargest difference of a probability on", len(files), "photos:", worst)


def test_photos_that_browsers_decode_in_their_own_way_are_answered_all_the_same(visit):
    files, page = decoded_otherwise(), visit()
    answers = ask(page, files)
    ours = classify(from_pretrained("resnet20_cifar10"), [*files.values()], top_k=10)
    for name, python in zip(files, ours, strict=True):
        assert np.abs(answers[name]["probabilities"] - by_class(python)).max() < 0.2, name


# The page


def test_a_file_is_answered_with_bars_map_and_what_the_network_saw(visit, photo_file):
    page = visit()
    expect(page.locator(".privacy")).to_contain_text("Photos never leave it")
    page.set_input_files("#file", photo())
    expect(page.locator("#bars li")).to_have_count(5)
    (prediction,) = classify(from_pretrained("resnet20_cifar10"), [photo()["buffer"]])
    first = page.locator("#bars button").first
    expect(first).to_contain_text(prediction.top[0][0])
    assert page.locator("#seen").evaluate("seen => [seen.width, seen.height]") == [32, 32]
    before = page.locator("#seen").evaluate("seen => seen.toDataURL()")
    first.click()
    expect(page.locator("#map")).to_be_checked()
    expect(first).to_have_attribute("aria-pressed", "true")
    assert page.locator("#seen").evaluate("seen => seen.toDataURL()") != before
    assert page.hosts == {urlparse(page.url).netloc} and page.errors == []


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_dropped_or_pasted_photo_is_answered(visit, how):
    page = visit()
    page.evaluate(DROP, {"data": base64.b64encode(photo()["buffer"]).decode(), "target": how})
    expect(page.locator("#bars li")).to_have_count(5)
    expect(page.locator("#name")).to_have_text("dropped.png")
    assert page.errors == []


def test_several_photos_become_a_table_and_a_broken_file_a_sentence(visit):
    page = visit()
    broken = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"}
    page.set_input_files("#file", [photo(1, "a.png"), broken, broken | {"name": "b.txt"}, photo(2, "b.png")])
    expect(page.locator("#rows tr")).to_have_count(2)
    for name in ("notes.txt", "b.txt"):
        expect(page.locator("#problem")).to_contain_text(f"“{name}” is not an image")
    expect(page.locator("#rows tr").nth(1)).to_contain_text("b.png")
    cells = (
        "[...document.querySelectorAll('#rows tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    for _, _, answer, share, known in page.evaluate(cells):
        assert (answer == "–") is (share == "") is (known == "no")


def test_a_camera_that_is_refused_does_not_end_the_photos_under_way(visit, camera_browser):
    page = visit(chromium=camera_browser)
    page.set_input_files("#file", [photo(i, f"{i}.png") for i in range(12)])
    page.locator("#camera").click()
    expect(page.locator("#problem")).to_contain_text("did not allow the camera")
    expect(page.locator("#rows tr")).to_have_count(12)
    expect(page.locator("#status")).to_have_text("")
    assert page.errors == []


def test_the_language_changes_every_text_and_is_kept(visit):
    page = visit()
    page.set_input_files("#file", photo())
    expect(page.locator("#bars li")).to_have_count(5)
    page.locator("[data-language=ja]").click()
    expect(page.locator(".privacy")).to_contain_text("写真が外に送られることはありません")
    expect(page.locator("#camera")).to_have_text("カメラで連続判定")
    assert page.evaluate("document.documentElement.lang") == "ja"
    latin = page.evaluate("[...document.querySelectorAll('[data-text], #sentence')].map(e => e.textContent)")
    assert not [text for text in latin if text.strip() and text.isascii()]
    page.reload()
    expect(page.locator(".privacy")).to_contain_text("写真が外に")


def test_a_browser_in_japanese_gets_the_page_in_japanese(visit):
    expect(visit(locale="ja-JP").locator("#camera")).to_have_text("カメラで連続判定")


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_nothing_is_wider_than_the_screen(visit, dark):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme="dark" if dark else "light")
    page.set_input_files("#file", photo())
    expect(page.locator("#bars li")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ink, paper = page.evaluate(
        "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name])"
    )
    light = [sum(map(int, colour[4:-1].split(", "))) for colour in (ink, paper)]
    assert (light[0] > light[1]) is dark


def test_the_camera_is_answered_live_and_can_be_stopped(visit, camera_browser, capsys):
    page = visit(chromium=camera_browser, permissions=["camera"])
    page.locator("#camera").click()
    expect(page.locator("#bars li")).to_have_count(5)
    expect(page.locator("#details")).to_have_text(re.compile(r"[1-9]\d* answers per second"))
    expect(page.locator("#video")).to_be_visible()
    seconds = page.evaluate(SECONDS_OF_ANSWERS, 50)
    with capsys.disabled():
        print(f"\ncamera: {50 / seconds:.1f} answers a second")
    page.locator("#camera").click()
    expect(page.locator("#video")).to_be_hidden()
    expect(page.locator("#answer")).to_be_hidden()
    assert page.errors == []


def test_without_permission_or_camera_the_page_says_so(visit, camera_browser, browser):
    page = visit(chromium=camera_browser)
    page.locator("#camera").click()
    expect(page.locator("#problem")).to_contain_text("did not allow the camera")
    page = visit(chromium=browser, permissions=["camera"])
    page.locator("#camera").click()
    expect(page.locator("#problem")).to_contain_text("no camera that this page can use")


def test_the_second_load_works_without_the_host(visit, folder):
    with hosted(folder) as address:
        page = visit(address)
        page.evaluate(CONTROLLED)
    page.reload()
    expect(page.locator("#status")).to_have_text(READY)
    page.set_input_files("#file", photo())
    expect(page.locator("#bars li")).to_have_count(5)
    assert page.locator("#said").text_content() == page.locator("#sentence").text_content() != ""
    page.goto(f"{address}index.html")  # where an installed page starts
    expect(page.locator("#status")).to_have_text(READY)
    assert page.errors == []


@pytest.mark.parametrize("late", ["model.json", "index.html"])
def test_nothing_of_a_half_uploaded_version_is_kept(browser, folder, tmp_path, late):
    """The list of the new version is there, its labels or the page itself are not yet."""
    part = shutil.copytree(folder, tmp_path / "page")
    version = json.loads((part / "files.js").read_text().split(" = ", 1)[1].rstrip(";\n"))["version"]
    facts = (part / late).read_bytes()
    (part / late).write_bytes(facts.replace(b"airplane", b"aeroplane").replace(version.encode(), b"0" * 16))
    assert (part / late).read_bytes() != facts
    with hosted(part) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#status")).to_have_text(READY)
        assert page.evaluate(INSTALLED) == "redundant"
        (part / late).write_bytes(facts)
        page.reload()
        page.evaluate(CONTROLLED)
        expect(page.locator("#status")).to_have_text(READY)


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        ("model.json", "could not be downloaded"),
        ("model.onnx", "could not be downloaded"),
        ("ort/ort-wasm-simd-threaded.wasm", "could not be started"),
    ],
)
def test_what_is_missing_is_said(browser, address, spoiled, said):
    with browser.new_context(service_workers="block") as context:
        page = context.new_page()
        page.route(f"**/{spoiled}", lambda route: route.fulfill(status=404))
        page.goto(address)
        expect(page.locator("#problem")).to_contain_text(said)


@pytest.mark.parametrize("arrives", ["a host's own page", "a part"])
def test_a_damaged_network_is_said(browser, folder, address, arrives):
    whole = (folder / "model.onnx").read_bytes()
    body = whole[: len(whole) // 2] if arrives == "a part" else b"<!doctype html><title>Not found</title>"
    with browser.new_context(service_workers="block") as context:
        page = context.new_page()
        page.route("**/model.onnx", lambda route: route.fulfill(body=body))
        page.goto(address)
        expect(page.locator("#problem")).to_contain_text("model file is damaged")


def test_a_browser_without_webassembly_is_told_so_before_anything_is_downloaded(browser, address):
    with browser.new_context(service_workers="block") as context:
        context.add_init_script("delete window.WebAssembly")
        page = context.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        expect(page.locator("#problem")).to_contain_text("cannot run WebAssembly")
        page.set_input_files("#file", photo())
        expect(page.locator("#status")).to_have_text("")
        expect(page.locator("#problem")).to_contain_text("cannot run WebAssembly")
    assert not [url for url in asked if url.endswith((".onnx", ".wasm"))]


def test_a_network_too_large_for_the_device_is_said(browser, address):
    with browser.new_context(service_workers="block") as context:
        page = context.new_page()
        page.route(
            "**/ort.wasm.min.mjs", lambda route: route.fulfill(body=NO_MEMORY, content_type=JAVASCRIPT)
        )
        page.goto(address)
        expect(page.locator("#problem")).to_contain_text("Not enough memory")


def test_a_camera_that_is_unplugged_is_said_and_its_last_answer_goes(visit, camera_browser):
    page = visit(chromium=camera_browser, permissions=["camera"])
    page.locator("#camera").click()
    expect(page.locator("#bars li")).to_have_count(5)
    track = "document.querySelector('video').srcObject.getTracks()[0]"
    page.evaluate(f"() => {track}.dispatchEvent(new Event('ended'))")
    expect(page.locator("#problem")).to_contain_text("no camera that this page can use")
    expect(page.locator("#answer")).to_be_hidden()


def test_a_class_chosen_during_the_camera_stays_chosen(visit, camera_browser):
    page = visit(chromium=camera_browser, permissions=["camera"])
    page.locator("#camera").click()
    expect(page.locator("#bars li")).to_have_count(5)
    pressed_later = """async () => {
  const button = document.querySelector("#bars button");
  const seen = new Set();
  button.click();
  for (let i = 0; i < 20; i++) {
    await new Promise(resolve => setTimeout(resolve, 50));
    const pressed = document.querySelectorAll("#bars button[aria-pressed=true]");  // none while not shown
    for (const each of pressed) seen.add(each.dataset.index);
  }
  return [button.dataset.index, ...seen];
}"""
    index, *pressed = page.evaluate(pressed_later)
    assert pressed == [index]


def test_a_photo_that_a_canvas_cannot_hold_is_answered_smaller(browser, address):
    """As in Safari on iOS, above so many pixels a canvas stays empty and says nothing."""
    with browser.new_context(service_workers="block") as context:
        page = context.new_page()
        page.route("**/worker.js", with_small_canvases)
        page.goto(address)
        large = {"name": "large.png", "mimeType": "image/png", "buffer": stored(scene(5, (800, 600)), "PNG")}
        page.set_input_files("#file", large)
        expect(page.locator("#bars li")).to_have_count(5)
        pixels = "document.querySelector('#seen').getContext('2d').getImageData(0, 0, 32, 32).data"
        assert page.evaluate(f"() => Math.max(...{pixels}.filter((_, i) => i % 4 < 3))") > 100


def with_small_canvases(route) -> None:
    """The worker in a browser whose canvases hold a quarter of a million pixels."""
    small = (
        "const real = OffscreenCanvasRenderingContext2D.prototype.getImageData;"
        "OffscreenCanvasRenderingContext2D.prototype.getImageData = function (x, y, w, h) {"
        "  return w * h > 250000 ? new ImageData(w, h) : real.call(this, x, y, w, h); };"
    )
    route.fulfill(body=route.fetch().text() + small, content_type=JAVASCRIPT)


def test_a_photo_chosen_during_the_camera_ends_it(visit, camera_browser):
    page = visit(chromium=camera_browser, permissions=["camera"])
    page.locator("#camera").click()
    expect(page.locator("#details")).to_have_text(re.compile("answers per second"))
    page.set_input_files("#file", photo(name="chosen.png"))
    expect(page.locator("#name")).to_have_text("chosen.png")
    expect(page.locator("#camera")).to_have_text("Live camera")
    expect(page.locator("#video")).to_be_hidden()
    expect(page.locator("#problem")).to_be_hidden()
    assert page.errors == []


def test_two_clicks_on_the_camera_leave_no_camera_on(visit, camera_browser):
    page = visit(chromium=camera_browser, permissions=["camera"])
    page.evaluate("""() => {
        const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.streams = [];
        navigator.mediaDevices.getUserMedia = async wanted => {
            streams.push(await real(wanted));
            return streams.at(-1);
        };
        camera.click();
        camera.click();
    }""")
    expect(page.locator("#details")).to_have_text(re.compile("answers per second"))
    page.locator("#camera").click()
    expect(page.locator("#video")).to_be_hidden()
    live = "streams.flatMap(each => each.getTracks()).filter(each => each.readyState === 'live').length"
    assert page.evaluate("streams.length") == 2 and page.evaluate(live) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (6000, 5000)])
def test_tiny_and_huge_photos_are_answered(visit, size):
    page = visit()
    odd = stored(scene(1, (50, 40)).resize(size), "PNG")
    page.set_input_files("#file", {"name": "odd.png", "mimeType": "image/png", "buffer": odd})
    expect(page.locator("#bars li")).to_have_count(5)
    assert page.errors == []


def test_labels_are_text_whatever_they_hold(browser, photo_file, tmp_path):
    odd = '<img src=x onerror=alert(1)> l\'œil & "{second}" $&'
    file = onnx.load(photo_file)
    for each in file.metadata_props:
        if each.key == "resnet_hub.labels":
            each.value = json.dumps([f"{odd} {number}" for number in range(10)])
    onnx.save(file, tmp_path / "odd.onnx")
    write_page(tmp_path / "odd.onnx", tmp_path / "page")
    with hosted(tmp_path / "page") as address, browser.new_context(service_workers="block") as context:
        page = context.new_page()
        page.goto(address)
        page.set_input_files("#file", photo())
        expect(page.locator("#bars button").first).to_contain_text(odd)
        assert page.locator("img").count() == 0


def test_the_page_is_painted_before_runtime_and_network_arrive(browser, address, capsys):
    with browser.new_context(service_workers="block") as context:
        page = context.new_page()
        page.route(re.compile(r"/ort/|model\.onnx"), lambda route: None)  # never answered
        page.goto(address)
        expect(page.locator("#title")).to_have_text("net")
        painted = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        page.wait_for_function(painted)
        with capsys.disabled():
            print(f"\nfirst content after {page.evaluate(painted):.0f} ms")


def test_the_page_itself_is_small_and_names_its_files(folder):
    own = [folder / name for name in (*PAGE, "model.json", "files.js", "README.md")]
    assert sum(path.stat().st_size for path in own) < 100_000
    kept = json.loads((folder / "files.js").read_text().split(" = ", 1)[1].rstrip(";\n"))
    assert {"page.js", "model.onnx", "ort/ort-wasm-simd-threaded.wasm"} <= set(kept["files"])
    for name, integrity in kept["files"].items():
        digest = hashlib.sha256((folder / name).read_bytes()).digest()
        assert integrity == f"sha256-{base64.b64encode(digest).decode()}"
