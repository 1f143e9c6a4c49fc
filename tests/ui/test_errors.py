"""The promises of the page's errors: said in the visitor's language, and never as a stranger's HTML."""

import re

import pytest

from resnet_hub.errors import Refusal
from resnet_hub.hub.fetch import CheckpointError, MissingFile
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.shared.errors import Toast, explain, refusal, refuse, refusing
from resnet_hub.ui.shared.html import alert, notice, table
from resnet_hub.ui.shared.text import say
from resnet_hub.ui.shelf import Recent

HARM = "<img src=x onerror=alert(1)>"


def test_an_error_is_explained_by_the_text_its_code_names():
    error = ImageError("too large", "file_too_large", max_bytes=30_000_000)
    assert explain("en", error) == "The file is larger than 30 MB. Save a smaller version and try again."
    assert explain("ja", error).startswith("ファイルが 30 MB を超えています")


def test_an_error_without_a_text_is_told_in_english_on_an_english_page_only():
    unknown = Refusal("No such thing.", "unheard_of")
    assert explain("en", unknown) == "That did not work. No such thing."
    said = explain("ja", ValueError("No such thing."))
    assert said == say("ja", "error_details", details=say("ja", "only_in_english"))


CAUSES = {
    "missing": MissingFile("no weights", "checkpoint_missing_file", file="model.safetensors"),
    "broken": CheckpointError(
        "bad", "checkpoint_unusable", file="config.json", cause=Refusal("unknown fields ['x']")
    ),
    "another": OSError("No space left on device"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_inside_a_sentence_is_in_the_page_s_language_too(name):
    given = {"model_failed": {"model": "net"}, "card_failed": {}, "reference_unusable": {"name": "resnet18"}}
    for key, facts in given.items():
        error = refusal(key, why=CAUSES[name], **facts)
        english, japanese = explain("en", error), explain("ja", error)
        assert not re.search(r"[a-z]+ [a-z]+", japanese.replace("English", "")), japanese
        assert re.search(r"no model\.safetensors|unknown fields|No space left", english)


def test_a_toast_escapes_what_a_visitor_typed():
    toast = refuse("en", "unknown_model", model=HARM, offered="a")
    assert "<img" not in toast.message and "&lt;img" in toast.message
    assert refuse("ja", "unknown_model", model="b", offered="a").title == "エラー"
    with pytest.raises(Toast, match="&lt;img"), refusing("en"):
        raise Refusal(HARM)


def test_pieces_of_the_page_escape_text_and_keep_markup():
    for piece in (alert(HARM), notice(HARM), table([HARM], [[HARM, {"text": HARM, "kind": "yes"}]])):
        assert "<img" not in piece and "&lt;img" in piece
    assert notice("fine") in table(["head"], [["row", notice("fine")]])


def test_the_least_recently_used_value_is_dropped_first():
    kept: Recent[str, str] = Recent(2)
    for key in ("a", "b", "a", "c"):
        kept.get(key, key.upper)
    assert kept.items() == [("a", "A"), ("c", "C")]


@pytest.mark.parametrize("bad", ["\x1b[31m", "\ud800", "\u202e", "\x00"])
def test_what_no_page_and_no_terminal_can_show_is_replaced(bad):
    toast = refuse("en", "unknown_model", model=f"a{bad}b", offered="c")
    assert bad not in toast.message and "\ufffd" in toast.message
    toast.message.encode()


def test_what_a_repository_says_is_quoted_at_some_length_only():
    assert len(explain("en", Refusal("x", "unknown_model", model="m" * 10**6, offered="c"))) < 3000
