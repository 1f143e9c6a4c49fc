"""What the Explore tab shows: pure functions from a language and two designs to markup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from resnet_hub.config import ModelConfig, ResNetConfig
from resnet_hub.errors import Refusal
from resnet_hub.geometry import WINDOWED, Row, Stage, main_path, stages, totals
from resnet_hub.geometry.advice import Advice
from resnet_hub.ui.explore import designs
from resnet_hub.ui.explore.designs import Design
from resnet_hub.ui.explore.drawing import COLOURS, Map, common_scale, shrinking_maps
from resnet_hub.ui.explore.run import Run
from resnet_hub.ui.results import recorded
from resnet_hub.ui.shared.chart import Line, lines, standalone
from resnet_hub.ui.shared.errors import explain
from resnet_hub.ui.shared.html import alert, download_url, render
from resnet_hub.ui.shared.text import joined, memory, name_of, percent, say, short

MOST_QUERY = 1000  # characters

START = {"A": "resnet50.32", "B": "resnet50.32.stem-cifar"}  # name of a design -> its first address
Examined = Design | Refusal
STAGE_COLUMNS = ("stage", "map", "field", "jump", "params", "macs", "memory")
LAYER_COLUMNS = ("layer", "op", "kernel", "map", "field", "jump", "padded", "params", "macs", "memory")

# From what the controls or an address say to designs


def examine(make: Callable[[], ModelConfig]) -> Examined:
    """The design of a configuration, or why there is none."""
    try:
        return designs.design(make())
    except Refusal as refusal:
        return refusal


def from_controls(values: Mapping[str, Any]) -> Examined:
    """What one side's controls ask for; those that do nothing on the network count for nothing."""

    def make() -> ModelConfig:
        used = designs.taken(designs.published_config(values["model"]))
        return designs.read(**{field: values[field] for field in used})

    return examine(make)


def from_address(text: str) -> Examined:
    """The design of one word of an address."""
    return examine(lambda: designs.read_address(text))


def from_query(query: Mapping[str, str]) -> dict[str, Examined]:
    """The designs that an address names as "a" and "b"."""
    return {name: from_address(query[name.lower()]) for name in START if query.get(name.lower())}


def arrival(query: Mapping[str, str]) -> tuple[dict[str, Design], dict[str, Refusal]]:
    """Both designs for a visitor who comes with this address, and what it asked for in vain."""
    found = {name: from_address(text) for name, text in START.items()} | from_query(query)
    refused = {name: one for name, one in found.items() if isinstance(one, Refusal)}
    shown = found | {name: from_address(START[name]) for name in refused}
    return {name: one for name, one in shown.items() if isinstance(one, Design)}, refused


def on_page(query: str) -> dict[str, Examined]:
    """The designs that the page shows, from the address it would have; those it cannot show are missing.

    When the page itself changes its controls, an event may bring some of them as they were before; the
    address changes as a whole.
    """
    return from_query(in_query(query))


def in_query(query: str) -> dict[str, str]:
    """What the page's address names; anybody may send one of any length."""
    return dict(parse_qsl(str(query or "")[:MOST_QUERY].lstrip("?")))


def other_network(model: str, input_size: str) -> ModelConfig:
    """A network as published, at this input size if it is one."""
    try:
        return designs.read(model, input_size=input_size)
    except Refusal:
        return designs.published_config(model)


# The whole tab


@dataclass(frozen=True)
class Shown:
    """What two designs look like, as markup; panels and tables by the name of their design."""

    panels: dict[str, str]
    compared: str
    tables: dict[str, str]
    taken_away: str
    query: str


def page(language: str, sides: Mapping[str, Examined], refused: Mapping[str, Refusal] | None = None) -> Shown:
    """Everything about both designs.

    Args:
        refused: designs of the visitor's address that are not possible, said above what is shown instead.
    """
    sound = {name: side for name, side in sides.items() if isinstance(side, Design)}
    scale = common_scale([maps_of(language, side) for side in sound.values()])
    drawings = {name: drawing(language, name, side, scale) for name, side in sound.items()}
    query = "?" + "&".join(f"{name.lower()}={designs.address(side.config)}" for name, side in sound.items())
    panels = {name: panel(language, side, drawings[name]) for name, side in sound.items()}
    panels |= {name: alert(explain(language, one)) for name, one in sides.items() if isinstance(one, Refusal)}
    for name, refusal in (refused or {}).items():
        why = explain(language, refusal)
        panels[name] = alert(say(language, "address_wrong", why=why)) + panels[name]
    return Shown(
        panels,
        comparison(language, sound) if sound else "",
        {name: layers(language, name, sound[name]) if name in sound else "" for name in sides},
        take_away(language, sound, drawings, query),
        query,
    )


def heads(language: str, columns: Sequence[str]) -> list[str]:
    """Words for the columns of a table."""
    return [say(language, f"column_{column}") for column in columns]


