"""What is kept of each visitor between clicks: little, so that many can come before anybody's is dropped.

Gradio's own copies the configuration of every component (0.2 MB, and a part of the first click's time) and
every value that a visitor was shown, for links that this page does not offer; and it knows no bound in bytes.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from typing import Any

import numpy as np
from fastapi import HTTPException
from gradio.state_holder import SessionState, StateHolder
from PIL import Image

KEPT = 3600  # seconds that a visitor who does nothing is remembered; Gradio keeps a closed page's as long
MOST_NAME = 100  # characters; Gradio's own have 36 at most
UNREAD = 300  # seconds for which answers wait to be read
DEEPEST = 6  # of a value that is weighed
POINTER, OBJECT, COMPONENT = 8, 50, 4000  # bytes


class Nothing(dict):
    """A dictionary that forgets what it is told."""

    def __setitem__(self, key: Any, value: Any) -> None:
        return None


class Session(SessionState):
    """One visitor's values, and the components changed for them; not what these show."""

    def __init__(self, blocks: Any) -> None:
        super().__init__(blocks)
        self.config_values = Nothing()
        # Gradio would describe a component for them at each of its changes.
        self.blocks_config.config_for_block = lambda *_: None  # type: ignore[method-assign]
        self._usual = blocks.default_config.blocks

    def weight(self) -> int:
        """About how many bytes are held for this visitor alone."""
        blocks = self.blocks_config.blocks
        changed = sum(block is not self._usual.get(key) for key, block in blocks.copy().items())
        return weight(dict(self.state_data)) + changed * COMPONENT

    def _update_value_in_config(self, key: int, value: Any) -> None:
        return None

    def _update_config(self, key: int) -> None:
        return None


class Bare:
    """The page as `SessionState` is to see it: without components whose configuration it would copy."""

    def __init__(self, page: Any) -> None:
        self._page, self.blocks = page, ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._page, name)


class Sessions(StateHolder):
    """Every visitor's values; who was here longest ago is forgotten first.

    Args:
        most: visitors.
        most_bytes: of all values together.
        seconds: after which a visitor who does nothing is forgotten.
    """

    def __init__(self, most: int, most_bytes: int, seconds: float) -> None:
        super().__init__()
        self.most, self.most_bytes, self.seconds = most, most_bytes, seconds
        self._bytes: dict[str, int] = {}
        self._touched: set[str] = set()
        self._unread: dict[str, float] = {}  # since when

    def set_blocks(self, blocks: Any) -> None:
        super().set_blocks(blocks)
        self.capacity = self.most

    def __getitem__(self, session_id: str) -> SessionState:
        if len(session_id) > MOST_NAME:
            raise HTTPException(400, "This is no session of this page.")
        with self.lock:
            if session_id not in self.session_data:
                self.session_data[session_id] = Session(Bare(self.blocks))  # type: ignore[arg-type]
            session = self.session_data[session_id]
            session.is_closed = False  # Gradio would never see that a page whose connection dropped is back
            self.time_last_used[session_id] = datetime.datetime.now()
            self._touched.add(session_id)
        self.update(session_id)
        return session

    def delete_all_expired_state(self) -> None:
        """Called every second by Gradio: forget what is too old or too much."""
        super().delete_all_expired_state()
        self._drop_unread()
        with self.lock:
            touched, self._touched = self._touched, set()
            for name in touched & self.session_data.keys():
                self._bytes[name] = self.session_data[name].weight()  # type: ignore[attr-defined]
            self._bytes = {name: held for name, held in self._bytes.items() if name in self.session_data}
            oldest = datetime.datetime.now() - datetime.timedelta(seconds=self.seconds)
            while self.session_data and self._has_to_go(next(iter(self.session_data)), oldest):
                name, _ = self.session_data.popitem(last=False)
                self.time_last_used.pop(name, None)
                self._bytes.pop(name, None)

    def _drop_unread(self) -> None:
        """Forget answers that nobody reads; Gradio bounds the number of queues, not what they hold. Who asks
        for them later is told that the session is not found."""
        queue, now = self.blocks._queue, time.monotonic()
        waiting = [name for name, each in queue.pending_messages_per_session.items() if not each.empty()]
        self._unread = {name: self._unread.get(name, now) for name in waiting}
        working = {each.session_hash for each in queue.event_ids_to_events.values() if each.alive}
        for name, since in self._unread.items():
            if now - since > UNREAD and name not in working:
                queue.pending_messages_per_session.pop(name, None)
                queue.pending_event_ids_session.pop(name, None)

    def held(self) -> int:
        """Bytes of all values, at the last look."""
        return sum(self._bytes.values())

    def _has_to_go(self, name: str, oldest: datetime.datetime) -> bool:
        is_too_much = self.held() > self.most_bytes and len(self.session_data) > 1
        return is_too_much or self.time_last_used.get(name, oldest) < oldest


def weight(value: Any, depth: int = 0) -> int:
    """About how many bytes a value holds."""
    if isinstance(value, Image.Image):
        return OBJECT + value.width * value.height * len(value.getbands())
    if isinstance(value, np.ndarray):
        return OBJECT + value.nbytes
    if isinstance(value, (str, bytes)):
        return OBJECT + len(value)
    if depth == DEEPEST:
        return OBJECT
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return OBJECT + sum(POINTER + weight(each, depth + 1) for each in value)
    return OBJECT
