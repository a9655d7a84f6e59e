"""Fine-tuning on what is retained (FT)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.core import Part, Run, Split
from oblivio.train import Recipe, fit


@dataclass(frozen=True)
class FineTune:
    """Fine-tuning (FT): goes on training on D_r alone.

    What is not rehearsed may be forgotten.

    θ ← θ − η ∇ℓ(θ; D_r).

    Args:
        recipe: Ten epochs at 0.01; Jia et al. search the rate from 1e-3 to 1e-1.

    Source: Warnecke et al. 2021; settings of Jia et al. 2023.
    """

    recipe: Recipe = Recipe(epochs=10, lr=0.01)

    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})
    search: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "recipe.lr": (1e-3, 1.0),
        "recipe.epochs": (1, 20),
    }

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Train on D_r."""
        return fit(model, split.retain, self.recipe, run)
