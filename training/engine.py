"""The training loop: steps, evaluation, checkpoints that a crash cannot tear.

A run's place is (epoch, step), and every random choice follows from it and the seed, so a run that was
stopped anywhere goes on to the same bits.
"""

from __future__ import annotations

import copy
import ctypes
import json
import math
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from inspect import signature
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from resnet_hub.command import handled
from resnet_hub.engine import batch_size
from resnet_hub.files import write_whole
from resnet_hub.geometry import counted_flops
from resnet_hub.preprocess import Preprocess
from training import checkpoint, hard, metrics
from training import outliers as exposure
from training.augment import Feed, epoch_order, random_key
from training.checkpoint import TrainingError
from training.data import DataError, Images, normalise, sent
from training.distributed import any_process, place, rank, share_buffers, summed, wait, world_size
from training.inference import runner
from training.loss import Loss
from training.optim import SCHEDULES, CombinedOptimizer, build_optimizers, frozen_norms, set_lr_factor
from training.recipes import FEWEST_TO_CHOOSE, Recipe

Tensors = tuple[Tensor, ...] | list[Tensor]
DISTILLED_SHARE, DISTILLED_TEMPERATURE = 0.5, 4.0  # of the loss, arXiv 1503.02531
AMP_DTYPES = {str(dtype): dtype for dtype in (None, torch.bfloat16, torch.float16)}
NOT_RECORDED = {"deterministic": False, "engine": "auto"}  # of a run, in checkpoints of earlier versions
STEPS_BETWEEN_LOOKS = 10  # at the loss: each look waits for a GPU
AVERAGED_SHARE = 0.2  # of a run, over which `--keep ema` averages where the recipe has no decay
EVAL_BATCH, EVAL_PIXELS = 250, 1 << 20  # images, and pixels of one channel, evaluated at once


class Stopped(Exception):
    """The run was asked to stop, finished its step and saved."""


