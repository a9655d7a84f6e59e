"""RMIA: robust membership inference on unlearned models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from oblivio.core import Score
from oblivio.evidence._sample import bounded, enough
from oblivio.roc import share_below, tails, true_positives
from oblivio.shadow import RATES, Design, Part, Shadows

Ratios = Float64[Tensor, "models points"]
Others = Float64[Tensor, "models others"]


@dataclass(frozen=True)
class Rmia:
    """RMIA, offline: tells D_f from test points by how many of the population they outdo.

    The unlearned models θ_u^t are attacked one by one. Their members are the points of D_f that
    H_t held, their non-members the test points, which are also the population z. With p_θ(x) the
    probability of the true class, σ(φ),

        p(x) = ½ ((1 + a) · mean_{s ≠ t} p_{θ_r^s}(x) + (1 − a))
        LR(x, z) = (p_θ(x) / p(x)) / (p_θ(z) / p(z))
        score(x) = share of z with LR(x, z) > γ,  z other than x

    The retrained models of all other shadows are the references: none of them saw x or z. AUC and
    true positive rate are of all models' scores together; a point's own number is the share of
    non-members that it outdoes, a mean over models. The references know how hard a point is only in
    part (a), so that where D_f is another distribution than the test set, such as a whole class,
    a perfect method does not give 50 %: its null does, and is what to compare with.

    Args:
        a: How sure of x models are that saw it, from those that did not: p_in = a · p_out + 1 − a,
            and p(x) is the mean of the two.
        gamma: γ.

    Raises:
        ValueError: If a is not from 0 to 1, or gamma not above 0.
        TooFew: When called, if there are fewer than 4 shadow models, 2 test points, or a model that
            saw none of D_f. The true positive rate is left out with fewer than 100 test points.

    Source: Zarifzadeh, Liu and Shokri 2024, "Low-cost high-power membership inference attacks".
    Ours: the references are retrained models, and the population is the test set.
    """

    a: float = 0.3
    gamma: float = 1.0

    design: ClassVar[Design] = "halves"
    scores: ClassVar[Mapping[str, Score]] = {
        "rmia_auc": Score(
            "RMIA AUC", "%", "retrain", "forget points told from test points; as for retraining"
        ),
        "rmia_tpr_1": Score(
            "RMIA TPR @ 1 %", "%", "retrain", "true positives at 1 % false ones; as for retraining"
        ),
    }

    def __post_init__(self) -> None:
        if not 0 <= self.a <= 1:
            raise ValueError(f"a = {self.a} must be from 0 to 1.")
        if not self.gamma > 0:
            raise ValueError(f"gamma = {self.gamma} must be above 0.")

    def __call__(self, shadows: Shadows) -> Mapping[str, Any]:
        """AUC, true positive rate, the ROC curve, and each point's share."""
        seen = shadows.seen[:, shadows.points("forget")]
        enough(len(shadows), 4, "shadow models", "have references for each")
        enough(shadows.counts[2], 2, "test points", "be the population")
        least = int(seen.sum(0).min()) if seen.numel() else 0
        enough(least, 1, "shadow models that saw each point", "judge it")
        members, others = self._outdone(
            _relative(shadows, "forget", self.a), _relative(shadows, "test", self.a)
        )
        positives, negatives = members[seen], others.flatten()
        below = share_below(members, others).where(seen, 0).sum(0) / seen.sum(0)
        # each model's best test point outdoes all others, so that fewer cannot show one in 100
        rates = {"rmia_tpr_1": 0.01} if shadows.counts[2] >= 100 else {}
        return {
            "rmia_auc": 100 * float(share_below(positives, negatives).mean()),
            **tails(positives, negatives, **rates),
            "roc": true_positives(positives, negatives, RATES).tolist(),
            "per_point": (100 * below).tolist(),
        }

    def _outdone(self, members: Ratios, population: Others) -> tuple[Ratios, Others]:
        """The scores of members, and of the population's points, each without itself."""
        n = population.shape[1]
        bars = (self.gamma * population).sort(1).values
        of_members, of_others = (
            torch.searchsorted(bars, x.contiguous()).double() for x in (members, population)
        )
        itself = (population > self.gamma * population).double()
        return of_members / n, (of_others - itself) / (n - 1)


def _relative(shadows: Shadows, part: Part, a: float) -> Ratios:
    """p_θ(x) / p(x) of each unlearned model, the references being all other shadows' retrained."""
    target, reference = (
        bounded(shadows.of(kind, part).margins).sigmoid() for kind in ("unlearned", "retrained")
    )
    unseen = (reference.sum(0) - reference) / (len(reference) - 1)
    return target / (((1 + a) * unseen + (1 - a)) / 2)
