"""Timeline and guide: what each network brought, and which ResNet to choose."""

from markupsafe import Markup

from resnet_hub.lab import family as guide
from resnet_hub.lab import timeline
from resnet_hub.ui.lab.form import Choice, Values
from resnet_hub.ui.lab.pieces import Topic, bar_chart, word
from resnet_hub.ui.shared.chart import BLUE
from resnet_hub.ui.shared.html import render, table
from resnet_hub.ui.shared.text import say, short


def draw(language: str, values: Values) -> list[Markup]:
    entered = [(each, each.top5_error) for each in timeline.MILESTONES if each.top5_error]
    errors = [(f"{each.year} {each.name}", error, f"{error:g} %") for each, error in entered]
    return [
        bar_chart(language, "error_axis", errors, colours=(BLUE,)),
        history(language),
        render("lab/pieces.html", piece="heading", text=word(language, "family")),
        family(language, values["measure"]),
    ]


def history(language: str) -> Markup:
    rows = []
    for each in timeline.MILESTONES:
        size = f"{short(guide.size(each.ours).params)} ({each.ours})" if each.ours else "–"
        story = f"{say(language, f'lab_timeline_{each.key}')} ({each.source})"
        rows.append([f"{each.year} {each.name}", size, story])
    return table([word(language, key) for key in ("network", "params", "story")], rows, "stories")


def family(language: str, measured: str) -> Markup:
    """The ResNets with their size and what each is for; the time of the one chosen."""
    rows = []
    for name in guide.RESNETS:
        size = guide.size(name)
        time = f"{1000 * guide.latency(name):.0f} ms" if name == measured else "–"
        rows.append([name, short(size.params), short(size.macs), time, guide.USE[name][language]])
    return table(
        [word(language, key) for key in ("network", "params", "macs", "latency", "use")], rows, "stories"
    )


TOPICS = {
    "timeline": Topic(
        (Choice(name="measure", value="none", options=("none", *guide.RESNETS)),),
        draw,
    ),
}
