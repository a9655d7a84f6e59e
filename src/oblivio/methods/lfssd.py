"""Dampening of the weights that the forgotten examples' outputs react to above all (LFSSD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.core import Data, Part, Run, Split
from oblivio.curvature.cache import keep
from oblivio.methods._dampening import check, dampened


@dataclass(frozen=True)
class LFSSD:
    """Loss-free selective synaptic dampening (LFSSD): as SSD, but without labels.

    Where Ω_f(w) > α Ω(w):  w ← w · min(λ Ω(w) / Ω_f(w), 1),

    Ω_S(w) = (1/|S|) Σ_{x∈S} |∂ ‖f_θ(x)‖²₂ / ∂w|,

    with Ω_f and Ω over D_f and over all of D, D_f included. A network that is certain of what it
    learned has no gradient of its loss to speak of, but its outputs still react to its weights. As
    for SSD, the ratio is at most n / n_f, zeros of a pruned model stay zero, and the notes say
    which share of the weights is `changed`, which is the `largest` ratio, and explain the choice.

    Args:
        alpha: α, above which ratio a weight is dampened.
        strength: λ; the smaller, the more is dampened.

    Raises:
        ValueError: If a number is out of range.

    Source: Foster, Schoepf and Brintrup 2024 (arXiv 2402.19308). Their code takes the gradient of
    a batch's mean; here there is one per example, of which the absolute value is taken.
    """

    alpha: float = 10.0
    strength: float = 1.0

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})
    search: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "alpha": (1.0, 100.0),
        "strength": (0.01, 10.0),
    }

    def __post_init__(self) -> None:
        check(self.alpha, self.strength)

    def prepare(self, model: nn.Module, data: Data, run: Run) -> None:
        """Keep Ω beside the model's weights."""
        if run.beside is not None:
            keep(model, data, run, "outputs")

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Dampen."""
        return dampened(model, split, run, "outputs", self.alpha, self.strength)
