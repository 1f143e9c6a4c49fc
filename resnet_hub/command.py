"""What every command shares: its name in `--help`, its exit status, one clear line for what it cannot use."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # as a shell reports Ctrl-C
UNREAD = 141  # as a shell reports a closed pipe
BAD_INPUT = 2
ONE_COMMAND = "resnet-hub"
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # the last: a job scheduler's warning


# Control characters (a terminal obeys some), lone surrogates (no encoding has them), and what turns the
# direction of all that follows.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A stranger's text as any terminal, page and encoding can show it."""
    return UNPRINTABLE.sub("\ufffd", text)


def program_name(module: str) -> str:
    """What `--help` calls the command of `module`, e.g. "python -m training.cifar" or "resnet-hub train"."""
    if sys.argv[0].startswith(f"{ONE_COMMAND} "):  # `cli.py` runs it
        return sys.argv[0]
    return "python app.py" if module == "app" else f"python -m {module}"


def number_up_to(most: int) -> Callable[[str], int]:
    """The `type` of a flag for whole numbers from 1 to `most`."""

    def number(text: str) -> int:
        if not (text.isdecimal() and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(
                f"{text[:20]!r} is not allowed; give a whole number, 1 to {most:,}"
            )
        return int(text)

    return number


def run_command(module: str, action: Callable[[], int | None]) -> int:
    """Run `action` and return the exit status: its own, 2 after one line for bad input, 130 after Ctrl-C, 141
    where nobody reads the output any more.

    Args:
        module: the command's, with which the line begins.
        action: raises ValueError (a `Refusal`, for instance) or OSError for what cannot be used.
    """
    program = program_name(module).removeprefix("python -m ")
    try:
        with handled(interrupt):
            status = action() or 0
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # whoever read the output has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes at its end
        return UNREAD
    except (ValueError, OSError) as error:
        print(printable(f"{program}: {error}"), file=sys.stderr)
        return BAD_INPUT
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for this
            raise
        what = str(error).partition("\n")[0]
        print(f"{program}: {what} Give --device cpu, or fewer images at a time.", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED


def interrupt(*_: object) -> None:
    """End what runs as Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def handled(handler: Callable) -> Iterator[None]:
    """Let `handler` answer Ctrl-C, SIGTERM, SIGHUP and SIGUSR1; those that nohup ignores stay so."""
    numbers = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {
        number: signal.signal(number, handler)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def end_while_importing() -> None:
    """Let the signals end this process with a sentence until a command begins, for slow imports."""

    def end(*_: object) -> None:
        os.write(2, b"\ninterrupted while starting; nothing was begun\n")
        os._exit(INTERRUPTED)

    for name in STOP_SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
