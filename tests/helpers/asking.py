"""The app asked as its page and bare programs ask it: uploads, the queue, and what comes back."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import httpx

PHOTO = {"meta": {"_type": "gradio.FileData"}}


def upload(address: str, name: str, data: bytes) -> str:
    """The path of a file uploaded as the page does it."""
    reply = httpx.post(f"{address}gradio_api/upload", files={"files": (name, data)}, timeout=120)
    reply.raise_for_status()
    return reply.json()[0]


def sent(address: str, name: str, data: bytes) -> dict:
    """An uploaded file as the value of a component."""
    return {"path": upload(address, name, data)} | PHOTO


@lru_cache(8)
def config(address: str) -> dict:
    return httpx.get(f"{address}config", timeout=60).json()


def event(address: str, name: str) -> int:
    """The event of an API name."""
    return next(each["id"] for each in config(address)["dependencies"] if each["api_name"] == name)


def event_of(address: str, elem_id: str, trigger: str) -> int:
    """The event that a component of the page starts."""
    target = [component(address, elem_id), trigger]
    return next(each["id"] for each in config(address)["dependencies"] if target in each["targets"])


def component(address: str, elem_id: str) -> int:
    """A component of the page."""
    parts = config(address)["components"]
    return next(each["id"] for each in parts if each["props"].get("elem_id") == elem_id)


def ask(
    address: str,
    number: int,
    data: Sequence[Any],
    event_data: Any = None,
    *,
    session: str | None = None,
    part: int | None = None,
) -> str:
    """Put an event into the queue, as one that the component `part` started; the session in which it is
    answered, a new one if none is given."""
    request = {"data": data, "fn_index": number, "event_data": event_data, "trigger_id": part}
    request["session_hash"] = session or uuid.uuid4().hex
    httpx.post(f"{address}gradio_api/queue/join", json=request, timeout=120).raise_for_status()
    return request["session_hash"]


def told(address: str, session: str, seconds: float = 120) -> dict:
    """What the queue answers in a session."""
    stream = f"{address}gradio_api/queue/data"
    with httpx.stream("GET", stream, params={"session_hash": session}, timeout=seconds) as lines:
        line = next(line for line in lines.iter_lines() if "process_completed" in line)
    return json.loads(line.removeprefix("data:"))


def answer(address: str, name: str, data: Sequence[Any]) -> dict:
    """What the queue answers to a bare request."""
    return told(address, ask(address, event(address, name), data))


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip of {name: bytes}."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def classify_zip(address: str, path: str, model: str) -> str:
    """The session in which the Results tab classifies an uploaded zip."""
    asked = {"zip": path, "model": model}
    return ask(address, event_of(address, "grid-form", "click"), ["en"], asked)
