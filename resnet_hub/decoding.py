"""Images decoded in another process, which is ended when one takes too long.

    decode_apart(Decoder(seconds=10).decode)

The process is started by the first image that `preprocess.load_image` finds expensive to read, keeps one
idle minute and then ends, so that its memory is given back. What it sends is pixels or a refusal, never
anything that is run: the image may have taken it over.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image

from resnet_hub.preprocess import MAX_PIXELS, WHITE, ImageError, Then, decode

IDLE = 60  # seconds
STARTING = 60  # seconds for an answer of the process that it is there
MOST_MEMORY = 2 << 30  # bytes of address space
MOST_SAID = 100_000  # bytes of what comes before the pixels
CHANNELS = {"L": 1, "RGB": 3}
MOST_PIXELS = 1 << 27  # of an answer: a crop may be larger than what was decoded
READY = b"r"
LENGTHS = struct.Struct("<QQ")


class Decoder:
    """Decodes one image after another in a process of its own.

    Args:
        seconds: the most that one image may take.
        waiting: images that wait for their turn; more are refused.
    """

    def __init__(self, seconds: float = 10, waiting: int = 2) -> None:
        self.seconds, self.waiting = seconds, waiting
        self._begin()
        if hasattr(os, "register_at_fork"):  # a fork has the pipes too, and perhaps a lock that is held
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._process: subprocess.Popen | None = None
        self._one = threading.Lock()
        self._places = threading.BoundedSemaphore(1 + self.waiting)

    def decode(self, data: bytes, max_pixels: int = MAX_PIXELS, then: Then | None = None) -> Image.Image:
        """As `preprocess.decode`.

        Args:
            then: run there too where it can be pickled, e.g. `Preprocess.crop`.

        Raises:
            ImageError: "too_slow" at the deadline, "crowded" where too many wait, or what the file deserves.
        """
        far, near = (then, None) if is_known_there(then) else (None, then)
        with self._turn():
            image = self._ask(pickle.dumps((max_pixels, far)), data)
        return image if near is None else near(image)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise ImageError("Too many large images are being read; try again in a minute.", "crowded")
        try:
            with self._one:
                yield
        finally:
            self._places.release()

    def _ask(self, asked: bytes, data: bytes) -> Image.Image:
        process = self._running()
        with ended_after(process, self.seconds) as late:
            try:
                to, back = pipes(process)
                send(to, asked, data)
                return answer(back)
            except ImageError:
                raise
            except (OSError, ValueError, EOFError) as error:
                process.kill()
                if late.is_set():
                    why = f"takes more than {self.seconds:g} seconds to read"
                    raise ImageError(f"The image {why}; save it as an ordinary JPEG.", "too_slow") from error
                why = "is damaged, or takes too much memory to read"
                raise ImageError(f"The image {why}; save it as an ordinary JPEG.", "truncated") from error
            except BaseException:  # what is left in the pipe would be the next image's answer
                process.kill()
                raise

    def _running(self) -> subprocess.Popen:
        """The process, ready for an image; a new one where there is none."""
        if self._process is None or not is_ready(self._process):
            self.end()
            self._process = start()
            if not is_ready(self._process):
                message = "Large images cannot be read here at the moment; try a smaller one."
                raise ImageError(message, "crowded")
        return self._process

    def end(self) -> None:
        """End the process; the next image starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in pipes(process):
                with suppress(OSError):
                    pipe.close()


def is_known_there(function: object) -> bool:
    """Whether the other process can import a function: one of this package, by its name."""
    with suppress(pickle.PicklingError, AttributeError, TypeError):
        is_ours = function is None or function.__module__.startswith("resnet_hub.")
        return is_ours and bool(pickle.dumps(function))
    return False


def start() -> subprocess.Popen:
    """The process: this package wherever the app was started, one thread, no output but ours."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", "from resnet_hub.decoding import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | own,
    )


@contextmanager
def ended_after(process: subprocess.Popen, seconds: float) -> Iterator[threading.Event]:
    """Kill the process where this takes longer, which the event says."""
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def is_ready(process: subprocess.Popen) -> bool:
    """Ask the process whether it is there; False when it has ended, does so just now, or says nothing."""
    with suppress(OSError), ended_after(process, STARTING):
        to, back = pipes(process)
        send(to, b"", b"")
        return back.read(1) == READY
    return False


def pipes(process: subprocess.Popen) -> tuple[BinaryIO, BinaryIO]:
    """Where the process is written to, and read from."""
    if process.stdin is None or process.stdout is None:
        raise OSError("the process has no pipes")
    return cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)


def send(pipe: BinaryIO, head: bytes, body: bytes) -> None:
    """Two pieces of bytes after their lengths."""
    pipe.write(LENGTHS.pack(len(head), len(body)))
    pipe.write(head)
    pipe.write(body)
    pipe.flush()


def receive(pipe: BinaryIO, most_head: int, most_body: int) -> tuple[bytes, bytes]:
    """What `send` wrote.

    Raises:
        EOFError: where the other side ended.
        ValueError: for longer pieces.
    """
    lengths = pipe.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        raise EOFError
    head, body = LENGTHS.unpack(lengths)
    if head > most_head or body > most_body:
        raise ValueError(f"{head:,} and {body:,} bytes")
    pieces = pipe.read(head), pipe.read(body)
    if (len(pieces[0]), len(pieces[1])) != (head, body):
        raise EOFError
    return pieces


def answer(pipe: BinaryIO) -> Image.Image:
    """The image that the process sends.

    Raises:
        ImageError: where it refuses.
        ValueError: for anything it would not send by itself.
    """
    head, pixels = receive(pipe, MOST_SAID, MOST_PIXELS * max(CHANNELS.values()))
    try:
        said = json.loads(head)
        if "message" in said:
            refusal = ImageError(str(said["message"]), str(said["code"]), **said["facts"])
        else:
            mode, (width, height) = said["mode"], said["size"]
            if width < 1 or height < 1 or width * height * CHANNELS[mode] != len(pixels):
                raise ValueError(f"{len(pixels):,} bytes of {width} x {height} pixels")
            image = Image.frombytes(mode, (width, height), pixels)
            if isinstance(white := said.get("white"), int):
                image.info[WHITE] = white
            return image
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no answer of ours") from error
    raise refusal


# In the other process


def main() -> None:
    """Decode what comes until nothing does for a minute."""
    own, pipe = bound_this_process(), sys.stdin.buffer
    while is_asked(pipe):
        try:
            asked, data = receive(pipe, MOST_SAID, sys.maxsize)
        except EOFError:
            return
        if asked:
            max_pixels, then = pickle.loads(asked)
            send(own, *decoded(max_pixels, then, data))
        else:
            own.write(READY)
            own.flush()


def is_asked(pipe: BinaryIO) -> bool:
    """Whether something comes within a minute."""
    if sys.platform == "win32":  # which waits for sockets only
        return True
    return bool(select.select([pipe], [], [], IDLE)[0])


def decoded(max_pixels: int, then: Then | None, data: bytes) -> tuple[bytes, bytes]:
    """An image, or why it is refused, as `answer` reads it."""
    try:
        image = decode(data, max_pixels, then)
    except ImageError as error:
        return json.dumps({"message": str(error), "code": error.code, "facts": error.facts}).encode(), b""
    said = {"mode": image.mode, "size": image.size, "white": image.info.get(WHITE)}
    return json.dumps(said).encode(), image.tobytes()


def bound_this_process() -> BinaryIO:
    """Give way to other processes, and take no more than MOST_MEMORY; where to answer.

    Whatever a library prints goes elsewhere.
    """
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        os.nice(5)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    return own
