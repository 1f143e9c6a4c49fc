"""`python app.py`: parse the flags, assemble the tabs, serve the page.

The page answers before torch is imported; torch and the default model are loaded right after.
"""

import argparse
import os
import re
import sys
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import TYPE_CHECKING, Any

from resnet_hub.command import program_name, run_command
from resnet_hub.device import add_device_flags
from resnet_hub.engine import add_engine_flags, check_installed
from resnet_hub.errors import first_line
from resnet_hub.onnx_file import is_onnx_file
from resnet_hub.ui.shared.startup import import_gradio_without_stubs, without_proxy

if TYPE_CHECKING:
    import gradio as gr

    from resnet_hub.ui.limits import Limits
    from resnet_hub.ui.recorder import Recorder
    from resnet_hub.ui.shared.blocks import Blocks
    from resnet_hub.ui.shared.page import Page
    from resnet_hub.ui.shared.sessions import Sessions
    from resnet_hub.ui.shared.uploads import Uploads
    from resnet_hub.ui.shelf import Shelf

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program_name("app"), description="Serve the resnet_hub app.")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    # Removed from the environment, because Gradio answers a bad port with a traceback.
    asked = os.environ.pop("GRADIO_SERVER_PORT", None)
    parser.add_argument(
        "--port", type=port, default=asked, help="default: GRADIO_SERVER_PORT, or the first free from 7860"
    )
    parser.add_argument(
        "--model",
        action="extend",
        nargs="+",
        default=[],
        metavar="REPO_OR_DIR",
        help="also offer these Hub repositories, checkpoint directories or ONNX files that take the photo, "
        "in Classify and Results",
    )
    parser.add_argument(
        "--models-only-from",
        type=model_list,
        metavar="LIST",
        help="load only these from the Hub, and in Compare the references it suggests (ids separated by "
        "commas, or a file with one per line); by default visitors may name any public repository",
    )
    add_device_flags(parser, precision=False)
    add_engine_flags(parser)
    parser.add_argument(
        "--root-path",
        type=root_path,
        default=os.environ.get("GRADIO_ROOT_PATH", ""),
        metavar="PATH",
        help="where a reverse proxy serves the app, e.g. /resnet or https://example.org/resnet",
    )
    parser.add_argument("--share", action="store_true", help="open a public link through Gradio's tunnel")
    add_operator_flags(parser)
    options = parser.parse_args(arguments)
    for model in options.model:
        is_onnx = is_onnx_file(model) and is_file(model)
        if not is_onnx and not is_file(model, "config.json") and not is_repository_id(model):
            kinds = "not a checkpoint directory, an ONNX file or a Hub repository id like owner/name"
            parser.error(f"--model {model}: {kinds}")
    return options


def add_operator_flags(parser: argparse.ArgumentParser) -> None:
    """What only the person who runs the page for others needs."""
    operations = "add a tab with latencies and errors, and /metrics for Prometheus"
    parser.add_argument("--operations", action="store_true", help=operations)
    kept = "keep each day's counts in this folder across restarts"
    said = "print each answer, refusal and error of Classify as a line of JSON on stdout"
    parser.add_argument("--log-json", action="store_true", help=said)
    parser.add_argument("--operations-dir", type=Path, metavar="DIR", help=kept)
    parser.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="change a limit; may be repeated"
    )
    parser.add_argument("--limits", action="store_true", help="print every limit and its value, and exit")


def is_file(*parts: str) -> bool:
    """Whether there is a file of this path, which may be too long for one or not be looked at."""
    with suppress(OSError):
        return Path(*parts).is_file()
    return False


def is_repository_id(text: str) -> bool:
    from resnet_hub.hub.fetch import REPO_ID

    return bool(REPO_ID.fullmatch(text))


def port(text: str) -> int:
    """A port number.

    Raises:
        argparse.ArgumentTypeError: outside 1 to 65535.
    """
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        wanted = "give --port or GRADIO_SERVER_PORT a number from 1 to 65535"
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a port: {wanted}")
    return int(text)


