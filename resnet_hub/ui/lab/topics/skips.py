"""Add or concatenate: what ResNet, DenseNet and U-Net do with an earlier map."""

from itertools import accumulate

from markupsafe import Markup

from resnet_hub.lab import skips
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, line_chart, row, says, word
from resnet_hub.ui.shared.chart import BLUE, GREEN, ORANGE, svg, text
from resnet_hub.ui.shared.html import figure

WIDE, FLOOR, TALLEST, BAR = 260, 132, 84, 30  # of a drawing, in its own units
AT = (14, 106, 216)  # left edges of the three maps
JOIN = 178  # where the two meet


def join_figure(
    name: str, formula: str, maps: tuple[str, str], channels: tuple[int, int], most: int
) -> Markup:
    """Two maps and what they become, as bars whose height is their number of channels.

    Args:
        maps: names of the earlier map and of the one it is joined to.
        channels: of the two.
        most: channels of the tallest bar of all drawings.
    """
    is_sum = "+" in formula
    total = channels[0] if is_sum else sum(channels)
    stacks = [[(channels[0], BLUE)], [(channels[1], ORANGE)]]
    stacks.append([(total, GREEN)] if is_sum else [(channels[0], BLUE), (channels[1], ORANGE)])
    parts = []
    for left, stack, below in zip(AT, stacks, (*maps, "y"), strict=True):
        top = float(FLOOR)
        for count, colour in stack:
            high = TALLEST * count / most
            top -= high
            parts.append(
                f'<rect x="{left}" y="{top:.1f}" width="{BAR}" height="{high:.1f}" fill="{colour}"/>'
            )
        middle = left + BAR / 2
        parts.append(text(middle, top - 4, str(sum(count for count, _ in stack)), weight="600"))
        parts.append(text(middle, FLOOR + 14, below))
    first, level = TALLEST * channels[0] / most, FLOOR - 14
    across = ((AT[0] + BAR, AT[1] - 3), (AT[1] + BAR, JOIN - 14), (JOIN + 11, AT[2] - 3))
    ways = "".join(f"M{start} {level}H{end}" for start, end in across)
    ways += f"M{AT[0] + BAR / 2} {FLOOR - first - 18:.1f}V12H{JOIN}V{level - 14}"
    heads = [(x, level, "l-5 -3v6z") for x in (AT[1], JOIN - 11, AT[2])] + [(JOIN, level - 11, "l-3 -5h6z")]
    parts.append(f'<path d="{ways}" fill="none" stroke="currentColor"/>')
    parts += [f'<path d="M{x} {y}{head}" fill="currentColor"/>' for x, y, head in heads]
    parts.append(f'<circle cx="{JOIN}" cy="{level}" r="11" fill="none" stroke="currentColor"/>')
    parts.append(text(JOIN, level + 4, "+" if is_sum else "[,]"))
    caption = f"{name}: {formula}, N×{total}×H×W"
    return figure(svg(FLOOR + 20, caption, parts, WIDE), caption)


def draw(language: str, values: Values) -> list[Markup]:
    channels, growth = values["channels"], values["growth"]
    found = skips.compare(channels, growth, values["layers"])
    coders = word(language, "encoder"), word(language, "decoder")
    ways = [
        ("ResNet", "y = x + F(x)", ("x", "F(x)"), (channels, channels)),
        ("DenseNet", "y = [x, F(x)]", ("x", "F(x)"), (channels, growth)),
        ("U-Net", f"y = [{', '.join(coders)}]", coders, (channels, channels)),
    ]
    most = max(sum(pair) for *_, pair in ways)
    grown = {word(language, key): getattr(found, key) for key in ("added", "concatenated")}
    weights = {
        word(language, key): [n / 1000 for n in (0, *accumulate(getattr(found, f"{key}_weights")))]
        for key in ("added", "concatenated")
    }
    facts = {
        "channels": channels,
        "grown": found.concatenated[-1],
        "added": f"{sum(found.added_weights):,}",
        "concatenated": f"{sum(found.concatenated_weights):,}",
        "unet": 2 * channels,
        "unet_weights": f"{found.unet_weights:,}",
    }
    return [
        row(*(join_figure(*way, most) for way in ways)),
        line_chart(language, ("channels_axis", "layers_axis"), grown, log=False, first=0),
        line_chart(language, ("weights_so_far", "layers_axis"), weights, log=False, first=0),
        says(language, "skips", **facts),
    ]


TOPICS = {
    "skips": Topic(
        (
            Slider(name="channels", value=64, least=16, most=256, step=16),
            Slider(name="growth", value=32, least=4, most=64, step=4),
            Slider(name="layers", value=6, least=1, most=24),
        ),
        draw,
    ),
}
