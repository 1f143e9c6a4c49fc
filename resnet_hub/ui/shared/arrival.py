"""The first page: in the visitor's language, on the tab of the address and with something to read at once.

Gradio builds its page in the browser, from a description inside the HTML. That description is made for each
visitor here, and until the browser has built the page it shows a plain one, which takes no script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_hub.ui.shared.html import render
from resnet_hub.ui.shared.page import Page, in_language, thumbnails
from resnet_hub.ui.shared.text import LANGUAGES, language_of

MARK = "<gradio-app"  # before it stands what is shown first
# What would hold up the first paint: the description of the page, half a megabyte, and Gradio's style sheet,
# which keeps its place before those that Gradio adds.
HEAVY = re.compile(r"<script>window\.gradio_(?:config|api_info) = .*?</script>", re.DOTALL)
SHEET = '<link rel="stylesheet"'
LATE_SHEET = """<link rel="stylesheet" media="print" onload="this.media='all'\""""


@cache
def script() -> str:
    return Path(__file__).with_name("address.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Visit:
    """What a request for the page asks for."""

    language: str = "en"
    tab: str = ""


VISIT: ContextVar[Visit | None] = ContextVar("visit", default=None)


def visit_of(accept_language: str | None, query: Mapping[str, str]) -> Visit:
    """The language of an address before that of the browser; Explore for an address that names a design."""
    asked = query.get("lang")
    language = asked if asked in LANGUAGES else language_of(accept_language)
    return Visit(language, query.get("tab", "explore" if {"a", "b"} & set(query) else ""))


@dataclass
class Arrival:
    """What a visitor meets.

    Args:
        page, names: the page, and the ids of its tabs from left to right.
        first: by language, the properties of components of an answer to begin with; {} while there is none.
        said: that answer in one sentence, "" while there is none.
        prepare: makes that answer, which loads torch and the default model.
    """

    page: Page
    names: tuple[str, ...]
    first: Callable[[str], dict[Any, dict[str, Any]]]
    said: Callable[[str], str]
    prepare: Callable[[], None]
    _texts: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)

    def opened(self, built: dict[str, Any]) -> dict[str, Any]:
        """The description of the page for the request that is being answered, of the one that was built."""
        visit = VISIT.get()
        if visit is None:
            return built
        changes = dict(self._translated(visit.language))
        for block, props in self.first(visit.language).items():
            changes[block._id] = changes.get(block._id, {}) | props
        components = [
            each | {"props": each["props"] | changes[each["id"]]} if each["id"] in changes else each
            for each in built["components"]
        ]
        return built | {"components": components}

    def _translated(self, language: str) -> dict[int, dict[str, Any]]:
        """Properties of components by their number: the texts of a language."""
        if language not in self._texts:
            texts: dict[int, dict[str, Any]] = {self.page.language._id: {"value": language}}
            for component, own in [*self.page.translated, *self.page.at_first]:
                said = {name: in_language(language, text) for name, text in own.items()}
                texts[component._id] = texts.get(component._id, {}) | said
            self._texts[language] = texts
        return self._texts[language]

    def plain(self, visit: Visit) -> str:
        """What is read until the browser has built the page."""
        shown = render(
            "shared/first.html",
            language=visit.language,
            tab=visit.tab if visit.tab in self.names else self.names[0],
            names=self.names,
            said=self.said(visit.language),
            thumbnails=thumbnails(),
            script=script(),
        )
        return str(shown)  # markup would escape what it is put before


class Greeting:
    """ASGI middleware that answers a request for the page with an arrival's.

    Args:
        arrival: of the page that is served.
    """

    def __init__(self, app: ASGIApp, arrival: Arrival) -> None:
        self.app, self.arrival = app, arrival

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if path not in ("", "/", "/config", "/config/"):
            return await self.app(scope, receive, send)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        visit = visit_of(Headers(scope=scope).get("accept-language"), query)
        token = VISIT.set(visit)
        try:
            await self.app(scope, receive, Rewritten(self.arrival.plain(visit), visit.language, send).send)
        finally:
            VISIT.reset(token)


class Rewritten:
    """An HTML answer with its language named and something to read put before all that only builds the page;
    others pass.
    """

    def __init__(self, first: str, language: str, send: Send) -> None:
        self.first, self.language, self._send = first, language, send
        self.start: Message | None = None
        self.parts: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                self.start = message
                return
        elif message["type"] == "http.response.body" and self.start is not None:
            self.parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            html = b"".join(self.parts).decode()
            html = html.replace('lang="en"', f'lang="{self.language}"', 1)
            later = "".join(HEAVY.findall(html))
            html = HEAVY.sub("", html).replace(SHEET, LATE_SHEET)
            body = html.replace(MARK, self.first + later + MARK, 1).encode()
            headers = MutableHeaders(raw=[*self.start["headers"]])
            headers["content-length"] = str(len(body))
            headers.add_vary_header("Accept-Language")
            await self._send({**self.start, "headers": headers.raw})
            message = {**message, "body": body}
        await self._send(message)
