"""Multilayer perceptron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron with ReLU.

    Args:
        hidden: The width of each hidden layer.
    """

    hidden: tuple[int, ...] = (128, 128)

    def __call__(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Build it."""
        widths = [math.prod(shape), *self.hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
