"""Retrain from another seed: what chance alone makes of every score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.core import Part, Run, Split


@dataclass(frozen=True)
class RetrainAgain:
    """Retrains from another seed: exact too, so its gap to Retrain is chance alone.

    θ_r' = A(D_r) with the original's factory and recipe, and `Origin.another`'s seed. In a table it
    is the null of every score that looks at one model: a method whose row is no further from
    Retrain's than this one cannot be told from a perfect one by that score. Retrain itself shares
    its first weights with the original; this model does not.

    The row is ours.
    """

    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Make the model again, from another seed.

        Returns:
            A new model.

        Raises:
            ValueError: If the run does not say how the original came to be.
        """
        origin = run.needed_origin("RetrainAgain must know how the original was made")
        return origin.another().make(split.retain, run)
