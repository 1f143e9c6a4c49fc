"""Honest and hostile clients against the real `python app.py`, for as long as wanted.

    python -m tests.soak --minutes 60 --clients 12

Prints what became of every kind of request, and memory, files and threads: after the start, after a walk in
Chromium through every tab and topic (where it is installed), after the first request of each kind, every
minute, and when the attack is over. Exits with 1 where an honest answer was wrong or lost, the server failed
(a status of 500 and above without a sentence), memory grew, or a file outlived its age.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import httpx
from helpers import ROOT
from helpers.asking import answer, ask, classify_zip, config, event, sent, told, upload, zipped
from helpers.browsing import CHROMIUM
from helpers.images import image, scan_bomb
from helpers.serving import deaf_port, free_port

from resnet_hub.bench.memory import held
from resnet_hub.ui.lab.topics import TOPICS
from resnet_hub.ui.shared.page import EXAMPLES

MODEL = "resnet20_cifar10"
AGE, SWEEP = 30, 5  # seconds, of uploads in this test
REST = 80  # seconds; the process that decodes ends after a minute
# Of memory: a walk over the start, an attack over the first of every request, and over the first honest ones.
WALK, GROWTH, AFTERWARDS = 1.6, 1.15, 1.3
BUSY = ("queue", "busy", "Several large images", "too many models")  # honest clients may be told to wait


@dataclass
class Figures:
    """What became of the requests: {(kind, outcome): count}, and how long honest ones took."""

    counts: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, kind: str, outcome: str, detail: str = "") -> None:
        self.counts[kind, outcome] += 1
        if detail and len(self.notes) < 20:
            self.notes.append(f"{kind}: {outcome}: {detail[:300]}")

    def of(self, *outcomes: str) -> int:
        return sum(count for (_, outcome), count in self.counts.items() if outcome in outcomes)


# Honest requests: each returns what the answer says, which is always the same


def top_label(address: str) -> object:
    photo = sent(address, "photo.jpg", EXAMPLES[0].read_bytes())
    return result(answer(address, "classify", [photo, MODEL, "en"]))[0]["label"]


def compared(address: str) -> object:
    photo = sent(address, "photo.jpg", EXAMPLES[1].read_bytes())
    return len(json.dumps(result(answer(address, "compare", [photo, MODEL, ["counterpart"], "en"]))[0])) > 100


def explored(address: str) -> object:
    design = ["resnet18", "cifar", "32", "1,2,2,2", False, "3x3"]
    inputs = next(each["inputs"] for each in config(address)["dependencies"] if each["api_name"] == "explore")
    data = design + [None] * (len(inputs) - len(design))
    return json.dumps(result(answer(address, "explore", data))[0])[:500]


def grid(address: str) -> object:
    path = upload(address, "pack.zip", zipped({"cat/1.jpg": EXAMPLES[2].read_bytes()}))
    return "cat" in json.dumps(result(told(address, classify_zip(address, path, MODEL))))


def page(address: str) -> object:
    return httpx.get(address, timeout=60).status_code


def result(reply: dict) -> list:
    """The outputs of an answer.

    Raises:
        Refused: with the page's sentence.
    """
    if not reply["success"]:
        raise Refused(str(reply["output"].get("error")))
    return reply["output"]["data"]


class Refused(Exception):
    pass


# Hostile requests: any answer will do, as long as there is one


def classified(make: Callable[[], bytes]) -> Callable[[str], object]:
    return lambda address: answer(address, "classify", [sent(address, "x.jpg", make()), MODEL, "en"])


def noise() -> bytes:
    """A valid file with some bytes changed."""
    image(random.randrange(9)).save(
        buffer := io.BytesIO(), random.choice(["jpeg", "png", "webp", "gif", "tiff"])
    )
    data = bytearray(buffer.getvalue())
    for _ in range(random.randrange(1, 20)):
        data[random.randrange(len(data))] = random.randrange(256)
    return bytes(data)


def plain_ppm() -> bytes:
    return b"P3\n1700 1700\n255\n" + b"1 " * (3 * 1700 * 1700)


def zip_bomb(address: str) -> object:
    path = upload(address, "b.zip", zipped({f"cat/{i}.png": bytes(30_000_000) for i in range(4)}))
    return told(address, classify_zip(address, path, MODEL))


def odd_values(address: str) -> object:
    odd: list = [5, "x" * 100_000, [], {}, {"path": "/etc/passwd"}, None, "\ud800"[:0], {"url": "data:,x"}]
    name = random.choice(["classify", "compare", "explore"])
    return answer(address, name, [random.choice(odd) for _ in range(random.randrange(8))])


def unknown_model(address: str) -> object:
    photo = sent(address, "photo.jpg", EXAMPLES[0].read_bytes())
    return answer(address, "classify", [photo, f"nobody/net-{random.randrange(10**9)}", "en"])


def left_alone(address: str) -> object:
    photo = sent(address, "photo.jpg", EXAMPLES[0].read_bytes())
    return ask(address, event(address, "classify"), [photo, MODEL, "en"])


def cut_off(address: str) -> object:
    def parts():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n' + bytes(
            100_000
        )
        raise ConnectionAbortedError

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with suppress(ConnectionAbortedError):
        return httpx.post(f"{address}gradio_api/upload", content=parts(), headers=headers, timeout=60)
    return None


def too_large(address: str) -> object:
    body = b'{"data": ["' + b"x" * 20_000_000 + b'"]}'
    return httpx.post(f"{address}gradio_api/queue/join", content=body, timeout=60).status_code


def walk(address: str) -> bool:
    """One visitor's way through every tab, with its main button, and every topic; False without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return False
    if CHROMIUM is None:
        return False
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        stops = [
            ("", "#panel figure"),
            ("?tab=explore", "#design-A .drawing svg"),
            ("?tab=results", "#grid-form"),
        ]
        stops += [(f"?tab=lab&topic={topic}", "#lab-image :is(figure, table, pre, p)") for topic in TOPICS]
        for query, shown in stops:
            page.goto(address + query)
            page.locator(shown).first.wait_for()
        page.goto(f"{address}?tab=compare")
        page.locator("#compare-go").click()
        page.locator("#compare-panel .answer").nth(1).wait_for()
        browser.close()
    return True


