"""Train again without the forgotten data: exact, slow, and the yardstick of all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.core import Part, Run, Split


@dataclass(frozen=True)
class Retrain:
    """Trains anew on D_r: exact, slow, the yardstick.

    θ_r = A(D_r): the same factory, recipe and seed as the original's (`Run.origin`). Not one weight
    comes from the model that is to forget.
    """

    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Make the model again.

        Returns:
            A new model.

        Raises:
            ValueError: If the run does not say how the original came to be.
        """
        origin = run.needed_origin("Retrain must know how the original was made")
        return origin.make(split.retain, run)
