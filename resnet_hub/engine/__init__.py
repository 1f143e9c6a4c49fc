"""The fastest equivalent of a network for this device: one engine for the library, the app and the commands.

    choose(model, "auto", "auto")              # what a command's --engine and --precision ask for
    engine_for(model, images=200)(pixels)      # (N, C, H, W) -> logits (N, classes)

A network starts as it is. A faster engine is prepared once the images seen, or known to come, are worth it:
the fastest by measurement whose answers agree. Whoever changes a network's weights, layers or hooks gets its
new answers: what was prepared before is dropped. Changes through `.data` or numpy, which torch does not
count, are noticed only if they touch one of a few sampled values of a tensor, and changes of a layer's
attributes (`stride`, `eps`) are not noticed: call `choose(model)` after either.

The answers to one image, alone or in any batch and on any fp32 engine, agree to `TOLERANCE` of the largest
logit. On CUDA "fp32" is what torch makes of it: convolutions in TF32 unless `torch.backends.cudnn` says
otherwise. torch is imported when a network is prepared, an optional back end when it is tried.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from resnet_hub.engine.together import Together
from resnet_hub.errors import Refusal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from resnet_hub.engine.weights import Weights

ENGINES = ("auto", "eager", "fused", "openvino", "onnxruntime")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TOLERANCE = 1e-4  # of fp32 engines: difference of logits over the largest logit
HALF_SHARE = 0.02  # of bf16 and fp16: difference of the largest share
OWN, OPTIONAL = ENGINES[1:3], ENGINES[3:]  # those that need torch only; packages of [fast]
FEW = 8  # images of one call from which folding pays; or a second call
BATCH = 16  # images of a race, at most
MOST_PIXELS = 64 * 224 * 224  # in a batch
GAIN = 0.3  # of the time an image takes, that an optional back end may save
COSTS = {"openvino": 15.0, "onnxruntime": 40.0}  # seconds that importing and preparing it may take


@dataclass(frozen=True)
class Engine:
    """A network prepared to run.

    Args:
        name: "eager", "fused", "openvino" or "onnxruntime".
        precision: "fp32", "bf16" or "fp16".
        run: float32 pixels (N, C, H, W) -> logits (N, classes), on the pixels' device.
        prepared_in: seconds that the preparation took.
        image_seconds: what an image took in the race that chose it; 0 where there was none.
    """

    name: str
    precision: str
    run: Callable[[Tensor], Tensor]
    prepared_in: float = 0.0
    image_seconds: float = 0.0

    def __call__(self, pixels: Tensor) -> Tensor:
        """Float32 pixels (N, C, H, W) -> float32 logits (N, classes), on the pixels' device."""
        return self.run(pixels).float()

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--engine` and `--precision`."""
    about = "what runs the network; auto: the fastest that agrees, by measurement (default: auto)"
    parser.add_argument("--engine", choices=ENGINES, default="auto", help=about)
    about = "auto: bf16 or fp16 only where it is faster and its answers were measured to agree"
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help=about)


def is_installed(engine: str) -> bool:
    """Whether a back end's package is there, without importing it."""
    return engine not in OPTIONAL or importlib.util.find_spec(engine) is not None


def check_installed(engine: str) -> None:
    """Raises Refusal for an engine whose package is not there."""
    if not is_installed(engine):
        raise Refusal(f"--engine {engine} needs a package that is not installed; pip install '.[fast]'")


def check_runs_file(engine: str, precision: str) -> None:
    """Raises Refusal for an engine or a precision that is named for an ONNX file."""
    if engine not in ("auto", "onnxruntime") or precision != "auto":
        raise Refusal(
            "ONNX Runtime runs an ONNX file, in its own precision; leave --engine and --precision out"
        )


def choose(model: Any, engine: str = "auto", precision: str = "auto", *, serving: bool = False) -> None:
    """Say on which engine a model is to run from now on.

    Args:
        model: a `Network` or a `Reference`, in eval mode and on its device.
        engine: one of `ENGINES`; a named one is prepared at once.
        precision: one of `PRECISIONS`.
        serving: callers at the same moment share a batch, and no optional back end is tried by itself.

    Raises:
        Refusal: for an engine that is not installed or does not run this model.
    """
    kept = _Kept(engine, precision, serving, was_chosen=True)
    if engine != "auto":
        kept.engine_for(network_of(model), shape_of(model), FEW)
    with _LOCK:
        _ALL[network_of(model)] = kept


def is_chosen(model: Any) -> bool:
    """Whether `choose` was called for a model."""
    with _LOCK:
        return network_of(model) in _ALL and _ALL[network_of(model)].was_chosen


def engine_for(model: Any, images: int = 1) -> Engine:
    """The engine that runs a model's next images; ask anew for each job, since weights may change.

    Args:
        model: a `Network` or a `Reference`, in eval mode.
        images: how many the job has.

    Raises:
        Refusal: when the engine that was chosen does not run this model.
    """
    with _LOCK:
        kept = _ALL.setdefault(network_of(model), _Kept())
    return kept.engine_for(network_of(model), shape_of(model), images)


def prepare(
    net: nn.Module,
    shape: tuple[int, ...],
    engine: str = "auto",
    precision: str = "auto",
    images: int = 10_000,
) -> Engine:
    """An engine with a copy of the weights as they are now ("eager" in fp32 is the network itself).

    Args:
        net: in eval mode, on its device.
        shape: (C, H, W) of an image.
        engine, precision: of `ENGINES` and `PRECISIONS`.
        images: how many are to come; "auto" spends no long preparation on few.

    Raises:
        ValueError: for a network in training mode, whose statistics a trial run would change.
        Refusal: for a named engine that is not installed, does not run this network or answers otherwise.
    """
    import torch

    from resnet_hub.engine.race import fastest, named

    if any(module.training for module in net.modules()):
        raise ValueError("an engine is prepared from a network in eval mode; call eval() first")
    with torch.inference_mode(False), torch.no_grad():
        if engine != "auto":
            return named(net, shape, engine, "fp32" if precision == "auto" else precision)
        batch = batch_size(shape, min(images, BATCH))
        best = fastest(net, shape, precision, OWN, batch)
        if others := worth_trying(best, images):
            best = fastest(net, shape, precision, (*OWN, *others), batch)
        return best


def batch_size(shape: tuple[int, ...], most: int, pixels: int | None = None) -> int:
    """Images (C, H, W), or features (F,), in a batch: `most`, fewer of large ones, whose feature maps would
    fill the memory; `pixels` of one channel in all, `MOST_PIXELS` by default."""
    return max(1, min(most, (pixels or MOST_PIXELS) // math.prod(shape[1:])))


def worth_trying(engine: Engine, images: int) -> list[str]:
    """The optional back ends on which so many images may gain more than their preparation costs."""
    gain = GAIN * engine.image_seconds * images
    return [name for name in OPTIONAL if gain > COSTS[name] and is_installed(name)]


def network_of(model: Any) -> nn.Module:
    """The module inside a `Reference`; a network itself."""
    return getattr(model, "net", model)


def shape_of(model: Any) -> tuple[int, ...]:
    """(C, H, W) of the images that a model's own preprocessing makes."""
    return tuple(model.preprocess.input_size)


class _Kept:
    """One network's engine, and the weights it was made from."""

    def __init__(
        self,
        engine: str = "auto",
        precision: str = "auto",
        serving: bool = False,
        was_chosen: bool = False,
    ) -> None:
        self._asked, self._serving, self.was_chosen = (engine, precision), serving, was_chosen
        self._together = Together() if serving else None
        self._now = _Now(None)
        self._preparing = Lock()

    def engine_for(self, net: nn.Module, shape: tuple[int, ...], images: int) -> Engine:
        """The engine for these images, shared between its callers where the model is served."""
        engine = self._best(net, shape, images)
        if self._together is None:
            return engine
        return replace(engine, run=partial(self._together, engine.run))

    def _best(self, net: nn.Module, shape: tuple[int, ...], images: int) -> Engine:
        from resnet_hub.engine.weights import Weights, parts

        plain = Engine("eager", "fp32", net)
        if self._asked in (("eager", "auto"), ("eager", "fp32")):
            return plain
        now, found = self._now, parts(net)
        # Nobody changes a model that is served, and looking takes a visitor's time.
        are_same = self._serving or (now.weights is not None and now.weights.are_still(found))
        if now.weights is None or now.shape != shape or not are_same:
            self._now = now = _Now(Weights(found), shape)
        # What listens to a layer expects it to run, and in training mode a network answers otherwise.
        if found.has_hooks or found.is_training:
            return plain
        now.calls, now.images = now.calls + 1, now.images + images
        if self._asked[0] != "auto":
            with self._preparing:
                now.engine = now.engine or prepare(net, shape, *self._asked)
        elif self._preparing.acquire(blocking=False):  # else another thread is at it
            try:
                self._look(now, net, shape, images)
            finally:
                self._preparing.release()
        return now.engine or plain

    def _look(self, now: _Now, net: nn.Module, shape: tuple[int, ...], images: int) -> None:
        """Prepare what these images are worth."""
        precision = self._asked[1]
        if not now.tried_own and (now.calls > 1 or images >= FEW):
            is_job = images >= FEW and not self._serving
            # Converters change what other threads run meanwhile: no optional back end while serving.
            now.tried_own, now.tried_all = True, is_job or self._serving
            self._keep(now, prepare(net, shape, "auto", precision, images if is_job else 1))
        elif now.tried_own and not now.tried_all and worth_trying(now.best, now.images):
            now.tried_all = True
            self._keep(now, prepare(net, shape, "auto", precision, now.images))

    def _keep(self, now: _Now, best: Engine) -> None:
        # An eager engine would hold the network, and with it its own entry, for ever.
        is_network = (best.name, best.precision) == ("eager", "fp32")
        now.best = replace(best, run=_nothing)
        now.engine = None if is_network else best


def _nothing(pixels: Tensor) -> Tensor:
    raise AssertionError("this engine is only a record of how fast it was")


class _Now:
    """What is known of a network while its weights and the (C, H, W) of its images stay as they are."""

    def __init__(self, weights: Weights | None, shape: tuple[int, ...] = ()) -> None:
        self.weights, self.shape = weights, shape
        self.engine: Engine | None = None
        self.best = Engine("eager", "fp32", _nothing)
        self.calls = self.images = 0
        self.tried_own = self.tried_all = False


_ALL: WeakKeyDictionary[Any, _Kept] = WeakKeyDictionary()
_LOCK = Lock()