def keep_freed_memory() -> None:
    """Stop glibc from returning every large tensor to the kernel, which would zero it anew each step.

    Measured on 2 Cascade Lake cores, ResNet-20, batch 128: 275 -> 376 images a second.
    """
    with suppress(OSError, AttributeError):  # not glibc: nothing to tune
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def write_json(path: Path, value) -> None:
    """Write `value` as indented UTF-8 JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, text.encode())


def training_flops(
    net: nn.Module, shape: tuple[int, ...], device: torch.device, teacher: Callable | None = None
) -> float:
    """Floating-point operations of one training step on one input of `shape`, by torch's own counter."""
    net = copy.deepcopy(net)  # its batch norms will have seen this input
    x = torch.zeros(2, *shape, device=device)

    def step() -> None:
        net(x).sum().backward()
        if teacher is not None:
            with torch.no_grad():
                teacher(x)

    return counted_flops(step) / len(x)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields whether a signal that `handled` names was received; a second Ctrl-C interrupts at once."""
    asked: list[int] = []

    def ask(signum, frame) -> None:
        if asked and signum == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(signum)

    with handled(ask):
        yield lambda: bool(asked)


@contextmanager
def freeze_running_stats(net: nn.Module, frozen: bool) -> Iterator[None]:
    """Keep batch norms from counting a micro-batch into their running statistics."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] if frozen else []
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    yield
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@contextmanager
def one_value_explained(images: int) -> Iterator[None]:
    """Say what to do where a batch norm has a single value a channel to normalise by.

    Raises:
        TrainingError: for torch's error about it.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"a batch norm cannot learn from a micro-batch of {images} image whose feature map is 1x1; give "
            "a larger --batch-size, fewer --accumulate or a larger --input"
        ) from error


def micro_batches(
    order: list[Tensor], accumulate: int, first: int = 0, learned: int | None = None
) -> list[tuple[int, Tensor]]:
    """(number, positions) of this process's share of each step from `first` on.

    A step's batch is cut into `accumulate` parts for every process, numbered alike however many there are.

    Args:
        learned: how many of a step's images are learned from; None for all.

    Raises:
        ValueError: when a step has fewer images than parts.
    """
    parts = accumulate * world_size()
    images = len(order[0]) if learned is None else learned
    if images < parts:
        raise ValueError(
            f"a step of {images} images cannot be cut into {parts} micro-batches; lower --accumulate"
            + " or the number of processes" * (world_size() > 1)
        )
    mine = range(place() * accumulate, (place() + 1) * accumulate)
    return [
        (step * parts + part, order[step].tensor_split(parts)[part])
        for step in range(first, len(order))
        for part in mine
    ]


class Trainer:
    """A network, its averaged copy, optimizers and place in the schedule: all that a resume needs.

    Args:
        net: what is trained; a whole network, or the head alone on features.
        feed: the training images (or features).
        outliers: images of other things, on which uniform shares are learned (arXiv 1812.04606).
        shares: parameter name -> share of the recipe's rate, for the parameters that learn; None for all.
        teacher: inputs -> logits whose softened form is half of what is learned (arXiv 1503.02531).
        compiled: run `net` through torch.compile.
        eval_batch: held-out images evaluated at once; None for what `predict_logits` chooses.
        save_every: seconds between checkpoints within an epoch.
        log: called with (name, value, images seen) for TensorBoard.
        restart: the epoch from which the schedule starts anew, at full size: a finished run goes on there.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe,
        feed: Feed,
        *,
        seed: int,
        device: torch.device,
        amp_dtype: torch.dtype | None = None,
        outliers: Images | None = None,
        shares: dict[str, float] | None = None,
        teacher: Callable[[Tensor], Tensor] | None = None,
        compiled: bool = False,
        eval_batch: int | None = None,
        save_every: float = 60.0,
        identity: dict | None = None,
        log: Callable[[str, float, int], None] | None = None,
        restart: int = 0,
    ) -> None:
        self.net = net.to(device).to(memory_format=torch.channels_last)
        self.recipe, self.feed, self.seed, self.device = recipe, feed, seed, device
        self.teacher, self.restart = teacher, restart
        self._compute_in(amp_dtype)
        self.eval_batch, self.save_every = eval_batch, save_every
        self.log = log or (lambda name, value, images: None)
        self.outliers = None if outliers is None else exposure.outlier_feed(outliers, feed)
        self.averaged = _averaged(self.net, recipe, self._steps_an_epoch() * (recipe.epochs - restart))
        self.optimizers = build_optimizers(self.net, recipe, shares)
        self.forward = _distributed(_compiled(self.net) if compiled else self.net)
        self.frozen_norms = frozen_norms(self.net)
        self.metric = metrics.chosen(recipe.metric, feed.data.labels)
        self.loss = Loss(recipe, feed.data.labels, len(feed.data.classes), device)
        if self.loss.is_multi and (teacher is not None or outliers is not None):
            raise ValueError("--teacher and --outliers are for images of one class each")
        judged = recipe.hard_share < 1
        self.judge = hard.Judge(recipe, feed, seed, device) if judged else None
        self.unread: list[Tensor] = []  # the sums of the last steps, still on the device
        self.history: list[dict] = []
        self.keep = recipe.keep
        self.best: dict = {"epoch": 0}
        self.identity = self._own_identity() | (identity or {})
        self._begin(0)
        self._flops = {side: self._flops_an_image(side) for side in set(self.sides())}

    def _compute_in(self, amp_dtype: torch.dtype | None) -> None:
        self.amp_dtype = amp_dtype
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp_dtype is torch.float16)

    def _begin(self, epoch: int) -> None:
        self.epoch, self.step = epoch, 0
        self.seconds = 0.0  # of this epoch, over all sessions
        self.sums = torch.zeros(3, dtype=torch.float64)  # loss, correct answers, images of this epoch

    def _own_identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with this run, as far as the trainer knows."""
        # A step cut into the same parts is the same step, whichever processes compute them.
        parts = {"expects": "", "accumulate": self.recipe.accumulate * world_size()}
        own = {"recipe": asdict(self.recipe) | parts, "seed": self.seed}
        return own | ({"restart": self.restart} if self.restart else {})

    def _flops_an_image(self, side: int) -> float:
        shape = self._shape(side)
        flops = training_flops(self.net, shape, self.device, self.teacher)
        if self.outliers is not None:
            flops += self.recipe.outlier_share * training_flops(self.net, shape, self.device)
        return flops if self.judge is None else flops + self.judge.flops(shape)

    def sides(self) -> list[int]:
        """The images' short side in pixels (or the number of features), epoch by epoch."""
        full, epochs = min(self.feed.data.shape[1:] or self.feed.data.shape), self.recipe.epochs
        low_epochs = 0 if self.restart else self.recipe.low_res_epochs
        return [self.recipe.low_res] * low_epochs + [full] * (epochs - low_epochs)

    def _shape(self, side: int) -> tuple[int, ...]:
        channels, *size = self.feed.data.shape
        return (channels, *(side * n // min(size) for n in size))

    def _steps_an_epoch(self) -> int:
        return max(len(self.feed.data) // self.recipe.shown, 1)

    @property
    def kept(self) -> nn.Module:
        """The weights that are evaluated and kept: averaged ones where the recipe averages."""
        return self.net if self.averaged is None else self.averaged.module

    @property
    def kept_epoch(self) -> int:
        """The epoch, from 1, whose weights `restore_kept` puts into the network."""
        return self.best["epoch"] if self.keep == "best" else self.epoch

    def fit(self, held_out: Images, run: Path) -> None:
        """Train the epochs that are left, writing `last.ckpt` and `history.jsonl` as it goes.

        Args:
            held_out: what each epoch is measured on; with none, nothing is measured.

        Raises:
            ValueError: when the recipe chooses by held-out images and there are none.
            Stopped: after Ctrl-C, once the step is finished and saved.
            TrainingError: when the loss is no number any more or the disk is full; the last state is kept.
        """
        self.keep = weights_kept(self.recipe, len(held_out))
        with stop_requests() as stop:
            while not self.is_done():
                self.train_epoch(run, stop)
                self.finish_epoch(held_out, run)
        for feed in (self.feed, self.outliers):
            if feed is not None:
                feed.end_workers()

    def go_on(self, history: list[dict], record: dict[str, Any]) -> None:
        """Take up a finished run, whose weights the network has, after its last epoch.

        Args:
            history: a line for each of its epochs.
            record: its `run.json`.
        """
        kept = history[record["best_epoch"] - 1]
        weights = {k: v.detach().cpu().clone() for k, v in self.net.state_dict().items()}
        scores = {name: value for name, value in kept.items() if name.startswith("val_")}
        self.best = scores | {"epoch": kept["epoch"], "weights": weights}
        self.history, self.epoch = history, len(history)

    def is_done(self) -> bool:
        """Whether all epochs are run, or patience has run out."""
        waited = self.epoch - max(self.best["epoch"], self.restart)
        return self.epoch >= self.recipe.epochs or 0 < self.recipe.patience <= waited

    def train_epoch(self, run: Path, stop: Callable[[], bool] = lambda: False) -> None:
        """The steps of this epoch that are left."""
        order = epoch_order(len(self.feed.data), self.recipe.shown, self.seed, self.epoch)
        side = self.sides()[self.epoch]
        learned = round(len(order[0]) * self.recipe.hard_share)
        numbered = micro_batches(order, self.recipe.accumulate, self.step, learned)
        batches = self.feed.batches(self.epoch, numbered, side)
        others = self._outlier_batches(numbered, side)
        self.net.train()
        for norm in self.frozen_norms:
            norm.eval()
        started = saved = time.perf_counter()
        with self._bar(order, side) as bar:
            while self.step < len(order):
                set_lr_factor(self._all_optimizers(), self._lr_factor(self.step / len(order)))
                self.train_step(batches, others)
                bar.update(len(order[self.step]))
                self.step += 1
                is_look = self.step % STEPS_BETWEEN_LOOKS == 0 or self.step == len(order)
                if is_look:
                    self._look(bar)
                elif world_size() > 1:
                    continue  # agreeing on whether to stop waits for a GPU too
                is_due = time.perf_counter() - saved > self.save_every and self.step < len(order)
                is_asked, is_due = any_process([stop(), is_due], self.device)
                if is_asked or is_due:
                    self.seconds += time.perf_counter() - started
                    self.save(run)
                    started = saved = time.perf_counter()
                if is_asked:
                    raise Stopped
        self.seconds += time.perf_counter() - started

    def _all_optimizers(self) -> list[Optimizer]:
        return self.optimizers + ([] if self.judge is None else self.judge.optimizers)

    def _outlier_batches(self, numbered: list[tuple[int, Tensor]], side: int) -> Iterator[Tensor | None]:
        """For each micro-batch the outliers that go with it; None for each where there are none."""
        if self.outliers is None:
            return repeat(None)
        count, share = len(self.outliers.data), self.recipe.outlier_share * self.recipe.hard_share
        drawn = exposure.positions(count, share, self.seed, self.epoch, numbered)
        return (x for x, _, _ in self.outliers.batches(self.epoch, drawn, side))

    def _lr_factor(self, share: float) -> float:
        """What the recipe's rates are multiplied by once `share` of this epoch is over."""
        progress = (self.epoch + share - self.restart) / (self.recipe.epochs - self.restart)
        return max(SCHEDULES[self.recipe.schedule](progress, self.recipe.warmup), 1e-6)

    def train_step(
        self,
        batches: Iterator[tuple[Tensor, Tensor, Tensor]],
        others: Iterator[Tensor | None] | None = None,
    ) -> None:
        """One update of the weights from `accumulate` micro-batches, and the outliers that go with each."""
        others = others or repeat(None)
        parts = self.recipe.accumulate
        for part in range(parts):
            x, targets, labels = next(batches)
            if self.judge is not None:
                kept = self.judge.hardest(x, targets)
                x, targets, labels = x[kept], targets[kept], labels[kept]
                if self._judge_learns():
                    with one_value_explained(len(x)):
                        self.judge.learn(x, targets, parts)
            number = (self.step * world_size() + place()) * parts + part
            torch.manual_seed(random_key(self.seed, self.epoch, number))  # dropout
            with ExitStack() as stack:
                # Running statistics are those of the first micro-batch, as on several processes.
                stack.enter_context(freeze_running_stats(self.net, part > 0))
                if world_size() > 1 and part < parts - 1:
                    stack.enter_context(self.forward.no_sync())
                loss, logits = self._backward(x, targets, next(others), parts)
            right = self.loss.right(logits, labels)
            self.unread.append(torch.stack([loss * len(x), right, torch.full_like(right, len(x))]))
        self._update()

    def _backward(
        self, x: Tensor, targets: Tensor, others: Tensor | None, parts: int
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            # One batch of both: batch norm must not give away which is which.
            with one_value_explained(len(x)):
                logits = self.forward(x if others is None else torch.cat([x, others]))
            logits, beside = logits[: len(x)], logits[len(x) :]
            loss = self.loss(logits, targets)
            if self.teacher is not None:
                loss = torch.lerp(loss, _distilled(self.teacher, x, logits), DISTILLED_SHARE)
            if others is not None:
                loss = loss + self.recipe.outlier_weight * exposure.uniform_cross_entropy(beside)
        self.scaler.scale(loss / parts).backward()
        return loss.detach(), logits.detach()

    def _update(self) -> None:
        combined: Any = CombinedOptimizer(self.optimizers)
        self.scaler.unscale_(combined)
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        self.scaler.step(combined)
        self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update_parameters(self.net)
        if self.judge is not None and self._judge_learns():
            self.judge.update()

    def _judge_learns(self) -> bool:
        return (self.epoch * self._steps_an_epoch() + self.step) % hard.STEPS_BETWEEN == 0

    def _bar(self, order: list[Tensor], side: int) -> tqdm:
        sizes = [len(index) for index in order]
        at = f" at {side} px" if side == self.recipe.low_res else ""
        return tqdm(
            desc=f"epoch {self.epoch + 1}/{self.recipe.epochs}{at}",
            total=sum(sizes),
            initial=sum(sizes[: self.step]),
            unit=" images",
            leave=False,
            disable=rank() > 0,
        )

    def read_sums(self) -> Tensor:
        """The sums up to the last step; waits for the device."""
        if self.unread:
            # In float64 no bit is lost, so a stop between two looks changes no figure.
            self.sums += torch.stack(self.unread).cpu().double().sum(0)
            self.unread.clear()
        return self.sums

    def _look(self, bar: tqdm) -> None:
        loss, correct, images = self._summed_sums().tolist()
        self.checked("loss", loss)
        bar.set_postfix(loss=f"{loss / images:.3f}", acc=f"{correct / images:.1%}", refresh=False)
        self.log("training loss so far this epoch", loss / images, self.epoch * len(self.feed.data) + bar.n)

    def checked(self, what: str, value: float) -> float:
        """`value`, unless it is no number any more; then training stops before anything is written."""
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} became {value} in epoch {self.epoch + 1}; what was saved before it is kept. "
                "Lower --lr, or train with --precision fp32"
            )
        return value

    def finish_epoch(self, held_out: Images, run: Path) -> None:
        """Measure the held-out images, add a line to the history, keep the best weights, save."""
        loss, correct, images = self._summed_sums().tolist()
        share_buffers(self.kept)
        line = {
            "epoch": self.epoch + 1,
            "train_loss": self.checked("loss", loss / images),
            "train_acc": correct / images,
            **(self._measured(held_out) if len(held_out) else {}),
            "lr": self.recipe.lr * self._lr_factor(1 - 1 / self.step),  # of the last step
            "seconds": self.seconds,
            "images_per_second": images / self.seconds,
            "pflops": images * self._flops[self.sides()[self.epoch]] / 1e15,
        }
        self.history.append(line)
        if len(held_out) and self._is_better(line):
            scores = {name: value for name, value in line.items() if name.startswith("val_")}
            self.best = scores | {"epoch": self.epoch + 1}
            if self.keep == "best":
                self.best["weights"] = {
                    k: v.detach().cpu().clone() for k, v in self.kept.state_dict().items()
                }
        self._begin(self.epoch + 1)
        self.save(run)
        self._report(line)

    def _measured(self, held_out: Images) -> dict[str, float]:
        dtype = self.amp_dtype if self.device.type == "cuda" else None
        logits, labels = predict_logits(
            self.kept, held_out, self.feed.preprocess, batch_size=self.eval_batch, dtype=dtype
        )
        figures = metrics.of_held_out(logits, labels)
        self.checked("held-out loss", figures["val_loss"])
        return figures

    def _is_better(self, line: dict) -> bool:
        """By the recipe's metric; among equals, of which few images make many, by the loss."""
        key, more_is_better = metrics.CHOICES[self.metric]

        def rating(one: dict) -> tuple[float, float]:
            return one[key] if more_is_better else -one[key], -one["val_loss"]

        return key not in self.best or rating(line) > rating(self.best)

    def _report(self, line: dict) -> None:
        for name in line.keys() - {"epoch", "seconds", "pflops"}:
            self.log(name, line[name], line["epoch"] * len(self.feed.data))
        key, _ = metrics.CHOICES[self.metric]
        is_shown = key != "val_acc" and key in line
        by = f"{self.metric} {line[key]:.4f}  " if is_shown else ""
        if rank() == 0:
            held_out = f"held out {line['val_acc']:.2%}  " if "val_acc" in line else ""
            tqdm.write(
                f"epoch {line['epoch']}/{self.recipe.epochs}  loss {line['train_loss']:.4f}  "
                f"train {line['train_acc']:.2%}  {held_out}{by}"
                f"{line['images_per_second']:.0f} images/s"
            )

    def state(self) -> dict:
        """Everything a resume needs."""
        return self.identity | {
            "net": self.net.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "judge": None if self.judge is None else self.judge.state(),
            "scaler": self.scaler.state_dict(),
            "amp_dtype": str(self.amp_dtype),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.sums.tolist(),
            "history": self.history,
            "best": self.best,
        }

    def save(self, run: Path) -> None:
        """Write `last.ckpt` and `history.jsonl`; each is whole or not there.

        Raises:
            TrainingError: when the weights are no numbers any more, or cannot be written.
        """
        total = self._summed_sums()  # kept by rank 0 alone, so that a resume on other processes counts all
        self.sums = total if rank() == 0 else torch.zeros_like(total)
        if rank() == 0:
            self.checked("loss", total[0].item())
            nets = [self.net] if self.judge is None else [self.net, self.judge.net]
            values = chain.from_iterable(net.state_dict().values() for net in nets)
            numbers = [v.sum() for v in values if v.is_floating_point()]
            self.checked("sum of the weights", sum(numbers).item())
            lines = "".join(json.dumps(line) + "\n" for line in self.history)
            # First: what a crash between the two leaves out of last.ckpt is run and written again.
            write_whole(run / "history.jsonl", lines.encode())
            checkpoint.write(run, self.state())
        wait()

    def _summed_sums(self) -> Tensor:
        """The sums of all processes together; one alone keeps them in float64, to the last bit."""
        sums = self.read_sums()
        return summed(sums.to(self.device, copy=True)).cpu() if world_size() > 1 else sums

    def load(self, run: Path) -> None:
        """Continue from `run/last.ckpt`, or where it is damaged from the one before it.

        Raises:
            TrainingError: when that file cannot be read or belongs to another network, recipe, seed or data.
        """
        path, state = checkpoint.read(run)
        for key, value in self.identity.items():
            then = state.get(key, NOT_RECORDED.get(key))
            if key == "recipe" and then:  # a field that is newer than the file had its default
                then = asdict(Recipe(epochs=1)) | then
            if then != value:
                raise TrainingError(
                    f"{path} was made with another {key}: {_difference(then, value)}; "
                    "repeat the first command, or choose another --out"
                )
        self.net.load_state_dict(state["net"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.judge is not None:
            self.judge.load(state["judge"])
        self._compute_in(AMP_DTYPES[state["amp_dtype"]])  # "auto" may choose another one today
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.history, self.best = state["history"], state["best"]
        sums = torch.tensor(state["sums"], dtype=torch.float64)
        self.sums = sums if rank() == 0 else torch.zeros_like(sums)

    def restore_kept(self) -> None:
        """Put the weights that the recipe keeps into the network, in eval mode."""
        self.net.load_state_dict(self.best["weights"] if self.keep == "best" else self.kept.state_dict())
        self.net.eval()


def weights_kept(recipe: Recipe, held_out: int) -> str:
    """Which weights a run keeps, "best", "last" or "ema", with so many held-out images.

    Raises:
        ValueError: when they are to be chosen by held-out images and there are none.
    """
    asked = ["--keep best"] * (recipe.keep == "best")
    asked += [f"--patience {recipe.patience}"] * (recipe.patience > 0)
    asked += [f"--metric {recipe.metric}"] * (recipe.metric != "auto")
    if asked and not held_out:
        raise ValueError(
            f"{asked[0]} looks at held-out images, and --held-out 0 leaves none; leave one of them out"
        )
    if recipe.keep != "auto":
        return recipe.keep
    is_chosen = recipe.patience or recipe.metric != "auto"
    return "best" if is_chosen or held_out >= FEWEST_TO_CHOOSE else "last"


def _distilled(teacher: Callable[[Tensor], Tensor], x: Tensor, logits: Tensor) -> Tensor:
    with torch.no_grad():
        taught = (teacher(x) / DISTILLED_TEMPERATURE).log_softmax(1)
    learned = (logits / DISTILLED_TEMPERATURE).log_softmax(1)
    divergence = F.kl_div(learned, taught, log_target=True, reduction="batchmean")
    return divergence * DISTILLED_TEMPERATURE**2


def _compiled(net: nn.Module) -> Any:
    # A run has few shapes; from the second on torch would make one graph for any, which is slower.
    return torch.compile(net, dynamic=False)


def _distributed(net: Any) -> Any:
    if world_size() == 1:
        return net
    # What torch 2.13 calls it; the older name warns there.
    new, old = "forward_sync_buffers", "broadcast_buffers"
    name = new if new in signature(DistributedDataParallel.__init__).parameters else old
    off: dict[str, Any] = {name: False}
    return DistributedDataParallel(net, **off)


class Averaged(AveragedModel):
    """torch's, which copies its count of steps to the GPU at each of them, and so waits for it."""

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights and buffers of `model`."""
        assert self.multi_avg_fn is not None
        alike: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for pair in zip(_values(self.module), _values(model), strict=True):
            alike[pair[0].dtype].append(pair)
        for pairs in alike.values():
            averaged, now = map(list, zip(*pairs, strict=True))
            if self.n_averaged:
                self.multi_avg_fn(averaged, now, self.n_averaged)
            else:
                torch._foreach_copy_(averaged, now)
        self.n_averaged += 1


def _values(net: nn.Module) -> Iterator[Tensor]:
    return chain(net.parameters(), net.buffers())


def _averaged(net: nn.Module, recipe: Recipe, steps: int) -> Averaged | None:
    decay = recipe.ema
    if recipe.keep == "ema" and not decay:
        decay = max(1 - 1 / max(AVERAGED_SHARE * steps, 1), 0.0)
    if not decay and recipe.keep != "ema":
        return None

    def average(averaged: Tensors, now: Tensors, count: Tensor | int) -> None:
        grown = (1 + int(count)) / (10 + int(count)) if recipe.ema_warmup else 1.0
        get_ema_multi_avg_fn(min(decay, grown))(averaged, now, count)

    return Averaged(net, multi_avg_fn=average, use_buffers=True)


def _difference(then, now) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [key for key in now if then.get(key) != now[key]]
        then, now = ({key: value.get(key) for key in keys} for value in (then, now))
    return f"{then}, now {now}"


def eval_batch(shape: tuple[int, ...]) -> int:
    """How many images (C, H, W), or features (F,), are evaluated at once, so that maps stay in bounds."""
    return batch_size(shape, EVAL_BATCH, EVAL_PIXELS)


class Answered(NamedTuple):
    """Logits (N, classes) float32 on the CPU of the images that could be read, their labels (N,), and their
    positions (N,) in the data."""

    logits: Tensor
    labels: Tensor
    positions: Tensor


def predict_logits(
    net: nn.Module, data: Images, preprocess: Preprocess, **options: Any
) -> tuple[Tensor, Tensor]:
    """The logits and labels of `predict_each`."""
    answered = predict_each(net, data, preprocess, **options)
    return answered.logits, answered.labels


@torch.no_grad()  # not inference_mode: the temperature is fitted on these by gradient
def predict_each(
    net: nn.Module,
    data: Images,
    preprocess: Preprocess,
    *,
    view: Callable[[Tensor], Tensor] | None = None,
    batch_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> Answered:
    """What a network answers to the images, or to a view of them (N, C, H, W).

    Several processes take a share each, so that every image is counted once; one that cannot be read is
    left out.

    Args:
        batch_size: images at once; None for as many as make `EVAL_PIXELS`, `EVAL_BATCH` at most.
        dtype: of autocast; None computes in float32.

    Raises:
        DataError: when none can be read.
    """
    net.eval()
    device = next(net.parameters()).device
    count, classes = len(data), len(data.classes)
    logits, was_read = torch.zeros(count, classes, device=device), torch.zeros(count, device=device)
    batches = torch.arange(count).split(batch_size or eval_batch(data.shape))[place() :: world_size()]
    run = runner(net, count, data.shape) if dtype is None else net
    for pixels, index in data.fetch(batches):
        x, index = normalise(pixels, preprocess, device), sent(index, device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            answers = run(view(x) if view else x)
        logits[index] = answers.float()
        was_read[index] = 1.0
    logits, kept = summed(logits).cpu(), summed(was_read).cpu() > 0
    if not kept.any():
        raise DataError(f"{data.source} holds no readable image")
    return Answered(logits[kept], data.labels[kept], kept.nonzero()[:, 0])
