"""Training, epoch by epoch: loss, filters and feature maps of a plain and a residual network, as recorded."""

import numpy as np
from markupsafe import Markup
from PIL import Image

from resnet_hub.lab import film
from resnet_hub.ui.lab.form import Slider, Values
from resnet_hub.ui.lab.pieces import Topic, line_chart, pixels, row, says, sentence, word
from resnet_hub.ui.lab.topics.looking import sheet
from resnet_hub.ui.results import recorded
from resnet_hub.ui.results.page import study_data
from resnet_hub.ui.shared.html import figure, notice, render
from resnet_hub.ui.shared.images import viridis
from resnet_hub.ui.shared.text import percent, say

KINDS = {"without_skip": "plain20_cifar", "with_skip": "resnet20_cifar"}
EPOCHS = 12


def draw(language: str, values: Values) -> list[Markup]:
    document = recorded.other("film")
    if document is None:
        return [notice(say(language, "lab_film_missing"))]
    epoch = min(values["epoch"], document["epochs"])
    losses = {
        word(language, key): [line["train_loss"] for line in document["networks"][name]["history"]]
        for key, name in KINDS.items()
    }
    pieces = [line_chart(language, ("loss_axis", "epoch_axis"), losses, log=False)]
    for key, name in KINDS.items():
        frame = film.frame(document, name, epoch)
        pieces.append(render("lab/pieces.html", piece="heading", text=word(language, key)))
        if frame.train_loss is not None:
            facts = {"loss": f"{frame.train_loss:.2f}", "val": percent(frame.val_acc or 0, 1)}
            pieces.append(says(language, "film", epoch=epoch, **facts))
        else:
            pieces.append(says(language, "film_start"))
        maps = [
            figure(pixels(tiled(each)), word(language, "stage_map", stage=i, side=each.shape[-1]))
            for i, each in enumerate(frame.maps, 1)
        ]
        filters = figure(pixels(sheet(frame.filters / 255)), word(language, "filters"))
        pieces += [row(*maps, size="small"), row(filters, size="small")]
    facts = {
        "images": f"{document['networks'][KINDS['with_skip']]['train_images']:,}",
        "epochs": document["epochs"],
        "data": study_data(language, document["data"]),
    }
    return [*pieces, sentence(say(language, "lab_film_budget", **facts))]


def tiled(maps: np.ndarray) -> Image.Image:
    """Four channels (4, h, w), 0 to 255, two by two."""
    rows = [np.concatenate(pair, axis=1) for pair in (maps[:2], maps[2:4])]
    return viridis(np.concatenate(rows) / 255)


TOPICS = {"film": Topic((Slider(name="epoch", value=0, least=0, most=EPOCHS),), draw)}
