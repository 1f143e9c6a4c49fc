"""Break the network: one block switched off in a residual and in a plain network, live and as measured."""

from collections.abc import Sequence

from markupsafe import Markup

from resnet_hub.lab import ablation
from resnet_hub.ui.lab.form import Slider, Upload, Values
from resnet_hub.ui.lab.pieces import Topic, line_chart, pixels, row, says, sentence, word
from resnet_hub.ui.lab.trained import DEFAULT, TRAINED, crop, trained
from resnet_hub.ui.results import recorded
from resnet_hub.ui.results.page import study_data
from resnet_hub.ui.shared.html import figure
from resnet_hub.ui.shared.text import joined, name_of, percent, say

PLAIN = "plain20_cifar10"
KINDS = {"with_skip": DEFAULT} | ({"without_skip": PLAIN} if PLAIN in TRAINED else {})
BLOCKS = 9  # of a network with 20 layers


def draw(language: str, values: Values) -> list[Markup]:
    off, shown, curves = values["block"], [], {}
    for key, name in KINDS.items():
        model = trained(name)
        image = crop(model, values["photo"])
        found = ablation.answers(model, image)
        curves[word(language, key)] = [100 * answer.kept for answer in found]
        shown.append(answered(language, key, found, off))
    return [
        row(figure(pixels(image), word(language, "seen")), size="small"),
        line_chart(language, ("kept_axis", "removed_axis"), curves, log=False, first=0),
        *shown,
        *measured(language),
    ]


def answered(language: str, key: str, found: Sequence[ablation.Answer], off: int) -> Markup:
    """The sentence about one network's answer with a block off."""
    whole, broken = found[0], found[off]
    facts = {
        "network": word(language, key),
        "label": name_of(language, "class", whole.label),
        "share": percent(whole.probability, 0),
        "block": broken.block,
        "other": name_of(language, "class", broken.label),
        "other_share": percent(broken.probability, 0),
    }
    return says(language, "branches_off" if off else "branches_whole", **facts)


def measured(language: str) -> list[Markup]:
    """The recorded accuracies with each block off; nothing where they were not measured."""
    document = recorded.other("ablation")
    if document is None:
        return []
    known = {name: key for key, name in KINDS.items()}
    shares = {n: [*each.values()] for n, each in document["accuracies"].items() if n in known}
    curves = {word(language, known[n]): [100 * share for share in each] for n, each in shares.items()}
    each = (
        say(
            language,
            "lab_branches_measured",
            network=word(language, known[name]),
            whole=percent(whole, 1),
            least=percent(min(broken), 1),
            most=percent(max(broken), 1),
        )
        for name, (whole, *broken) in shares.items()
    )
    data = {"images": f"{document['test_images']:,}", "data": study_data(language, document["data"])}
    return [
        line_chart(language, ("accuracy_axis", "removed_axis"), curves, log=False, first=0),
        sentence(joined(language, [say(language, "lab_branches_test", **data), *each])),
    ]


TOPICS = {
    "branches": Topic(
        (Slider(name="block", value=5, least=0, most=BLOCKS), Upload(name="photo", value="")), draw
    )
}
