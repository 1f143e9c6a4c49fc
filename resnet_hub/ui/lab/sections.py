"""The lab's sections as one table: for each topic its controls, its image and the study behind it.

An image is a pure function of language and values. All numbers are `resnet_hub.lab`'s; knows nothing of
gradio components.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from resnet_hub.lab import (
    batchnorm,
    cost,
    dropout,
    family,
    fine_tuning,
    gradients,
    pooling,
    products,
    residual,
    scaling,
    skips,
    timeline,
)
from resnet_hub.preprocess import load_image
from resnet_hub.ui.explore.page import short, table
from resnet_hub.ui.lab.form import Choice, Control, Grid, Slider, Switch, Upload, Values
from resnet_hub.ui.shared.chart import BLUE, Line, bars, heat, lines, number
from resnet_hub.ui.shared.page import EXAMPLES, data_url, uploaded
from resnet_hub.ui.shared.text import TEXT, percent, say

EDGE = ((0, 0, 0, 9, 0, 0),) * 6  # a vertical edge as an edge detector answers it
PHOTO_SIDE = 96


@dataclass(frozen=True)
class Section:
    """One topic of the lab; `study` names the measured comparison behind its claim."""

    controls: tuple[Control, ...]
    draw: Callable[[str, Values], str]
    study: str | None = None


def figure(drawn: str, caption: str = "") -> str:
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"


def chart(drawn: str, axis: str) -> str:
    """A drawing under what its values are, in their unit."""
    return f"<figure><figcaption>{axis}</figcaption>{drawn}</figure>"


def says(language: str, key: str, **facts: Any) -> str:
    """The sentence that reads the image out."""
    return f'<p class="says">{say(language, f"lab_{key}_says", **facts)}</p>'


def word(language: str, key: str, **facts: Any) -> str:
    return say(language, f"lab_word_{key}", **facts)


def map_figure(language: str, key: str, values: np.ndarray, **more: Any) -> str:
    """A map as `heat` draws it, under its name."""
    return figure(heat(values, word(language, key), **more), word(language, key))


# pooling


def draw_pooling(language: str, values: Values) -> str:
    window = {name: values[name] for name in ("kernel", "stride", "padding")}
    if 2 * values["padding"] > values["kernel"]:
        return f'<p class="notice wrong">{say(language, "lab_pooling_padded")}</p>'
    draw = draw_grid if values["input"] == "grid" else draw_photo
    return draw(language, values, window)


def draw_grid(language: str, values: Values, window: dict[str, int]) -> str:
    """Input, maximum and average of the grid; with a shift, the same of the shifted grid below."""
    grid = np.array(values["grid"])
    kept = {kind: pooling.pool(grid, kind, **window) for kind in ("max", "average")}
    everything = pooling.pool(grid, "global").values.item()
    maps = map_figure(language, "input", grid, faint=~kept["max"].used, digits=0)
    for kind, out in kept.items():
        maps += map_figure(language, kind, out.values, side=110)
    shown = f'<div class="trio small">{maps}</div>'
    shares = {f"{kind}_dropped": percent(out.dropped, 0) for kind, out in kept.items()}
    text = says(language, "pooling", average=f"{everything:.2f}", highest=grid.max(), **shares)
    if values["shift"]:
        moved = {kind: pooling.shift_test(grid, kind, **window) for kind in kept}
        maps = map_figure(language, "shifted", moved["max"].moved, digits=0)
        for kind, pair in moved.items():
            marked = pair.before != pair.after
            maps += map_figure(language, kind, pair.after, marked=marked, side=110)
        shown += f'<div class="trio small">{maps}</div>'
        changed = {f"{kind}_changed": percent(pair.changed, 0) for kind, pair in moved.items()}
        text += f'<p class="says">{say(language, "lab_pooling_shift_says", **changed)}</p>'
    return shown + text


def draw_photo(language: str, values: Values, window: dict[str, int]) -> str:
    """The visitor's image or the first example, pooled channel by channel."""
    source = uploaded({"path": values["photo"]}) if values["photo"] else EXAMPLES[0]
    image = load_image(source)
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    pixels = np.asarray(image).transpose(2, 0, 1)  # (3, H, W)
    if min(pixels.shape[1:]) + 2 * window["padding"] < window["kernel"]:
        return f'<p class="notice wrong">{say(language, "lab_pooling_thin")}</p>'
    kept = {kind: pooling.pool(pixels, kind, **window) for kind in ("max", "average")}
    shown = figure(
        pixel_image(pixels), word(language, "input_size", height=pixels.shape[1], width=pixels.shape[2])
    )
    for kind, out in kept.items():
        height, width = out.values.shape[1:]
        caption = say(language, "comma").join([word(language, kind), f"{height}×{width}"])
        shown += figure(pixel_image(out.values), caption)
    mean = ", ".join(f"{value:.0f}" for value in pooling.pool(pixels, "global").values.ravel())
    shares = {f"{kind}_dropped": percent(out.dropped, 0) for kind, out in kept.items()}
    text = f'<p class="says">{say(language, "lab_pooling_photo_says", colour=mean, **shares)}</p>'
    if values["shift"]:
        changed = {
            f"{kind}_changed": percent(pooling.shift_test(pixels, kind, **window).changed, 0) for kind in kept
        }
        text += f'<p class="says">{say(language, "lab_pooling_shift_says", **changed)}</p>'
    return f'<div class="trio">{shown}</div>{text}'


