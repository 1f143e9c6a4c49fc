"""Server commands run for a test, and ports."""

import os
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from helpers import ROOT

PORTS = count(os.getpid())  # runs beside each other on one machine begin elsewhere


def free_port() -> int:
    """A port nobody holds; outside the range from which others are handed out meanwhile."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port := 20_000 + (500 * worker + next(PORTS) % 500) % 12_000))
            return port


@contextmanager
def deaf_port():
    """A port that is taken and refuses every connection: a server out of reach."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def served(command: list[str], folder: Path, seconds: float = 120, cwd: Path = ROOT, **environment: str):
    """Run a server command with its uploads and caches under `folder`, the Hub out of reach as on a machine
    without network; yields its address."""
    port = free_port()
    with deaf_port() as closed:
        yield from _served(command, folder, seconds, cwd, port, closed, environment)


def _served(command, folder, seconds, cwd, port, closed, environment):
    env = (
        os.environ
        | {
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
            "HF_HOME": str(folder / "hub"),
            "HF_ENDPOINT": f"http://127.0.0.1:{closed}",
            "OMP_NUM_THREADS": "2",
        }
        | environment
    )
    log = folder / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=subprocess.STDOUT)
    address, until = f"http://127.0.0.1:{port}/", time.monotonic() + seconds
    try:
        while True:
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the app did not start:\n{log.read_text()}")
            try:
                if urlopen(address, timeout=10).status == 200:
                    break
            except (URLError, OSError):
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
