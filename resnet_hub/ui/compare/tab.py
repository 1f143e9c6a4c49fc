"""The Compare tab: one of our models beside timm's, on one photo or on several; and which network to choose.

`build` lays it out and wires it; what is shown is made in `compare_page.py` and `family_page.py`. Knows
nothing of how a reference is found or run (`reference.py`) or kept in memory (`models.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import gradio as gr

from resnet_hub.interop.reference import COUNTERPART, SUGGESTED, NoReference, facts_of
from resnet_hub.interop.side_by_side import Row, many, side_by_side
from resnet_hub.models.registry import list_models
from resnet_hub.predict import DEFAULT_MODEL, latency
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.classify.tab import download_bar, load
from resnet_hub.ui.compare.family import family_page
from resnet_hub.ui.compare.page import Compared, Many, Missing, document, many_page, page
from resnet_hub.ui.shared.page import (
    EXPLORED,
    QUIET,
    STATE_KEPT,
    Page,
    Part,
    error_text,
    examples_for,
    reason,
    refuse,
    uploaded,
)
from resnet_hub.ui.shared.text import known_language, say
from resnet_hub.ui.shelf import References, Shelf, on_gpu

MOST_REFERENCES = 4
MOST_PHOTOS = 64
# Of all visitors: two comparisons together would hold twice as many networks as the memory is reckoned for.
ONE_AT_A_TIME = {"concurrency_limit": 1, "concurrency_id": "compare"}
SORT = Path(__file__).with_name("sort.js")


def asked(reference: str | list[str] | None, language: str) -> list[str]:
    """The references a visitor or a program names, each once.

    Raises:
        gr.Error: for more than MOST_REFERENCES.
    """
    names = [reference] if isinstance(reference, str) else reference or []
    names = list(dict.fromkeys(str(name).strip() for name in names))
    if len(names) > MOST_REFERENCES:
        raise refuse(language, "reference_most", most=MOST_REFERENCES)
    return names


def found(
    references: References, names: list[str], source: str, tqdm_class: type | None
) -> tuple[list[tuple], list[Missing]]:
    """Keys of the references in memory now, and those that cannot be had."""
    keys, missing = [], []
    for name in names:
        try:
            keys.append(references.key(name, source, tqdm_class))
        except NoReference as error:
            missing.append(Missing(name, error))
    return list(dict.fromkeys(keys)), missing


@dataclass(frozen=True)
class Parts:
    """The components of the tab, from top to bottom."""

    intro: gr.Markdown
    photo: gr.Image
    examples: gr.Dataset
    model: gr.Dropdown
    reference: gr.Dropdown
    go: gr.Button
    panel: gr.HTML
    measure: gr.Button
    measure_info: gr.Markdown
    several: gr.Accordion
    files: gr.File
    many_go: gr.Button
    many_panel: gr.HTML
    family: gr.Accordion
    family_intro: gr.Markdown
    guide: gr.HTML
    family_measure: gr.Button
    family_sources: gr.Markdown

    @property
    def relabelled(self) -> list:
        """Whatever `labels` updates, in its order."""
        shown = {"panel", "many_panel", "guide"}
        return [getattr(self, field.name) for field in fields(self) if field.name not in shown]


def labels(shelf: Shelf, language: str) -> list:
    """The tab's fixed texts."""
    info = say(language, "compare_reference_info", most=MOST_REFERENCES)
    return [
        say(language, "compare_intro"),
        gr.update(label=say(language, "photo"), placeholder=say(language, "drop")),
        gr.update(label=say(language, "examples")),
        gr.update(choices=shelf.choices(language), label=say(language, "model")),
        gr.update(label=say(language, "compare_reference"), info=info),
        say(language, "compare_go"),
        say(language, "compare_measure"),
        say(language, "compare_measure_info"),
        gr.update(label=say(language, "compare_many")),
        gr.update(label=say(language, "compare_files")),
        say(language, "compare_many_go"),
        gr.update(label=say(language, "family")),
        say(language, "family_intro"),
        say(language, "family_measure"),
        say(language, "family_sources"),
    ]


def lay_out(shelf: Shelf) -> Parts:
    """Place every component, in English."""
    return Parts(
        gr.Markdown(say("en", "compare_intro")),
        *inputs(shelf),
        gr.HTML(page("en", None), elem_id="compare-panel", **EXPLORED),
        gr.Button(say("en", "compare_measure"), elem_id="compare-measure"),
        gr.Markdown(say("en", "compare_measure_info"), elem_classes="fine-print"),
        *several_photos(),
        *family_guide(),
    )


