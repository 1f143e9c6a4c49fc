"""The content security policy in a browser: a stranger's markup calls no other host, and the page works."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.browsing import IN_BROWSER
from helpers.images import image

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
expect, Error = playwright.expect, playwright.Error
pytestmark = IN_BROWSER

HARM = """(elsewhere) => {
  const place = document.createElement("div");
  place.innerHTML = `<img src="${elsewhere}/a.png">
    <form action="${elsewhere}/f"><input name="q"><button id="harm">x</button></form>`;
  document.body.append(place);
  document.getElementById("harm").click();
  return fetch(elsewhere + "/b", { mode: "no-cors" }).then(() => "answered", () => "refused");
}"""


@pytest.fixture
def elsewhere():
    """Another host's address, and the paths it was asked for."""
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/favicon.ico":  # Chromium's own wish, at a time of its own
                asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_injected_markup_reaches_no_other_host(open_page, context, elsewhere):
    address, asked = elsewhere
    bare = context().new_page()
    bare.goto(f"{address}/page")
    with bare.expect_navigation(), suppress(Error):  # the form may replace the page before the answer is read
        assert bare.evaluate(HARM, address) == "answered"
    assert "/a.png" in asked  # without the policy it does
    asked.clear()
    page = open_page()
    assert page.evaluate(HARM, address) == "refused"
    page.wait_for_timeout(500)
    assert not asked and not page.url.startswith(address)


def test_the_page_breaks_no_rule_of_its_own_policy(context, app_url, tmp_path):
    image(0).save(tmp_path / "photo.png")
    page = context().new_page()
    broken = []
    page.on("console", lambda message: broken.append(message.text))
    page.goto(app_url)
    expect(page.locator("#panel")).to_be_visible()
    page.locator("#photo input[type=file]").first.set_input_files(str(tmp_path / "photo.png"))
    expect(page.locator("#panel .verdict")).to_be_visible()
    page.locator("#examples button").first.click()
    expect(page.locator("#panel img.seen").first).to_be_visible()
    assert not [text for text in broken if "Content Security Policy" in text]
    page.close()
