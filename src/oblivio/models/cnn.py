"""Small convolutional network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import nn


@dataclass(frozen=True)
class CNN:
    """Small convolutional network.

    Blocks of 3×3 convolution, BatchNorm, ReLU and 2×2 pooling, then two linear layers.

    Args:
        channels: The width of each block; the image must survive as many halvings.
        hidden: The width of the linear layer before the last.
    """

    channels: tuple[int, ...] = (16, 32)
    hidden: int = 128

    def __call__(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Build it.

        Returns:
            The untrained network.

        Raises:
            ValueError: If the input is not an image, or too small.
        """
        if len(shape) != 3:
            raise ValueError(
                f"A CNN takes images (channels, height, width), not inputs of {shape}."
            )
        halved = 2 ** len(self.channels)
        if min(shape[1:]) < halved:
            raise ValueError(
                f"Images of {shape[1]}×{shape[2]} pixels cannot be halved {len(self.channels)} "
                f"times."
            )
        layers: list[nn.Module] = []
        for before, after in pairwise([shape[0], *self.channels]):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        features = self.channels[-1] * (shape[1] // halved) * (shape[2] // halved)
        head = [nn.Flatten(), nn.Linear(features, self.hidden), nn.ReLU()]
        return nn.Sequential(*layers, *head, nn.Linear(self.hidden, classes))