def root_path(text: str) -> str:
    """The path or address at which a reverse proxy serves the app.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    if text and not re.fullmatch(r"(https?://[\w.:\[\]-]+)?(/[\w.~-]+)*/?", text):
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r} is not a path like /resnet or an address like https://a.org/b"
        )
    return text.rstrip("/")


def model_list(text: str) -> tuple[str, ...]:
    """Repository ids from "owner/a,owner/b" or from a file with one per line.

    Raises:
        argparse.ArgumentTypeError: for a file that cannot be read, and the first that is not a repository id.
    """
    try:
        lines = Path(text).read_text(encoding="utf-8-sig").splitlines() if is_file(text) else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read: {first_line(error)}") from error
    ids = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    wrong = [name for name in ids if not is_repository_id(name)]
    if wrong:
        raise argparse.ArgumentTypeError(
            f"{wrong[0]!r} is neither a file nor a Hub repository id; give ids like "
            "owner/name, or a file with one per line"
        )
    return ids


def tab_modules(with_operations: bool) -> dict[str, ModuleType]:
    """The tabs from left to right; each module offers `build(page, tab)`."""
    from resnet_hub.ui import operations
    from resnet_hub.ui.classify import tab as classify
    from resnet_hub.ui.compare import tab as compare
    from resnet_hub.ui.explore import tab as explore
    from resnet_hub.ui.lab import tab as lab
    from resnet_hub.ui.results import tab as results

    modules = {
        "classify": classify,
        "explore": explore,
        "compare": compare,
        "lab": lab,
        "results": results,
    }
    return modules | ({"operations": operations} if with_operations else {})


def build_app(shelf: "Shelf", with_operations: bool = False, recorder: "Recorder | None" = None) -> "Blocks":
    """The page: title, language switch, tabs.

    Args:
        shelf: the models on offer.
        with_operations: with the tab for whoever runs the app.
        recorder: counts what Classify does; a new one by default.
    """
    import gradio as gr

    from resnet_hub.ui.recorder import Recorder
    from resnet_hub.ui.shared.arrival import Arrival
    from resnet_hub.ui.shared.blocks import Blocks
    from resnet_hub.ui.shared.page import Page, copy_link, language_switch

    modules = tab_modules(with_operations)
    with Blocks(title="resnet_hub") as demo:
        with gr.Row(elem_classes="title"):
            gr.Markdown("# resnet_hub")
            language = language_switch()
        page, parts = Page(shelf, language, recorder or Recorder()), {}
        with gr.Row(elem_classes="title"):
            page.text(gr.Markdown(), value="intro")
            copy_link(page)
        with gr.Tabs(overflow_behavior="wrap") as tabs:  # address.js finds none that are in a menu
            for name, module in modules.items():
                with gr.Tab(id=name) as tab:  # Gradio starts each listener once the one before has ended
                    tab.select(None, None, None, js=f"() => address.open('{name}')", api_visibility="private")
                    parts[name] = module.build(page, tab)
                page.text(tab, label=f"tab_{name}")
        page.text(gr.Markdown(elem_classes="fine-print"), value="privacy")
        wire_language(page)
        wire_arrival(demo, parts)
        wire_inside(page, tabs, parts)
    classify = parts["classify"]
    demo.arrival = Arrival(page, tuple(modules), classify.begin, classify.said, classify.prepare)
    return demo


def wire_language(page: "Page") -> None:
    """The switch translates every component that registered a text."""
    from resnet_hub.ui.shared.page import QUIET

    language = page.language
    translated = [component for component, _ in page.translated]
    language.change(page.translations, language, translated, **QUIET)


def wire_arrival(demo: "gr.Blocks", parts: dict[str, Any]) -> None:
    """Tell a visitor's page what its address asks for.

    Args:
        parts: what the tabs built; the `arrive` of some updates their components `arrivals`.
    """
    import gradio as gr

    from resnet_hub.ui.shared.arrival import visit_of
    from resnet_hub.ui.shared.page import QUIET

    classifier, explorer, comparer = parts["classify"], parts["explore"], parts["compare"]

    def arrive(photo: Any, request: gr.Request) -> dict:
        query = dict(request.query_params)
        updates = classifier.arrive(query, photo) | comparer.arrive(query)
        if {"a", "b"} & set(query):
            language = visit_of(request.headers.get("accept-language"), query).language
            updates |= explorer.arrive(query, language)
        return updates

    told = [*classifier.arrivals, *comparer.arrivals, *explorer.arrivals]
    demo.load(arrive, classifier.parts.photo, told, preprocess=False, **QUIET)


def wire_inside(page: "Page", tabs: "gr.Tabs", parts: dict[str, Any]) -> None:
    """From an answer to the maps of its network in the Explore tab, on the same photo."""
    import gradio as gr

    from resnet_hub.ui.classify.page import Shown
    from resnet_hub.ui.explore.tab import RUN
    from resnet_hub.ui.shared.errors import refuse, refusing
    from resnet_hub.ui.shared.page import REFUSING, uploaded

    classifier, explorer = parts["classify"].parts, parts["explore"]

    def look(photo: Any, outcome: Any, language: str, query: str = "") -> dict:
        if not isinstance(outcome, Shown) or photo is None:
            raise refuse(language, "inside_first")
        if outcome.config is None:
            raise refuse(language, "model_only_answers", model=outcome.source)
        with refusing(language):
            file = uploaded(photo)
            path = file if isinstance(file, str) else None
            updates = explorer.look(outcome.config, outcome.source, path, language, query)
        return updates | {tabs: gr.Tabs(selected="explore")}

    given = [classifier.photo, classifier.outcome, page.language, explorer.parts.query]
    told = [tabs, explorer.parts.photo, explorer.parts.source, *explorer.arrivals]
    shown = classifier.inside.click(look, given, told, preprocess=False, **REFUSING)
    shown.success(None, explorer.parts.query, None, js=RUN, api_visibility="private")


def launch(
    demo: "Blocks",
    options: argparse.Namespace,
    limits: "Limits",
    uploads: "Uploads",
    probes: dict[str, Any],
) -> "Sessions":
    """Start serving; what is returned holds what visitors' pages remember."""
    from starlette.middleware import Middleware

    import resnet_hub
    from resnet_hub.ui.shared.arrival import Greeting
    from resnet_hub.ui.shared.compression import Compression
    from resnet_hub.ui.shared.guard import Guard
    from resnet_hub.ui.shared.page import EXAMPLES
    from resnet_hub.ui.shared.probes import Probes
    from resnet_hub.ui.shared.sessions import KEPT, Sessions
    from resnet_hub.ui.shared.theme import theme

    # From the outside in.
    middleware = [
        Middleware(Probes, **probes),
        Middleware(Compression, minimum_size=1000, compresslevel=5),
        Middleware(Guard, limits=limits, uploads=uploads),
        Middleware(Greeting, arrival=demo.arrival),
    ]
    # Direct calls would pass by the queue and all that it bounds.
    queue = demo.queue(default_concurrency_limit=4, api_open=False, max_size=limits.waiting)
    queue.launch(
        server_name=options.host,
        server_port=options.port,
        share=options.share,
        root_path=options.root_path,
        show_error=False,  # of refusals the page has sentences; other messages may name folders
        max_file_size=limits.upload_bytes,
        allowed_paths=[str(EXAMPLES[0].parent)],  # else only where the app was started in their folder
        app_kwargs={"middleware": middleware},
        theme=theme(),
        css_paths=Path(resnet_hub.__file__).parent / "ui" / "shared" / "style.css",
        footer_links=["api"],  # Gradio's settings would add a second, partial language switch
        run_history=False,  # it would keep visitors' photos in their browsers
        enable_monitoring=False,
        mcp_server=find_spec("mcp") is not None,  # of gradio[mcp]: the API's functions as tools for agents
        ssr_mode=False,
        prevent_thread_lock=True,
    )
    sessions = Sessions(limits.sessions, limits.sessions_bytes, KEPT)
    sessions.set_blocks(demo)
    demo.app.state_holder = sessions
    return sessions


