"""The Compare tab: one of our models beside timm's, on one photo or on several; and which network to choose.

Each section of the tab is one function that places its components and wires them. What they show is made by
`page.py` and `family.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from resnet_hub.errors import Refusal
from resnet_hub.hub.fetch import shipped_config
from resnet_hub.interop.reference import COUNTERPART, SUGGESTED, facts_of
from resnet_hub.interop.side_by_side import Row, many, side_by_side
from resnet_hub.models.registry import list_models
from resnet_hub.onnx_file import is_onnx_file
from resnet_hub.predict import DEFAULT_MODEL, Timing, latency
from resnet_hub.preprocess import ImageError, load_image
from resnet_hub.ui.compare.family import family_page
from resnet_hub.ui.compare.page import Compared, Many, Missing, document, many_page, page
from resnet_hub.ui.shared.errors import refuse, refusing
from resnet_hub.ui.shared.images import SMALL, at_most
from resnet_hub.ui.shared.loading import download_bar, load
from resnet_hub.ui.shared.page import (
    EXAMPLES,
    EXPLORED,
    NO_IMAGE,
    QUIET,
    Page,
    examples_for,
    file_name,
    named,
    sent_photos,
    uploaded,
)
from resnet_hub.ui.shared.text import known_language, say
from resnet_hub.ui.shelf import IMAGENET_MEGABYTES, References, Shelf, on_gpu

MOST_REFERENCES = 4
PROGRESS = gr.Progress()  # as a default it asks Gradio for the event's own
SORT = Path(__file__).with_name("sort.js")


ADDRESS = """(model, reference) => address.say("compare", { model, reference: reference.join(",") })"""


# An answer may arrive after the photo or the models have changed again.
BEGUN = """(...asked) => {
  window.compareChanged = false;
  return asked;
}"""
CHANGED = """() => {
  window.compareChanged = true;
  document.getElementById("compare-panel").toggleAttribute("data-is-stale", true);
}"""
ANSWERED = """() => {
  document.getElementById("compare-panel").toggleAttribute("data-is-stale", Boolean(window.compareChanged));
}"""


@dataclass(frozen=True)
class Tab:
    """What `app.py` needs of the tab."""

    asked: Inputs

    @property
    def arrivals(self) -> list[Any]:
        """The components that `arrive` may update."""
        return [self.asked.model, self.asked.reference]

    def arrive(self, query: Mapping[str, str]) -> dict[Any, Any]:
        """What is chosen for a visitor who comes with an address."""
        updates: dict[Any, Any] = {}
        if query.get("tab") != "compare":
            return updates
        if query.get("model") in self.asked.shelf.offered:
            updates[self.asked.model] = query["model"]
        if "reference" in query:
            names = [named(name) for name in query["reference"].split(",") if name]
            updates[self.asked.reference] = names[:MOST_REFERENCES]
        return updates


def build(given: Page, tab: gr.Tab) -> Tab:
    """Lay out the tab and wire it."""
    references = References(given.shelf)
    with gr.Blocks():
        given.text(gr.Markdown(), value="compare_intro")
        asked = inputs(given)
        one_photo(given, references, asked)
        several_photos(given, references, asked)
        family_guide(given, tab)
    offer_all_of_timm(given, tab, asked)
    chosen = [asked.model, asked.reference]
    # Names that are typed, or all removed, are no `input`.
    gr.on([each.change for each in chosen], None, chosen, None, js=ADDRESS, api_visibility="private")
    return Tab(asked)


# What is asked


@dataclass(frozen=True)
class Inputs:
    """What a visitor chooses; `names` are the references that the list offers."""

    photo: gr.Image
    model: gr.Dropdown
    reference: gr.Dropdown
    go: gr.Button
    names: list[str]
    shelf: Shelf

    def choices(self, language: str) -> list[tuple[str, str]]:
        """(text, value) of every reference on offer."""
        return reference_choices(language, self.shelf.choices(language), self.names)


def reference_choices(language: str, ours: Sequence, names: Sequence[str]) -> list[tuple[str, str]]:
    """(text, value): our model rebuilt from timm's parts, the models on offer, then timm's own by name.

    Those of ImageNet come last: a search finds the names of timm's in theirs too. ONNX files only answer.
    """
    ours = [choice for choice in ours if not is_onnx_file(choice[1])]
    first = [choice for choice in ours if choice[1] not in IMAGENET_MEGABYTES]
    last = [choice for choice in ours if choice[1] in IMAGENET_MEGABYTES]
    by_name = [(name, name) for name in names]
    return [(say(language, "compare_counterpart"), COUNTERPART), *first, *by_name, *last]


def second_shipped(shelf: Shelf) -> str:
    """A model of another network that ships, for the comparison that the tab opens with."""
    own = shipped_config(DEFAULT_MODEL).name
    return next((name for name in shelf.shipped if shipped_config(name).name != own), COUNTERPART)


def inputs(given: Page) -> Inputs:
    """Photo, examples, model, reference and the button."""
    names = list(SUGGESTED)
    shelf = given.shelf
    offered = reference_choices("en", shelf.choices("en"), names)
    kept = {"choices": offered, "value": [second_shipped(shelf)], "allow_custom_value": True}
    upload = {"sources": ["upload", "clipboard"], "type": "filepath"}
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            photo = gr.Image(str(EXAMPLES[0]), height=220, elem_id="compare-photo", **upload)
            given.text(photo, label="photo", placeholder="drop")
            examples_for(given, photo, "compare-examples")
        with gr.Column(min_width=300):
            model = gr.Dropdown(given.shelf.choices("en"), value=DEFAULT_MODEL, elem_id="compare-model")
            reference = gr.Dropdown(
                multiselect=True, max_choices=MOST_REFERENCES, elem_id="compare-reference", **kept
            )
            go = gr.Button(variant="primary", elem_id="compare-go")
    found = Inputs(photo, model, reference, go, names, shelf)
    given.text(model, label="model", choices=given.shelf.choices)
    given.text(reference, label="compare_reference", info=reference_info, choices=found.choices)
    given.text(go, value="compare_go")
    return found


def reference_info(language: str) -> str:
    return say(language, "compare_reference_info", most=MOST_REFERENCES)


def offer_all_of_timm(given: Page, tab: gr.Tab, asked: Inputs) -> None:
    """timm's whole list once somebody opens the tab: it is not worth a slower start."""

    def on_open(language: str, request: gr.Request) -> dict:
        import timm

        # A search lists matches in this order: the best known before the hundreds that contain their name.
        asked.names[:] = dict.fromkeys([*SUGGESTED, *timm.list_models()])
        return gr.update(choices=asked.choices(given.spoken(language, request)))

    if given.shelf.takes_any:
        tab.select(on_open, given.language, asked.reference, **QUIET)


