"""Loading a model for a visitor: its size first, then its download on the page's progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from resnet_hub.hub.fetch import HubSlow, HubUnreachable
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.predict import check_labels_images
from resnet_hub.ui.shared.errors import inform, refusal, refuse
from resnet_hub.ui.shared.text import say
from resnet_hub.ui.shelf import Crowded, Shelf, TooLarge


def load(shelf: Shelf, source: str, language: str, progress: Callable, needs_weights: bool = False) -> Any:
    """An offered model that can label images.

    Args:
        needs_weights: refuse an ONNX file, which only answers.

    Raises:
        Toast: in the page's language, when it is not offered or cannot be loaded.
    """
    if not (isinstance(source, str) and shelf.allows(source)):
        key = "unknown_repository" if shelf.takes_any else "unknown_model"
        raise refuse(language, key, model=str(source)[:100], offered=", ".join(shelf.offered))
    progress(0, desc=say(language, "loading", model=source))

    def announce(size: int) -> None:
        facts: dict[str, Any] = {"model": source, "megabytes": f"{size / 1e6:.0f}"}
        inform(language, "downloading", **facts)
        progress(0, desc=say(language, "downloading", **facts))

    try:
        with shelf.turn(source):
            model = shelf.get(source, download_bar(progress), announce)
        check_labels_images(model)
        if needs_weights and isinstance(model, OnnxFile):
            raise refusal("model_only_answers", model=source)
        if not isinstance(model, OnnxFile) and model.config.in_chans not in (1, 3):
            raise refusal("model_channels", model=model.config.name, takes=model.config.in_chans)
        return model
    except (TooLarge, Crowded) as error:
        raise refuse(language, error) from error
    except HubSlow as error:
        raise refuse(language, "hub_slow", model=source, seconds=shelf.limits.load_seconds) from error
    except HubUnreachable as error:
        raise refuse(language, "hub_unreachable", model=source) from error
    except ValueError as error:  # a CheckpointError, no classes, a device that is not there
        raise refuse(language, "model_failed", model=source, why=error) from error


def download_bar(report: Callable) -> type[tqdm]:
    """A tqdm class that also moves the page's progress bar."""

    class DownloadBar(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            moved = super().update(n)
            report((self.n, self.total or self.n), unit="B")
            return moved

    return DownloadBar
