"""The Explore tab: two designs side by side, what becomes of an image in each, and what to make of it.

`explore` is the API, `lay_out` places the components and `build` wires them; what is shown is made in
`explore_page.py` and `explore_run.py`. Everything but a run on an image is arithmetic and strings, so the
page follows its controls without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.geometry import document
from resnet_hub.models.registry import list_models
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.explore import designs
from resnet_hub.ui.explore.designs import FIELDS, Design, DesignError
from resnet_hub.ui.explore.page import Examined, examine, from_controls, page, reason
from resnet_hub.ui.explore.run import Run, affordable, run, run_panel
from resnet_hub.ui.shared.page import (
    EXPLORED,
    QUIET,
    STATE_KEPT,
    Page,
    alert,
    error_text,
    examples_for,
    refuse,
    sent,
    uploaded,
)
from resnet_hub.ui.shared.text import known_language, say
from resnet_hub.ui.shelf import on_gpu

START = {"A": "resnet50.32", "B": "resnet50.32.stem-cifar"}
PRESETS = ["32", "64", "96", "224", "384"]
SCRIPT = Path(__file__).with_name("explore.js")
APPLY = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-apply]");
  if (button) trigger("click", { address: button.dataset.apply });
});"""
# A Space's page shows the app in a frame, and this message is how the frame asks for its address to change:
# https://huggingface.co/docs/hub/spaces-handle-url-parameters
ADDRESS = """(query) => {
  const here = new URLSearchParams(location.search);
  new URLSearchParams(query).forEach((value, name) => here.set(name, value));
  history.replaceState(history.state, "", "?" + here);
  if (window.parent !== window) window.parent.postMessage({ queryString: query }, "https://huggingface.co");
}"""


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
        stride_in: 3x3 or 1x1, the convolution of a bottleneck that strides.
        shortcut: projection, zeropad or none.

    Returns:
        model, config, rows, stages, totals, advice.
    """
    found = examine(lambda: designs.read(model, stem, input_size, strides, maxpool, stride_in, shortcut))
    if isinstance(found, DesignError):
        raise gr.Error(reason("en", found), print_exception=False)
    return document(found.config, found.rows) | {"advice": [asdict(one) for one in found.advice]}


def control_updates(config: ModelConfig) -> list:
    """What each control shows for a design; those that do nothing on its network are hidden or disabled."""
    shown = designs.taken(config)
    residual = isinstance(config, ResNetConfig)
    updates = []
    for field, value in designs.values(config).items():
        props = {"visible": residual or field in shown, "interactive": field in shown}
        updates.append(gr.update(value=value, **props))
    return updates


def control_texts(language: str) -> list:
    """Labels and choices of one side's controls."""

    def choices(field: str, *values: str) -> list[tuple[str, str]]:
        return [(say(language, f"{field}_{value}"), value) for value in values]

    more = {
        "stem": {"choices": choices("stem", "imagenet", "cifar", "deep")},
        "stride_in": {"choices": choices("stride_in", "3x3", "1x1")},
        "shortcut": {"choices": choices("shortcut", "projection", "zeropad", "none")},
    }
    keys = {"model": "network"}
    return [{"label": say(language, keys.get(f, f))} | more.get(f, {}) for f in FIELDS]


def arrival(query: dict[str, str], language: str) -> list:
    """Controls and page for the designs an address asks for, the usual one for each that cannot be."""
    usual = asked({})
    found = [one if isinstance(one, Design) else usual[name] for name, one in asked(query).items()]
    updates = [update for design in found for update in control_updates(design.config)]
    return [*updates, *noticed(query, language, page(language, *found))]


def asked(query: dict[str, str]) -> dict[str, Examined]:
    """The two designs of an address."""
    texts = {name: query.get(name.lower()) or usual for name, usual in START.items()}
    return {name: examine(lambda text=text: designs.read_address(text)) for name, text in texts.items()}


def noticed(query: dict[str, str], language: str, shown: list[str]) -> list[str]:
    """The page with a line above each design that its address asks for and that cannot be."""
    shown = [*shown]
    for i, one in enumerate(asked(query).values()):
        if isinstance(one, DesignError):
            shown[i] = alert(say(language, "address_wrong", why=reason(language, one))) + shown[i]
    return shown


