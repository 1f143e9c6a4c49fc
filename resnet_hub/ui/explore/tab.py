"""The Explore tab: two designs side by side, what an image becomes in each, and what to take away.

`explore` is the API; the rest places the components and wires them. What they show is made by `page.py`, and
all but a run on an image is arithmetic, so the page follows its controls without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.errors import Refusal
from resnet_hub.geometry import document
from resnet_hub.hub.fetch import shipped_config, shipped_names
from resnet_hub.models.registry import list_models
from resnet_hub.ui.explore import designs
from resnet_hub.ui.explore.designs import FIELDS, Design
from resnet_hub.ui.explore.page import (
    START,
    Examined,
    Shown,
    advice_why,
    arrival,
    examine,
    from_controls,
    in_query,
    maps,
    on_page,
    other_network,
    page,
)
from resnet_hub.ui.explore.run import Run, body, run, too_costly
from resnet_hub.ui.shared.errors import refusal, refuse, refusing
from resnet_hub.ui.shared.html import render
from resnet_hub.ui.shared.page import (
    EXAMPLES,
    EXPLORED,
    QUIET,
    Page,
    examples_for,
    sent,
    uploaded,
)
from resnet_hub.ui.shared.text import LANGUAGES, known_language, say
from resnet_hub.ui.shelf import on_gpu

PRESETS = ["32", "64", "96", "224", "384"]
WORDS = {
    "stem": ("imagenet", "cifar", "deep"),
    "stride_in": ("3x3", "1x1"),
    "shortcut": ("projection", "zeropad", "none"),
}
# Advice that is followed takes its button away: the keyboard's place is then the panel.
APPLY = """element.tabIndex = -1;
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-apply]");
  if (!button) return;
  element.focus({ preventScroll: true });
  trigger("click", { address: button.dataset.apply });
});"""
# Maps of another design, or of another photo than the one that is there, are marked.
MARK = """(query, photo) => {
  const shown = new URLSearchParams(query);
  for (const { dataset, classList } of document.querySelectorAll("#maps [data-side]")) {
    const isOtherPhoto = photo && !photo.path.includes(dataset.photo);
    classList.toggle("stale", isOtherPhoto || dataset.design !== shown.get(dataset.side));
  }
}"""
ADDRESS = f"""(query, photo) => {{
  address.say("explore", query);
  ({MARK})(query, photo);
}}"""
RUN = """(query) => {
  address.say("explore", query);
  address.open("explore");
  setTimeout(() => document.querySelector("#run").click(), 300);
}"""
Updates = dict[Component, Any]
Values = dict[Component, Any]  # what an event brings, by component


def explore(
    model: str,
    stem: str | None = None,
    input_size: str | None = None,
    strides: str | None = None,
    maxpool: bool | None = None,
    stride_in: str | None = None,
    shortcut: str | None = None,
) -> dict:
    """A network with some of its design changed, layer by layer.

    Args:
        model: name of a network, e.g. resnet50.
        stem: imagenet, cifar or deep; left out, like all that follow, the network's own.
        input_size: "32" or "96x64", height x width in pixels.
        strides: "1,2,2,2", one for each stage.
        maxpool: pooling after the stem; left out, as usual with the stem.
        stride_in: 3x3 or 1x1, which convolution of a bottleneck has the stride.
        shortcut: projection, zeropad or none.

    Returns:
        model, config, rows, stages, totals, advice.
    """
    found = examine(lambda: designs.read(model, stem, input_size, strides, maxpool, stride_in, shortcut))
    if isinstance(found, Refusal):
        raise refuse("en", found)
    advice = [asdict(one) | {"why": advice_why("en", found.config, one)} for one in found.advice]
    return document(found.config, found.rows) | {"advice": advice}


# The components


@dataclass(frozen=True)
class Parts:
    """The components that answers fill; those of one design by its name, its controls also by field.

    `source` is the model whose answer led here: of models that share a design, its maps are shown.
    """

    controls: dict[str, dict[str, Component]]
    panels: dict[str, gr.HTML]
    compared: gr.HTML
    tables: dict[str, gr.HTML]
    photo: gr.Image
    run: gr.Button
    maps: gr.HTML
    taken_away: gr.HTML
    query: gr.Textbox
    refused: gr.State
    outcomes: gr.State
    source: gr.State

    @property
    def shown(self) -> list[Component]:
        """What `fill` updates."""
        tables = self.tables.values()
        return [*self.panels.values(), self.compared, *tables, self.taken_away, self.query, self.refused]

    @property
    def all_controls(self) -> list[Component]:
        return [control for side in self.controls.values() for control in side.values()]

    @property
    def filled(self) -> list[Component]:
        """What another design updates; strides last, since their event brings what the rest says then."""
        strides = [side["strides"] for side in self.controls.values()]
        return [*(part for part in (*self.all_controls, *self.shown) if part not in strides), *strides]


def lay_out(given: Page) -> Parts:
    """Place every component, showing the first two designs."""
    sides, _ = arrival({})
    shown = page("en", sides)
    given.text(gr.Markdown(), value="explore_intro")
    controls, panels = {}, {}
    begun = cache(lambda language: page(language, sides))
    given.text(gr.HTML(elem_id="side", js_on_load=None, **EXPLORED), value=side_switch)
    with gr.Column(elem_id="designs"):
        for name, side in sides.items():
            with gr.Column(elem_id=f"design-{name}", elem_classes="design"):
                given.text(gr.Markdown(elem_classes=name), value=heading(name))
                with given.text(gr.Accordion(elem_classes="controls"), label="change"):
                    controls[name] = design_controls(given, name, designs.values(side.config))
                panels[name] = gr.HTML(js_on_load=APPLY, **EXPLORED)
                given.begin(panels[name], value=part(begun, "panels", name))
    given.text(gr.Markdown(elem_classes="fine-print"), value="explore_choices")
    compared = gr.HTML(**EXPLORED, elem_id="compared")
    given.begin(compared, value=lambda language: begun(language).compared)
    tables = layer_tables(given, sides, begun)
    photo, run_button = image_row(given)
    return Parts(
        controls,
        panels,
        compared,
        tables,
        photo,
        run_button,
        given.begin(
            gr.HTML(js_on_load=script("maps"), **EXPLORED, elem_id="maps"),
            value=lambda language: maps(language, None),
        ),
        given.begin(
            gr.HTML(js_on_load=script("explore"), **EXPLORED, elem_id="take"),
            value=lambda language: begun(language).taken_away,
        ),
        gr.Textbox(shown.query, visible=False),
        gr.State({}),
        gr.State(None),
        gr.State(""),
    )


def script(name: str) -> str:
    """One of the tab's scripts."""
    return Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8")


