"""The Compare tab: one of our models beside timm's, on one photo or on several; and which network to choose.

`build` lays it out and wires it; what is shown is made in `compare_page.py` and `family_page.py`. Knows
nothing of how a reference is found or run (`reference.py`) or kept in memory (`models.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr

from resnet_hub import reference as refs
from resnet_hub.predict import DEFAULT_MODEL
from resnet_hub.preprocess import ImageError, load_image
from resnet_hub.reference import COUNTERPART, SUGGESTED, NoReference
from resnet_hub.ui.classify import download_bar, load
from resnet_hub.ui.common import EXAMPLES, QUIET, Page, Part, error_text, refuse, uploaded
from resnet_hub.ui.compare_page import Compared, Many, Missing, document, many_page, page
from resnet_hub.ui.family_page import family_page
from resnet_hub.ui.models import References, on_gpu
from resnet_hub.ui.text import LANGUAGES, say

MOST_REFERENCES = 4
MOST_PHOTOS = 64
SORT = Path(__file__).with_name("sort.js")


def asked(reference: str | list[str] | None) -> list[str]:
    """The references a visitor or a program names, each once, at most MOST_REFERENCES."""
    names = [reference] if isinstance(reference, str) else reference or []
    return list(dict.fromkeys(str(name).strip() for name in names))[:MOST_REFERENCES]


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


def build(given: Page, tab: gr.Tab) -> Part:
    """Lay out the tab and wire it."""
    shelf, language, _ = given
    references = References(shelf)
    measured: dict[str, float] = {}  # seconds, by network of the family guide

    @on_gpu
    def go(photo: str | bytes, source: str, keys: list[tuple]) -> tuple:
        return refs.side_by_side(shelf.get(source), source, [references.get(key) for key in keys], photo)

    @on_gpu
    def go_many(photos: list, source: str, keys: list[tuple]) -> list:
        return refs.many(shelf.get(source), [references.get(key) for key in keys], photos)

    @on_gpu
    def time_it(key: tuple) -> float:
        model = shelf.get(key[1]) if key[0] is None else references.get(key)
        return refs.latency(model, model.preprocess.input_size)

    def on_compare(
        image,
        model=DEFAULT_MODEL,
        reference=COUNTERPART,
        language="en",
        progress=gr.Progress(),  # noqa: B008
    ):
        """One photo through one of our models and one or more of timm's.

        `reference` is "counterpart", a name of timm's, or a list of up to four of these.
        """
        language = language if language in [*LANGUAGES] else "en"
        if image is None:
            return None, page(language, None), None
        load(shelf, model, language, progress)
        keys, missing = found(references, asked(reference), model, download_bar(progress))
        try:
            ours, besides = go(uploaded(image), model, keys)
        except ImageError as error:
            raise gr.Error(error_text(language, error), print_exception=False) from error
        compared = known(Compared(ours, besides, missing, [(None, model), *keys]))
        return document(compared), page(language, compared), compared

    def known(compared: Compared) -> Compared:
        """With the latencies measured so far."""
        there = {key: references.seconds[key] for key in compared.keys if key in references.seconds}
        return replace(compared, seconds=there)

    def on_measure(compared: Compared | None, language: str, progress=gr.Progress()):  # noqa: B008
        if compared is None:
            raise refuse(language, "compare_first")
        for key in progress.tqdm(compared.keys, desc=say(language, "compare_measure")):
            if key not in references.seconds:
                references.seconds[key] = time_it(key)
        compared = known(compared)
        return page(language, compared), compared

    def on_many(files: list | None, model: str, reference, language: str, progress=gr.Progress()):  # noqa: B008
        if not files:
            raise refuse(language, "compare_many_none")
        if len(files) > MOST_PHOTOS:
            raise refuse(language, "compare_many_most", most=MOST_PHOTOS)
        ours = load(shelf, model, language, progress)
        keys, missing = found(references, asked(reference), model, download_bar(progress))
        photos, names, broken = [], [], []
        for file in files:
            name = str(file.get("orig_name") or Path(file.get("path") or "").name)
            try:
                photos.append(load_image(uploaded(file)))
                names.append(name)
            except ImageError as error:
                broken.append((name, error))
        rows = go_many(photos, model, keys) if photos else []
        facts = [references.get(key).facts for key in keys]
        many = Many(names, rows, broken, refs.facts_of(ours, model), facts, missing)
        return many_page(language, many), many

    def on_family(language: str, progress=gr.Progress()):  # noqa: B008
        from resnet_hub.family import measure
        from resnet_hub.models.registry import list_models

        for name in progress.tqdm(list_models(), desc=say(language, "family_measure")):
            if name not in measured:
                measured[name] = measure(name, shelf.device)
        return family_page(language, measured)

    with gr.Blocks():
        compared, many = gr.State(None, time_to_live=600), gr.State(None, time_to_live=600)
        intro = gr.Markdown(say("en", "compare_intro"))
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
                examples = gr.Dataset(
                    label=say("en", "examples"),
                    components=["image"],
                    samples=[[str(path)] for path in EXAMPLES],
                    type="index",
                    elem_id="compare-examples",
                )
            with gr.Column(min_width=300):
                model = gr.Dropdown(
                    shelf.choices("en"),
                    value=DEFAULT_MODEL,
                    label=say("en", "model"),
                    elem_id="compare-model",
                )
                reference = gr.Dropdown(
                    [COUNTERPART, *SUGGESTED],
                    value=[COUNTERPART],
                    multiselect=True,
                    max_choices=MOST_REFERENCES,
                    allow_custom_value=True,
                    label=say("en", "compare_reference"),
                    info=say("en", "compare_reference_info", most=MOST_REFERENCES),
                    elem_id="compare-reference",
                )
                button = gr.Button(say("en", "compare_go"), variant="primary", elem_id="compare-go")
        shown = {"elem_classes": "explored", "apply_default_css": False}
        facts = gr.JSON(visible=False)
        panel = gr.HTML(page("en", None), elem_id="compare-panel", **shown)
        measure_button = gr.Button(say("en", "compare_measure"), elem_id="compare-measure")
        measure_info = gr.Markdown(say("en", "compare_measure_info"), elem_classes="fine-print")
        with gr.Accordion(say("en", "compare_many"), open=False, elem_id="compare-many") as several:
            files = gr.File(
                label=say("en", "compare_files"), file_count="multiple", file_types=["image"], height=160
            )
            many_button = gr.Button(say("en", "compare_many_go"), elem_id="compare-many-go")
            many_panel = gr.HTML("", elem_id="compare-many-panel", **shown)
        with gr.Accordion(say("en", "family"), open=False, elem_id="family") as family:
            family_intro = gr.Markdown(say("en", "family_intro"))
            guide = gr.HTML("", js_on_load=SORT.read_text(encoding="utf-8"), elem_id="family-guide", **shown)
            family_button = gr.Button(say("en", "family_measure"), elem_id="family-measure")
            family_sources = gr.Markdown(say("en", "family_sources"), elem_classes="fine-print")

    private = {"api_visibility": "private"}
    button.click(
        on_compare,
        [photo, model, reference, language],
        [facts, panel, compared],
        api_name="compare",
        preprocess=False,  # as in the Classify tab: a broken file would end in PIL's words
        concurrency_limit=2,
        show_progress_on=[panel],
    )
    measure_button.click(
        on_measure,
        [compared, language],
        [panel, compared],
        concurrency_limit=1,
        show_progress_on=[panel],
        **private,
    )
    many_button.click(
        on_many,
        [files, model, reference, language],
        [many_panel, many],
        preprocess=False,
        concurrency_limit=1,
        show_progress_on=[many_panel],
        **private,
    )
    family_button.click(on_family, language, guide, concurrency_limit=1, show_progress_on=[guide], **private)
    examples.click(lambda index: str(EXAMPLES[index]), examples, photo, **QUIET)
    language.change(
        lambda result, results, chosen: (
            page(chosen, result), many_page(chosen, results), family_page(chosen, measured),
        ),
        [compared, many, language],
        [panel, many_panel, guide],
        **QUIET,
    )  # fmt: skip

    def offer_all(chosen: str) -> list:
        """timm's whole list and the family guide, once the tab is opened: neither is worth a slower start."""
        import timm

        return [gr.update(choices=[COUNTERPART, *timm.list_models()]), family_page(chosen, measured)]

    tab.select(offer_all, language, [reference, guide], **QUIET)

    def relabel(chosen: str) -> list:
        info = say(chosen, "compare_reference_info", most=MOST_REFERENCES)
        return [
            say(chosen, "compare_intro"),
            gr.update(label=say(chosen, "photo"), placeholder=say(chosen, "drop")),
            gr.update(label=say(chosen, "examples")),
            gr.update(choices=shelf.choices(chosen), label=say(chosen, "model")),
            gr.update(label=say(chosen, "compare_reference"), info=info),
            say(chosen, "compare_go"),
            say(chosen, "compare_measure"),
            say(chosen, "compare_measure_info"),
            gr.update(label=say(chosen, "compare_many")),
            gr.update(label=say(chosen, "compare_files")),
            say(chosen, "compare_many_go"),
            gr.update(label=say(chosen, "family")),
            say(chosen, "family_intro"),
            say(chosen, "family_measure"),
            say(chosen, "family_sources"),
        ]

    relabelled = [
        intro, photo, examples, model, reference, button, measure_button, measure_info, several, files,
        many_button, family, family_intro, family_button, family_sources,
    ]  # fmt: skip
    return Part(relabel, relabelled)
