"""Designs in, pieces of the Explore tab's page out: drawings, tables, curves, advice, what to take away.

Strings only. Knows nothing of gradio, of torch, or of how the numbers come about.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from typing import Any

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.geometry import Row, stages, totals
from resnet_hub.geometry.advice import Advice
from resnet_hub.ui.explore import designs
from resnet_hub.ui.explore.designs import FIELDS, Design, DesignError
from resnet_hub.ui.explore.drawing import COLOURS, Map, common_scale, shrinking_maps
from resnet_hub.ui.results import recorded
from resnet_hub.ui.shared.chart import Line, standalone
from resnet_hub.ui.shared.chart import lines as line_chart
from resnet_hub.ui.shared.html import figure
from resnet_hub.ui.shared.page import alert
from resnet_hub.ui.shared.text import memory, name_of, say, short

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
        *(layers(language, name, sound[name]) if name in sound else "" for name in sides),
        take_away(language, sound, drawings, query),
        query,
    ]


def complaint(language: str, error: DesignError) -> str:
    """Why there is nothing to show."""
    return alert(reason(language, error))


def panel(language: str, design: Design, drawn: str) -> str:
    """One design: its drawing, what to know about it, its stages."""
    return (
        f'<figure class="drawing">{drawn}<figcaption>{say(language, "maps_caption")}</figcaption></figure>'
        f"{advice_list(language, design)}"
        f"<h4>{say(language, 'stages_title')}</h4>{stage_table(language, design.rows)}"
    )


def maps_of(language: str, design: Design) -> list[Map]:
    """The image and the map that leaves each stage."""
    image = Map(say(language, "map_image"), design.config.in_chans, design.config.input_size)
    return [image, *(Map(s.name, s.out_channels, s.out_size) for s in stages(design.rows)[:-1])]


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


def advice_item(language: str, config: ModelConfig, advice: Advice) -> str:
    facts = advice.facts | {
        "why": advice.why,
        "network": config.name,
        "fields": ", ".join(advice.facts.get("fields", ())),
    }
    why = html.escape(
        say(language, f"advice_{advice.code}", **facts) + measured_cost(language, config, advice)
    )
    if not advice.overrides:
        return f"<li>{why} {say(language, 'advice_no_change')}</li>"
    target = designs.address(config.override(**advice.overrides))
    change = say(language, "advice_apply", change=change_text(language, advice.overrides))
    return f'<li>{why} <button type="button" data-apply="{target}">{html.escape(change)}</button></li>'


def measured_cost(language: str, config: ModelConfig, advice: Advice) -> str:
    """What the ImageNet stem cost on small images in the recorded study; "" where nothing was."""
    is_that_case = (
        advice.code == "last_map_small" and config.stem == "imagenet" and max(config.input_size) <= 32
    )
    try:
        study = recorded.load("stem") if is_that_case else None
    except recorded.Unreadable:
        study = None
    if study is None:
        return ""
    cifar, imagenet = (row["test_acc"] for row in study["rows"])
    evidence = study["evidence"]
    data = name_of(language, "data", evidence["data"])
    facts = {"images": evidence["train_images"], "epochs": evidence["epochs"], "data": data}
    said = " " + say(language, "advice_measured", cifar=cifar, imagenet=imagenet, **facts)
    return said + (" " + say(language, "results_one_seed") if evidence["seeds"] < 2 else "")


def change_text(language: str, overrides: dict[str, Any]) -> str:
    """{"stem": "cifar", "maxpool": False} -> "Stem CIFAR, Max pooling after the stem off" """
    words = []
    for field, value in overrides.items():
        if isinstance(value, bool):
            value = say(language, "on" if value else "off")
        elif field == "input_size":
            value = "×".join(map(str, value))
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        words.append(f"{say(language, field)} {name_of(language, field, value)}")
    return say(language, "comma").join(words)


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


def layers(language: str, name: str, design: Design) -> str:
    """The table of all layers under the design's name."""
    return f'<b class="{name}">{name}</b> {designs.address(design.config)}' + layer_table(
        language, design.rows
    )


def layer_table(language: str, rows: list[Row]) -> str:
    """All rows."""
    heads = ["layer", "op", "kernel", "map", "field", "jump", "padded", "params", "macs", "memory"]
    lines = [
        [
            row.name,
            say(language, f"op_{row.op}"),
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
        colour, sizes = COLOURS[name], [min(row.out_size) for row in passed]
        reach = [row.receptive_field for row in passed]
        sides.append(Line(name, [side, *sizes], level=side, colour=colour))
        fields.append(Line(name, [1, *reach], level=side, colour=colour))
    x_title = say(language, "curve_depth")
    return "".join(
        figure(line_chart(lines, title, x_title, base=2, first=0), title, above=True)
        for lines, title in ((sides, say(language, "curve_side")), (fields, say(language, "curve_field")))
    )


def main_path(rows: list[Row]) -> list[Row]:
    """The convolutions and poolings an image passes one after another, shortcuts left out."""
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
