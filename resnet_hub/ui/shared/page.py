"""What tabs are built from: the page with its translated components, examples, and what a visitor uploads."""

from __future__ import annotations

import base64
import binascii
import json
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image, ImageOps

from resnet_hub.command import printable
from resnet_hub.predict import DEFAULT_MODEL
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.shared.errors import Toast, refuse
from resnet_hub.ui.shared.html import render
from resnet_hub.ui.shared.text import LANGUAGES, say
from resnet_hub.ui.shelf import Recent

if TYPE_CHECKING:
    from resnet_hub.ui.recorder import Recorder
    from resnet_hub.ui.shelf import Shelf

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = [FOLDER / f"{name}.jpg" for name in tomllib.loads((FOLDER / "examples.toml").read_text("utf-8"))]
THUMBNAIL = 112  # pixels
MOST_PHOTOS = 64  # at once
LATEST = 1000  # visitors whose language is remembered
EXPLORED = {"elem_classes": "explored", "apply_default_css": False}  # the style sheet's, not Gradio's prose
PANEL = EXPLORED | {"elem_classes": "explored lab"}
QUIET = {"show_progress": "hidden", "api_visibility": "private", "queue": False}  # no progress bar, no API
# The same for what may be refused: of an event outside the queue Gradio shows no toast.
REFUSING = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}


COPY = """async () => {
  const words = await address.copy(location.href) ? %s : %s;
  return words[document.documentElement.lang];
}"""
COPY_AGAIN = """async () => {
  await new Promise((done) => setTimeout(done, 1500));
  return %s[document.documentElement.lang];
}"""
NO_IMAGE = ImageError("No image was sent; send one.", "none")
MOST_NAME, MOST_PATH = 1000, 4096  # characters of what a visitor sends
LEAST_BYTES = 8  # of the smallest image file
URL_SAFE = bytes.maketrans(b"-_", b"+/")

Text = str | Callable[[str], Any]  # key of a text, or language -> what a component shows


@dataclass(frozen=True)
class Page:
    """What every tab is built from, and the one register of what a change of language changes.

    Args:
        shelf: the models on offer.
        language: the switch; its value is "en" or "ja".
        recorder: counts answers and failures for who runs the page.
        switched: the language that visitors switched to, by session.
    """

    shelf: Shelf
    language: gr.Radio
    recorder: Recorder
    translated: list[tuple[Any, dict[str, Text]]] = field(default_factory=list)
    at_first: list[tuple[Any, dict[str, Text]]] = field(default_factory=list)
    switched: Recent[str, str] = field(default_factory=lambda: Recent(LATEST))

    def text(self, component: Any, **texts: Text) -> Any:
        """Show texts on a component: in English now, in the visitor's language from then on; returns it.

        Args:
            texts: property (`value`, `label`, `info`, ...) -> key, or function of the language.
        """
        self.translated.append((component, texts))
        for name, text in texts.items():
            setattr(component, name, in_language("en", text))
        return component

    def begin(self, component: Any, **texts: Text) -> Any:
        """The same for what a component shows at first only: events change it; returns it."""
        self.at_first.append((component, texts))
        for name, text in texts.items():
            setattr(component, name, in_language("en", text))
        return component

    def too_large(self, language: str) -> Toast:
        """The refusal of a file that a script of the page has not uploaded."""
        most = self.shelf.limits.upload_bytes
        return refuse(language, ImageError("The file is too large.", "file_too_large", max_bytes=most))

    def follow(self, render: Callable[[str, Any], Any], state: gr.State, panel: gr.HTML) -> None:
        """Keep a panel in the visitor's language: it shows `render(language, value of state)`."""
        empty = {str(render(language, None)) for language in LANGUAGES}

        def on_language(language: str, value: Any, shown: str, request: gr.Request) -> Any:
            self.switched.put(request.session_hash or "", language)
            # After an hour a visitor's values are forgotten; what is on the page stays.
            return gr.skip() if value is None and str(shown) not in empty else render(language, value)

        self.language.change(on_language, [self.language, state, panel], panel, **QUIET)

    def spoken(self, language: str, request: gr.Request | None) -> str:
        """The language of an answer: the one it was asked in, unless the visitor has switched since."""
        session = getattr(request, "session_hash", None)
        return self.switched.peek(session, language) if session else language

    def translations(self, language: str) -> list[dict]:
        """The update of each registered component, in order of registration."""
        return [
            gr.update(**{name: in_language(language, text) for name, text in texts.items()})
            for _, texts in self.translated
        ]


def in_language(language: str, text: Text) -> Any:
    """What a registered text says in a language."""
    return text(language) if callable(text) else say(language, text)


def language_switch() -> gr.Radio:
    """The switch at the top of the page; the address names a choice before any answer to it is there."""
    switch = gr.Radio(
        [(name, code) for code, name in LANGUAGES.items()],
        value="en",
        label="Language / 言語",
        show_label=False,
        container=False,
        elem_id="language",
    )
    mark = "(language) => address.language(language)"
    switch.change(None, switch, None, js=mark, api_visibility="private")
    return switch


