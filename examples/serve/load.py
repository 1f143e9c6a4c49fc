"""A load test, `python examples/serve/load.py PHOTO [CLIENTS ...]`: requests a second, latencies."""

import base64
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

ADDRESS = "http://127.0.0.1:8000/predict"
SECONDS = 20


def keep_asking(body: bytes, until: float) -> list[float]:
    """Seconds of each request of one client, one after the other."""
    took = []
    while (started := time.perf_counter()) < until:
        with urlopen(Request(ADDRESS, body, {"Content-Type": "application/json"}), timeout=60) as answer:
            answer.read()
        took.append(time.perf_counter() - started)
    return took


def measure(body: bytes, clients: int) -> None:
    """Ask with several clients at once, and print."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        asked = [pool.submit(keep_asking, body, started + SECONDS) for _ in range(clients)]
        took = [seconds for each in asked for seconds in each.result()]
    rate = len(took) / (time.perf_counter() - started)
    p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[-1]
    print(f"{clients:>2} clients: {rate:.1f} requests/s, p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms")


def main(photo: str, *clients: str) -> None:
    """Measure with 1, 8 and 32 clients unless told otherwise."""
    body = json.dumps({"image": base64.b64encode(Path(photo).read_bytes()).decode()}).encode()
    keep_asking(body, time.perf_counter() + 2)  # warm
    for each in clients or ("1", "8", "32"):
        measure(body, int(each))


if __name__ == "__main__":
    main(*sys.argv[1:])
