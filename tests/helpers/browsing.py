"""Pages in headless Chromium."""

import shutil
from contextlib import contextmanager
from urllib.parse import urlparse

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


PATIENCE = 60_000  # milliseconds; a busy 2-core machine is slow to paint


NO_CHROMIUM = "no Chromium here: apt-get install chromium"
IN_BROWSER = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)]


@contextmanager
def pages(context, app_url: str):
    """Yields open(query, address=..., **context options) -> a loaded page; closes all of them in the end."""
    from playwright.sync_api import expect

    opened = []

    def open_(query: str = "", address: str = app_url, **options):
        opened.append(page := context(**options).new_page())
        page.set_default_timeout(PATIENCE)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(urlparse(request.url).hostname))
        page.goto(address + query)
        expect(page.locator("html.built")).to_be_attached()
        if "tab=" not in query:
            expect(page.locator("#design-A .drawing svg" if query else "#panel")).to_be_visible()
        return page

    yield open_
    for page in opened:
        page.close()


def open_tab(page, language: str, key: str, shown: str) -> None:
    """Select a tab and wait for `shown` in it."""
    from playwright.sync_api import expect

    from resnet_hub.ui.shared.text import say

    name = say(language, key)
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.locator(shown).first).to_be_visible()