def pixel_image(pixels: np.ndarray) -> str:
    """(3, H, W), 0 to 255, as an image element."""
    image = Image.fromarray(pixels.transpose(1, 2, 0).round().astype(np.uint8))
    return f'<img class="pixels" src="{data_url(image)}" alt="">'


# residual blocks


def draw_residual(language: str, values: Values) -> str:
    passed = residual.pass_through(values["strength"], values["negative"])
    maps = {"input": passed.before, "with_skip": passed.residual, "without_skip": passed.plain}
    shown = "".join(map_figure(language, name, each) for name, each in maps.items())
    facts = {"difference": number(passed.difference), "plain_difference": number(passed.plain_difference)}
    return f'<div class="trio large">{shown}</div>{says(language, "residual", **facts)}'


def draw_shapes(language: str, values: Values) -> str:
    names = ("block", "in_channels", "out_channels", "stride", "size")
    found = residual.block_shapes(*(values[name] for name in names))
    inside = f"N×{values['in_channels']}×{values['size']}×{values['size']}"
    drawn = []
    for step in found.steps:
        window = f"{step.kernel}×{step.kernel}" + (f" /{step.stride}" if step.stride > 1 else "")
        place = word(language, step.place)
        name = f"{step.name}<small>{place}</small>"
        drawn.append([name, window, shape_of(step.shape), f"{step.params:,}"])
    heads = [word(language, key) for key in ("layer", "window", "shape", "weights")]
    facts = {"inside": inside, "out": shape_of(found.out_shape), "params": f"{found.params:,}"}
    kind = "identity" if len({step.place for step in found.steps}) == 1 else "projection"
    return (
        table(heads, drawn, "shapes")
        + says(language, "shapes", **facts)
        + f'<p class="says">{say(language, f"lab_shapes_{kind}")}</p>'
    )


def shape_of(shape: tuple[int, ...]) -> str:
    return "N×" + "×".join(map(str, shape))


# gradients


def draw_gradients(language: str, values: Values) -> str:
    settings = {"activation": values["activation"], "batch_norm": values["batch_norm"]}
    flows = {
        key: gradients.gradient_flow(values["depth"], skip=key == "with_skip", **settings)
        for key in ("without_skip", "with_skip")
    }
    return gradient_figure(language, flows, "gradients") + draw_plus_one(language, values["depth"], settings)