@dataclass(frozen=True)
class Parts:
    """The components of the tab; `controls` and `panels` by the name of their design."""

    intro: gr.Markdown
    choices: gr.Markdown
    headings: dict[str, gr.Markdown]
    controls: dict[str, list]
    panels: dict[str, gr.HTML]
    compared: gr.HTML
    layers: gr.Accordion
    layer_tables: list[gr.HTML]
    explained: gr.Markdown
    run_title: gr.Markdown
    photo: gr.Image
    examples: gr.Dataset
    run: gr.Button
    maps: gr.HTML
    taken_away: gr.HTML
    query: gr.Textbox

    @property
    def shown(self) -> list:
        """What `page` fills, in its order."""
        return [*self.panels.values(), self.compared, *self.layer_tables, self.taken_away, self.query]

    @property
    def state(self) -> list:
        """All controls of A, then all of B."""
        return [control for side in self.controls.values() for control in side]

    @property
    def relabelled(self) -> list:
        """What `labels` updates, in its order."""
        texts = [self.intro, self.choices, *self.headings.values(), *self.state, self.layers, self.explained]
        return [*texts, self.run_title, self.photo, self.examples, self.run]


def labels(language: str) -> list:
    """The tab's fixed texts."""
    controls = [gr.update(**texts) for texts in control_texts(language)]
    return [
        say(language, "explore_intro"),
        say(language, "explore_choices"),
        *(f"### {say(language, 'design', name=name)}" for name in START),
        *controls * len(START),
        gr.update(label=say(language, "layers_title")),
        say(language, "columns_explained"),
        f"### {say(language, 'run_title')}",
        gr.update(placeholder=say(language, "drop")),
        gr.update(label=say(language, "examples")),
        say(language, "run"),
    ]


def lay_out() -> Parts:
    """Place every component, showing the first two designs in English."""
    begin = [update["value"] if isinstance(update, dict) else update for update in arrival({}, "en")]
    values = {name: begin[i * len(FIELDS) : (i + 1) * len(FIELDS)] for i, name in enumerate(START)}
    panel_a, panel_b, compared, *tables, taken_away, query = begin[len(START) * len(FIELDS) :]
    headings, panels, controls = {}, {}, {}
    intro = gr.Markdown(say("en", "explore_intro"))
    choices = gr.Markdown(say("en", "explore_choices"), elem_classes="fine-print")
    with gr.Row(equal_height=False):
        for name, shown in zip(START, (panel_a, panel_b), strict=True):
            with gr.Column(min_width=320, elem_id=f"design-{name}", elem_classes="design"):
                headings[name] = gr.Markdown(f"### {say('en', 'design', name=name)}", elem_classes=name)
                controls[name] = control_row(values[name])
                panels[name] = gr.HTML(shown, js_on_load=APPLY, **EXPLORED)
    return Parts(
        intro,
        choices,
        headings,
        controls,
        panels,
        gr.HTML(compared, **EXPLORED, elem_id="compared"),
        *layer_accordion(tables),
        gr.Markdown(say("en", "columns_explained"), elem_classes="fine-print"),
        gr.Markdown(f"### {say('en', 'run_title')}"),
        *image_row(),
        gr.HTML(run_panel("en", None), **EXPLORED, elem_id="maps"),
        gr.HTML(taken_away, js_on_load=SCRIPT.read_text(encoding="utf-8"), **EXPLORED, elem_id="take"),
        gr.Textbox(query, visible=False),
    )


def layer_accordion(tables: Sequence[str]) -> tuple[gr.Accordion, list[gr.HTML]]:
    """Both tables of all layers, folded away."""
    with gr.Accordion(say("en", "layers_title"), open=False, elem_id="layers") as layers, gr.Row():
        parts = []
        for table in tables:
            with gr.Column(min_width=320):
                parts.append(gr.HTML(table, **EXPLORED))
    return layers, parts


def image_row() -> tuple[gr.Image, gr.Dataset, gr.Button]:
    """Where an image is given and the run is started."""
    with gr.Row(equal_height=False):
        photo = gr.Image(
            placeholder=say("en", "drop"),
            label=say("en", "photo"),
            show_label=False,
            sources=["upload", "clipboard"],
            type="filepath",
            height=180,
            elem_id="explore-photo",
        )
        with gr.Column(min_width=300):
            examples = examples_for(photo, "explore-examples")
            run_button = gr.Button(say("en", "run"), variant="primary", elem_id="run")
    return photo, examples, run_button


def control_row(values: Sequence[Any]) -> list:
    """The controls of one design, in the order of `FIELDS`, two to a line."""
    text = dict(zip(FIELDS, control_texts("en"), strict=True))
    value = dict(zip(FIELDS, values, strict=True))
    half = {"min_width": 140}
    with gr.Row():
        model = gr.Dropdown(list_models(), value=value["model"], **text["model"], **half)
        size = gr.Dropdown(
            PRESETS, value=value["input_size"], allow_custom_value=True, **text["input_size"], **half
        )
    with gr.Row():
        stem = gr.Dropdown(value=value["stem"], **text["stem"], **half)
        strides = gr.Textbox(value=value["strides"], max_lines=1, **text["strides"], **half)
    with gr.Row():
        shortcut = gr.Dropdown(value=value["shortcut"], **text["shortcut"], **half)
        stride_in = gr.Dropdown(value=value["stride_in"], **text["stride_in"], **half)
    maxpool = gr.Checkbox(value=value["maxpool"], **text["maxpool"])
    return [model, stem, size, strides, maxpool, stride_in, shortcut]


