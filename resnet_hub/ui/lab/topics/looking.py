"""Where it looks: a grey patch slid over the image, Grad-CAM at each stage, and the first filters."""

import numpy as np
from markupsafe import Markup
from PIL import Image

from resnet_hub.lab import occlusion
from resnet_hub.ui.lab.form import Choice, Slider, Upload, Values
from resnet_hub.ui.lab.pieces import Topic, pixels, row, says, word
from resnet_hub.ui.lab.trained import DEFAULT, TRAINED, crop, trained
from resnet_hub.ui.shared.html import figure, render
from resnet_hub.ui.shared.images import viridis
from resnet_hub.ui.shared.text import name_of, percent

ACROSS = 8  # filters in a row


def draw(language: str, values: Values) -> list[Markup]:
    model = trained(values["network"])
    image = crop(model, values["photo"])
    side = max(2, round(values["patch"] * min(image.size) / 100))
    found = occlusion.occlude(model, image, side)
    drops = found.drops / max(abs(found.drops).max(), 1e-8)
    maps = [figure(pixels(image), word(language, "seen"))]
    maps += [figure(pixels(viridis(drops.clip(0))), word(language, "drop_map"))]
    cams = occlusion.cams(model, image, model.labels.index(found.label))
    stages = [
        figure(pixels(viridis(cam)), word(language, "cam_map", stage=i, side=cam.shape[0]))
        for i, cam in enumerate(cams, 1)
    ]
    facts = {
        "label": name_of(language, "class", found.label),
        "share": percent(found.probability, 0),
        "side": side,
        "places": found.drops.size,
        "most": f"{100 * found.drops.max():.0f}",
    }
    key = "looking" if found.drops.max() >= 0.005 else "looking_none"
    filters = figure(pixels(sheet(occlusion.first_filters(model))), word(language, "filters"))
    heading = render("lab/pieces.html", piece="heading", text=word(language, "filters_title"))
    return [
        row(*maps), says(language, key, **facts), row(*stages, size="small"),
        says(language, "looking_cams"), heading, row(filters),
    ]  # fmt: skip


def sheet(filters: np.ndarray) -> Image.Image:
    """Filters (n, 3, k, k), 0 to 1, as one image, `ACROSS` in a row with a white line between."""
    n, width = len(filters), filters.shape[-1]
    framed = np.pad(filters, ((0, -n % ACROSS), (0, 0), (0, 1), (0, 1)), constant_values=1.0)
    grid = framed.reshape(-1, ACROSS, *framed.shape[1:]).transpose(0, 3, 1, 4, 2)
    whole = grid.reshape(-1, ACROSS * (width + 1), filters.shape[1])
    return Image.fromarray((255 * whole).round().astype(np.uint8))


TOPICS = {
    "looking": Topic(
        (
            Choice(name="network", value=DEFAULT, options=TRAINED),
            Slider(name="patch", value=25, least=15, most=60, step=5),
            Upload(name="photo", value=""),
        ),
        draw,
    )
}