def draw_plus_one(language: str, depth: int, settings: dict[str, Any]) -> str:
    """The gradient's two ways through each block."""
    found = gradients.plus_one(depth, **settings)
    parts = {"through_shortcut": found.shortcut, "through_branch": found.branch}
    drawn = lines(
        [Line(word(language, key), norms) for key, norms in parts.items()],
        word(language, "plus_one_axis"),
        word(language, "block_axis"),
        log=True,
    )
    against = sum(cosine < 0 for cosine in found.cosines)
    facts = {"against": against, "blocks": len(found.cosines)}
    return chart(drawn, word(language, "plus_one_axis")) + says(language, "plus_one", **facts)


def gradient_figure(language: str, flows: dict[str, gradients.GradientFlow], key: str) -> str:
    drawn = lines(
        [Line(word(language, name), flow.norms) for name, flow in flows.items()],
        word(language, "gradient_axis"),
        word(language, "layer_axis"),
        log=True,
    )
    facts = {}
    for name, flow in flows.items():
        facts[f"{name}_ratio"] = number(flow.first_to_last)
        facts[f"{name}_factor"] = f"{flow.factor_a_layer:.3f}"
    facts["times"] = number(flows["without_skip"].norms[0] / max(flows["with_skip"].norms[0], 1e-30))
    return chart(drawn, word(language, "gradient_axis")) + says(language, key, **facts)


def draw_products(language: str, values: Values) -> str:
    found = products.product(values["factor"], values["layers"])
    drawn = lines(
        [Line(f"{values['factor']:g}ⁿ", found.values)],
        word(language, "product_axis"),
        word(language, "layers_axis"),
        log=True,
        first=0,
    )
    facts = {"factor": f"{values['factor']:g}", "layers": values["layers"], "last": number(found.last)}
    shown = chart(drawn, word(language, "product_axis")) + says(language, "products", **facts)
    if values["real"] != "none":
        depth = values["real"]
        names = {"without_skip": f"plain{depth}_cifar", "with_skip": f"resnet{depth}_cifar"}
        flows = {key: gradients.registered_flow(name) for key, name in names.items()}
        shown += gradient_figure(language, flows, "real")
    return shown


# batch norm and dropout


def draw_batchnorm(language: str, values: Values) -> str:
    depth, gain = values["depth"], values["gain"]
    found = {key: batchnorm.spread(depth, key == "with_norm", gain) for key in ("without_norm", "with_norm")}
    drawn = lines(
        [Line(word(language, key), each.stds) for key, each in found.items()],
        word(language, "std_axis"),
        word(language, "layer_axis"),
        log=True,
    )
    facts = {f"{key}_last": number(each.stds[-1]) for key, each in found.items()}
    return chart(drawn, word(language, "std_axis")) + says(language, "batchnorm", depth=depth, **facts)


def draw_modes(language: str, values: Values) -> str:
    found = batchnorm.modes(values["mean"], values["std"], values["batches"])
    heads = ["", word(language, "mean"), word(language, "std")]
    rows = [
        [word(language, "fed"), f"{values['mean']:.2f}", f"{values['std']:.2f}"],
        [word(language, "stored"), f"{found.running_mean:.2f}", f"{found.running_var**0.5:.2f}"],
        [word(language, "train_out"), *(f"{abs(value):.2f}" for value in found.train)],
        [word(language, "eval_out"), *(f"{value:.2f}" for value in found.evaluated)],
    ]
    return table(heads, rows, "modes") + says(language, "modes", batches=values["batches"])


def draw_bias(language: str, values: Values) -> str:
    found = {order: batchnorm.needless_bias(values["bias"], order) for order in batchnorm.ORDERS}
    shown = [(order, each.with_norm, number(each.with_norm)) for order, each in found.items()]
    alone = found[batchnorm.ORDERS[0]].without_norm
    drawn = bars([*shown, ("conv-ReLU", alone, number(alone))], word(language, "change_axis"))
    gradient = {f"gradient_{i}": number(each.gradient) for i, each in enumerate(found.values())}
    return chart(drawn, word(language, "change_axis")) + says(language, "bias", **gradient)


