"""The page and its configuration travel compressed; a click's three requests take no time for it."""

from __future__ import annotations

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

SHORT = ("/upload", "/queue/join", "/queue/data")  # Gradio's: a path, an id, and a stream that stays as it is


class Compression(GZipMiddleware):
    """gzip for everything but the requests of events."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith(SHORT):
            return await self.app(scope, receive, send)
        await super().__call__(scope, receive, send)