def shape(row: Any) -> str:
    """ "64×16×16", channels first; the vector's length alone after the last pooling."""
    return "×".join(map(str, (row.out_channels, *row.out_size)))


# One design


def panel(language: str, design: Design, drawn: str) -> str:
    """One design: its drawing, advice, its stages."""
    return render(
        "explore/design.html",
        language=language,
        network=design.config.name,
        is_residual=isinstance(design.config, ResNetConfig),
        drawing=drawn,
        advice=advice_by_change(language, design),
        heads=heads(language, STAGE_COLUMNS),
        stages=stage_rows(language, design.rows),
    )


def maps_of(language: str, design: Design) -> list[Map]:
    """The image and the map that leaves each stage."""
    image = Map(say(language, "map_image"), design.config.in_chans, design.config.input_size)
    return [image, *(Map(s.name, s.out_channels, s.out_size) for s in stages(design.rows)[:-1])]


def drawing(language: str, name: str, design: Design, scale: float) -> str:
    """The maps as they shrink, as SVG."""
    title = say(language, "maps_title", design=designs.address(design.config))
    return shrinking_maps(maps_of(language, design), scale, COLOURS[name], title)


def field(language: str, row: Row | Stage) -> int | str:
    """A row's receptive field; global pooling and linear layers take in the whole image."""
    return say(language, "field_all") if in_head(row) else row.receptive_field


def jump(row: Row | Stage) -> int | str:
    """Pixels of the image between neighbours of a row's map; after the last pooling there are none."""
    return "–" if in_head(row) else row.jump


def in_head(row: Row | Stage) -> bool:
    """Whether a row belongs to what follows the last map."""
    return (row.stage if isinstance(row, Row) else row.name) == "head"


def stage_rows(language: str, rows: list[Row]) -> list[list[Any]]:
    """Map, receptive field and cost of each stage."""
    return [
        [
            s.name,
            shape(s),
            field(language, s),
            jump(s),
            short(s.params),
            short(s.macs),
            memory(s.activation_bytes),
        ]
        for s in stages(rows)
    ]


def layers(language: str, name: str, design: Design) -> str:
    """All layers of a design."""
    return render(
        "explore/layers.html",
        language=language,
        name=name,
        address=designs.address(design.config),
        heads=heads(language, LAYER_COLUMNS),
        rows=[layer_row(language, row) for row in design.rows],
    )


def layer_row(language: str, row: Row) -> list[Any]:
    """A layer's cells; empty where it has no such number."""
    return [
        row.name,
        say(language, f"op_{row.op}"),
        window(row),
        shape(row),
        field(language, row),
        jump(row),
        f"{row.padding_share:.0%}" if row.padding_share else "",
        f"{row.params:,}" if row.params else "",
        f"{row.macs:,}" if row.macs else "",
        memory(row.activation_bytes),
    ]


def window(row: Row) -> str:
    """Kernel and stride of a convolution or pooling: "7×7 /2"."""
    if row.op not in WINDOWED:
        return ""
    return f"{row.kernel}×{row.kernel}" + (f" /{row.stride}" if row.stride > 1 else "")


# Advice


def advice_by_change(language: str, design: Design) -> dict[tuple[str, str], list[str]]:
    """(the design to go to, the words of its button) -> the reasons for it; both "" where no change helps."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for advice in design.advice:
        item = advice_item(language, design.config, advice)
        reasons.setdefault((item["target"], item["change"]), []).append(item["why"])
    return reasons


def advice_item(language: str, config: ModelConfig, advice: Advice) -> dict[str, str]:
    """An advice's reason, the design to go to ("" without one) and the words of that button."""
    why = joined(language, [advice_why(language, config, advice), measured_cost(language, config, advice)])
    if not advice.overrides:
        return {"why": why, "target": "", "change": ""}
    target = designs.address(config.override(**advice.overrides))
    return {"why": why, "target": target, "change": change_text(language, config, advice)}


def advice_why(language: str, config: ModelConfig, advice: Advice) -> str:
    """What is wrong, as a sentence."""
    facts = advice.facts | {"network": config.name}
    if "share" in facts:
        facts["share"] = percent(facts["share"], 0)
    if "fields" in facts:
        facts["fields"] = ", ".join(facts["fields"])
    is_single = facts.get("layers") == 1
    return say(language, f"advice_{advice.code}{'_once' if is_single else ''}", **facts)


def change_text(language: str, config: ModelConfig, advice: Advice) -> str:
    """What the button does: "Use the CIFAR stem and drop max pooling"."""
    changed = advice.overrides
    if advice.code == "weights_mean_something_else":
        key = "apply_published"
    elif "stem" in changed:
        key = f"apply_stem_{changed['stem']}" + ("_strides" if "strides" in changed else "")
    else:
        key = "apply_input_size" if "input_size" in changed else "apply_no_maxpool"
    return say(
        language,
        key,
        network=config.name,
        size="×".join(map(str, changed.get("input_size", ()))),
        strides=",".join(map(str, changed.get("strides", ()))),
        fields=say(language, "comma").join(changed),
    )