def draw_dropout(language: str, values: Values) -> str:
    found = dropout.drop(values["p"], values["training"], values["seed"])
    before = map_figure(language, "before", found.before, side=190)
    after = map_figure(language, "after", found.after, faint=found.after == 0, side=190)
    facts = {
        "zeroed": percent(found.zeroed, 0),
        "scale": f"{found.scale:.2f}",
        "before": f"{found.mean_before:.2f}",
        "after": f"{found.mean_after:.2f}",
    }
    return f'<div class="trio large">{before}{after}</div>{says(language, "dropout", **facts)}'


# costs, scaling, ways past a layer


def draw_cost(language: str, values: Values) -> str:
    width = 4 * round(values["width"] / 4)
    found, window = cost.block_cost(width), cost.windows(width)
    windows_of = {"basic": "3×3, 3×3", "bottleneck": "1×1, 3×3, 1×1"}
    layers = {f"{word(language, key)}: {each}": getattr(found, key) for key, each in windows_of.items()}
    blocks = [(name, sum(each), f"{sum(each):,}") for name, each in layers.items()]
    drawn = bars(blocks, word(language, "weights_axis"), parts_of=[*layers.values()])
    whole = {each.name: each for each in cost.networks("resnet34", "resnet50")}
    facts = {
        "width": width,
        "ratio": f"{found.ratio:.1f}",
        "macs_basic": short(found.macs[0]),
        "macs_bottleneck": short(found.macs[1]),
        "small": f"{window.two_small:,}",
        "large": f"{window.one_large:,}",
        "params34": short(whole["resnet34"].params),
        "params50": short(whole["resnet50"].params),
    }
    return chart(drawn, word(language, "weights_axis")) + says(language, "cost", **facts)


def draw_scaling(language: str, values: Values) -> str:
    found = scaling.compound(values["phi"])
    keys = ("depth", "width", "resolution")
    together = [getattr(found, key) for key in keys]
    names = [word(language, f"scale_{key}") for key in keys]
    factors = [(name, value, f"×{value:.2f}") for name, value in zip(names, together, strict=True)]
    drawn = bars(factors, word(language, "factor_axis"), colours=(BLUE,))
    alone = {f"alone_{key}": f"{value:.2f}" for key, value in zip(keys, found.alone, strict=True)}
    text = says(language, "scaling", flops=f"{found.flops:.2f}", **alone)
    return chart(drawn, word(language, "factor_axis")) + text


def draw_patches(language: str, values: Values) -> str:
    """The example image with the cuts drawn on it."""
    patch = int(values["patch"])
    size = values["size"] // patch * patch
    found = scaling.patches(size, patch)
    image = load_image(EXAMPLES[0])
    side = min(image.size)
    image = image.crop((0, 0, side, side)).resize((300, 300))
    step = 300 / found.across
    cuts = "".join(f"M{i * step:.1f} 0v300M0 {i * step:.1f}h300" for i in range(1, found.across))
    name = word(language, "patches", across=found.across, size=size)
    drawn = (
        f'<svg viewBox="0 0 300 300" width="300" height="300" role="img"><title>{name}</title>'
        f'<image href="{data_url(image)}" width="300" height="300"/>'
        f'<path d="{cuts}" stroke="#fff" stroke-width="1.2"/></svg>'
    )
    facts = {"patches": found.across**2, "tokens": found.tokens, "numbers": found.patch_values}
    return figure(drawn, name) + says(language, "patches", attention=f"{found.attention:,}", **facts)


