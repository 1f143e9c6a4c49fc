"""A load test, `python examples/serve/load.py PHOTO [CLIENTS] [SECONDS]`: requests a second, latencies."""

import base64
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

ADDRESS = "http://127.0.0.1:8000/predict"


def keep_asking(body: bytes, until: float) -> list[float]:
    """Seconds of each request of one client, one after the other."""
    took = []
    while (started := time.perf_counter()) < until:
        with urlopen(Request(ADDRESS, body, {"Content-Type": "application/json"}), timeout=60) as answer:
            answer.read()
        took.append(time.perf_counter() - started)
    return took


def main(photo: str, clients: int = 4, seconds: int = 10) -> None:
    """Ask with several clients at once, and print."""
    body = json.dumps({"image": base64.b64encode(Path(photo).read_bytes()).decode()}).encode()
    keep_asking(body, time.perf_counter() + 1)  # warm
    until = time.perf_counter() + seconds
    with ThreadPoolExecutor(clients) as pool:
        took = sorted(
            t for part in pool.map(lambda _: keep_asking(body, until), range(clients)) for t in part
        )
    p95 = took[int(0.95 * (len(took) - 1))]
    print(
        f"{clients} clients: {len(took) / seconds:.0f} requests a second, "
        f"median {1000 * statistics.median(took):.0f} ms, 95 % within {1000 * p95:.0f} ms"
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