def measured_cost(language: str, config: ModelConfig, advice: Advice) -> str:
    """What the ImageNet stem cost on small images in the recorded study; "" in any other case."""
    is_that_stem = isinstance(config, ResNetConfig) and config.stem == "imagenet" and config.has_maxpool
    is_that_case = advice.code == "last_map_small" and is_that_stem and config.input_size == (32, 32)
    study = recorded.readable("stem") if is_that_case else None
    if study is None:
        return ""
    accuracies = {row["arm"]: row["test_acc"] for row in study["rows"]}
    cifar, imagenet = accuracies["CIFAR stem"], accuracies["ImageNet stem"]
    evidence = study["evidence"]
    data = name_of(language, "data", evidence["data"])
    facts = {"images": evidence["train_images"], "epochs": evidence["epochs"], "data": data}
    said = say(language, "advice_measured", cifar=percent(cifar), imagenet=percent(imagenet), **facts)
    return joined(language, [said, say(language, "results_one_seed") if evidence["seeds"] < 2 else ""])


# Both designs


def comparison(language: str, sound: Mapping[str, Design]) -> str:
    """Totals of A and B with their difference, and the curves along depth."""
    return render(
        "explore/compared.html",
        language=language,
        names=list(sound),
        rows=total_rows(language, list(sound.values())),
        charts=depth_charts(language, sound),
    )


def total_rows(language: str, found: Sequence[Design]) -> list[tuple[str, list[str], tuple[str, str] | None]]:
    """(words, a number for each design, their difference and ratio where there are two)."""
    sums = [totals(d.rows)._asdict() | {"field": d.rows[-1].receptive_field} for d in found]
    rows = []
    for key in sums[0]:
        form, brief = (memory, memory) if key == "activation_bytes" else ("{:,}".format, short)
        numbers = [each[key] for each in sums]
        rows.append((say(language, f"total_{key}"), [form(n) for n in numbers], difference(numbers, brief)))
    last = ["×".join(map(str, stages(d.rows)[-2].out_size)) for d in found]
    return [*rows, (say(language, "total_last"), last, None)]


def difference(numbers: Sequence[int], form: Callable[[int], str]) -> tuple[str, str] | None:
    """("+1.21 G", "×15.21") for two numbers, None for one."""
    if len(numbers) < 2:
        return None
    first, second = numbers
    sign = "+" if second > first else "−" if second < first else "±"
    times = second / first
    return f"{sign}{form(abs(second - first))}", f"×{times:.2f}" if times >= 0.1 else f"×{times:.2g}"


def depth_charts(language: str, sound: Mapping[str, Design]) -> list[tuple[str, str]]:
    """(title, chart) of size and of receptive field along depth, A and B in one chart each."""
    sides, fields = [], []
    for name, design in sound.items():
        side, passed = min(design.config.input_size), main_path(design.rows)
        line = partial(Line, name, level=side, colour=COLOURS[name])
        sides.append(line([side, *(min(row.out_size) for row in passed)]))
        fields.append(line([1, *(row.receptive_field for row in passed)]))
    titles = say(language, "curve_side"), say(language, "curve_field")
    x_title = say(language, "curve_depth")
    return [
        (title, lines(apart(series), title, x_title, base=2, first=0))
        for title, series in zip(titles, (sides, fields), strict=True)
    ]


def apart(series: Sequence[Line]) -> Sequence[Line]:
    """The lines of A and B; one called "A = B" where they are the same, since one would hide the other."""
    values = [(each.values, each.level) for each in series]
    if len(series) == 2 and values[0] == values[1]:
        return [replace(series[0], name=" = ".join(each.name for each in series))]
    return series


def take_away(language: str, sound: Mapping[str, Design], drawings: Mapping[str, str], query: str) -> str:
    """The link to both designs; the Python, table and drawing of each."""
    files = [
        {
            "name": name,
            "file": designs.address(design.config),
            "python": designs.python(design.config),
            "csv": download_url("text/csv", designs.csv_table(design.rows)),
            "svg": download_url("image/svg+xml", standalone(drawings[name])),
        }
        for name, design in sound.items()
    ]
    return render("explore/take.html", language=language, query=query, files=files)


# An image through both


def maps(language: str, outcomes: Mapping[str, Run | Refusal] | None) -> str:
    """The maps of both designs, or why there are none; None before the first image."""
    helpers = {"explain": explain, "address": designs.address, "weights_text": weights_text}
    return render("explore/maps.html", language=language, outcomes=outcomes, **helpers)


def weights_text(language: str, run: Run) -> str:
    """Whether the maps come from trained or from random weights."""
    if run.source is None or run.trained_size is None:
        return say(language, "run_random")
    told = say(language, "run_trained", source=run.source)
    if run.trained_size == run.config.input_size:
        return told
    size = "×".join(map(str, run.trained_size))
    return joined(language, [told, say(language, "run_other_size", size=size)])