def side_switch(language: str) -> str:
    """Which design a phone shows; the style sheet does the rest."""
    return render("explore/side.html", language=language)


def heading(name: str) -> Callable[[str], str]:
    """The title above a design, by language."""
    return lambda language: f"### {say(language, 'design', name=name)}"


def design_controls(given: Page, name: str, value: Mapping[str, Any]) -> dict[str, Component]:
    """The controls of one design by field; what is rarely changed is folded away."""
    half = {"min_width": 120}
    with gr.Row():
        model = gr.Dropdown(networks(), value=value["model"], elem_id=f"network-{name}", **half)
        size = gr.Dropdown(PRESETS, value=value["input_size"], allow_custom_value=True, **half)
    with gr.Row():
        stem = gr.Dropdown(named_choices("stem")("en"), value=value["stem"], elem_id=f"stem-{name}", **half)
        strides = gr.Textbox(value=value["strides"], max_lines=1, elem_id=f"strides-{name}", **half)
    maxpool = gr.Checkbox(value=value["maxpool"])
    with given.text(gr.Accordion(open=False, elem_classes="advanced"), label="advanced"):
        shortcut = gr.Dropdown(named_choices("shortcut")("en"), value=value["shortcut"], **half)
        stride_in = gr.Dropdown(named_choices("stride_in")("en"), value=value["stride_in"], **half)
    found = dict(zip(FIELDS, (model, stem, size, strides, maxpool, stride_in, shortcut), strict=True))
    for field, control in found.items():
        choices = {"choices": named_choices(field)} if field in WORDS else {}
        given.text(control, label="network" if field == "model" else field, **choices)
    return found


def part(begun: Callable[[str], Shown], kind: str, name: str) -> Callable[[str], str]:
    """What one design's panel or table shows at first, by language."""
    return lambda language: getattr(begun(language), kind)[name]


def networks() -> list[str]:
    """Every network by name, first those whose trained weights ship with the app."""
    trained = [shipped_config(name).name for name in shipped_names()]
    names = list_models()
    return [
        *(name for name in dict.fromkeys(trained) if name in names),
        *(n for n in names if n not in trained),
    ]


def named_choices(field: str) -> Callable[[str], list[tuple[str, str]]]:
    """What a dropdown offers, by language."""
    return lambda language: [(say(language, f"{field}_{value}"), value) for value in WORDS[field]]


def layer_tables(given: Page, names: Iterable[str], begun: Callable[[str], Shown]) -> dict[str, gr.HTML]:
    """Both tables of all layers, folded away."""
    tables = {}
    section = gr.Accordion(open=False, elem_id="layers")
    with given.text(section, label="layers_title"), gr.Row():
        for name in names:
            with gr.Column(min_width=320):
                tables[name] = gr.HTML(**EXPLORED)
                given.begin(tables[name], value=part(begun, "tables", name))
    given.text(gr.Markdown(elem_classes="fine-print"), value="columns_explained")
    return tables


