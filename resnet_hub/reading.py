"""Images read in threads, ahead of the network that waits for them: libjpeg and PIL's filters release the
interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from resnet_hub.preprocess import ImageError, Preprocess

AHEAD = 32  # results that wait to be taken, at most: crops, not photos

Crop = Image.Image | np.ndarray  # what `Preprocess.load` returns

Source = TypeVar("Source")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Source], Result], sources: Iterable[Source], most: int = AHEAD
) -> Iterator[Result]:
    """`function` of each source, in order, computed in threads while the caller works on earlier ones.

    Args:
        function: an exception of its own is raised here, at its place.
        most: results computed before they are asked for.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1, "reading") as pool:
        try:
            for source in sources:
                waiting.append(pool.submit(function, source))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def crops(sources: Iterable, preprocess: Preprocess) -> Iterator[Crop | ImageError]:
    """What `Preprocess.load` makes of each file, or why it cannot, read ahead."""

    turns: dict[int, Lock] = {}

    def read(source: Any) -> Crop | ImageError:
        # PIL reads a file when its pixels are first asked for, which two threads must not do at a time.
        is_lazy = isinstance(source, Image.Image)
        with turns.setdefault(id(source), Lock()) if is_lazy else nullcontext():
            try:
                return preprocess.load(source)
            except ImageError as error:
                return error

    return ahead(read, sources)