def reference_names(reference: str | list[str] | None, language: str) -> list[str]:
    """The references a visitor or a program names, each once.

    Raises:
        gr.Error: for more than MOST_REFERENCES.
    """
    names = reference if isinstance(reference, list) else [reference] if reference else []
    names = list(dict.fromkeys(named(name) for name in names[: MOST_REFERENCES + 1] if name))
    if len(names) > MOST_REFERENCES:
        raise refuse(language, "reference_most", most=MOST_REFERENCES)
    return names


def load_references(
    references: References, names: list[str], source: str, tqdm_class: type | None
) -> tuple[list[tuple], list[Missing]]:
    """Keys of the references in memory now, and those that are not available."""
    keys, missing = [], []
    for name in names:
        try:
            keys.append(references.key(name, source, tqdm_class))
        except Refusal as error:
            missing.append(Missing(name, error))
    return list(dict.fromkeys(keys)), missing


def together(given: Page) -> dict[str, Any]:
    """For the events of this tab, which share their places."""
    return {"concurrency_limit": given.shelf.places, "concurrency_id": "compare"}


# One photo


def one_photo(given: Page, references: References, asked: Inputs) -> None:
    """One photo through our model and its references, and the time each takes."""
    language = given.language
    panel = gr.HTML(elem_id="compare-panel", **EXPLORED)
    given.begin(panel, value=lambda language: page(language, None))
    state, facts = gr.State(None), gr.JSON(visible=False)
    compared = asked.go.click(
        comparison(given, references),
        [asked.photo, asked.model, asked.reference, language],
        [facts, panel, state],
        js=BEGUN,
        api_name="compare",
        preprocess=False,  # as in the Classify tab: a broken file would end in PIL's words
        show_progress_on=[panel],
        **together(given),
    )
    compared.success(None, None, None, js=ANSWERED, api_visibility="private")
    given.follow(page, state, panel)
    changed = [each.change for each in (asked.photo, asked.model, asked.reference)]
    gr.on(changed, None, None, None, js=CHANGED, api_visibility="private")
    measurement(given, references, panel, state)


