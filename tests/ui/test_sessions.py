"""What is kept of each visitor: those who are active keep theirs, whatever others do."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime

import gradio as gr
import numpy as np
import pytest
from fastapi import HTTPException
from gradio.state_holder import SessionState
from PIL import Image

from app import build_app
from resnet_hub.ui.shared.sessions import Sessions, weight
from resnet_hub.ui.shelf import Shelf


@pytest.fixture(scope="module")
def page():
    with gr.Blocks() as demo:
        state = gr.State(None)
        for _ in range(50):
            gr.HTML("x")
    demo.state_session_capacity = 1
    return demo, state._id


def sessions(page, most: int = 10, most_bytes: int = 10**6, seconds: float = 60) -> Sessions:
    kept = Sessions(most, most_bytes, seconds)
    kept.set_blocks(page[0])
    return kept


def test_who_comes_back_is_kept_while_a_thousand_others_come(page):
    kept = sessions(page)
    kept["visitor"][page[1]] = "answer"
    for i in range(1000):
        kept[f"stranger {i}"][page[1]] = "x"
        if i % 5 == 0:
            assert kept["visitor"][page[1]] == "answer"
    assert len(kept.session_data) == 10 == len(kept.time_last_used)


def test_large_values_drop_the_oldest_and_never_the_last_one(page):
    kept = sessions(page)
    for i in range(5):
        kept[f"visitor {i}"][page[1]] = bytes(300_000)
    kept.delete_all_expired_state()
    assert list(kept.session_data) == ["visitor 2", "visitor 3", "visitor 4"]
    kept["visitor 4"][page[1]] = bytes(3_000_000)
    kept.delete_all_expired_state()
    assert list(kept.session_data) == ["visitor 4"] == list(kept.time_last_used)


def test_a_name_that_no_page_gives_is_refused_and_not_kept(page):
    kept = sessions(page)
    with pytest.raises(HTTPException):
        kept["x" * 101]
    assert not kept.session_data
    assert isinstance(kept["x" * 36], SessionState)


def test_answers_that_nobody_reads_are_dropped(page, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("resnet_hub.ui.shared.sessions.time.monotonic", lambda: clock[0])
    kept, queues = sessions(page), {name: asyncio.Queue() for name in ("reads", "never")}
    monkeypatch.setattr(page[0]._queue, "pending_messages_per_session", queues)
    for clock[0] in (0.0, 200.0, 301.0):
        queues["reads"].put_nowait("answer")
        queues["never"].put_nowait("answer")
        kept.delete_all_expired_state()
        assert queues["reads"].qsize() == 1
        assert queues["reads"].get_nowait() == "answer"
        kept.delete_all_expired_state()
    assert list(queues) == ["reads"]  # who asks for the others is told that there is no such session


def test_who_does_nothing_for_long_is_forgotten(page):
    kept = sessions(page)
    for name in ("gone", "here"):
        kept[name][page[1]] = "answer"
    kept.time_last_used["gone"] -= datetime.timedelta(seconds=61)
    kept.delete_all_expired_state()
    assert list(kept.session_data) == ["here"]


@pytest.mark.parametrize("was_lost", [False, True])
def test_who_looks_at_an_old_answer_keeps_it(was_lost):
    demo = build_app(Shelf())
    kept = Sessions(10, 10**6, 60)
    kept.set_blocks(demo)
    states = [each._id for each in demo.blocks.values() if isinstance(each, gr.State)]
    for state in states:
        kept["visitor"][state] = "answer"
    kept.session_data["visitor"].is_closed = was_lost  # its heartbeat, while a phone was locked
    long_ago = datetime.datetime.now() - datetime.timedelta(days=1)
    set_then = kept["visitor"]._state_ttl
    set_then.update({state: (seconds, long_ago) for state, (seconds, _) in set_then.items()})
    kept.delete_all_expired_state()
    assert states and [*kept["visitor"].state_data] == states


def test_a_session_keeps_values_and_no_copy_of_the_page(page):
    kept = sessions(page)
    session = kept["visitor"]
    session[page[1]] = "answer"
    shown = next(key for key in session.blocks_config.blocks if key != page[1])
    session._update_value_in_config(shown, "x" * 1000)
    assert session[page[1]] == "answer" and not session.config_values
    before = session.weight()
    session[shown] = gr.HTML("y", render=False)
    assert session.weight() > before + 1000  # a component changed for this visitor
    assert len(SessionState(page[0]).config_values) > 50  # what Gradio's own keeps


def test_a_change_describes_no_component(page, monkeypatch):
    described = []
    monkeypatch.setattr(gr.blocks.BlocksConfig, "config_for_block", lambda *given: described.append(given))
    sessions(page)["visitor"][page[1]] = "answer"
    assert not described
    SessionState(page[0])[page[1]] = "answer"
    assert described  # as Gradio's own does


def test_a_weight_is_about_the_bytes_held():
    @dataclasses.dataclass
    class Held:
        crop: Image.Image
        names: list

    held = Held(Image.new("RGB", (100, 50)), ["a" * 1000] * 10)
    assert weight({"a": held, 3: np.zeros(1000)}) == pytest.approx(15_000 + 10_000 + 8_000, rel=0.1)
    loop: list = []
    loop.append(loop)
    assert weight(loop) < 10_000
