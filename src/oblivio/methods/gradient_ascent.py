"""Gradient ascent on what is to be forgotten (GA)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.core import Part, Run, Split
from oblivio.train import Recipe, fit


@dataclass(frozen=True)
class GradientAscent:
    """Gradient ascent (GA): climbs the loss on D_f up to chance.

    θ ← θ + η ∇ℓ(θ; D_f). Nothing bounds the loss from above, so unbounded ascent destroys the
    model. It stops before a step whose batch already has a mean loss of `limit` or more; the note
    `stopped` says whether and why.

    Args:
        recipe: Five epochs at 1e-4 without weight decay; Jia et al. search 1e-5 to 1e-3.
        limit: The loss to stop at, in nats; None is log(number of classes), a uniform guess's.

    Source: Graves et al. 2021, Thudi et al. 2022; settings of Jia et al. 2023; the limit is ours.
    """

    recipe: Recipe = Recipe(epochs=5, lr=1e-4, weight_decay=0.0)
    limit: float | None = None

    reads: ClassVar[frozenset[Part]] = frozenset({"forget"})
    search: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "recipe.lr": (1e-5, 0.1),
        "recipe.epochs": (1, 20),
    }

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Climb."""
        limit, classes, steps = self.limit, 0, 0

        def ascent(logits: Tensor, labels: Tensor) -> Tensor:
            nonlocal classes
            classes = logits.shape[1]
            return -F.cross_entropy(logits, labels)

        def enough(loss: float) -> bool:
            nonlocal limit, steps
            limit = math.log(classes) if limit is None else limit
            if -loss >= limit:
                run.note(stopped=f"the loss on D_f reached {-loss:.2f}, the limit is {limit:.2f}")
                return True
            steps += 1
            return False

        model = fit(model, split.forget, self.recipe, run, loss=ascent, stop=enough)
        run.note(steps=steps)
        return model