def serve(options: argparse.Namespace) -> None:
    """Serve until interrupted.

    Raises:
        OSError: when the port is taken.
        ValueError: when the device is not on this machine or the checkpoint is broken.
    """
    with without_proxy(everywhere=not options.share):
        import_gradio_without_stubs()
        from resnet_hub.decoding import Decoder
        from resnet_hub.preprocess import decode_apart
        from resnet_hub.ui.limits import read_limits
        from resnet_hub.ui.memory import bound_heaps, resident
        from resnet_hub.ui.recorder import Recorder, json_line, metrics
        from resnet_hub.ui.shared.remote import Remote
        from resnet_hub.ui.shared.uploads import Uploads, own_folder
        from resnet_hub.ui.shelf import Shelf

        bound_heaps()
        check_installed(options.engine)
        limits = read_limits(options.limit)
        decode_apart(Decoder(limits.decode_seconds, limits.decode_waiting).decode)
        uploads = Uploads(own_folder(), limits.upload_seconds, limits.sweep_seconds)
        engine = options.engine, options.precision
        shelf = Shelf(tuple(options.model), options.device, options.models_only_from, limits, engine)
        log = {"log": json_line} if options.log_json else {}
        recorder, ready = Recorder(options.operations_dir, **log), Event()
        demo = build_app(shelf, options.operations, recorder)
        demo.remote = Remote(uploads, limits.upload_bytes, limits.uploads_held_bytes)
        watch(uploads, demo)
        probes: dict[str, Any] = {"is_ready": ready.is_set}
        if options.operations:
            probes["metrics"] = partial(metrics, recorder)
        sessions = launch(demo, options, limits, uploads, probes)
        recorder.parts |= {
            "process": resident,
            "models": shelf.held,
            "sessions": sessions.held,
            "uploads": lambda: uploads.held,
        }
    demo.arrival.prepare()  # so that the first click finds torch and the default model
    recorder.watch.start()
    ready.set()
    demo.block_thread()


def watch(uploads: "Uploads", demo: "Blocks") -> None:
    """Delete visitors' files at their age, in the folder and from Gradio's own lists."""

    def forget(deleted: list[str]) -> None:
        for names in demo.temp_file_sets:
            names.difference_update(deleted)

    uploads.kept = lambda: {
        path for block in [*demo.blocks.values()] for path in getattr(block, "keep_in_cache", ())
    }
    uploads.watch(forget)
    uploads.clear_at_the_end()


def print_limits(flags: list[str]) -> None:
    """The table that `--limits` asks for.

    Raises:
        Refusal: for a limit that is not allowed.
    """
    from resnet_hub.ui.limits import read_limits, table

    print(table(read_limits(flags)))


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if options.limits:
        return run_command("app.py", lambda: print_limits(options.limit))
    return run_command("app.py", lambda: serve(options))


if __name__ == "__main__":
    sys.exit(main())
