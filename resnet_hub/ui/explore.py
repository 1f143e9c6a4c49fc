"""The Explore tab: two designs side by side, what becomes of a picture in each, and what to make of it.

Plain functions first: designs in, pieces of the page out. `build` lays the tab out and wires it. Everything
but a run on a real picture is arithmetic and strings, so it needs no torch. Knows nothing of how the numbers
come about (`geometry.py`, `advice.py`) or of how a design is written down (`designs.py`).
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.geometry import BYTES, Row, document, stages, totals
from resnet_hub.models.registry import list_models, network_class
from resnet_hub.predict import DEFAULT_MODEL, stage_maps
from resnet_hub.preprocess import ImageError, load_image
from resnet_hub.ui import designs
from resnet_hub.ui.common import EXAMPLES, QUIET, data_url, error_text, refuse, uploaded, viridis
from resnet_hub.ui.designs import FIELDS, Design, DesignError
from resnet_hub.ui.drawing import COLOURS, Curve, Map, common_scale, curves, shrinking_maps, standalone
from resnet_hub.ui.models import Shelf, on_gpu
from resnet_hub.ui.text import language_of, say

START = {"A": "resnet50.32", "B": "resnet50.32.stem-cifar"}
PRESETS = ["32", "64", "96", "224", "384"]
# Two seconds or so on two cores, and what a small machine can spare.
MOST_MACS, MOST_BYTES = 100_000_000_000, 2_000_000_000
CHANNELS, MOST_SIDE = 4, 96  # maps shown of each stage, and pixels a side they are sent with

EXPLORED = {"elem_classes": "explored", "apply_default_css": False}  # the style sheet's, not Gradio's prose
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

Examined = Design | DesignError


def examine(make: Callable[[], ModelConfig]) -> Examined:
    """The design of a configuration, or why there is none."""
    try:
        return designs.design(make())
    except DesignError as error:
        return error


def from_controls(values: Sequence[Any]) -> Examined:
    """What the controls ask for, in the order of `FIELDS`; those the network does not have say nothing."""
    wishes = dict(zip(FIELDS, values, strict=True))

    def make() -> ModelConfig:
        used = designs.taken(designs.published_config(wishes["model"]))
        return designs.read(**{field: wishes[field] for field in used})

    return examine(make)


def reason(language: str, error: DesignError) -> str:
    """A DesignError in the page's language."""
    facts = dict(error.facts)
    if "field" in facts:
        facts["field"] = say(language, facts["field"])
    return say(language, f"design_{error.code}", **facts)


def page(language: str, a: Examined, b: Examined) -> list[str]:
    """Both panels, the comparison, both layer tables, what to take away, and the query of the address."""
    sides = {"A": a, "B": b}
    sound = {name: side for name, side in sides.items() if isinstance(side, Design)}
    scale = common_scale([maps_of(language, side) for side in sound.values()])
    drawings = {name: drawing(language, name, side, scale) for name, side in sound.items()}
    query = "?" + "&".join(f"{name.lower()}={designs.address(side.config)}" for name, side in sound.items())
    return [
        *(
            panel(language, side, drawings[name]) if name in sound else complaint(language, side)
            for name, side in sides.items()
        ),
        comparison(language, sound),
        *(layer_table(language, side.rows) if isinstance(side, Design) else "" for side in sides.values()),
        take_away(language, sound, drawings, query),
        query,
    ]


def complaint(language: str, error: DesignError) -> str:
    """Why there is nothing to show."""
    return f'<p class="notice wrong" role="alert">{html.escape(reason(language, error))}</p>'


def panel(language: str, design: Design, drawn: str) -> str:
    """One design: its drawing, what to know about it, its stages."""
    return (
        f'<figure class="drawing">{drawn}<figcaption>{say(language, "maps_caption")}</figcaption></figure>'
        f"{advice_list(language, design)}"
        f"<h4>{say(language, 'stages_title')}</h4>{stage_table(language, design.rows)}"
    )


def maps_of(language: str, design: Design) -> list[Map]:
    """The picture and the map that leaves each stage."""
    picture = Map(say(language, "map_picture"), design.config.in_chans, design.config.input_size)
    return [picture, *(Map(s.name, s.out_channels, s.out_size) for s in stages(design.rows)[:-1])]


