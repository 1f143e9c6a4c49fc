"""Gradio's page: each visitor's from its first byte, and one sentence for payloads of a wrong shape."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Any

import gradio as gr

from resnet_hub.command import printable
from resnet_hub.ui.shared.arrival import Arrival
from resnet_hub.ui.shared.errors import refusal, refuse
from resnet_hub.ui.shared.remote import NotFetched, Remote


class Blocks(gr.Blocks):
    """Sends each visitor a page of their own, and refuses what does not fit an event's inputs in one
    sentence, logged as one line without traceback.

    `arrival`, once set, makes the page that a request is answered with out of the one that was built;
    `remote` fetches the files that a payload names by an address, which without it are refused.
    """

    arrival: Arrival
    remote: Remote | None = None

    @property
    def config(self) -> Any:
        """What the browser builds the page from; Gradio reads it while it answers a request."""
        return self.arrival.opened(self._config) if hasattr(self, "arrival") else self._config

    @config.setter
    def config(self, built: Any) -> None:
        self._config = built

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> Any:
        # A program may leave out the last inputs, as one does that was written before there were so many.
        left_out = [getattr(block, "value", None) for block in block_fn.inputs[len(inputs) :] if inputs]
        given = await self._on_disk([*inputs, *left_out])
        return await fitting(super().preprocess_data(block_fn, given, *args, **options))

    async def _on_disk(self, inputs: list[Any]) -> list[Any]:
        """The inputs, their files on this disk."""
        try:
            return await (self.remote or Remote()).fetched(inputs)
        except NotFetched as error:
            print(printable(f"app.py: refused an address: {error}"), file=sys.stderr)
            raise refuse("en", refusal("address_not_fetched")) from error

    def get_api_info(self, *args: Any, **options: Any) -> Any:
        """Gradio's description of the API, where the first input is the question and has no default."""
        info = super().get_api_info(*args, **options)
        for endpoint in info["named_endpoints"].values():
            endpoint["parameters"][0] |= {"parameter_has_default": False, "parameter_default": None}
        return info

    async def call_function(self, block_fn: Any, *args: Any, **options: Any) -> Any:
        block_fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        if not block_fn.fn:  # the page runs it by itself
            raise refuse("en", refusal("request_malformed"))
        return await super().call_function(block_fn, *args, **options)


async def fitting(made: Awaitable) -> Any:
    """What Gradio makes of a payload.

    Raises:
        Toast: where it makes nothing of it.
    """
    try:
        return await made
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        print(printable(f"app.py: refused a payload: {type(error).__name__}: {line}"), file=sys.stderr)
        raise refuse("en", refusal("request_malformed")) from error
