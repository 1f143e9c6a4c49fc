"""The model card of the chosen model, folded under the picker.

A card is a stranger's text. Its Markdown is rendered without raw HTML and without images, so that showing one
runs no script and sends no request.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

import gradio as gr
from markdown_it import MarkdownIt
from markupsafe import Markup

from resnet_hub.hub.card_merge import split_front_matter
from resnet_hub.hub.fetch import HubUnreachable
from resnet_hub.ui.shared.errors import explain, refusal
from resnet_hub.ui.shared.html import notice
from resnet_hub.ui.shared.page import QUIET, Page, named
from resnet_hub.ui.shared.text import known_language, name_of, say
from resnet_hub.ui.shelf import Shelf

MOST_CHARACTERS = 200_000
HEADING = re.compile("<h2>([^<]*)</h2>")
TABLE = '<table tabindex="0">'  # it scrolls sideways, by keyboard too


def card_html(text: str, language: str = "en") -> Markup:
    """A model card as HTML: no HTML of its own, its images as their descriptions.

    Args:
        text: Markdown with YAML front matter, which is not shown, and comments, which are dropped.
    """
    _, body = split_front_matter(text[:MOST_CHARACTERS])
    body = re.sub(r"<!--.*?(-->|\Z)", "", body, flags=re.DOTALL)
    image = say(language, "card_image")
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer.add_render_rule("image", lambda self, tokens, i, *_: escape(f"[{image}: {tokens[i].content}]"))
    html = renderer.render(body).replace("<pre>", '<pre tabindex="0">').replace("<table>", TABLE)
    return Markup(HEADING.sub(lambda found: heading(language, found[1]), html))


def heading(language: str, words: str) -> str:
    """A heading of the cards that this project writes, in the page's language; others stay."""
    return f"<h2>{name_of(language, 'heading', words)}</h2>"


def shown_card(shelf: Shelf, source: str, language: str) -> Markup:
    """The card of a loaded model as HTML, or one line on why there is none."""
    try:
        text = shelf.card(source)
    except KeyError:
        return notice(say(language, "card_gone", model=source[:100]))
    except HubUnreachable:
        return notice(say(language, "hub_unreachable", model=source[:100]))
    except ValueError as error:  # a CheckpointError
        return notice(explain(language, refusal("card_failed", why=error)))
    if text is None:
        return notice(say(language, "card_missing", model=source[:100]))
    return card_html(text, language)


def card_below(page: Page, model: gr.Dropdown) -> None:
    """The card of the model chosen above; read when it is unfolded."""
    language = page.language
    with page.text(gr.Accordion(open=False, elem_id="card-fold"), label="card_title") as fold:
        card = gr.HTML(elem_id="card", js_on_load=None)

    def show(chosen: Any, language: str) -> str:
        return shown_card(page.shelf, named(chosen), known_language(language))

    # Not preprocessed: the list a visitor sees may name a model that has left the shelf.
    fold.expand(show, [model, language], card, preprocess=False, **QUIET)
    model.change(lambda: (gr.Accordion(open=False), ""), None, [fold, card], **QUIET)

    def say_again(shown: str, chosen: Any, language: str) -> str:
        return show(chosen, language) if shown else ""

    # A card may have to come from the Hub again, and what follows an event holds up no other listener of it.
    switched = language.change(None, None, None, js="() => []", api_visibility="private")
    again = [card, model, language]
    switched.then(say_again, again, card, preprocess=False, trigger_mode="always_last", **QUIET)