def drawing(language: str, name: str, design: Design, scale: float) -> str:
    """The maps as they shrink, as SVG."""
    title = say(language, "maps_title", design=designs.address(design.config))
    return shrinking_maps(maps_of(language, design), scale, COLOURS[name], title)


def advice_list(language: str, design: Design) -> str:
    """Each advice with its reason and the button that follows it."""
    if not isinstance(design.config, ResNetConfig):
        texts = [
            say(language, "only_size", network=design.config.name),
            say(language, "advice_residual_only"),
        ]
        return f'<p class="notice">{" ".join(texts)}</p>'
    if not design.advice:
        return f'<p class="notice fine">{say(language, "advice_none")}</p>'
    items = "".join(advice_item(language, design.config, one) for one in design.advice)
    return f'<h4>{say(language, "advice_title")}</h4><ul class="advice">{items}</ul>'


def advice_item(language: str, config: ModelConfig, advice: designs.Advice) -> str:
    facts = advice.facts | {"why": advice.why, "network": config.name, "fields": ", ".join(advice.facts)}
    why = html.escape(say(language, f"advice_{advice.code}", **facts))
    if not advice.overrides:
        return f"<li>{why} {say(language, 'advice_no_change')}</li>"
    target = designs.address(config.override(**advice.overrides))
    change = say(language, "advice_apply", change=change_text(language, advice.overrides))
    return f'<li>{why} <button type="button" data-apply="{target}">{html.escape(change)}</button></li>'


def change_text(language: str, overrides: dict[str, Any]) -> str:
    """{"stem": "cifar", "maxpool": False} -> "stem cifar, maxpool off" """
    words = []
    for field, value in overrides.items():
        if isinstance(value, bool):
            value = say(language, "on" if value else "off")
        elif field == "input_size":
            value = "×".join(map(str, value))
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        words.append(f"{field} {value}")
    return ", ".join(words)


def stage_table(language: str, rows: list[Row]) -> str:
    """Map, receptive field and cost of each stage."""
    heads = ["stage", "map", "field", "jump", "params", "macs", "memory"]
    lines = [
        [
            s.name,
            shape(s),
            s.receptive_field,
            s.jump,
            short(s.params),
            short(s.macs),
            memory(s.activation_bytes),
        ]
        for s in stages(rows)
    ]
    return table([say(language, f"column_{head}") for head in heads], lines, "stages")


def layer_table(language: str, rows: list[Row]) -> str:
    """All rows."""
    heads = ["layer", "op", "kernel", "map", "field", "jump", "padded", "params", "macs", "memory"]
    lines = [
        [
            row.name,
            row.op.replace("_", " "),
            window(row),
            shape(row),
            row.receptive_field,
            row.jump,
            f"{row.padding_share:.0%}" if row.padding_share else "",
            f"{row.params:,}" if row.params else "",
            f"{row.macs:,}" if row.macs else "",
            memory(row.activation_bytes),
        ]
        for row in rows
    ]
    return table([say(language, f"column_{head}") for head in heads], lines, "layers")


def window(row: Row) -> str:
    """Kernel and stride of a layer that looks at more than single positions: "7×7 /2"."""
    if row.op not in ("conv", "max_pool", "avg_pool"):
        return ""
    return f"{row.kernel}×{row.kernel}" + (f" /{row.stride}" if row.stride > 1 else "")


