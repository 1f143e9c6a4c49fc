"""`python app.py`: assemble the tabs, parse the flags, serve the page.

Nothing here or in `resnet_hub/ui` imports torch before the page answers; torch and the shipped model are
loaded right after.
"""

import argparse
import os
import sys
from pathlib import Path

from resnet_hub.command import program_name
from resnet_hub.ui.shared.startup import import_gradio_without_stubs
from resnet_hub.ui.shared.text import LANGUAGES, language_of, say

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

UPLOADS_KEPT = (60, 600)  # (seconds between sweeps, age in seconds at which a visitor's file is deleted)
SESSIONS_KEPT = 200  # Gradio keeps a copy of the page and its last answer for each


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program_name("app"), description="Serve the resnet_hub app.")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    # Taken out: Gradio would end in a traceback over one that is none.
    asked = os.environ.pop("GRADIO_SERVER_PORT", None)
    parser.add_argument(
        "--port", type=port, default=asked, help="default: GRADIO_SERVER_PORT, or 7860 and up"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="REPO_OR_DIR",
        help="offer this Hub repository or checkpoint directory too; may be repeated",
    )
    parser.add_argument(
        "--models-only-from",
        type=model_list,
        metavar="LIST",
        help="load only these from the Hub (ids with commas between, or a file with one a line), and in "
        "Compare the references it suggests; without it a visitor can type in any public repository",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    parser.add_argument("--share", action="store_true", help="open a public link through Gradio's tunnel")
    parser.add_argument("--operations", action="store_true", help="add a tab with latency and errors")
    options = parser.parse_args(arguments)
    for model in options.model:
        if not Path(model, "config.json").is_file() and not is_repository_id(model):
            parser.error(f"--model {model}: no checkpoint directory and no Hub repository id like owner/name")
    return options


def is_repository_id(text: str) -> bool:
    from resnet_hub.hub.fetch import REPO_ID

    return bool(REPO_ID.fullmatch(text))


def port(text: str) -> int:
    """A port's number.

    Raises:
        argparse.ArgumentTypeError: for what is none.
    """
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        wanted = "give --port or GRADIO_SERVER_PORT a number from 1 to 65535"
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no port: {wanted}")
    return int(text)


def model_list(text: str) -> tuple[str, ...]:
    """Repository ids from "owner/a,owner/b" or from a file with one a line.

    Raises:
        argparse.ArgumentTypeError: for what is no repository id.
    """
    lines = Path(text).read_text(encoding="utf-8").splitlines() if Path(text).is_file() else text.split(",")
    ids = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    wrong = [name for name in ids if not is_repository_id(name)]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no Hub repository id like owner/name, and no file")
    return ids


def build_app(shelf, uploads_kept: tuple[int, int], with_operations: bool = False):
    """The page: title, language switch, tabs.

    Args:
        shelf: the models on offer, a `resnet_hub.ui.shelf.Shelf`.
        uploads_kept: (seconds between sweeps, age in seconds at which an uploaded file is deleted).
        with_operations: with the tab for who runs the app.
    """
    import gradio as gr

    from resnet_hub.ui import cards, operations
    from resnet_hub.ui.classify import tab as classify
    from resnet_hub.ui.compare import tab as compare
    from resnet_hub.ui.explore import tab as explore
    from resnet_hub.ui.lab import tab as lab
    from resnet_hub.ui.recorder import Recorder
    from resnet_hub.ui.results import tab as results
    from resnet_hub.ui.shared.page import Page

    modules = {
        "classify": classify,
        "explore": explore,
        "compare": compare,
        "lab": lab,
        "results": results,
        "cards": cards,
    }
    if with_operations:
        modules["operations"] = operations
    with gr.Blocks(title="resnet_hub", delete_cache=uploads_kept) as demo:
        with gr.Row(elem_classes="title"):
            gr.Markdown("# resnet_hub")
            language = gr.Radio(
                [(name, code) for code, name in LANGUAGES.items()],
                value="en",
                label="Language / 言語",
                show_label=False,
                container=False,
                elem_id="language",
            )
        intro = gr.Markdown(say("en", "intro"))
        page, parts = Page(shelf, language, Recorder()), {}
        with gr.Tabs() as tabs:
            for name, module in modules.items():
                with gr.Tab(say("en", f"tab_{name}"), id=name) as tab:
                    parts[name] = (tab, module.build(page, tab))
        privacy = gr.Markdown(say("en", "privacy"), elem_classes="fine-print")
        page.text(intro, value="intro")
        page.text(privacy, value="privacy")
        wire_language(page, parts)
        _, explorer = parts["explore"]
        wire_arrival(demo, language, tabs, explorer)
    return demo


def wire_language(page, parts: dict) -> None:
    """The switch translates the page.

    Args:
        page: the page, with the components that registered a text.
        parts: name of a tab -> (tab, what its module built).
    """
    import gradio as gr

    from resnet_hub.ui.shared.page import QUIET

    def translate(chosen: str) -> list:
        texts = page.translations(chosen)
        for name, (_, part) in parts.items():
            texts += [gr.update(label=say(chosen, f"tab_{name}")), *part.relabel(chosen)]
        return texts

    language = page.language
    translated = [component for component, _ in page.translated]
    for tab, part in parts.values():
        translated += [tab, *part.relabelled]
    language.change(translate, language, translated, **QUIET)
    mark = "(language) => { document.documentElement.lang = language; }"  # for screen readers
    language.change(None, language, None, js=mark, api_visibility="private")


def wire_arrival(demo, language, tabs, explorer) -> None:
    """A visitor finds the page in the browser's language, and in it what the address names.

    Args:
        demo, language, tabs: the page, its switch and its tabs.
        explorer: what the Explore tab's module built.
    """
    import gradio as gr

    from resnet_hub.ui.shared.page import QUIET

    def arrive(request: gr.Request) -> list:
        """In one event: a change of language is answered from what the controls say by then."""
        chosen = language_of(request.headers.get("accept-language"))
        # The page is in English until this answer; a visitor may have switched it by then.
        switch = gr.skip() if chosen == "en" else chosen
        query = dict(request.query_params)
        if not {"a", "b"} & set(query):
            return [switch, *[gr.skip()] * (1 + len(explorer.arrivals))]
        return [switch, gr.Tabs(selected="explore"), *explorer.arrive(query, chosen)]

    demo.load(arrive, None, [language, tabs, *explorer.arrivals], **QUIET)


def warm_up(shelf) -> None:
    """Import torch and run the shipped model once, so that a first click finds both ready.

    Raises:
        ValueError: when the device is not on this machine or the checkpoint is broken.
    """
    from PIL import Image

    from resnet_hub.predict import DEFAULT_MODEL

    shelf.get(DEFAULT_MODEL).predict(Image.new("RGB", (32, 32)))


def launch(demo, options: argparse.Namespace) -> None:
    """Start serving and return; with system fonts only, so that no request leaves the machine."""
    import gradio as gr

    import resnet_hub

    system_font = ["system-ui", "Hiragino Sans", "Yu Gothic UI", "Noto Sans CJK JP", "sans-serif"]
    demo.queue(default_concurrency_limit=4).launch(
        server_name=options.host,
        server_port=options.port,
        share=options.share,
        show_error=True,
        max_file_size="30mb",
        theme=gr.themes.Soft(font=system_font, font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(resnet_hub.__file__).parent / "ui" / "shared" / "style.css",
        footer_links=["api"],  # Gradio's settings would add a second, partial language switch
        run_history=False,  # it would keep visitors' photos in their browsers
        enable_monitoring=False,
        state_session_capacity=SESSIONS_KEPT,
        ssr_mode=False,
        prevent_thread_lock=True,
    )


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    import_gradio_without_stubs()
    from resnet_hub.ui.shelf import Shelf

    shelf = Shelf(tuple(options.model), options.device, options.models_only_from)
    demo = build_app(shelf, UPLOADS_KEPT, options.operations)
    try:
        launch(demo, options)
        warm_up(shelf)
    except (OSError, ValueError) as error:  # the port is taken, the device or the checkpoint is not there
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
