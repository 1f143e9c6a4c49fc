"""`python app.py`: assemble the tabs, parse the flags, serve the page.

Nothing here or in `resnet_hub/ui` imports torch before the page answers; torch and the shipped model are
loaded right after.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

UPLOADS_KEPT = (60, 600)  # (seconds between sweeps, age in seconds at which a visitor's file is deleted)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve the resnet_hub app.")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=None, help="default: GRADIO_SERVER_PORT, or 7860 and up")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="REPO_OR_DIR",
        help="offer this Hub repository or checkpoint directory too; may be repeated",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    parser.add_argument("--share", action="store_true", help="open a public link through Gradio's tunnel")
    options = parser.parse_args(arguments)
    for model in options.model:
        is_repository_id = model.count("/") == 1 and not model.startswith((".", "/"))
        if not Path(model, "config.json").is_file() and not is_repository_id:
            parser.error(f"--model {model}: no checkpoint directory and no Hub repository id like owner/name")
    return options


def build_app(shelf, uploads_kept: tuple[int, int]):
    """The page: title, language switch, tabs.

    Args:
        shelf: the models on offer, a `resnet_hub.ui.models.Shelf`.
        uploads_kept: (seconds between sweeps, age in seconds at which an uploaded file is deleted).
    """
    import gradio as gr

    from resnet_hub.ui import classify, compare, explore
    from resnet_hub.ui.common import QUIET
    from resnet_hub.ui.text import LANGUAGES, language_of, say

    with gr.Blocks(title="resnet_hub", delete_cache=uploads_kept) as demo:
        with gr.Row(elem_classes="title"):
            gr.Markdown("# resnet_hub")
            language = gr.Radio(
                [(name, code) for code, name in LANGUAGES.items()],
                value="en",
                show_label=False,
                container=False,
                elem_id="language",
            )
        intro = gr.Markdown(say("en", "intro"))
        with gr.Tabs() as tabs:
            with gr.Tab(say("en", "tab_classify"), id="classify") as classify_tab:
                relabel, relabelled = classify.build(shelf, language)
            with gr.Tab(say("en", "tab_explore"), id="explore") as explore_tab:
                explorer = explore.build(shelf, language)
            with gr.Tab(say("en", "tab_compare"), id="compare") as compare_tab:
                comparer = compare.build(shelf, language)
                comparer.opened(compare_tab)
        privacy = gr.Markdown(say("en", "privacy"), elem_classes="fine-print")

        def translate(chosen: str) -> list:
            labels = [
                gr.update(label=say(chosen, key)) for key in ("tab_classify", "tab_explore", "tab_compare")
            ]
            return [
                say(chosen, "intro"),
                *labels,
                say(chosen, "privacy"),
                *relabel(chosen),
                *comparer.relabel(chosen),
                *explorer.relabel(chosen),
            ]

        def arrive(request: gr.Request) -> list:
            """The visitor's language and, where the address names designs, the Explore tab with them.

            In one event: a change of language is answered from what the controls say by then.
            """
            chosen = language_of(request.headers.get("accept-language"))
            query = dict(request.query_params)
            if not {"a", "b"} & set(query):
                return [chosen, *[gr.skip()] * (1 + len(explorer.arrivals))]
            return [chosen, gr.Tabs(selected="explore"), *explorer.arrive(query, chosen)]

        demo.load(arrive, None, [language, tabs, *explorer.arrivals], **QUIET)
        tab_labels = [classify_tab, explore_tab, compare_tab]
        own = [*relabelled, *comparer.relabelled, *explorer.relabelled]
        texts = [intro, *tab_labels, privacy, *own]
        language.change(translate, language, texts, **QUIET)
    return demo


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

    system_font = ["system-ui", "Hiragino Sans", "Yu Gothic UI", "Noto Sans CJK JP", "sans-serif"]
    demo.queue(default_concurrency_limit=4).launch(
        server_name=options.host,
        server_port=options.port,
        share=options.share,
        show_error=True,
        max_file_size="30mb",
        theme=gr.themes.Soft(font=system_font, font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(__file__).parent / "resnet_hub" / "ui" / "style.css",
        footer_links=["api"],  # Gradio's settings would add a second, partial language switch
        run_history=False,  # it would keep visitors' photos in their browsers
        enable_monitoring=False,
        ssr_mode=False,
        prevent_thread_lock=True,
    )


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from resnet_hub.ui.models import Shelf

    shelf = Shelf(tuple(options.model), options.device)
    demo = build_app(shelf, UPLOADS_KEPT)
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