def copy_link(page: Page) -> gr.Button:
    """The button that copies the address of what is shown."""
    button = page.text(gr.Button(elem_id="link", size="sm"), value="copy_link")
    copied, usual = (
        json.dumps({code: say(code, key) for code in LANGUAGES}) for key in ("copied", "copy_link")
    )
    clicked = button.click(None, None, button, js=COPY % (copied, usual), api_visibility="private")
    clicked.then(None, None, button, js=COPY_AGAIN % usual, api_visibility="private")
    return button


def examples_for(page: Page, photo: gr.Image, elem_id: str) -> None:
    """The example images, named in the visitor's language; a click puts one into `photo`.

    Their script also keeps files that are too large out of `photo`.
    """
    script = Path(__file__).with_name("examples.js").read_text(encoding="utf-8")
    gallery = gr.HTML(js_on_load=script, elem_id=elem_id, elem_classes="examples", apply_default_css=False)
    page.text(gallery, value=example_gallery)

    def on_click(event: gr.EventData) -> str | dict:
        chosen = [path for path in EXAMPLES if path.stem == sent(event).get("example")]
        return str(chosen[0]) if chosen else gr.skip()

    def on_large(language: str) -> None:
        raise page.too_large(language)

    gallery.click(on_click, None, photo, **QUIET)
    gallery.input(on_large, page.language, None, **REFUSING)


def example_gallery(language: str) -> str:
    """A button for each example image."""
    return render("shared/examples.html", language=language, examples=[path.stem for path in EXAMPLES])


@cache
def thumbnails() -> list[tuple[str, str]]:
    """(name, address) of each example image, small; once for the galleries of all tabs."""
    return [(path.stem, thumbnail(path)) for path in EXAMPLES]


def thumbnail(path: Path) -> str:
    """A square from the middle of an image, as JPEG inside its own address."""
    buffer = BytesIO()
    ImageOps.fit(Image.open(path), (THUMBNAIL, THUMBNAIL)).save(buffer, "jpeg", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def require_image(event: gr.EventData | None, language: str) -> None:
    """Refuse a program's call without an image; on the page it means that the photo was removed.

    Raises:
        Toast: for a call that no component of the page made.
    """
    if event is None or event.target is None:
        raise refuse(language, NO_IMAGE)


def named(model: Any) -> str:
    """The name of a model that a visitor or a program gave, bounded before anything is done with it."""
    return printable(str(model or DEFAULT_MODEL)[:MOST_NAME]).strip()


def uploaded(payload: Any) -> str | bytes:
    """The file a visitor gave, as it is: its path, or its bytes where it came inside a `data:` address.

    Raises:
        ImageError: when there is neither; see `uploaded_path`.
    """
    payload = payload if isinstance(payload, dict) else {}
    address = payload.get("url")
    if isinstance(address, str) and address[:5].lower() == "data:":
        return from_address(address)
    return uploaded_path(payload.get("path"))


def uploaded_path(path: Any) -> str:
    """The path of an uploaded file.

    Raises:
        ImageError: when it is none, or another file of this machine: Gradio refuses those only where the
            request says that it is a file.
    """
    with suppress(ValueError, OSError):  # a path that no file can have
        if isinstance(path, str) and len(path) <= MOST_PATH:
            found, uploads = Path(path).resolve(), Path(get_upload_folder()).resolve()
            if found.is_relative_to(uploads):
                return str(found)
    raise ImageError("There is no such upload; upload it again.", "missing")


def sent_photos(payload: Any, language: str) -> list[dict]:
    """The files of an upload of several, as the browser names them; [] for anything else.

    Raises:
        Toast: for more than MOST_PHOTOS.
    """
    files = [each for each in payload if isinstance(each, dict)] if isinstance(payload, list) else []
    if len(files) > MOST_PHOTOS:
        raise refuse(language, "photos_most", most=MOST_PHOTOS)
    return files


def file_name(file: dict) -> str:
    """The name of an uploaded file, bounded."""
    return printable(str(file.get("orig_name") or Path(str(file.get("path"))).name)[:100])


def from_address(address: str) -> bytes:
    """What a `data:` address holds (RFC 2397): base64 of either alphabet, padded or not, or percent-encoding.

    Raises:
        ImageError: where it is damaged.
    """
    head, comma, data = address.partition(",")
    with suppress(binascii.Error, UnicodeError):
        held = unquote_to_bytes(data)
        if not comma:
            raise binascii.Error
        if not head.rstrip().lower().endswith(";base64"):
            return held
        held = b"".join(held.split()).rstrip(b"=").translate(URL_SAFE)
        held = base64.b64decode(held + b"=" * (-len(held) % 4), validate=True)
        if len(held) < LEAST_BYTES:
            raise ImageError("The data: address is cut off; send it again.", "truncated")
        return held
    raise ImageError("The data: address is damaged; send it again.", "bad_address")


def sent(event: gr.EventData) -> dict:
    """What the page's own script sent with an event; {} for anything else that came."""
    return event._data if isinstance(event._data, dict) else {}
