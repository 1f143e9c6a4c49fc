"""Repeated multiplication: the arithmetic behind vanishing and exploding gradients.

`gradients.py` measures them in real networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from resnet_hub.lab.bounds import within

MOST_LAYERS = 200


@dataclass(frozen=True)
class Product:
    """`values[i]` is factor^i, the product after i layers."""

    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The product of all factors."""
        return self.values[-1]


def product(factor: float, layers: int) -> Product:
    """1, factor, factor^2 ... factor^layers: 0.9^100 is 0.0000266, 1.1^100 is 13,781.

    Args:
        factor: of each layer, 0.5 to 1.5.
        layers: 1 to 200.
    """
    within("factor", factor, 0.5, 1.5)
    within("layers", layers, 1, MOST_LAYERS)
    return Product(tuple(factor**i for i in range(layers + 1)))
