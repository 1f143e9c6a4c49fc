"""What every command shares: its name in `--help`, its exit status, one clear line for what it cannot use."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

INTERRUPTED = 130  # as a shell reports Ctrl-C
BAD_INPUT = 2
ONE_COMMAND = "resnet-hub"


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


def run_command(module: str, action: Callable[[], int | None]) -> int:
    """Run `action` and return the exit status: its own, 2 after one line for bad input, 130 after Ctrl-C.

    Args:
        module: the command's, with which the line begins.
        action: raises ValueError (a `Refusal`, for instance) or OSError for what cannot be used.
    """
    program = program_name(module).removeprefix("python -m ")
    try:
        return action() or 0
    except (ValueError, OSError) as error:
        print(printable(f"{program}: {error}"), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
