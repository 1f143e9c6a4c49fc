"""Skip connections by adding (ResNet) and by concatenating (DenseNet, U-Net), in channels and weights."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_hub.geometry import conv_weights
from resnet_hub.lab.bounds import within


@dataclass(frozen=True)
class Skips:
    """3x3 layers one after another, each with a skip connection of either kind.

    Args:
        added, concatenated: channels before the first layer and after each layer.
        added_weights, concatenated_weights: weights of each layer.
        unet_weights: of U-Net's 3x3 layer (arXiv 1505.04597) that halves the channels after a concatenation.
    """

    added: tuple[int, ...]
    concatenated: tuple[int, ...]
    added_weights: tuple[int, ...]
    concatenated_weights: tuple[int, ...]
    unet_weights: int


def compare(channels: int, growth: int, layers: int) -> Skips:
    """ResNet's y = x + F(x) keeps `channels`; DenseNet's y = [x, F(x)] has `growth` more after each layer.

    Args:
        channels: before the first layer, 1 to 512.
        growth: DenseNet's growth rate k (arXiv 1608.06993), 1 to 128.
        layers: 1 to 32.
    """
    within("channels", channels, 1, 512)
    within("growth", growth, 1, 128)
    within("layers", layers, 1, 32)
    grown = tuple(channels + i * growth for i in range(layers + 1))
    return Skips(
        (channels,) * (layers + 1),
        grown,
        (conv_weights(channels, channels, (3, 3)),) * layers,
        tuple(conv_weights(wide, growth, (3, 3)) for wide in grown[:-1]),
        conv_weights(2 * channels, channels, (3, 3)),
    )