def image_row(given: Page) -> tuple[gr.Image, gr.Button]:
    """Where an image is given and the run is started."""
    given.text(gr.Markdown(), value=lambda language: f"### {say(language, 'run_title')}")
    upload = {"sources": ["upload", "clipboard"], "type": "filepath"}
    with gr.Row(equal_height=False):
        photo = gr.Image(str(EXAMPLES[0]), show_label=False, height=180, elem_id="explore-photo", **upload)
        given.text(photo, label="photo", placeholder="drop")
        with gr.Column(min_width=300):
            examples_for(given, photo, "explore-examples")
            run_button = given.text(gr.Button(variant="primary", elem_id="run"), value="run")
    return photo, run_button


# What events bring and what they change


def asked(parts: Parts, values: Values) -> dict[str, Examined]:
    """The designs that the controls ask for."""
    return {name: asked_of(controls, values) for name, controls in parts.controls.items()}


def asked_of(controls: Mapping[str, Component], values: Values) -> Examined:
    """The design that one side's controls ask for."""
    return from_controls({field: values[control] for field, control in controls.items()})


def fill(parts: Parts, shown: Shown, refused: Mapping[str, Refusal] | None = None) -> Updates:
    """The page of two designs; `refused` is kept to be said again in another language."""
    return (
        {parts.panels[name]: html for name, html in shown.panels.items()}
        | {parts.tables[name]: html for name, html in shown.tables.items()}
        | {parts.compared: shown.compared, parts.taken_away: shown.taken_away}
        | {parts.query: shown.query, parts.refused: dict(refused or {})}
    )


def set_controls(controls: Mapping[str, Component], config: ModelConfig) -> Updates:
    """What one side's controls say for a design; those that do nothing on its network are out of the way."""
    used = designs.taken(config)
    residual = isinstance(config, ResNetConfig)
    return {
        controls[field]: gr.update(value=value, visible=residual or field in used, interactive=field in used)
        for field, value in designs.values(config).items()
    }


def design_after(parts: Parts, name: str, values: Values, event: gr.EventData) -> tuple[Examined, Updates]:
    """One side's design after an event, and what its controls say then.

    What is new is told by the design on the page: of the changes made during one answer a single event is
    left, and it has the data of the one that was answered.
    """
    controls, shown = parts.controls[name], on_page(values[parts.query]).get(name)
    before = designs.values(shown.config) if isinstance(shown, Design) else {}

    def is_new(field: str) -> bool:
        control = controls[field]
        return is_from(control, event) or values[control] != before.get(field, values[control])

    if is_new("model"):
        config = other_network(values[controls["model"]], values[controls["input_size"]])
        return examine(lambda: config), set_controls(controls, config)
    usual = {controls["maxpool"]: values[controls["stem"]] != "cifar"} if is_new("stem") else {}
    return asked_of(controls, values | usual), usual


def is_from(control: Component, event: gr.EventData) -> bool:
    """Whether this control, which has an elem_id, fired an event; a visitor's components are copies."""
    return control.elem_id is not None and control.elem_id == getattr(event.target, "elem_id", None)


def is_echo(parts: Parts, values: Values, event: gr.EventData) -> bool:
    """Whether strides changed only because the page set them to those of the designs it shows.

    Such an event must change nothing: the other design's strides may still be what they were before.
    """
    fired = False
    for name, shown in on_page(values[parts.query]).items():
        controls = parts.controls[name]
        said = designs.values(shown.config) if isinstance(shown, Design) else {}
        changed = [field for field, control in controls.items() if values[control] != said.get(field)]
        is_its_own = is_from(controls["strides"], event)
        if changed and (is_its_own or changed != ["strides"]):
            return False
        fired |= is_its_own
    return fired


def arrive(parts: Parts, query: Mapping[str, str], language: str) -> Updates:
    """Controls and page for a visitor who comes with an address."""
    sides, refused = arrival(query)
    updates = fill(parts, page(language, sides, refused), refused)
    for name, side in sides.items():
        updates |= set_controls(parts.controls[name], side.config)
    return updates


# The wiring


@dataclass(frozen=True)
class Tab:
    """What `app.py` needs of the tab.

    Args:
        arrive: (query of the address, language) -> updates by component.
        arrivals: the components it may update.
        parts: of these, the photo and what starts a run.
    """

    arrive: Callable[[Mapping[str, str], str], Updates]
    arrivals: list[Component]
    parts: Parts

    def look(
        self, config: ModelConfig, source: str, photo: str | None, language: str, query: str = ""
    ) -> Updates:
        """Design A as a network that just answered a photo, and the photo; `RUN` makes the maps then.

        Args:
            query: the address of the page, from which design B stays.

        Raises:
            Refusal: for a network that the tab cannot draw.
        """
        address = designs.address(config)
        if body(designs.read_address(address)) != body(config):
            raise refusal("inside_other", model=config.name)
        found = self.arrive(in_query(query) | {"a": address}, language)
        return found | {self.parts.photo: photo, self.parts.source: source}


