"""`python -m helpers.killed MOMENTS ARGUMENTS...`: `training.cifar`, killed at each moment and resumed.

MOMENTS is a JSON list of (where, file, times); a process dies of SIGKILL the `times`th time it gets there:

- "step": before an update of the weights;
- "half": with half of `last.ckpt` written;
- "unnamed", "named": before and after a finished file gets its name.

The exit status is that of the last run, which nothing kills. Each run is a fork, so torch is imported once.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # each fork's first step would import it

from training import cifar, engine


def die_at(where: str, name: str, times: int) -> None:
    """Patch this process so that it dies at the moment."""
    left = itertools.count(times, -1)
    replace, save, update = os.replace, torch.save, engine.Trainer._update

    def passing(place: str, file: str | Path = "") -> None:
        if (place, Path(file).name) == (where, name) and next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_replace(source, target) -> None:
        passing("unnamed", target)
        replace(source, target)
        passing("named", target)

    def dying_save(state, file) -> None:
        save(state, whole := io.BytesIO())
        written = whole.getvalue()
        file.write(written[: len(written) // 2])
        file.flush()
        passing("half", "last.ckpt")
        file.write(written[len(written) // 2 :])

    def dying_update(trainer) -> None:
        passing("step")
        update(trainer)

    os.replace, torch.save, engine.Trainer._update = dying_replace, dying_save, dying_update


def main() -> int:
    moments, arguments = json.loads(sys.argv[1]), sys.argv[2:]
    for moment in moments:
        child = os.fork()
        if not child:
            die_at(*moment)
            os._exit(cifar.main(arguments))
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (moment, status)
    return cifar.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