HONEST = {"classify": top_label, "compare": compared, "explore": explored, "grid": grid, "page": page}
HOSTILE = {
    "scan bomb": classified(lambda: scan_bomb(2000)),
    "damaged image": classified(noise),
    "endless image": classified(plain_ppm),
    "zip bomb": zip_bomb,
    "odd values": odd_values,
    "unknown model": unknown_model,
    "left alone": left_alone,
    "cut upload": cut_off,
    "large body": too_large,
}


# The app and its clients


@contextmanager
def app(folder: Path):
    """(process, address) of `python app.py`, without the Hub."""
    port = free_port()
    with deaf_port() as closed, (folder / "log.txt").open("w") as log:
        environment = os.environ | {
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
            "HF_HOME": str(folder / "hub"),
            "HF_ENDPOINT": f"http://127.0.0.1:{closed}",
        }
        limits = ["--limit", f"upload_seconds={AGE}", "--limit", f"sweep_seconds={SWEEP}"]
        command = [sys.executable, "app.py", "--port", str(port), *limits, "--limit", "decode_seconds=3"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        address, until = f"http://127.0.0.1:{port}/", time.monotonic() + 180
        try:
            while time.monotonic() < until and process.poll() is None:
                with suppress(httpx.HTTPError):
                    if httpx.get(f"{address}healthz", timeout=10).status_code == 200:
                        break
                time.sleep(0.3)
            yield process, address
        finally:
            process.terminate()
            process.wait(30)


def count(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def files_in(uploads: Path) -> set[Path]:
    return {path for path in uploads.rglob("*") if path.is_file()}


def state(process: subprocess.Popen, visitors: set[Path]) -> dict[str, float]:
    """Megabytes of the app with its children, its threads, open files, and files of visitors."""
    files = []
    for path in visitors:
        with suppress(OSError):  # deleted meanwhile
            files.append(path.stat())
    return {
        "MB": held(process.pid),
        "threads": count(f"/proc/{process.pid}/task"),
        "open files": count(f"/proc/{process.pid}/fd"),
        "uploads": len(files),
        "oldest": max((time.time() - each.st_ctime for each in files), default=0),
    }


def honestly(address: str, kind: str, right: dict[str, object], figures: Figures) -> None:
    """One honest request, compared with the first answer of its kind."""
    started = time.monotonic()
    try:
        said = HONEST[kind](address)
        outcome = "right" if said == right.setdefault(kind, said) else "wrong"
        figures.note(kind, outcome, str(said) if outcome == "wrong" else "")
        figures.seconds.append(time.monotonic() - started)
    except Refused as error:
        busy = any(word in str(error) for word in BUSY)
        figures.note(kind, "busy" if busy else "wrong", "" if busy else str(error))
    except httpx.HTTPStatusError as error:
        status_of(kind, error.response, figures)
    except (httpx.HTTPError, StopIteration) as error:
        figures.note(kind, "lost", repr(error))


def hostilely(address: str, kind: str, figures: Figures) -> None:
    """One hostile request."""
    try:
        HOSTILE[kind](address)
        figures.note(kind, "answered")
    except httpx.HTTPStatusError as error:
        status_of(kind, error.response, figures)
    except (httpx.HTTPError, StopIteration) as error:
        figures.note(kind, "cut", repr(error))


def status_of(kind: str, reply: httpx.Response, figures: Figures) -> None:
    """A refusal that says why is none of the server's failures."""
    with suppress(ValueError, httpx.ResponseNotRead):
        is_text = reply.headers.get("content-type", "").startswith("text/plain")
        if reply.status_code in (413, 422, 503) and (reply.text if is_text else reply.json().get("detail")):
            return figures.note(kind, "busy")
    return figures.note(
        kind, "5xx" if reply.status_code >= 500 else f"status {reply.status_code}", reply.text
    )


def attack(address: str, clients: int, until: float, right: dict, figures: Figures) -> None:
    """Half of the clients are honest; each starts anew as soon as it is answered."""

    def work(number: int) -> None:
        kinds = [*HONEST] if number % 2 == 0 else [*HOSTILE]
        for kind in itertools.cycle(random.sample(kinds, len(kinds))):
            if time.monotonic() > until:
                return
            if number % 2 == 0:
                honestly(address, kind, right, figures)
            else:
                hostilely(address, kind, figures)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, until - time.monotonic()) + 180)
    for _ in range(sum(thread.is_alive() for thread in threads)):
        figures.note("client", "lost", "still waiting three minutes after the end")