def inputs(shelf: Shelf) -> tuple:
    """Photo, examples, model, reference and the button."""
    info = say("en", "compare_reference_info", most=MOST_REFERENCES)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            photo = gr.Image(
                label=say("en", "photo"),
                placeholder=say("en", "drop"),
                sources=["upload", "clipboard"],
                type="filepath",
                height=220,
                elem_id="compare-photo",
            )
            examples = examples_for(photo, "compare-examples")
        with gr.Column(min_width=300):
            model = gr.Dropdown(
                shelf.choices("en"), value=DEFAULT_MODEL, label=say("en", "model"), elem_id="compare-model"
            )
            reference = gr.Dropdown(
                [COUNTERPART, *SUGGESTED],
                value=[COUNTERPART],
                multiselect=True,
                max_choices=MOST_REFERENCES,
                allow_custom_value=True,
                label=say("en", "compare_reference"),
                info=info,
                elem_id="compare-reference",
            )
            go = gr.Button(say("en", "compare_go"), variant="primary", elem_id="compare-go")
    return photo, examples, model, reference, go


def several_photos() -> tuple:
    """The folded section that takes many photos."""
    with gr.Accordion(say("en", "compare_many"), open=False, elem_id="compare-many") as section:
        kinds = {"file_count": "multiple", "file_types": ["image"]}
        files = gr.File(label=say("en", "compare_files"), height=160, **kinds)
        button = gr.Button(say("en", "compare_many_go"), elem_id="compare-many-go")
        panel = gr.HTML("", elem_id="compare-many-panel", **EXPLORED)
    return section, files, button, panel


def family_guide() -> tuple:
    """The folded section with every network; filled when the tab is opened."""
    with gr.Accordion(say("en", "family"), open=False, elem_id="family") as section:
        intro = gr.Markdown(say("en", "family_intro"))
        script = SORT.read_text(encoding="utf-8")
        guide = gr.HTML("", js_on_load=script, elem_id="family-guide", **EXPLORED)
        button = gr.Button(say("en", "family_measure"), elem_id="family-measure")
        sources = gr.Markdown(say("en", "family_sources"), elem_classes="fine-print")
    return section, intro, guide, button, sources


def build(given: Page, tab: gr.Tab) -> Part:
    """Lay out the tab and wire it."""
    shelf, language = given.shelf, given.language
    with gr.Blocks():
        parts = lay_out(shelf)
        compared = gr.State(None, time_to_live=STATE_KEPT)
        many = gr.State(None, time_to_live=STATE_KEPT)
        facts = gr.JSON(visible=False)
    references = References(shelf)
    seconds = wire_family(parts, shelf, language)
    wire_photo(parts, references, language, facts, compared)
    wire_measure(parts, references, language, compared)
    wire_several(parts, references, language, many)

    def on_language(one: Compared | None, several: Many | None, chosen: str) -> tuple[str, str, str]:
        return page(chosen, one), many_page(chosen, several), family_page(chosen, seconds)

    def on_open(chosen: str) -> list:
        """timm's whole list and the guide: neither is worth a slower start."""
        if not shelf.takes_any:
            return [gr.skip(), family_page(chosen, seconds)]
        import timm

        return [gr.update(choices=[COUNTERPART, *timm.list_models()]), family_page(chosen, seconds)]

    shown = [parts.panel, parts.many_panel, parts.guide]
    language.change(on_language, [compared, many, language], shown, **QUIET)
    tab.select(on_open, language, [parts.reference, parts.guide], **QUIET)
    return Part(lambda chosen: labels(shelf, chosen), parts.relabelled)


def wire_photo(
    parts: Parts, references: References, language: gr.Radio, facts: gr.JSON, state: gr.State
) -> None:
    """One photo through our model and its references."""
    shelf = references.shelf

    @on_gpu
    def look(photo: str | bytes, source: str, keys: list[tuple]) -> tuple:
        return side_by_side(shelf.get(source), source, [references.get(key) for key in keys], photo)

    def on_compare(
        image,
        model=DEFAULT_MODEL,
        reference=COUNTERPART,
        language="en",
        progress=gr.Progress(),  # noqa: B008
    ):
        """One photo through one of our models and through timm's.

        `reference` is "counterpart" (the same network by timm, with our weights), a name of timm's, or a list
        of up to four of these.
        """
        language = known_language(language)
        if image is None:
            return None, page(language, None), None
        load(shelf, model, language, progress)
        keys, missing = found(references, asked(reference, language), model, download_bar(progress))
        try:
            ours, besides = look(uploaded(image), model, keys)
        except ImageError as error:
            raise gr.Error(error_text(language, error), print_exception=False) from error
        compared = timed(Compared(ours, besides, missing, [(None, model, None), *keys]), references)
        return document(compared), page(language, compared), compared

    parts.go.click(
        on_compare,
        [parts.photo, parts.model, parts.reference, language],
        [facts, parts.panel, state],
        api_name="compare",
        preprocess=False,  # as in the Classify tab: a broken file would end in PIL's words
        show_progress_on=[parts.panel],
        **ONE_AT_A_TIME,
    )


