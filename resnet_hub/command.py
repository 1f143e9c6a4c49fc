"""What every command shares: its name in `--help`, its exit status, one clear line for what it cannot use."""

from __future__ import annotations

import sys
from collections.abc import Callable

INTERRUPTED = 130  # as a shell reports Ctrl-C
BAD_INPUT = 2
ONE_COMMAND = "resnet-hub"


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
        print(f"{program}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
