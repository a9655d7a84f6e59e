"""Retraining a GAN on the retained images alone: what all others are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.core import Part, Run, Split


@dataclass(frozen=True)
class Retrain:
    """Trains a new pair from its first weights on the retained images.

    Both players are rebuilt from factory and seed and trained as the original was, so that nothing
    but the data tells the two apart.
    """

    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """The retrained pair.

        Returns:
            The pair, in eval mode.

        Raises:
            ValueError: If the run does not say how the original came to be.
        """
        origin = run.needed_origin("Retrain must know how the original GAN was made")
        return origin.make(split.retain, run)
