"""The Cards tab: the model card of each loaded model.

A card is a stranger's text. Its Markdown is rendered without raw HTML and without images, so that showing one
runs no script and sends no request.
"""

from __future__ import annotations

import re
from html import escape

import gradio as gr
from markdown_it import MarkdownIt
from markupsafe import Markup

from resnet_hub.hub.card_merge import split_front_matter
from resnet_hub.ui.shared.errors import details
from resnet_hub.ui.shared.html import notice
from resnet_hub.ui.shared.page import QUIET, Page
from resnet_hub.ui.shared.text import say
from resnet_hub.ui.shelf import Shelf

MOST_CHARACTERS = 200_000


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
    return Markup(renderer.render(body))


def shown_card(shelf: Shelf, source: str | None, language: str) -> Markup:
    """The card of a loaded model as HTML, or one line on why there is none."""
    if not source:
        return notice(say(language, "card_choose"))
    try:
        text = shelf.card(source)
    except KeyError:
        return notice(say(language, "card_gone", model=source[:100]))
    except ValueError as error:  # a CheckpointError
        return notice(say(language, "card_failed", why=details(error)))
    if text is None:
        return notice(say(language, "card_missing", model=source[:100]))
    return card_html(text, language)


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab and wire it."""
    shelf, language = page.shelf, page.language
    page.text(gr.Markdown(), value="cards_intro")
    model = page.text(gr.Dropdown([], value=None, elem_id="card_model"), label="card_model")
    card = gr.HTML(elem_id="card")

    def refresh(chosen: str | None, language: str) -> tuple[dict, str]:
        loaded = shelf.loaded()
        chosen = chosen if chosen in loaded else next(iter(loaded), None)
        return gr.update(choices=loaded, value=chosen), shown_card(shelf, chosen, language)

    def show(chosen: str | None, language: str) -> str:
        return shown_card(shelf, chosen, language)

    tab.select(refresh, [model, language], [model, card], **QUIET)
    for event in (model.input, language.change):
        # Not preprocessed: the list a visitor sees may name a model that has left the shelf.
        event(show, [model, language], card, preprocess=False, **QUIET)