def draw_skips(language: str, values: Values) -> str:
    found = skips.compare(values["channels"], values["growth"], values["layers"])
    series = [
        Line(word(language, "added"), found.added),
        Line(word(language, "concatenated"), found.concatenated),
    ]
    drawn = lines(series, word(language, "channels_axis"), word(language, "layers_axis"), first=0)
    facts = {
        "channels": values["channels"],
        "grown": found.concatenated[-1],
        "added": f"{sum(found.added_weights):,}",
        "concatenated": f"{sum(found.concatenated_weights):,}",
        "unet": 2 * values["channels"],
    }
    diagram = table(
        ["", word(language, "join"), word(language, "shape")],
        [
            ["ResNet", "y = x + F(x)", f"N×{values['channels']}×H×W"],
            ["DenseNet", "y = [x, F(x)]", f"N×({values['channels']}+{values['growth']})×H×W"],
            ["U-Net", "y = [encoder, decoder]", f"N×({values['channels']}+{values['channels']})×H×W"],
        ],
        "shapes",
    )
    return diagram + chart(drawn, word(language, "channels_axis")) + says(language, "skips", **facts)


# guides


def draw_timeline(language: str, values: Values) -> str:
    entered = [each for each in timeline.MILESTONES if each.top5_error]
    drawn = bars(
        [(f"{each.year} {each.name}", each.top5_error, f"{each.top5_error:g} %") for each in entered],
        word(language, "error_axis"),
        colours=(BLUE,),
    )
    rows = []
    for each in timeline.MILESTONES:
        size = short(family.size(each.ours).params) if each.ours else "–"
        story = say(language, f"lab_timeline_{each.key}")
        rows.append([f"{each.year} {each.name}", size, f"{story} <small>{html.escape(each.source)}</small>"])
    heads = [word(language, "network"), word(language, "params"), word(language, "story")]
    return (
        chart(drawn, word(language, "error_axis"))
        + f'<div class="stories">{table(heads, rows, "timeline")}</div>'
        + f"<h4>{word(language, 'family')}</h4>"
        + family_table(language, values["measure"])
    )


def family_table(language: str, measured: str) -> str:
    """The ResNets with their size and what each is for; the time of the one chosen."""
    rows = []
    for name in family.RESNETS:
        size, time = family.size(name), "–"
        if name == measured:
            time = f"{1000 * family.latency(name):.0f} ms"
        rows.append(
            [
                name,
                short(size.params),
                short(size.macs),
                time,
                say(language, f"use_{name}", use=family.USE[name]),
            ]
        )
    heads = [word(language, key) for key in ("network", "params", "macs", "latency", "use")]
    return f'<div class="stories">{table(heads, rows, "sizes")}</div>'


def draw_transfer(language: str, values: Values) -> str:
    similar = values["similar"]
    found = fine_tuning.advise(int(values["images"]), int(values["classes"]), similar, values["network"])
    learns = [[stage, number(rate) if rate else word(language, "frozen")] for stage, rate in found.rates]
    facts = {
        "mode": say(language, f"lab_transfer_mode_{found.mode}"),
        "trainable": f"{found.trainable:,}",
        "total": f"{found.total:,}",
        "share": percent(found.trainable / found.total, 2),
    }
    heads = [word(language, "stage"), word(language, "rate")]
    return (
        f"{says(language, 'transfer', **facts)}<p>{say(language, f'lab_transfer_why_{found.mode}')}</p>"
        f"{table(heads, learns, 'rates')}<pre>{html.escape(found.command)}</pre>"
    )