def comparison(given: Page, references: References) -> Callable[..., tuple]:
    """What a click on the button, or a program, starts."""
    shelf = given.shelf

    @on_gpu
    def look(photo: str | bytes, source: str, keys: list[tuple]) -> tuple:
        return side_by_side(shelf.get(source), source, [references.get(key) for key in keys], photo)

    def on_compare(
        image,
        model=DEFAULT_MODEL,
        reference=COUNTERPART,
        language="en",
        request: gr.Request | None = None,
        progress=PROGRESS,
    ):
        """Compare what two or more networks say about one photo.

        Args:
            image: the photo.
            model: one of the models the page offers, e.g. resnet20_cifar10.
            reference: "counterpart" (the same network rebuilt with timm, with the same weights), another
                model the page offers, a name of timm's such as resnet50, or a list of up to four of these.
            language: en or ja, of the second output.

        Returns:
            Both answers with parameters, multiply-adds and how far the networks are apart; the same as HTML.
        """
        language = known_language(language)
        if image is None:
            raise refuse(language, NO_IMAGE)
        model = named(model)
        load(shelf, model, language, progress, needs_weights=True)
        names = reference_names(reference, language)
        with refusing(language), references.turn(names):
            keys, missing = load_references(references, names, model, download_bar(progress))
            with references.comparing:
                ours, besides = look(uploaded(image), model, keys)
        compared = timed(Compared(ours, besides, missing, [(None, model, None), *keys]), references)
        return document(compared), page(given.spoken(language, request), compared), compared

    return on_compare


def measurement(given: Page, references: References, panel: gr.HTML, state: gr.State) -> None:
    """The time each network of the answer takes, on request."""
    button = given.text(gr.Button(elem_id="compare-measure"), value="compare_measure")
    given.text(gr.Markdown(elem_classes="fine-print"), value="compare_measure_info")

    @on_gpu
    def time_it(key: tuple) -> Timing:
        model = references.shelf.get(key[1]) if key[0] is None else references.get(key)
        return latency(model, model.preprocess.input_size)

    def on_measure(compared: Compared | None, language: str, progress=PROGRESS) -> None:
        if compared is None:
            raise refuse(language, "compare_first")
        for key in progress.tqdm(compared.keys, desc=say(language, "compare_measure")):
            if key not in references.seconds:
                try:
                    with references.comparing:
                        references.seconds[key] = time_it(key)
                except ValueError as error:  # no longer in memory, and no longer available
                    raise refuse(language, "model_failed", model=key[1] or key[0], why=error) from error

    def with_times(compared: Compared | None, language: str) -> tuple:
        """What is compared by now, maybe another photo than when the measuring began."""
        if compared is None:
            return gr.skip(), gr.skip()
        compared = timed(compared, references)
        return page(language, compared), compared

    slowly = {"show_progress_on": [panel], "api_visibility": "private"} | together(given)
    measured = button.click(on_measure, [state, given.language], None, **slowly)
    measured.success(with_times, [state, given.language], [panel, state], **QUIET)