class Tab(NamedTuple):
    """What `app.py` needs of the tab.

    Args:
        relabel: language -> updates for the components in `relabelled`.
        arrive: (query of the address, language) -> updates for the components in `arrivals`.
    """

    relabel: Callable[[str], list]
    relabelled: list
    arrive: Callable[[dict[str, str], str], list]
    arrivals: list


def both(values: Sequence[Any]) -> dict[str, Examined]:
    """The designs that the values of all controls ask for."""
    half = len(FIELDS)
    return {"A": from_controls(values[:half]), "B": from_controls(values[half:])}


def on_input(language: str, *values: Any) -> list:
    """The page for what the controls say."""
    return page(language, *both(values).values())


def replaced(name: str, config: ModelConfig, language: str, values: Sequence[Any]) -> list:
    """Controls and page once one design is another."""
    sides = both(values) | {name: examine(lambda: config)}
    return [*control_updates(config), *page(language, *sides.values())]


def build(given: Page, tab: gr.Tab) -> Tab:
    """Lay out the tab and wire it."""
    shelf, language = given.shelf, given.language
    with gr.Blocks():
        parts = lay_out()
        outcomes = gr.State(None, time_to_live=STATE_KEPT)
    everything = [language, *parts.state]
    for name in START:
        wire_design(name, parts, everything)

    @on_gpu
    def go(design: Design, photo: str | bytes) -> Run:
        return run(shelf, design, photo)

    def on_run(photo: dict | None, language: str, *values: Any) -> tuple[str, dict]:
        language = known_language(language)
        if photo is None:
            raise refuse(language, "run_no_image")
        try:
            done = {n: affordable(n, side) or go(side, uploaded(photo)) for n, side in both(values).items()}
        except ImageError as error:
            raise gr.Error(error_text(language, error), print_exception=False) from error
        return run_panel(language, done), done

    def on_language(request: gr.Request, language: str, outcomes: dict | None, *values: Any) -> list:
        shown = noticed(dict(request.query_params), language, on_input(language, *values))
        return [*shown, run_panel(language, outcomes)]

    parts.run.click(
        on_run,
        [parts.photo, *everything],
        [parts.maps, outcomes],
        preprocess=False,  # as in the Classify tab: a broken file would end in PIL's words
        concurrency_limit=1,  # what a run may hold is bounded, and so is what all of them hold
        api_visibility="private",
        show_progress_on=[parts.maps],
    )
    language.change(on_language, [language, outcomes, *parts.state], [*parts.shown, parts.maps], **QUIET)
    gr.api(explore, api_name="explore")
    return Tab(labels, parts.relabelled, arrival, [*parts.state, *parts.shown])


def wire_design(name: str, parts: Parts, everything: list) -> None:
    """What happens when a control of one design is moved, or its advice followed."""
    controls = dict(zip(FIELDS, parts.controls[name], strict=True))
    at = {field: i + len(FIELDS) * list(START).index(name) for i, field in enumerate(FIELDS)}

    def on_network(language: str, *values: Any) -> list:
        model, size = values[at["model"]], values[at["input_size"]]
        try:
            config = designs.read(model, input_size=size)
        except DesignError:  # of the size, which another network does not mend
            config = designs.published_config(model)
        return replaced(name, config, language, values)

    def on_stem(language: str, *values: Any) -> list:
        usual = values[at["stem"]] != "cifar"
        before, after = values[: at["maxpool"]], values[at["maxpool"] + 1 :]
        return [usual, *on_input(language, *before, usual, *after)]

    def on_apply(event: gr.EventData, language: str, *values: Any) -> list:
        try:
            config = designs.read_address(str(sent(event).get("address")))
        except DesignError as error:
            raise gr.Error(reason(language, error), print_exception=False) from error
        return replaced(name, config, language, values)

    def listen(event: Callable, handler: Callable, own: Sequence = ()) -> None:
        outputs = [*own, *parts.shown]
        event(handler, everything, outputs, trigger_mode="always_last", **QUIET).then(
            None, parts.query, None, js=ADDRESS, api_visibility="private"
        )

    listen(controls["model"].input, on_network, parts.controls[name])
    listen(controls["stem"].input, on_stem, [controls["maxpool"]])
    listen(parts.panels[name].click, on_apply, parts.controls[name])
    listen(controls["strides"].change, on_input)  # Gradio's textbox calls no pasted text an input
    for field in ("input_size", "maxpool", "stride_in", "shortcut"):
        listen(controls[field].input, on_input)