def wire_measure(parts: Parts, references: References, language: gr.Radio, state: gr.State) -> None:
    """The time each network of the answer takes, on request."""

    @on_gpu
    def time_it(key: tuple) -> float:
        model = references.shelf.get(key[1]) if key[0] is None else references.get(key)
        return latency(model, model.preprocess.input_size)

    def on_measure(compared: Compared | None, language: str, progress=gr.Progress()):  # noqa: B008
        if compared is None:
            raise refuse(language, "compare_first")
        for key in progress.tqdm(compared.keys, desc=say(language, "compare_measure")):
            if key not in references.seconds:
                try:
                    references.seconds[key] = time_it(key)
                except ValueError as error:  # no longer in memory, and no longer to be had
                    raise refuse(language, "model_failed", why=reason(error)) from error
        compared = timed(compared, references)
        return page(language, compared), compared

    slowly = {"show_progress_on": [parts.panel], "api_visibility": "private"} | ONE_AT_A_TIME
    parts.measure.click(on_measure, [state, language], [parts.panel, state], **slowly)


def timed(compared: Compared, references: References) -> Compared:
    """The comparison with the latencies measured so far."""
    known = {key: references.seconds[key] for key in compared.keys if key in references.seconds}
    return replace(compared, seconds=known)


def wire_several(parts: Parts, references: References, language: gr.Radio, state: gr.State) -> None:
    """Several photos at once."""
    shelf = references.shelf

    @on_gpu
    def look(files: list[dict], source: str, keys: list[tuple]) -> tuple[list, list, list]:
        return first_guesses(shelf.get(source), [references.get(key) for key in keys], files)

    def on_many(files: list | None, model: str, reference, language: str, progress=gr.Progress()):  # noqa: B008
        if not files:
            raise refuse(language, "compare_many_none")
        if len(files) > MOST_PHOTOS:
            raise refuse(language, "compare_many_most", most=MOST_PHOTOS)
        ours = facts_of(load(shelf, model, language, progress), model)
        keys, missing = found(references, asked(reference, language), model, download_bar(progress))
        facts = [references.get(key).facts for key in keys]
        many = Many(*look(files, model, keys), ours, facts, missing)
        return many_page(language, many), many

    parts.many_go.click(
        on_many,
        [parts.files, parts.model, parts.reference, language],
        [parts.many_panel, state],
        preprocess=False,
        show_progress_on=[parts.many_panel],
        api_visibility="private",
        **ONE_AT_A_TIME,
    )


def first_guesses(
    ours, nets: Sequence, files: list[dict]
) -> tuple[list[str], list[Row], list[tuple[str, ImageError]]]:
    """Names and rows of the files that can be read, (name, why) of the others; one is decoded at a time."""
    names, rows, broken = [], [], []
    for file in files:
        name = str(file.get("orig_name") or Path(file.get("path") or "").name)
        try:
            rows += many(ours, nets, [uploaded(file)])
            names.append(name)
        except ImageError as error:
            broken.append((name, error))
    return names, rows, broken


def wire_family(parts: Parts, shelf: Shelf, language: gr.Radio) -> dict[str, float]:
    """The guide's button; returns the latencies it fills, by network, for every visitor to see."""
    seconds: dict[str, float] = {}

    @on_gpu
    def time_it(name: str) -> float:
        from resnet_hub.lab.family import measure

        return measure(name, shelf.device)

    def on_family(language: str, progress=gr.Progress()) -> str:  # noqa: B008
        for name in progress.tqdm(list_models(), desc=say(language, "family_measure")):
            if name not in seconds:
                seconds[name] = time_it(name)
        return family_page(language, seconds)

    slowly = {"concurrency_limit": 1, "show_progress_on": [parts.guide], "api_visibility": "private"}
    parts.family_measure.click(on_family, language, parts.guide, **slowly)
    return seconds
