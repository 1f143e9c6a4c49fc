"""What stands between a stranger's request and Gradio: bounded bodies, and headers that bind the browser.

Pure ASGI, so that nothing is read twice and streams stay streams.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect

from resnet_hub.ui.limits import Limits
from resnet_hub.ui.shared.text import LANGUAGES, language_of, say
from resnet_hub.ui.shared.uploads import Uploads

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Gradio compiles its components' scripts in the page, hence the two "unsafe"; what matters is that a
# stranger's markup can neither load from another host nor send to one. Who may frame the page is left open:
# a Space is shown in a frame.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    ]
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]
UPLOADS = ("/upload", "/upload/")
# Gradio's, unused by this page: both write what a stranger sends to the disk.
CLOSED = ("/gradio_api/deep_link", "/gradio_api/process_recording")
# Of Gradio's addresses those that send other hosts' files on, as if they were this page's.
ELSEWHERE = re.compile("/file[=/]https?:", re.IGNORECASE)
CHOSEN = re.compile(rf"[?&]lang=({'|'.join(LANGUAGES)})(?=&|$)")  # in the page's address
MOST_ADDRESSES = 100_000
STRUCTURE = (b",", b":", b"[", b"{")


class TooMuch(Exception):
    """A body above its limit."""


class Guard:
    """ASGI middleware around Gradio's app.

    Args:
        limits: how large a request may be.
        uploads: the folder of uploads, which must have room for another.
    """

    def __init__(self, app: Callable, limits: Limits, uploads: Uploads | None = None) -> None:
        self.app, self.limits, self.uploads = app, limits, uploads
        self.rate = Rate(limits.uploads_a_minute)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        reply = Reply(scope, send)
        if scope["path"].endswith(CLOSED) or ELSEWHERE.search(scope["path"]):
            return await reply.refuse(404, "not_offered_here")
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self.app(scope, receive, reply.send)
        is_upload = scope["path"].endswith(UPLOADS)
        most = self.limits.upload_request_bytes if is_upload else self.limits.request_bytes
        key, facts = "request_too_large", {"most": most // 1_000_000}
        if is_upload and self.uploads and self.uploads.held > self.limits.uploads_held_bytes:
            return await reply.refuse(503, "uploads_full")
        if is_upload and not self.rate.allows((scope.get("client") or ("",))[0]):
            return await reply.refuse(429, "uploads_too_often")
        try:
            if declared(scope) > most:
                raise TooMuch
            if is_upload:
                receive = self.held(counted(receive, most))
            else:
                receive = replayed(await whole(receive, most, self.limits.request_items), receive)
            await self.app(scope, receive, reply.send)
        except TooMuch:
            await reply.refuse(413, key, **facts)
        except ClientDisconnect:  # nobody is left to answer, and nothing is wrong here
            return

    def held(self, receive: Receive) -> Receive:
        """`receive` whose bytes count as held until the next sweep measures them."""

        async def receive_() -> Message:
            message = await receive()
            if self.uploads:
                self.uploads.held += len(message.get("body", b""))
            return message

        return receive_


class Rate:
    """Counts what each address does in the current minute.

    Args:
        most: how often.
        now: seconds on a clock that only goes forward.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.most, self._now = most, now
        self._minute, self._counts = 0, Counter[str]()

    def allows(self, address: str) -> bool:
        """Count once more; whether that is within the limit."""
        minute = int(self._now() // 60)
        if minute != self._minute or len(self._counts) > MOST_ADDRESSES:
            self._minute, self._counts = minute, Counter()
        self._counts[address] += 1
        return self._counts[address] <= self.most


class Reply:
    """What is sent back: Gradio's answer with our headers, or one sentence in the visitor's language."""

    def __init__(self, scope: MutableMapping[str, Any], send: Send) -> None:
        headers = dict(scope["headers"])
        chosen = CHOSEN.search(headers.get(b"referer", b"").decode("latin-1"))
        asked = headers.get(b"accept-language", b"").decode("latin-1")
        self.language = chosen[1] if chosen else language_of(asked)
        self.path, self._send = scope["path"], send
        self.started = self.replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == 503 and self.path.endswith("/queue/join"):
                self.replaced = True  # Gradio's own words name its settings, in English
                return await self.refuse(503, "queue_full")
            self.started = True
            names = {name for name, _ in HEADERS}
            kept = [each for each in message.get("headers", []) if each[0].lower() not in names]
            message = {**message, "headers": [*kept, *HEADERS]}
        elif self.replaced:
            return None
        await self._send(message)

    async def refuse(self, status: int, key: str, **facts: Any) -> None:
        """A sentence as JSON, under both names that Gradio's clients look for.

        Of an upload that was refused they show the body as it is, so there it is the sentence alone.
        """
        if self.started:
            return
        self.started = True
        sentence = say(self.language, key, **facts)
        is_upload = self.path.endswith(UPLOADS)
        body = (sentence if is_upload else json.dumps({"detail": sentence, "error": sentence})).encode()
        type_ = b"text/plain; charset=utf-8" if is_upload else b"application/json"
        kind = [(b"content-type", type_), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": [*kind, *HEADERS]})
        await self._send({"type": "http.response.body", "body": body})


def declared(scope: MutableMapping[str, Any]) -> int:
    """The body's length as its header gives it; 0 where it gives none."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() and len(length) < 19 else 0


def counted(receive: Receive, most: int) -> Receive:
    """`receive` that raises TooMuch beyond `most` bytes."""
    seen = 0

    async def receive_() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise TooMuch
        return message

    return receive_


async def whole(receive: Receive, most: int, items: int) -> bytes:
    """A body in memory.

    Raises:
        TooMuch: beyond `most` bytes, or where its JSON would become more than `items` objects: a list of
            lists takes fifty times its text.
    """
    receive, parts, more, found = counted(receive, most), [], True, 0
    while more:
        message = await receive()
        part = message.get("body", b"")
        found += sum(part.count(sign) for sign in STRUCTURE)
        if found > items:
            raise TooMuch
        parts.append(part)
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives a body already read, and then what comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_