def run(minutes: float, clients: int, folder: Path) -> int:
    """Start the app, attack it, let it rest, and judge."""
    figures, right = Figures(), {}
    with app(folder) as (process, address):
        own = files_in(folder / "uploads")  # the page's first photo
        look = lambda: state(process, files_in(folder / "uploads") - own)  # noqa: E731
        started = walked = show("after the start", look())
        if walk(address):
            time.sleep(REST)
            walked = show("after a walk", look())
        for kind in HONEST:
            honestly(address, kind, right, figures)
        honest = look()
        for kind in HOSTILE:
            hostilely(address, kind, figures)
        before = show("after the first of each", look())
        until = time.monotonic() + 60 * minutes
        attacking = threading.Thread(target=attack, args=(address, clients, until, right, figures))
        attacking.start()
        while attacking.is_alive():
            attacking.join(60)
            show("during the attack", look())
        time.sleep(AGE + REST)
        after = show("a while after it", look())
    traces = (folder / "log.txt").read_text().count("Traceback")
    moments = {"started": started, "walked": walked, "honest": honest, "before": before, "after": after}
    return judge(figures, {name: seen["MB"] for name, seen in moments.items()}, after["oldest"], traces)


def show(when: str, seen: dict[str, float]) -> dict[str, float]:
    print(f"{when:24}", *(f"{value:8.0f} {name}" for name, value in seen.items()), flush=True)
    return seen


def judge(figures: Figures, memory: dict[str, float], oldest: float, traces: int) -> int:
    """Print the counts and what is wrong; the exit status.

    Args:
        memory: megabytes by moment.
        oldest: seconds, of a visitor's file in the end.
        traces: tracebacks in the log.
    """
    for (kind, outcome), count in sorted(figures.counts.items()):
        print(f"{kind:16} {outcome:10} {count:7,}")
    slowest = sorted(figures.seconds)
    if slowest:
        print(f"honest answers: median {slowest[len(slowest) // 2]:.2f} s, slowest {slowest[-1]:.1f} s")
    print(*figures.notes, sep="\n")
    wrong = {
        "wrong answers": figures.of("wrong"),
        "lost answers": figures.of("lost"),
        "failures of the server": figures.of("5xx"),
        "tracebacks in the log": traces,
        f"a file {oldest:.0f} seconds old": oldest > AGE + 2 * SWEEP,
    }
    for now, then, most in (
        ("walked", "started", WALK),
        ("after", "before", GROWTH),
        ("after", "honest", AFTERWARDS),
    ):
        ratio = memory[now] / memory[then]
        wrong[f"memory {now} over {then}: {ratio:.2f}, at most {most}"] = ratio > most
    for what, count in wrong.items():
        print(f"{'NOT WELL' if count else 'well':9} {what}: {int(count)}")
    return int(any(wrong.values()))


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=8, help="half of them are hostile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(options.minutes, options.clients, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
