"""What machines ask the app: `/healthz`, and with operations on, `/metrics` for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Probes:
    """Answers two paths before Gradio does.

    Args:
        is_ready: whether the default model has answered once.
        metrics: the text of `/metrics`; None leaves that path to Gradio.
    """

    def __init__(
        self, app: ASGIApp, is_ready: Callable[[], bool], metrics: Callable[[], str] | None = None
    ) -> None:
        self.app, self.is_ready, self.metrics = app, is_ready, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self.app
        if scope["type"] == "http" and scope["path"] == "/healthz":
            ready = self.is_ready()
            answer = PlainTextResponse("ok\n" if ready else "loading\n", 200 if ready else 503)
        elif scope["type"] == "http" and scope["path"] == "/metrics" and self.metrics is not None:
            text = await run_in_threadpool(self.metrics)  # it may wait for the disk
            answer = PlainTextResponse(text, media_type="text/plain; version=0.0.4")
        await answer(scope, receive, send)
