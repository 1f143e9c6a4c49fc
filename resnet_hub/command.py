"""What every command shares: its name in `--help`, its exit status, one clear line for what it cannot use."""

from __future__ import annotations

import sys
from collections.abc import Callable

INTERRUPTED = 130  # as a shell reports Ctrl-C
BAD_INPUT = 2
ONE_COMMAND = "resnet-hub"


def program_name(module: str) -> str:
    """How the command of `module` was started: "python -m resnet_hub.predict", or "resnet-hub predict"."""
    return sys.argv[0] if sys.argv[0].startswith(f"{ONE_COMMAND} ") else f"python -m {module}"


def run_command(program: str, action: Callable[[], int | None]) -> int:
    """Run `action` and return the exit status: its own, 2 after one line for bad input, 130 after Ctrl-C.

    Args:
        program: what the line begins with, the module of `python -m`.
        action: raises ValueError (a `Refusal`, for instance) or OSError for what cannot be used.
    """
    try:
        return action() or 0
    except (ValueError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
