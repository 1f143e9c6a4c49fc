"""A network in the layout that transformers.js loads.

Given the same pixels it answers as we do. But its pipeline resizes by the browser's canvas, and under node by
an affine transform without antialiasing, so that photos much larger than the network's input may be answered
otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from resnet_hub.errors import Refusal
from resnet_hub.files import whole_folder
from resnet_hub.hub import commit_of
from resnet_hub.hub.card_merge import block, licence_fields
from resnet_hub.interop.onnx import export_normalised, licence_of, without_folders
from resnet_hub.interop.transformers import preprocess_to_transformers
from resnet_hub.models.base import Network
from resnet_hub.predict import check_labels_images

ONNX_FILES = {"fp32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}  # the second is its default
CARD = """# {name} for transformers.js

```js
import {{ pipeline }} from "@huggingface/transformers";

const classify = await pipeline("image-classification", "{here}");
await classify("photo.jpg", {{ top_k: 5 }});
```

Made from `{source}`{commit}. transformers.js resizes with the browser's canvas (in Node without
antialiasing) and does not calibrate, so photos much larger than the network's input may get other answers
than from resnet_hub. The ONNX file that takes the photo (`--to onnx`) has neither limit.
"""


def save_transformers_js(model: Network, out: Path, repo_id: str | None = None) -> None:
    """Write `config.json`, `preprocessor_config.json`, a card and the network in fp32 and int8.

    Args:
        repo_id: the repository of the checkpoint, which the card names as its base model.

    Raises:
        Refusal: for preprocessing that its processor does not have, a network that cannot label images, or
            one that answers each class by itself.
        ImportError: without the [export] packages.
    """
    check_labels_images(model)
    _check_has_one_answer(model)
    if model.config.in_chans != 3:
        raise Refusal(
            f"{model.config.name} takes {model.config.in_chans} channels, and transformers.js converts every "
            "image to RGB; use --to onnx"
        )
    documents = {
        "config.json": _config(model),
        "preprocessor_config.json": preprocess_to_transformers(model.preprocess),
    }
    fields = {
        "library_name": "transformers.js",
        "pipeline_tag": "image-classification",
        **licence_fields(licence_of(model)),
        **({"base_model": repo_id, "base_model_relation": "quantized"} if repo_id else {}),
    }
    front, commit = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), commit_of(model.revision)
    body = CARD.format(
        name=model.config.name,
        here=f"{repo_id}-ONNX" if repo_id else "OWNER/NAME",
        source=repo_id or without_folders(model.source or ""),
        commit=f" at `{commit}`" if commit else "",
    )
    with whole_folder(out) as folder:
        (folder / "onnx").mkdir()
        for name, values in documents.items():
            text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(f"---\n{front}---\n\n{block(body, {})}", encoding="utf-8")
        for precision, name in ONNX_FILES.items():
            export_normalised(model, folder / name, precision, "pixel_values", repo_id)


def _check_has_one_answer(model: Network) -> None:
    if model.calibration.class_thresholds:
        raise Refusal(
            "transformers.js takes a softmax of an image classifier's logits, and this network answers each "
            "class by itself; export it with --to onnx"
        )


def _config(model: Network) -> dict[str, Any]:
    """A `model_type` that it knows; it runs whatever graph the file holds."""
    names = dict(enumerate(model.labels))
    return {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "num_channels": model.config.in_chans,
        "id2label": {str(number): label for number, label in names.items()},
        "label2id": {label: number for number, label in names.items()},
    }
