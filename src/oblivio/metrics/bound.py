"""Why sparse models are easier to forget with: Proposition 2 of Jia et al. 2023, measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.core import Origin, Run, Score, Split, Trial
from oblivio.curvature.lanczos import largest_eigenvalue
from oblivio.mask import Mask
from oblivio.prune import resumed
from oblivio.train import Recipe, count_steps


@dataclass(frozen=True)
class Bound:
    """Unlearning error of gradient ascent, and the bound that shrinks with sparsity.

    e(m) = ‖θ_u − θ_r‖₂ = O(B(m)),  B(m) = η² t ‖m ⊙ (θ_t − θ_0)‖₂ |σ(m)|

    θ_u is the unlearned model and θ_t the original, whose zeros are the mask m; θ_0 are the dense
    original's first weights. θ_r is trained on D_r from m ⊙ θ_0 with the same m held, so that only
    the data differ. σ(m) is the largest eigenvalue of the Hessian of the loss on D at θ_t, among
    the coordinates that m keeps. η and t are the rate and the number of the original's steps of
    SGD. B(m) is known up to a constant: compare it across sparsities, not with e(m).

    The proposition is about plain SGD at a constant rate from θ_0, one and the same for training
    and for ascent; other trainings are measured as they are. Costly: it trains a model.

    Args:
        lr: η. None takes the origin's, if a `Recipe` trained it.
        steps: t. None counts those of the origin's `Recipe`.
        seed: Of the vector that the search for σ starts from.

    Raises:
        ValueError: If η is not above 0, or t below 1.

    Source: Jia et al. 2023, proposition 2; Thudi et al. 2022 for the expansion behind it.
    """

    lr: float | None = None
    steps: int | None = None
    seed: int = 0

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "unlearning_error": Score(
            "Weight error", "", "down", "distance of the weights to those retrained with the mask"
        ),
        "bound": Score("Bound", "", "down", "size of the unlearning error, up to a constant"),
        "sharpness": Score(
            "Sharpness", "", "down", "largest eigenvalue of the loss's Hessian among kept weights"
        ),
        "distance": Score("Distance", "", "down", "how far the training moved the kept weights"),
    }

    def __post_init__(self) -> None:
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"lr = {self.lr} must be above 0; None takes the recipe's.")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps = {self.steps} must be 1 or more; None counts the recipe's.")

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Retrain with the mask, and measure.

        Returns:
            The four numbers; without `unlearning_error` if the unlearned model is another network,
            whose weights are no neighbours of θ_r.

        Raises:
            ValueError: If the run has no origin, or η or t is neither given nor known.
        """
        origin = run.needed_origin("The bound needs the original's first weights and its training")
        lr, steps = self._training(origin, trial.split)
        mask, parts = Mask.of(trial.original), [trial.split.forget, trial.split.retain]
        first = mask.apply(origin.fresh())
        distance = gap(trial.original, first)
        sharpness = largest_eigenvalue(trial.original, parts, mask=mask, seed=self.seed)
        found = {
            "bound": lr**2 * steps * distance * abs(sharpness),
            "sharpness": sharpness,
            "distance": distance,
        }
        if _shapes(trial.unlearned) == _shapes(trial.original):
            retrained = resumed(origin, first, mask).make(trial.split.retain, run)
            found["unlearning_error"] = gap(trial.unlearned, retrained)
        return found

    def _training(self, origin: Origin, split: Split) -> tuple[float, int]:
        """η and t: as given, or as the original's recipe has them."""
        recipe = getattr(origin.train, "recipe", origin.train)
        if isinstance(recipe, Recipe):
            steps = count_steps(len(split.forget) + len(split.retain), recipe)
            return self.lr or recipe.lr, self.steps or steps
        if self.lr is None or self.steps is None:
            raise ValueError(
                "The original was trained by a function of its own, which does not say how: give "
                "the metric lr and steps, its learning rate and how many steps of SGD it took."
            )
        return self.lr, self.steps


def gap(one: nn.Module, two: nn.Module) -> float:
    """‖θ − θ'‖₂ over all weights of two models of one kind, in float64; buffers are no weights."""
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    squares = [(a.detach().cpu().double() - b.detach().cpu()).square().sum() for a, b in pairs]
    return math.sqrt(sum(map(float, squares)))


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}
