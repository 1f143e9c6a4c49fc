"""A Hub whose answers never end: who needs nothing of it is answered all the same."""

from __future__ import annotations

import sys
import threading
import time

import gradio as gr
import pytest
from helpers.asking import answer, ask, classify_zip, event, sent, told, upload, zipped
from helpers.checkpoints import tiny
from helpers.loopback_hub import LoopbackHub, dripping, serve
from helpers.serving import served

from resnet_hub.interop.reference import COUNTERPART
from resnet_hub.ui.limits import Limits
from resnet_hub.ui.shared.loading import load
from resnet_hub.ui.shared.page import EXAMPLES
from resnet_hub.ui.shared.text import say
from resnet_hub.ui.shelf import Crowded, References, Shelf

REPO = "somebody/slow-net"
READY = "resnet20_cifar10"


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    hub = LoopbackHub()
    server = serve(hub)
    tiny().save_pretrained(folder := tmp_path_factory.mktemp("slow") / "net")
    names = [f"{REPO}-{i}" for i in range(12)]
    for name in names:
        hub.add(name, folder)
    hub.faults = [dripping(1)]
    command = [sys.executable, "app.py", "--limit", "load_seconds=600"]
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
    with served(command, folder.parent, **environment) as address:
        yield address, names
    server.shutdown()


def test_who_needs_no_loading_is_answered_while_every_load_hangs(slow):
    address, names = slow
    photo = sent(address, "photo.jpg", EXAMPLES[0].read_bytes())
    pack = upload(address, "pack.zip", zipped({"cat/1.jpg": EXAMPLES[0].read_bytes()}))
    compare, classify = event(address, "compare"), event(address, "classify")
    hanging = [ask(address, classify, [photo, name, "en"]) for name in names[:4]]
    hanging += [ask(address, compare, [photo, name, ["counterpart"], "en"]) for name in names[4:6]]
    hanging += [classify_zip(address, pack, name) for name in names[6:8]]
    ended: list[dict | Exception] = []

    def listen(session: str) -> None:
        try:
            ended.append(told(address, session))
        except Exception as error:  # a broken connection is no hanging load
            ended.append(error)

    for session in hanging:  # threads that may hang as long as they like
        threading.Thread(target=listen, args=(session,), daemon=True).start()
    for _ in range(2):
        assert answer(address, "classify", [photo, READY, "en"])["success"]
        assert answer(address, "compare", [photo, READY, ["counterpart"], "en"])["success"]
        assert told(address, classify_zip(address, pack, READY))["success"]
    assert not ended
    more = [answer(address, "classify", [photo, name, "en"]) for name in names[8:10]]
    assert [each["output"]["error"] for each in more] == [say("en", "loading_full")] * 2


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_load_ends_at_its_deadline_in_one_sentence(hub, tmp_path, language):
    tiny().save_pretrained(tmp_path / "net")
    hub.add(REPO, tmp_path / "net")
    hub.faults = [dripping(0.2)]
    shelf, started = Shelf(limits=Limits(load_seconds=1)), time.monotonic()
    with pytest.raises(gr.Error) as refused:
        load(shelf, REPO, language, lambda *args, **options: None)
    assert str(refused.value.message) == say(language, "hub_slow", model=REPO, seconds=1)
    assert time.monotonic() - started < 30
    hub.faults = []
    assert load(shelf, REPO, language, lambda *args, **options: None).source == REPO


def test_a_reference_that_ships_waits_for_no_stranger_s_download():
    references = References(Shelf(limits=Limits(load_seconds=1)))
    with references.turn(["resnet50"]), references.turn([COUNTERPART, READY]):
        pass


def test_a_model_that_a_visitor_named_is_downloaded_anew_as_a_reference_and_waits_its_turn():
    references = References(Shelf(limits=Limits(load_seconds=1)))
    references.shelf._models.put("somebody/net", tiny())
    with references.turn(["somebody/net"]), pytest.raises(Crowded), references.turn(["somebody/net"]):
        pass