def timed(compared: Compared, references: References) -> Compared:
    """The comparison with the latencies measured so far."""
    known = {key: references.seconds[key] for key in compared.keys if key in references.seconds}
    return replace(compared, seconds=known)


# Several photos


def several_photos(given: Page, references: References, asked: Inputs) -> None:
    """The folded section that takes many photos."""
    shelf, language = given.shelf, given.language
    section = gr.Accordion(open=False, elem_id="compare-many")
    with given.text(section, label="compare_many"):
        upload = gr.File(
            height=160, file_count="multiple", file_types=["image"], elem_id="compare-many-files"
        )
        given.text(upload, label="compare_files")
        button = given.text(gr.Button(elem_id="compare-many-go"), value="compare_many_go")
        panel = gr.HTML("", elem_id="compare-many-panel", **EXPLORED)
    state = gr.State(None)

    @on_gpu
    def look(files: list[dict], source: str, keys: list[tuple]) -> tuple[list, list, list, list]:
        return first_guesses(shelf.get(source), [references.get(key) for key in keys], files)

    def on_many(
        files: list | None, model: str, reference, language: str, request: gr.Request, progress=PROGRESS
    ):
        language, model = known_language(language), named(model)
        sent = sent_photos(files, language)
        if not sent:
            raise refuse(language, "compare_many_none")
        ours = facts_of(load(shelf, model, language, progress, needs_weights=True), model)
        names = reference_names(reference, language)
        with refusing(language), references.turn(names):
            keys, missing = load_references(references, names, model, download_bar(progress))
            with references.comparing:
                facts = [references.get(key).facts for key in keys]
                readable, rows, broken, images = look(sent, model, keys)
        many = Many(readable, rows, broken, ours, facts, missing, images)
        return many_page(given.spoken(language, request), many), many

    chosen = [upload, asked.model, asked.reference, language]
    shown = {"show_progress_on": [panel], "api_visibility": "private"} | together(given)
    button.click(on_many, chosen, [panel, state], preprocess=False, **shown)
    given.follow(many_page, state, panel)


def first_guesses(
    ours: Any, nets: Sequence, files: list[dict]
) -> tuple[list[str], list[Row], list[tuple[str, ImageError]], list[Image.Image]]:
    """Names and rows of the files that can be read, (name, why) of the others, and small copies of the first;
    one is decoded at a time.
    """
    names, rows, broken, images = [], [], [], []
    for file in files:
        name = file_name(file)
        try:
            image = load_image(uploaded(file))
            rows += many(ours, nets, [image])
            images.append(at_most(image, SMALL))
            names.append(name)
        except ImageError as error:
            broken.append((name, error))
    return names, rows, broken, images


# Which network to choose


def family_guide(given: Page, tab: gr.Tab) -> None:
    """The folded section with every network; filled when the tab is opened."""
    language = given.language
    seconds: dict[str, float] = {}  # measured latencies by network, for every visitor
    section = gr.Accordion(open=False, elem_id="family")
    with given.text(section, label="family"):
        given.text(gr.Markdown(), value="family_intro")
        script = SORT.read_text(encoding="utf-8")
        guide = gr.HTML("", js_on_load=script, elem_id="family-guide", **EXPLORED)
        button = given.text(gr.Button(elem_id="family-measure"), value="family_measure")
        given.text(gr.Markdown(elem_classes="fine-print"), value="family_sources")

    @on_gpu
    def time_it(name: str) -> float:
        from resnet_hub.lab.family import measure

        return measure(name, given.shelf.device)

    def shown(language: str) -> str:
        return family_page(language, seconds)

    def on_measure(language: str, request: gr.Request, progress=PROGRESS) -> str:
        for name in progress.tqdm(list_models(), desc=say(language, "family_measure")):
            if name not in seconds:
                seconds[name] = time_it(name)
        return shown(given.spoken(language, request))

    slowly = {"concurrency_limit": 1, "show_progress_on": [guide], "api_visibility": "private"}
    button.click(on_measure, language, guide, **slowly)
    tab.select(shown, language, guide, **QUIET)
    language.change(shown, language, guide, **QUIET)
