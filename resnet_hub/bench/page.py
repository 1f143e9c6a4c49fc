"""How fast the page starts and answers, beside plain Gradio apps: both run as processes of their own.

Each figure is measured in turn with its peer on this machine: start-up against the usual torchvision demo
(imports at the top, an eager ResNet-50), Classify and Explore events against an event that does nothing, also
from many clients at once, and a Compare event against that and the two networks it runs.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from resnet_hub.bench import networks
from resnet_hub.errors import Refusal

BATCH = 8  # of the engine that stands beside an app under load
ROUNDS = 4  # turns of each of two rates that are compared
WARM_UP = 3  # the first calls load the model and warm up both servers
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


class Served(NamedTuple):
    """A Gradio app as a process of its own; `seconds` from its start to the first 200 on `/`."""

    address: str
    seconds: float
    pid: int


@contextmanager
def serving(script: Path, *arguments: str, timeout: float = 120) -> Iterator[Served]:
    """Run a Gradio script on a free port.

    Raises:
        Refusal: when the script ends or does not answer in `timeout` seconds.
    """
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
        while not answers(address):
            if time.perf_counter() - started > timeout or process.poll() is not None:
                raise Refusal(f"{script} did not answer on {address} within {timeout:.0f} s")
            time.sleep(0.01)
        yield Served(address, time.perf_counter() - started, process.pid)
    finally:
        process.terminate()
        process.wait()


def answers(address: str) -> bool:
    """Whether a page is there."""
    try:
        with urlopen(address, timeout=5) as response:
            return response.status == 200
    except (URLError, OSError):
        return False


def start_up(ours: Path, usual: Path, runs: int) -> dict[str, float]:
    """Median seconds to the first page, ours and the usual demo's, started in turn."""
    seconds: dict[str, list[float]] = {"ours": [], "usual": []}
    for _ in range(runs):
        for name, script in (("ours", ours), ("usual", usual)):
            with serving(script) as app:
                seconds[name].append(app.seconds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return medians | {"ratio": medians["ours"] / medians["usual"], "runs": runs}


def in_turn(events: Mapping[str, Callable[[], object]], calls: int) -> dict[str, float]:
    """Median milliseconds of each event, called in turn."""
    for _ in range(WARM_UP - 1):  # the last one is `networks.in_turn`'s own
        for event in events.values():
            event()
    return {name: 1000 * taken for name, taken in networks.in_turn(events, 0, least=calls).items()}


def simple_events(ours: Path, empty: Path, image: Path, calls: int) -> dict[str, dict[str, float]]:
    """A Classify event and an Explore event, each beside an empty one."""
    from gradio_client import Client, handle_file

    with serving(ours) as our_app, serving(empty) as empty_app:
        client, nothing = (Client(each.address, verbose=False) for each in (our_app, empty_app))
        photo = handle_file(str(image))
        medians = in_turn(
            {
                "classify": lambda: client.predict(photo, api_name="/classify"),
                "explore": lambda: client.predict("resnet50", api_name="/explore"),
                "empty": lambda: nothing.predict(photo, api_name="/classify"),
            },
            calls,
        )
    blank = medians.pop("empty")
    return {
        name: {"ours": ms, "empty": blank, "added": ms - blank, "calls": calls}
        for name, ms in medians.items()
    }


def compare_event(ours: Path, empty: Path, image: Path, calls: int) -> dict[str, float]:
    """Comparing a photo at 224 with ResNet-50 and its counterpart, beside an empty event and the two networks
    alone, run eagerly in this process.

    Random weights cost what trained ones do. The bound is twice the networks and one empty event.
    """
    import torch
    from gradio_client import Client, handle_file

    from resnet_hub.interop.reference import COUNTERPART, copied
    from resnet_hub.models.build import create_model

    model = create_model("resnet50").eval()
    nets: list[torch.nn.Module] = [model, copied(model, "").net]
    pixels = torch.randn(1, 3, 224, 224)
    photo = handle_file(str(image))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with (
            serving(ours, "--model", folder) as our_app,
            serving(empty) as empty_app,
            torch.inference_mode(),
        ):
            client, nothing = (Client(each.address, verbose=False) for each in (our_app, empty_app))
            medians = in_turn(
                {
                    "ours": lambda: client.predict(photo, folder, [COUNTERPART], api_name="/compare"),
                    "empty": lambda: nothing.predict(photo, api_name="/classify"),
                    "networks": lambda: [net(pixels) for net in nets],
                },
                calls,
            )
    bound = 2 * medians["networks"] + medians["empty"]
    return medians | {"bound": bound, "of_bound": medians["ours"] / bound, "calls": calls}


def rates(ours: Path, empty: Path, image: Path, clients: tuple[int, ...], seconds: float) -> dict[str, dict]:
    """Answers of `/classify` a second, and those of an empty event, from many clients at once.

    Args:
        seconds: for each number of clients, and each of the two, in `ROUNDS` turns.
    """
    found = {}
    with serving(ours) as our_app, serving(empty) as empty_app:
        for count in clients:
            mine, blank = (partial(rate, app.address, image, count) for app in (our_app, empty_app))
            medians = rounds({"ours": mine, "empty": blank}, seconds)
            ratio = {"ratio": medians["ours"] / medians["empty"]}
            found[f"{count} client{'s' * (count > 1)}"] = medians | ratio
    return found


def rate_of_resnet50(ours: Path, image: Path, clients: int, seconds: float) -> dict[str, dict]:
    """Answers of `/classify` a second through ResNet-50, and its engine's alone, in batches."""
    from resnet_hub.engine import prepare, shape_of
    from resnet_hub.models.build import create_model

    model = create_model("resnet50").eval()
    shape = shape_of(model)
    runs = {engine: prepare(model, shape, engine) for engine in ("eager", "fused")}

    def alone(seconds: float) -> float:
        return BATCH / networks.batches_in_turn(runs, BATCH, shape, seconds)["fused"]

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with serving(ours, "--model", folder) as app:
            crowd = partial(rate, app.address, image, clients)
            medians = rounds({"ours": crowd, "engine alone": alone}, seconds)
    return {f"ResNet-50, {clients} clients": medians | {"ratio": medians["ours"] / medians["engine alone"]}}


def rounds(measures: Mapping[str, Callable[[float], float]], seconds: float) -> dict[str, float]:
    """The median rate of each over `ROUNDS` turns, so that what slows the machine meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(ROUNDS):
        for name, measured in measures.items():
            found[name].append(measured(seconds / ROUNDS))
    return {name: statistics.median(each) for name, each in found.items()}


def rate(address: str, image: Path, clients: int, seconds: float) -> float:
    """Answers a second to as many clients, each of which asks again once it has an answer."""
    from gradio_client import Client, handle_file

    photo = handle_file(str(image))
    ready = Barrier(clients, timeout=120)

    def ask(_: int) -> float:
        client = Client(address, verbose=False)
        client.predict(photo, api_name="/classify")
        ready.wait()
        answers, started = 0, time.perf_counter()
        while time.perf_counter() < started + seconds:
            client.predict(photo, api_name="/classify")
            answers += 1
        return answers / (time.perf_counter() - started)

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(ask, range(clients)))