SECTIONS: dict[str, Section] = {
    "pooling": Section(
        (
            Choice(name="input", value="grid", options=("grid", "photo")),
            Slider(name="kernel", value=2, least=1, most=4),
            Slider(name="stride", value=2, least=1, most=4),
            Slider(name="padding", value=0, least=0, most=2),
            Switch(name="shift", value=False),
            Grid(name="grid", value=EDGE, when=("input", "grid")),
            Upload(name="photo", value="", when=("input", "photo")),
        ),
        draw_pooling,
    ),
    "residual": Section(
        (
            Slider(name="strength", value=0.0, least=0, most=1, step=0.05),
            Switch(name="negative", value=False),
        ),
        draw_residual,
    ),
    "shapes": Section(
        (
            Choice(name="block", value="basic", options=residual.BLOCKS),
            Slider(name="in_channels", value=64, least=16, most=512, step=16),
            Slider(name="out_channels", value=128, least=16, most=512, step=16),
            Slider(name="stride", value=2, least=1, most=2),
            Slider(name="size", value=56, least=7, most=112, step=7),
        ),
        draw_shapes,
    ),
    "gradients": Section(
        (
            Slider(name="depth", value=20, least=4, most=gradients.MOST_DEPTH, step=2),
            Choice(name="activation", value="relu", options=gradients.ACTIVATIONS),
            Switch(name="batch_norm", value=True),
        ),
        draw_gradients,
        "degradation",
    ),
    "products": Section(
        (
            Slider(name="factor", value=0.9, least=0.5, most=1.5, step=0.05),
            Slider(name="layers", value=100, least=1, most=products.MOST_LAYERS),
            Choice(name="real", value="none", options=("none", "20", "56")),
        ),
        draw_products,
    ),
    "batchnorm": Section(
        (
            Slider(name="depth", value=20, least=2, most=batchnorm.MOST_DEPTH),
            Slider(name="gain", value=0.7, least=0.5, most=2, step=0.1),
        ),
        draw_batchnorm,
        "batchnorm",
    ),
    "modes": Section(
        (
            Slider(name="mean", value=3.0, least=-10, most=10, step=0.5),
            Slider(name="std", value=2.0, least=0.5, most=10, step=0.5),
            Slider(name="batches", value=10, least=0, most=100),
        ),
        draw_modes,
    ),
    "bias": Section((Slider(name="bias", value=3.0, least=-10, most=10, step=0.5),), draw_bias),
    "dropout": Section(
        (
            Slider(name="p", value=0.5, least=0, most=0.9, step=0.1),
            Switch(name="training", value=True),
            Slider(name="seed", value=0, least=0, most=20),
        ),
        draw_dropout,
        "dropout",
    ),
    "cost": Section((Slider(name="width", value=256, least=16, most=2048, step=16),), draw_cost),
    "skips": Section(
        (
            Slider(name="channels", value=64, least=16, most=256, step=16),
            Slider(name="growth", value=32, least=4, most=64, step=4),
            Slider(name="layers", value=6, least=1, most=24),
        ),
        draw_skips,
    ),
    "scaling": Section((Slider(name="phi", value=1.0, least=0, most=7, step=0.5),), draw_scaling),
    "patches": Section(
        (
            Slider(name="size", value=224, least=64, most=512, step=32),
            Choice(name="patch", value="16", options=("8", "14", "16", "32")),
        ),
        draw_patches,
    ),
    "timeline": Section(
        (Choice(name="measure", value="none", options=("none", *family.RESNETS)),),
        draw_timeline,
        "architectures",
    ),
    "transfer": Section(
        (
            Slider(name="images", value=500, least=1, most=10_000_000, typed=True),
            Slider(name="classes", value=2, least=2, most=10_000, typed=True),
            Switch(name="similar", value=True),
            Choice(name="network", value="resnet50", options=family.RESNETS),
        ),
        draw_transfer,
        "transfer",
    ),
}


def about(language: str, topic: str) -> str:
    """What the section shows, and where it is often said otherwise."""
    parts = [
        f"<h3>{say(language, f'lab_{topic}_title')}</h3>",
        f"<p>{say(language, f'lab_{topic}_about')}</p>",
    ]
    if f"lab_{topic}_note" in TEXT:
        note = say(language, f"lab_{topic}_note")
        parts.append(f'<p class="notice note"><b>{word(language, "note")}</b> {note}</p>')
    return "".join(parts)
