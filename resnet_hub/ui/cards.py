"""The Cards tab: the model card of each loaded model.

A card is a stranger's text. It is turned into HTML here, without a way for HTML of its own, scripts or
images from elsewhere to get in, so that showing one sends no request to anybody.
"""

from __future__ import annotations

import html
import re

import gradio as gr
from markdown_it import MarkdownIt

from resnet_hub.hub.card_merge import split_front_matter
from resnet_hub.ui.shared.page import Page, Part, reason
from resnet_hub.ui.shared.text import say
from resnet_hub.ui.shelf import Shelf

MOST_CHARACTERS = 200_000


def card_html(text: str, language: str = "en") -> str:
    """A model card as HTML: no HTML of its own, its images as their descriptions.

    Args:
        text: Markdown with YAML front matter, which is not shown, and comments, which are dropped.
    """
    _, body = split_front_matter(text[:MOST_CHARACTERS])
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    image = say(language, "card_image")
    renderer.add_render_rule(
        "image", lambda self, tokens, i, *_: f"<em>[{image}: {html.escape(tokens[i].content)}]</em>"
    )
    renderer.add_render_rule("table_open", lambda *_: '<div class="wide"><table>')
    renderer.add_render_rule("table_close", lambda *_: "</table></div>")
    body = re.sub(r"<!--.*?(-->|\Z)", "", body, flags=re.DOTALL)
    return f'<div class="card prose">{renderer.render(body)}</div>'


def shown_card(shelf: Shelf, source: str | None, language: str) -> str:
    """The card of a loaded model as HTML, or one line on why there is none."""
    if not source:
        return f"<p>{say(language, 'card_choose')}</p>"
    name = html.escape(source[:100])
    try:
        text = shelf.card(source)
    except KeyError:
        return f"<p>{say(language, 'card_gone', model=name)}</p>"
    except ValueError as error:  # a CheckpointError
        return f"<p>{say(language, 'card_failed', why=html.escape(reason(error)))}</p>"
    return (
        f"<p>{say(language, 'card_missing', model=name)}</p>" if text is None else card_html(text, language)
    )


def build(given: Page, tab: gr.Tab) -> Part:
    """Lay out the tab and wire it."""
    shelf, language = given.shelf, given.language
    intro = gr.Markdown(say("en", "cards_intro"))
    model = gr.Dropdown([], value=None, label=say("en", "card_model"), elem_id="card_model")
    card = gr.HTML(elem_id="card")

    def refresh(chosen: str | None, language: str) -> tuple[dict, str]:
        loaded = shelf.loaded()
        chosen = chosen if chosen in loaded else next(iter(loaded), None)
        return gr.update(choices=loaded, value=chosen), shown_card(shelf, chosen, language)

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(refresh, [model, language], [model, card], **quiet)
    # The list a visitor sees is older than the shelf, so that what is chosen may have left it.
    model.input(
        lambda m, code: shown_card(shelf, m, code), [model, language], card, preprocess=False, **quiet
    )
    language.change(
        lambda m, code: shown_card(shelf, m, code), [model, language], card, preprocess=False, **quiet
    )

    def relabel(chosen: str) -> list:
        return [say(chosen, "cards_intro"), gr.update(label=say(chosen, "card_model"))]

    return Part(relabel, [intro, model])
