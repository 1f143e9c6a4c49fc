"""The training loop: one epoch, evaluation, checkpoints that a crash cannot tear.

Knows nothing of command lines, files of pictures or model cards.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from resnet_hub.preprocess import Preprocess
from training.data import EpochBatches, ImageSet, normalise
from training.optim import build_optimizers, set_lr_factor, triangular
from training.recipes import Recipe


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what is kept."""


def keep_freed_memory() -> None:
    """Stop glibc from returning every large tensor to the kernel, which would zero it anew each step.

    Measured on 2 Cascade Lake cores, ResNet-20, batch 128: 275 -> 376 images a second.
    """
    with suppress(OSError, AttributeError):  # not glibc: nothing to tune
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def write_atomically(path: Path, write) -> None:
    """Call `write(temporary_path)`, then move the result into place in one step."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)


def write_json(path: Path, value) -> None:
    """Write `value` as indented UTF-8 JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def training_flops(model: nn.Module, side: int, device: torch.device) -> float:
    """Floating-point operations of one training step on one picture, by torch's own counter."""
    x = torch.zeros(2, model.config.in_chans, side, side, device=device)
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(x)


class Trainer:
    """A model, its averaged copy, optimizers and place in the schedule: all that a resume needs."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        preprocess: Preprocess,
        *,
        seed: int,
        device: torch.device,
        amp_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model.to(device, memory_format=torch.channels_last)
        self.recipe, self.preprocess, self.seed = recipe, preprocess, seed
        self.device, self.amp_dtype = device, amp_dtype
        self.averaged = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True
        )
        self.optimizers = build_optimizers(self.model, recipe)
        self.epoch = 0
        self.history: list[dict] = []
        self.best: dict = {"val_acc": -1.0}
        self._flops = {side: training_flops(self.model, side, device) for side in set(self.sides())}

    def sides(self) -> list[int]:
        """The pictures' side in pixels, epoch by epoch."""
        full = self.preprocess.input_size[-1]
        low_epochs = round(self.recipe.epochs * self.recipe.low_res_until) if self.recipe.low_res else 0
        return [self.recipe.low_res] * low_epochs + [full] * (self.recipe.epochs - low_epochs)

    def train_epoch(self, data: ImageSet) -> dict:
        """One pass over `data`; returns this epoch's line of the history, without validation."""
        batches = EpochBatches(data, self.recipe.batch_size, self.seed, self.epoch)
        side = self.sides()[self.epoch]
        torch.manual_seed(self.seed * 100_003 + self.epoch)  # dropout, too, is the same after a resume
        self.model.train()
        total_loss = total_correct = images = 0
        started = time.perf_counter()
        bar = tqdm(batches, f"epoch {self.epoch + 1}/{self.recipe.epochs}", leave=False)
        for step, (pixels, labels) in enumerate(bar):
            progress = (self.epoch + step / len(batches)) / self.recipe.epochs
            set_lr_factor(self.optimizers, max(triangular(progress, self.recipe.warmup), 1e-6))
            loss, correct = self.train_step(pixels, labels.to(self.device), side)
            total_loss += loss * len(labels)
            total_correct += correct
            images += len(labels)
            if step % 10 == 0:
                bar.set_postfix(loss=f"{total_loss / images:.3f}", acc=f"{total_correct / images:.3f}")
        seconds = time.perf_counter() - started
        return {
            "epoch": self.epoch + 1,
            "train_loss": total_loss / images,
            "train_acc": total_correct / images,
            "lr": self.optimizers[0].param_groups[0]["lr"],
            "seconds": seconds,
            "images_per_second": images / seconds,
            "pflops": images * self._flops[side] / 1e15,
        }

    def train_step(self, pixels: Tensor, labels: Tensor, side: int) -> tuple[float, int]:
        """uint8 pictures (B, 3, H, W), labels (B,) -> (mean loss, correct predictions)."""
        x = normalise(pixels, self.preprocess, self.device)
        if side != x.shape[-1]:
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)
        with torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            logits = self.model(x)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        value = self.checked("loss", loss.item())
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.averaged.update_parameters(self.model)
        return value, int((logits.argmax(1) == labels).sum())

    def checked(self, what: str, value: float) -> float:
        """`value`, unless it is no number any more; then training stops before anything is written."""
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} became {value} in epoch {self.epoch + 1}; what was saved before it is kept. "
                "Lower the rates in the recipe, or train with --precision fp32"
            )
        return value

    def fit(self, train: ImageSet, held_out: ImageSet, run: Path) -> None:
        """Train the epochs that are left; after each one write `last.ckpt` and `history.jsonl`."""
        while self.epoch < self.recipe.epochs:
            line = self.train_epoch(train)
            logits = predict_logits(self.averaged.module, held_out, self.preprocess)
            line["val_loss"] = self.checked("held-out loss", F.cross_entropy(logits, held_out.labels).item())
            line["val_acc"] = (logits.argmax(1) == held_out.labels).float().mean().item()
            self.epoch += 1
            self.history.append(line)
            if line["val_acc"] > self.best["val_acc"]:
                weights = {k: v.detach().cpu().clone() for k, v in self.averaged.module.state_dict().items()}
                self.best = {"val_acc": line["val_acc"], "epoch": self.epoch, "weights": weights}
            self.save(run)
            tqdm.write(
                f"epoch {self.epoch}/{self.recipe.epochs}  loss {line['train_loss']:.4f}  "
                f"train {line['train_acc']:.4f}  held out {line['val_acc']:.4f}  "
                f"{line['images_per_second']:.0f} images/s"
            )

    def save(self, run: Path) -> None:
        """Everything a resume needs, in one file that is whole or not there."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "epoch": self.epoch,
            "history": self.history,
            "best": self.best,
            "recipe": asdict(self.recipe),
            "config": self.model.config.to_dict(),
            "seed": self.seed,
        }
        write_atomically(run / "last.ckpt", lambda p: torch.save(state, p))
        lines = "".join(json.dumps(line) + "\n" for line in self.history)
        write_atomically(run / "history.jsonl", lambda p: p.write_text(lines, encoding="utf-8"))

    def load(self, run: Path) -> None:
        """Continue from `run/last.ckpt`.

        Raises:
            TrainingError: when that file belongs to another network, recipe or seed.
        """
        state = torch.load(run / "last.ckpt", map_location=self.device, weights_only=True)
        mine = {
            "config": self.model.config.to_dict(),
            "recipe": asdict(self.recipe) | {"expects": ""},
            "seed": self.seed,
        }
        state["recipe"]["expects"] = ""
        for key, value in mine.items():
            if state[key] != value:
                raise TrainingError(
                    f"{run / 'last.ckpt'} was made with another {key}: {state[key]}, now {value}; "
                    "repeat the first command, or choose another --out"
                )
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.epoch, self.history, self.best = state["epoch"], state["history"], state["best"]


@torch.no_grad()  # not inference_mode: the temperature is fitted on these by gradient
def predict_logits(
    model: nn.Module, data: ImageSet, preprocess: Preprocess, *, flip: bool = False, batch_size: int = 250
) -> Tensor:
    """Logits (N, classes) float32 on the CPU; with `flip`, of the mirrored pictures."""
    model.eval()
    device = next(model.parameters()).device
    out = []
    for pixels in data.images.split(batch_size):
        x = normalise(pixels, preprocess, device)
        out.append(model(x.flip(3) if flip else x).float().cpu())
    return torch.cat(out)
