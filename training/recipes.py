"""How to train, as documented data: named frozen recipes and what each is expected to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train.

    Args:
        optimizer: "muon" (Muon on convolutions, SGD on the rest) or "sgd".
        lr: peak rate of SGD. muon_lr: peak rate of Muon.
        weight_decay: on matrices and filters that SGD moves; never on norms and biases.
        warmup: share of the run during which the rate rises; it then falls in a straight line to 0.
        low_res: side in pixels of the pictures during the first part of the run; 0 for full size throughout.
        low_res_until: share of the epochs trained at `low_res`.
        ema: decay a step of the averaged weights that are evaluated and kept.
        expects: what it reaches and what it costs, with the evidence.
    """

    epochs: int
    batch_size: int = 256
    optimizer: str = "sgd"
    lr: float = 0.1
    muon_lr: float = 0.0
    weight_decay: float = 5e-4
    warmup: float = 0.05
    label_smoothing: float = 0.1
    low_res: int = 0
    low_res_until: float = 0.0
    ema: float = 0.99
    expects: str = ""


RECIPES = {
    "fast": Recipe(
        epochs=36,
        optimizer="muon",
        lr=0.1,
        muon_lr=0.04,
        label_smoothing=0.05,
        low_res=24,
        low_res_until=0.55,
        expects="the embedded resnet20_cifar10 checkpoint; its card has the figures",
    ),
    "plain": Recipe(
        epochs=24,
        lr=0.4,
        warmup=0.2,
        expects="resnet20_cifar, all 50,000 JPEG re-encoded CIFAR-10 images: about 86.9 % test top-1",
    ),
}
