"""Fine-tuning that makes the model sparse (ℓ1-sparse)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.catalogue import unknown
from oblivio.core import Part, Run, Split
from oblivio.mask import zeros
from oblivio.train import Recipe, count_steps, fit

Schedule = Literal["constant", "increasing", "decreasing"]
Step = Literal["subgradient", "proximal"]


@dataclass(frozen=True)
class L1Sparse:
    """ℓ1-sparse unlearning: fine-tunes on D_r with a penalty that makes the model sparse.

    min over θ of  ℓ(θ; D_r) + γ_t ‖θ‖₁,  over all trainable parameters,

    with γ_t = γ, γ t/T or γ (1 − t/T) at step t of T. A subgradient step adds γ_t sign(θ) to the
    gradient, momentum and all: weights come near zero and never stay there. A proximal step is the
    recipe's own step on ℓ, momentum and all, followed by

    θ ← sign(θ) max(|θ| − η_t γ_t, 0),  η_t the learning rate,

    which leaves exact zeros. Momentum repeats a subgradient 1/(1 − β) times over and a threshold
    only once, so that the same γ weighs more in a subgradient step.

    The notes say which share of the prunable weights is zero at the end (`sparsity`), and which of
    all parameters (`zeros`).

    Args:
        recipe: As for fine-tuning.
        gamma: γ; 1e-4 on CIFAR-10 in the paper, which searches 1e-5 to 1e-3.
        schedule: Of γ_t; "decreasing" is the paper's best.
        step: "subgradient", the paper's, or "proximal".

    Raises:
        ValueError: If γ is negative, or there is no such schedule or step.

    Source: Jia et al. 2023, equation 3; proximal steps are ours (Parikh and Boyd 2014, 4.2).
    """

    recipe: Recipe = Recipe(epochs=10, lr=0.01)
    gamma: float = 1e-4
    schedule: Schedule = "decreasing"
    step: Step = "subgradient"

    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})
    search: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "recipe.lr": (1e-3, 1.0),
        "recipe.epochs": (1, 20),
        "gamma": (1e-5, 1e-2),
    }

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma = {self.gamma} must be a finite number, 0 or more.")
        for name, kind in (("schedule", Schedule), ("step", Step)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(unknown(name, getattr(self, name), get_args(kind)))

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Fine-tune with the penalty."""
        weights = [p for p in model.parameters() if p.requires_grad]
        gammas = penalties(self.gamma, self.schedule, count_steps(len(split.retain), self.recipe))
        if self.step == "subgradient":
            taken = iter(gammas)

            def penalised(logits: Tensor, labels: Tensor) -> Tensor:
                size = torch.stack([w.abs().sum() for w in weights]).sum()
                return F.cross_entropy(logits, labels) + next(taken) * size

            model = fit(model, split.retain, self.recipe, run, loss=penalised)
        else:
            shrink = soft_threshold(weights)
            model = fit(
                model,
                split.retain,
                self.recipe,
                run,
                after_step=lambda taken, lr: shrink(lr * gammas[taken - 1]),
            )
        among_prunable, among_all = zeros(model)
        run.note(sparsity=round(among_prunable, 6), zeros=round(among_all, 6))
        return model


def penalties(gamma: float, schedule: Schedule, steps: int) -> list[float]:
    """γ_t for each step t = 0 … T − 1.

    Returns:
        As many numbers as there are steps.

    Example:
        >>> penalties(1.0, "decreasing", 4), penalties(1.0, "increasing", 4)
        ([1.0, 0.75, 0.5, 0.25], [0.0, 0.25, 0.5, 0.75])
    """
    shares = {
        "constant": lambda _: 1.0,
        "increasing": lambda t: t / steps,
        "decreasing": lambda t: 1 - t / steps,
    }
    return [gamma * shares[schedule](t) for t in range(steps)]


def soft_threshold(weights: list[nn.Parameter]) -> Callable[[float], None]:
    """The proximal operator of τ‖θ‖₁, in place: θ ← sign(θ) max(|θ| − τ, 0).

    Returns:
        A function of τ.
    """

    @torch.no_grad()
    def shrink(threshold: float) -> None:
        for weight in weights:
            weight.copy_(F.softshrink(weight, threshold))

    return shrink
