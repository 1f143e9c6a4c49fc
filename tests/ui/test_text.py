"""The promises of the page's texts: both languages say the same, and nothing is kept that nobody uses."""

import ast
import re
import time
from collections.abc import Iterable
from string import Formatter

import pytest
from helpers import ROOT

from resnet_hub.ui.explore.designs import FIELDS
from resnet_hub.ui.shared.text import LANGUAGES, TEXT, identifier, language_of, name_of, read_texts

UI = ROOT / "resnet_hub" / "ui"


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_text_has_both_languages_with_the_same_placeholders():
    assert all(text.keys() == LANGUAGES.keys() for text in TEXT.values())
    assert not [key for key, text in TEXT.items() if placeholders(text["en"]) != placeholders(text["ja"])]


def test_every_key_is_an_identifier():
    assert not [key for key in TEXT if not re.fullmatch(r"[a-z][a-z0-9_]*", key)]


def test_no_text_only_passes_its_facts_through():
    given = {key: re.sub(r"{\w+}", "", text["en"]) for key, text in TEXT.items() if placeholders(text["en"])}
    assert not [key for key, own in given.items() if not re.search(r"\w", own)]


def keys_in_python(source: str) -> set[str]:
    """Patterns of the words in quotes, each part that an f-string fills in as a wildcard."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(re.escape(node.value) + (r"\w+" if node.value.endswith("_") else ""))
        elif isinstance(node, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else None for part in node.values)
            found.add("".join(r"\w+" if part is None else re.escape(part) for part in parts))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "name_of":
            found |= {rf"{part.value}_\w+" for part in node.args[1:2] if isinstance(part, ast.Constant)}
    return found


def keys_in_template(source: str) -> set[str]:
    """The same of a template, where `~` joins the parts."""
    joined = re.findall(r'(?:"\w+"|[\w.]+ ~ "\w+")(?: ~ (?:"\w+"|[\w.]+))*', source)
    named = {rf"{kind}_\w+" for kind in re.findall(r'name_of\(\w+, "(\w+)"', source)}
    return named | {
        "".join(part.strip('"') if part.startswith('"') else r"\w+" for part in each.split(" ~ "))
        for each in joined
    }


def unused(texts: Iterable[str]) -> list[str]:
    """Keys that no source names; a pattern counts only with some letters of its own."""
    modules = [*(ROOT / "resnet_hub").rglob("*.py"), ROOT / "app.py"]
    sources = [path.read_text(encoding="utf-8") for path in modules]
    templates = [path.read_text(encoding="utf-8") for path in UI.rglob("*.html")]
    found = {rf"{field}_\w+" for field in FIELDS}  # Explore's choices, named by control and value
    found |= {key for source in sources for key in keys_in_python(source)}
    found |= {key for source in templates for key in keys_in_template(source)}
    named = re.compile("|".join(key for key in found if re.search("[a-z]{2}", key.replace(r"\w+", ""))))
    return [key for key in texts if not named.fullmatch(key)]


def test_every_text_is_used():
    assert not unused(TEXT)
    assert unused(["nobody_says_this", "panels_title"]) == ["nobody_says_this", "panels_title"]


def test_two_files_may_not_define_one_key(tmp_path):
    for tab in ("one", "two"):
        (tmp_path / tab).mkdir()
        (tmp_path / tab / "text.toml").write_text('[title]\nen = "a"\nja = "b"\n')
    with pytest.raises(ValueError, match="title"):
        read_texts(tmp_path)


def test_a_name_is_found_under_an_identifier_and_stands_for_itself_without_one():
    assert identifier("without, rate 0.5") == "without_rate_0_5"
    assert name_of("ja", "class", "dog") == "犬" and name_of("ja", "class", "tench") == "tench"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ja,en;q=0.8", "ja"),
        ("fr,ja;q=0.3,en;q=0.7", "en"),
        ("de", "en"),
        (None, "en"),
        ("ja;q=x", "en"),
        ("ja; q=0.8, en; q=0.5", "ja"),
        ("ja;q=0, fr", "en"),
        ("ja;q=0, en;q=0", "en"),
        ("*", "en"),
        ("ja-JP , en", "ja"),
    ],
)
def test_the_browser_s_preferred_language_of_ours_is_taken(header, language):
    assert language_of(header) == language


@pytest.mark.parametrize(
    "wish", ["a" * 60_000 + "!", "a" + " " * 60_000 + "!", "a" + "-" * 60_000 + "!", "a;q=1." + "1" * 60_000]
)
def test_a_hostile_wish_takes_no_time(wish):
    """It is read on the event loop, for every request; a pattern that backtracks takes minutes."""
    before = time.process_time()
    assert language_of(wish) == "en"
    assert time.process_time() - before < 1