def table(heads: Sequence[str], lines: Sequence[Sequence[Any]], kind: str) -> str:
    """An HTML table; the first column names the line."""
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    body = "".join(
        f'<tr><th scope="row">{line[0]}</th>{"".join(f"<td>{cell}</td>" for cell in line[1:])}</tr>'
        for line in lines
    )
    return (
        f'<div class="scroll {kind}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def shape(row: Any) -> str:
    """ "64×16×16", channels first; a vector where nothing is left of height and width."""
    return "×".join(map(str, (row.out_channels, *row.out_size)))


def short(number: float) -> str:
    """4089184256 -> "4.09 G" """
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
    return f"{number:.0f}"


def memory(number: int) -> str:
    """Bytes with their unit."""
    return f"{short(number)}B" if number >= 1000 else f"{number} B"


def comparison(language: str, sound: dict[str, Design]) -> str:
    """Totals of A and B with their difference, and the curves along depth."""
    if not sound:
        return ""
    return (
        f"<h3>{say(language, 'totals_title')}</h3>{totals_table(language, sound)}"
        f'<div class="curves">{both_curves(language, sound)}</div>'
        f'<p class="fine-print">{say(language, "curves_caption")}</p>'
    )


def totals_table(language: str, sound: dict[str, Design]) -> str:
    """One line a total; the difference only where there are two designs."""
    sums = [totals(d.rows)._asdict() | {"field": d.rows[-1].receptive_field} for d in sound.values()]
    lines = []
    for key in sums[0]:
        form = memory if key == "activation_bytes" else "{:,}".format
        numbers = [each[key] for each in sums]
        lines.append([say(language, f"total_{key}"), *map(form, numbers), difference(numbers)])
    last = ["×".join(map(str, stages(d.rows)[-2].out_size)) for d in sound.values()]
    lines.append([say(language, "total_last"), *last, ""])
    heads = ["", *(f'<b class="{name}">{name}</b>' for name in sound), say(language, "difference")]
    return table(heads, lines, "totals")


def difference(numbers: Sequence[int]) -> str:
    """ "+1.21 G (×15.21)" for two numbers, nothing for one."""
    if len(numbers) < 2:
        return ""
    first, second = numbers
    sign = "+" if second > first else "−" if second < first else "±"
    return f"{sign}{short(abs(second - first))} <small>(×{second / first:.2f})</small>"


def both_curves(language: str, sound: dict[str, Design]) -> str:
    """Size and receptive field along depth, A and B in one drawing each."""
    sides, fields = [], []
    for name, design in sound.items():
        side, passed = min(design.config.input_size), main_path(design.rows)
        sides.append(Curve(name, [side, *(min(row.out_size) for row in passed)], side))
        fields.append(Curve(name, [1, *(row.receptive_field for row in passed)], side))
    x_title = say(language, "curve_depth")
    return "".join(
        f"<figure><figcaption>{title}</figcaption>{curves(lines, title, x_title)}</figure>"
        for lines, title in ((sides, say(language, "curve_side")), (fields, say(language, "curve_field")))
    )


def main_path(rows: list[Row]) -> list[Row]:
    """The convolutions and poolings a picture passes one after another, shortcuts left out."""
    return [
        row for row in rows if row.op in ("conv", "max_pool", "avg_pool") and ".downsample" not in row.name
    ]


def take_away(language: str, sound: dict[str, Design], drawings: dict[str, str], query: str) -> str:
    """The link to both designs; the Python, table and drawing of each."""
    parts = "".join(take_one(language, name, sound[name], drawings[name]) for name in sound)
    return (
        f'<div data-query="{query}" data-done="{say(language, "take_done")}">'
        f"<h3>{say(language, 'take_title')}</h3>"
        f'<button type="button" data-copy="link">{say(language, "take_link")}</button>'
        f'<div class="pair">{parts}</div></div>'
    )


def take_one(language: str, name: str, design: Design, drawn: str) -> str:
    file = designs.address(design.config)
    table_url = download_url("text/csv", designs.csv_table(design.rows))
    svg_url = download_url("image/svg+xml", standalone(drawn))
    return (
        f'<div class="design"><b class="{name}">{name}</b>'
        f"<pre>{html.escape(designs.python(design.config))}</pre>"
        f'<button type="button" data-copy="python">{say(language, "take_python")}</button>'
        f'<a download="{file}.csv" href="{table_url}">{say(language, "take_csv")}</a>'
        f'<a download="{file}.svg" href="{svg_url}" data-svg>{say(language, "take_svg")}</a>'
        f'<button type="button" data-png="{file}.png">{say(language, "take_png")}</button></div>'
    )


def download_url(kind: str, text: str) -> str:
    """A text as a file inside its own address, so that nothing is stored for it."""
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


@dataclass(frozen=True)
class StageMaps:
    """The first channels of the map that leaves a stage, as addresses of pictures."""

    name: str
    channels: int
    size: tuple[int, int]
    pictures: list[str]


@dataclass(frozen=True)
class Run:
    """What became of a picture in one design, kept so that another language needs no second run.

    Args:
        source: where trained weights come from, None for random ones.
        trained_size: (height, width) those weights were trained on.
        seen: address of the picture as the network saw it.
    """

    config: ModelConfig
    source: str | None
    trained_size: tuple[int, int] | None
    seen: str
    stages: list[StageMaps]


class Refusal(NamedTuple):
    """Why a design was not run: a key and facts of `text.py`."""

    key: str
    facts: dict[str, Any]


def affordable(name: str, design: Examined) -> Refusal | None:
    """Why a run of this design is refused before anything of it is built; None when it may run."""
    if isinstance(design, DesignError):
        return Refusal("run_impossible", {"name": name})
    cost = totals(design.rows)
    held = cost.params * BYTES + cost.activation_bytes  # all maps at once: more than a run ever holds
    if cost.macs <= MOST_MACS and held <= MOST_BYTES:
        return None
    most = {"most_macs": short(MOST_MACS), "most_memory": memory(MOST_BYTES)}
    return Refusal("run_too_much", {"name": name, "macs": short(cost.macs), "memory": memory(held)} | most)


def trained(shelf: Shelf, config: ModelConfig):
    """A model in memory whose weights are this very design's, else None."""
    shelf.get(DEFAULT_MODEL)  # ships with the app, so this downloads nothing
    for _, model in reversed(shelf.in_memory()):
        theirs = model.config
        same = ("name", "num_classes", "input_size", "drop_rate")  # change no weight before the head
        if type(theirs) is type(config) and plain(theirs, config, same) == plain(config, config, same):
            return model
    return None


def plain(config: ModelConfig, like: ModelConfig, fields: Sequence[str]) -> ModelConfig:
    """`config` with some fields as in `like`, and the usual pooling not spelled out."""
    config = replace(config, **{field: getattr(like, field) for field in fields})
    if isinstance(config, ResNetConfig):
        config = replace(config, maxpool=config.has_maxpool)
    return config


def fresh(config: ModelConfig):
    """The design with random weights, the same ones every time."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network_class(config)(config).eval()


def run(shelf: Shelf, design: Design, photo: str | bytes) -> Run:
    """One picture through one design.

    Raises:
        ImageError: when the picture cannot be used.
    """
    from resnet_hub.device import pick_device

    config = design.config
    image = load_image(photo)
    model = trained(shelf, config)
    source, size = (None, None) if model is None else (model.source, model.preprocess.input_size[1:])
    model = model or fresh(config).to(pick_device(shelf.device))
    seen = replace(model.preprocess, input_size=(config.in_chans, *config.input_size)).crop(image)
    maps = stage_maps(model, seen, CHANNELS)
    names = [s for s in stages(design.rows) if s.name.startswith(("layer", "stage"))]
    found = [
        StageMaps(s.name, s.out_channels, s.out_size, [data_url(shaded(channel)) for channel in channels])
        for s, channels in zip(names, maps, strict=True)
    ]
    return Run(config, source, size, data_url(reduced(seen)), found)


def shaded(channel: np.ndarray) -> Image.Image:
    """A channel (h, w) from its lowest to its highest value in viridis; even where all are equal."""
    span = float(channel.max() - channel.min())
    return reduced(viridis((channel - channel.min()) / span if span > 0 else np.full_like(channel, 0.5)))


def reduced(picture: Image.Image) -> Image.Image:
    """At most MOST_SIDE pixels a side, so that a page of maps stays small."""
    factor = -(-max(picture.size) // MOST_SIDE)
    return picture.reduce(factor) if factor > 1 else picture


def run_panel(language: str, outcomes: dict[str, Run | Refusal] | None) -> str:
    """The maps of both designs, or why there are none."""
    if outcomes is None:
        return f'<p class="waiting">{say(language, "run_waiting")}</p>'
    parts = "".join(
        f'<div class="design"><b class="{name}">{name}</b> {run_maps(language, outcome)}</div>'
        for name, outcome in outcomes.items()
    )
    return f'<div class="pair">{parts}</div><p class="fine-print">{say(language, "run_colours")}</p>'


def run_maps(language: str, outcome: Run | Refusal) -> str:
    if isinstance(outcome, Refusal):
        return f'<p class="notice wrong" role="alert">{say(language, outcome.key, **outcome.facts)}</p>'
    height, width = outcome.config.input_size
    seen = say(language, "run_seen", width=width, height=height)
    kind = "fine" if outcome.source else ""
    return (
        f"<code>{designs.address(outcome.config)}</code>"
        f'<p class="notice {kind}">{weights_text(language, outcome)}</p>'
        f'<figure class="maps"><figcaption>{seen}</figcaption><img src="{outcome.seen}" alt=""></figure>'
        + "".join(map_figure(language, stage) for stage in outcome.stages)
    )


def weights_text(language: str, outcome: Run) -> str:
    """Whether the maps come from trained or from random weights."""
    if outcome.source is None:
        return say(language, "run_random")
    text = say(language, "run_trained", source=html.escape(outcome.source))
    if outcome.trained_size == outcome.config.input_size:
        return text
    return text + " " + say(language, "run_other_size", size="×".join(map(str, outcome.trained_size)))


def map_figure(language: str, stage: StageMaps) -> str:
    height, width = stage.size
    title = f"{stage.name}: {height}×{width}"
    more = say(language, "run_more", shown=len(stage.pictures), count=stage.channels)
    images = "".join(f'<img src="{url}" alt="{title}">' for url in stage.pictures)
    return f'<figure class="maps"><figcaption><b>{title}</b> {more}</figcaption>{images}</figure>'


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


def arrival(query: dict[str, str], language: str) -> list:
    """Controls and page for the designs an address asks for; one that cannot be is named above the usual."""
    asked, notices = {}, {}
    for name, usual in START.items():
        text = query.get(name.lower())
        found = examine(lambda text=text or usual: designs.read_address(text))
        if isinstance(found, DesignError):
            notices[name] = say(language, "address_wrong", why=reason(language, found))
            found = examine(lambda usual=usual: designs.read_address(usual))
        asked[name] = found
    shown = page(language, *asked.values())
    for i, name in enumerate(asked):
        if name in notices:
            shown[i] = f'<p class="notice wrong" role="alert">{html.escape(notices[name])}</p>' + shown[i]
    return [*(u for found in asked.values() for u in control_updates(found.config)), *shown]


def build(shelf: Shelf, language: gr.Radio) -> Tab:
    """Lay out the tab and wire it."""

    def both(values: Sequence[Any]) -> dict[str, Examined]:
        half = len(FIELDS)
        return {"A": from_controls(values[:half]), "B": from_controls(values[half:])}

    def replaced(name: str, config: ModelConfig, language: str, values: Sequence[Any]) -> list:
        sides = both(values) | {name: examine(lambda: config)}
        return [*control_updates(config), *page(language, *sides.values())]

    def on_input(language: str, *values: Any) -> list:
        return page(language, *both(values).values())

    def on_language(language: str, outcomes: dict | None, *values: Any) -> list:
        return [*on_input(language, *values), run_panel(language, outcomes)]

    @on_gpu
    def go(design: Design, photo: str | bytes) -> Run:
        return run(shelf, design, photo)

    def on_run(photo: dict | None, language: str, *values: Any) -> tuple[str, dict]:
        language = language_of(language)
        if photo is None:
            raise refuse(language, "run_no_picture")
        try:
            outcomes = {
                name: affordable(name, side) or go(side, uploaded(photo))
                for name, side in both(values).items()
            }
        except ImageError as error:
            raise gr.Error(error_text(language, error), print_exception=False) from error
        return run_panel(language, outcomes), outcomes

    begin = arrival({}, "en")
    first = {name: [update["value"] for update in begin[i * 7 : i * 7 + 7]] for i, name in enumerate(START)}
    with gr.Blocks():
        outcomes = gr.State(None, time_to_live=600)  # no longer than the upload itself
        intro = gr.Markdown(say("en", "explore_intro"))
        headings, panels, controls = {}, {}, {}
        with gr.Row(equal_height=False):
            for name in START:
                with gr.Column(min_width=320, elem_id=f"design-{name}", elem_classes="design"):
                    headings[name] = gr.Markdown(f"### {say('en', 'design', name=name)}", elem_classes=name)
                    controls[name] = control_row(first[name])
                    panels[name] = gr.HTML(js_on_load=APPLY, **EXPLORED)
        compared = gr.HTML(**EXPLORED, elem_id="compared")
        with gr.Accordion(say("en", "layers_title"), open=False, elem_id="layers") as layers, gr.Row():
            layer_tables = [gr.HTML(**EXPLORED, min_width=320) for _ in START]
        explained = gr.Markdown(say("en", "columns_explained"), elem_classes="fine-print")
        run_title = gr.Markdown(f"### {say('en', 'run_title')}")
        with gr.Row(equal_height=False):
            photo = gr.Image(
                placeholder=say("en", "drop"),
                show_label=False,
                sources=["upload", "clipboard"],
                type="filepath",
                height=180,
                elem_id="explore-photo",
            )
            with gr.Column(min_width=300):
                examples = gr.Dataset(
                    label=say("en", "examples"),
                    components=["image"],
                    samples=[[str(path)] for path in EXAMPLES],
                    type="index",
                    elem_id="explore-examples",
                )
                run_button = gr.Button(say("en", "run"), variant="primary", elem_id="run")
        maps = gr.HTML(run_panel("en", None), **EXPLORED, elem_id="maps")
        taken_away = gr.HTML(js_on_load=SCRIPT.read_text(encoding="utf-8"), **EXPLORED, elem_id="take")
        query = gr.Textbox(visible=False)

    shown = [*panels.values(), compared, *layer_tables, taken_away, query]
    for component, html_text in zip(shown, begin[-len(shown) :], strict=True):
        component.value = html_text
    everything = [language, *controls["A"], *controls["B"]]

    def listen(event: Callable, handler: Callable, outputs: list) -> None:
        """Run a handler on the whole state, then write the state into the address."""
        event(handler, everything, outputs, trigger_mode="always_last", **QUIET).then(
            None, query, None, js=ADDRESS, api_visibility="private"
        )

    def wire(name: str) -> None:
        own = dict(zip(FIELDS, controls[name], strict=True))
        offset = 0 if name == "A" else len(FIELDS)

        def on_network(language: str, *values: Any) -> list:
            model, size = (values[offset + FIELDS.index(field)] for field in ("model", "input_size"))
            try:
                config = designs.read(model, input_size=size)
            except DesignError:  # of the size, which another network does not mend
                config = designs.published_config(model)
            return replaced(name, config, language, values)

        def on_stem(language: str, *values: Any) -> list:
            values = list(values)
            usual = values[offset + FIELDS.index("stem")] != "cifar"
            values[offset + FIELDS.index("maxpool")] = usual
            return [usual, *on_input(language, *values)]

        def on_apply(event: gr.EventData, language: str, *values: Any) -> list:
            try:
                config = designs.read_address(str(event.address))
            except DesignError as error:
                raise gr.Error(reason(language, error), print_exception=False) from error
            return replaced(name, config, language, values)

        listen(own["model"].input, on_network, [*controls[name], *shown])
        listen(own["stem"].input, on_stem, [own["maxpool"], *shown])
        listen(panels[name].click, on_apply, [*controls[name], *shown])
        listen(own["strides"].change, on_input, shown)  # Gradio's textbox calls no pasted text an input
        for field in ("input_size", "maxpool", "stride_in", "shortcut"):
            listen(own[field].input, on_input, shown)

    for name in START:
        wire(name)
    language.change(on_language, [language, outcomes, *everything[1:]], [*shown, maps], **QUIET)
    examples.click(lambda index: str(EXAMPLES[index]), examples, photo, **QUIET)
    run_button.click(
        on_run,
        [photo, *everything],
        [maps, outcomes],
        preprocess=False,  # as in the Classify tab: a broken file would end in PIL's words
        concurrency_limit=1,  # what a run may hold is bounded, and so is what all of them hold
        api_visibility="private",
        show_progress_on=[maps],
    )
    gr.api(explore, api_name="explore")

    relabelled = [
        intro, *headings.values(), *controls["A"], *controls["B"], layers, explained, run_title, photo,
        examples, run_button,
    ]  # fmt: skip

    def relabel(chosen: str) -> list:
        texts = [gr.update(**texts) for texts in control_texts(chosen)]
        return [
            say(chosen, "explore_intro"),
            *(f"### {say(chosen, 'design', name=name)}" for name in START),
            *texts,
            *texts,
            gr.update(label=say(chosen, "layers_title")),
            say(chosen, "columns_explained"),
            f"### {say(chosen, 'run_title')}",
            gr.update(placeholder=say(chosen, "drop")),
            gr.update(label=say(chosen, "examples")),
            say(chosen, "run"),
        ]

    return Tab(relabel, relabelled, arrival, [*controls["A"], *controls["B"], *shown])


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
        maxpool = gr.Checkbox(value=value["maxpool"], **text["maxpool"], **half)
    with gr.Row():
        strides = gr.Textbox(value=value["strides"], max_lines=1, **text["strides"], **half)
        shortcut = gr.Dropdown(value=value["shortcut"], **text["shortcut"], **half)
    stride_in = gr.Radio(value=value["stride_in"], **text["stride_in"])
    return [model, stem, size, strides, maxpool, stride_in, shortcut]
