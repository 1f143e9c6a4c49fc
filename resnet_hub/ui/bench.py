"""`python -m resnet_hub.ui.bench`: how fast the app starts and answers, as ratios to plain Gradio apps.

Each figure is measured alternately with its peer on this machine: start-up against the usual torchvision
demo (imports at the top, an eager ResNet-50), a Classify event against an event that does nothing, and a
Compare event against that and the two networks it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from resnet_hub.command import program_name, run_command

APP = Path(__file__).parents[2] / "app.py"
USUAL_DEMO = """
import gradio as gr
import torch
from torchvision import transforms
from torchvision.models import resnet50

model = resnet50().eval()
prepare = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])

def classify(image):
    with torch.no_grad():
        probabilities = model(prepare(image)[None]).softmax(1)[0]
    return {str(i): float(p) for i, p in enumerate(probabilities)}

gr.Interface(classify, gr.Image(type="pil"), gr.Label(num_top_classes=5)).launch()
"""
EMPTY_EVENT = """
import gradio as gr

image, label = gr.Image(type="filepath"), gr.Label()
gr.Interface(lambda path: {"nothing": 1.0}, image, label, api_name="classify").launch()
"""


@contextmanager
def serving(script: Path, *arguments: str, timeout: float = 120):
    """Run a Gradio script on a free port; yields (address, seconds from start to the first 200 on `/`)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    address = f"http://127.0.0.1:{port}/"
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, script, *arguments], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _answers(address):
            if time.perf_counter() - started > timeout or process.poll() is not None:
                raise RuntimeError(f"{script} did not answer on {address} within {timeout:.0f} s")
            time.sleep(0.01)
        yield address, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as response:
            return response.status == 200
    except (URLError, OSError):
        return False


def start_up(ours: Path, usual: Path, runs: int) -> dict:
    """Median seconds to the first page, ours and the usual demo's, started in turn."""
    seconds = {"ours": [], "usual": []}
    for _ in range(runs):
        for name, script in (("ours", ours), ("usual", usual)):
            with serving(script) as (_, elapsed):
                seconds[name].append(elapsed)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return medians | {"ratio": medians["ours"] / medians["usual"], "runs": runs}


def classify_event(ours: Path, empty: Path, image: Path, calls: int) -> dict:
    """Median milliseconds of a Classify event and of an empty one, called in turn."""
    from gradio_client import Client, handle_file

    milliseconds = {"ours": [], "empty": []}
    with serving(ours) as (our_address, _), serving(empty) as (empty_address, _):
        clients = {"ours": Client(our_address, verbose=False), "empty": Client(empty_address, verbose=False)}
        for call in range(calls + 3):
            for name, client in clients.items():
                started = time.perf_counter()
                client.predict(handle_file(str(image)), api_name="/classify")
                if call >= 3:  # the first calls load the model and warm up both servers
                    milliseconds[name].append(1000 * (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    return medians | {"added": medians["ours"] - medians["empty"], "calls": calls}


def compare_event(ours: Path, empty: Path, image: Path, calls: int) -> dict:
    """Median milliseconds of comparing a photo at 224 with ResNet-50 and its counterpart, of an empty event,
    and of the two networks alone, run eagerly in this process; all in turn.

    Random weights cost what trained ones do. The bound is twice the networks and one empty event.
    """
    import torch
    from gradio_client import Client, handle_file

    from resnet_hub.interop.reference import COUNTERPART, copied
    from resnet_hub.models.build import create_model

    model = create_model("resnet50").eval()
    nets = [model, copied(model, "")]
    pixels = torch.randn(1, 3, 224, 224)
    photo = handle_file(str(image))
    milliseconds = {"ours": [], "empty": [], "networks": []}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with (
            serving(ours, "--model", folder) as (our_address, _),
            serving(empty) as (empty_address, _),
            torch.inference_mode(),
        ):
            client, nothing = (Client(each, verbose=False) for each in (our_address, empty_address))
            events = {
                "ours": lambda: client.predict(photo, folder, [COUNTERPART], api_name="/compare"),
                "empty": lambda: nothing.predict(photo, api_name="/classify"),
                "networks": lambda: [net(pixels) for net in nets],
            }
            for call in range(calls + 3):
                for name, event in events.items():
                    started = time.perf_counter()
                    event()
                    if call >= 3:
                        milliseconds[name].append(1000 * (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    bound = 2 * medians["networks"] + medians["empty"]
    return medians | {"bound": bound, "of_bound": medians["ours"] / bound, "calls": calls}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(program_name("resnet_hub.ui.bench"), description=__doc__.split("\n")[0])
    some = {"type": int, "choices": range(1, 1000), "metavar": "N"}
    parser.add_argument("--runs", default=5, help="starts of each app, 1 to 999 (default: 5)", **some)
    parser.add_argument("--calls", default=40, help="events of each app, 1 to 999 (default: 40)", **some)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    return run_command("resnet_hub.ui.bench", lambda: report(options))


def report(options: argparse.Namespace) -> None:
    """Measure everything and print it."""
    with tempfile.TemporaryDirectory() as folder:
        usual, empty = Path(folder, "usual.py"), Path(folder, "empty.py")
        usual.write_text(USUAL_DEMO)
        empty.write_text(EMPTY_EVENT)
        image = next((Path(__file__).parents[1] / "examples").glob("*.jpg"))
        results = {
            "start_up_seconds": start_up(APP, usual, options.runs),
            "classify_event_milliseconds": classify_event(APP, empty, image, options.calls),
            "compare_event_milliseconds": compare_event(APP, empty, image, options.calls),
        }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, values in results.items():
        print(name, "  ".join(f"{key} {value:.3f}" for key, value in values.items()))


if __name__ == "__main__":
    sys.exit(main())