def build(given: Page, tab: gr.Tab) -> Tab:
    """Lay out the tab and wire it."""
    with gr.Blocks():
        parts = lay_out(given)
    wire_controls(parts, given.language)
    for name in START:
        wire_advice(parts, name, given.language)
    wire_run(parts, given)
    wire_language(parts, given)
    gr.api(explore, api_name="explore")
    return Tab(lambda query, language: arrive(parts, query, language), parts.filled, parts)


def wire_controls(parts: Parts, language: gr.Radio) -> None:
    """What happens when a control is moved.

    One listener for all of them: what is changed during an answer waits for it and is then answered with
    every control as it stands, so no answer can put back what another has changed.
    """

    def on_change(values: Values, event: gr.EventData) -> Updates:
        if is_echo(parts, values, event):
            return gr.skip()
        sides: dict[str, Examined] = {}
        updates: Updates = {}
        for name in parts.controls:
            with refusing(values[language]):
                sides[name], said = design_after(parts, name, values, event)
            updates |= said
        return updates | fill(parts, page(values[language], sides))

    triggers = [
        control.change if field == "strides" else control.input  # what is pasted or deleted is no `input`
        for controls in parts.controls.values()
        for field, control in controls.items()
    ]
    listen(parts, triggers, on_change, {language, parts.query, *parts.all_controls}, "always_last")


def wire_advice(parts: Parts, name: str, language: gr.Radio) -> None:
    """What happens when the advice on one design is followed."""

    def on_apply(values: Values, event: gr.EventData) -> Updates:
        with refusing(values[language]):
            config = designs.read_address(str(sent(event).get("address")))
        sides = asked(parts, values) | {name: examine(lambda: config)}
        return set_controls(parts.controls[name], config) | fill(parts, page(values[language], sides))

    # "always_last" would put a click that had to wait with the data of another.
    listen(parts, [parts.panels[name].click], on_apply, {language, *parts.all_controls}, "multiple")


def listen(
    parts: Parts, triggers: list[Callable], handler: Callable, inputs: set[Component], mode: str
) -> None:
    """Answer events with another page, and let the address follow."""
    gr.on(triggers, handler, inputs, parts.filled, trigger_mode=mode, **QUIET).then(
        None, [parts.query, parts.photo], None, js=ADDRESS, api_visibility="private"
    )


def mark_after(parts: Parts, event: Callable) -> None:
    """Mark maps that are not of what the page shows."""
    event(None, [parts.query, parts.photo], None, js=MARK, api_visibility="private")


def wire_run(parts: Parts, given: Page) -> None:
    """An image through both designs."""

    @on_gpu
    def go(design: Design, photo: str | bytes, source: str) -> Run:
        return run(given.shelf, design, photo, source)

    def on_run(values: Values, request: gr.Request) -> Updates:
        language, photo = known_language(values[given.language]), values[parts.photo]
        if photo is None:
            raise refuse(language, "run_no_image")
        with refusing(language):
            done = {
                name: too_costly(name, side) or go(side, uploaded(photo), values[parts.source])
                for name, side in asked(parts, values).items()
            }
        return {parts.maps: maps(given.spoken(language, request), done), parts.outcomes: done}

    ran = parts.run.click(
        on_run,
        {given.language, parts.photo, parts.source, *parts.all_controls},
        [parts.maps, parts.outcomes],
        preprocess=False,  # as in the Classify tab: a broken file would end in PIL's words
        concurrency_limit=1,  # what a run may hold is bounded, and so is what all of them hold
        api_visibility="private",
        show_progress_on=[parts.maps],
    )
    mark_after(parts, ran.then)
    mark_after(parts, parts.photo.change)


def wire_language(parts: Parts, given: Page) -> None:
    """The same designs and maps in another language."""
    language = given.language

    waiting = {str(maps(code, None)) for code in LANGUAGES}

    def on_language(values: Values, request: gr.Request) -> Updates:
        chosen, refused = values[language], values[parts.refused]
        given.switched.put(request.session_hash or "", chosen)
        sides = asked(parts, values) | on_page(values[parts.query])
        shown = fill(parts, page(chosen, sides, refused), refused)
        if values[parts.outcomes] is None and str(values[parts.maps]) not in waiting:
            return shown  # forgotten after an hour: what is on the page stays
        return shown | {parts.maps: maps(chosen, values[parts.outcomes])}

    inputs = {language, parts.query, parts.refused, parts.outcomes, parts.maps, *parts.all_controls}
    shown = language.change(on_language, inputs, [*parts.shown, parts.maps], **QUIET)
    mark_after(parts, shown.then)
