"""How near a model comes to the retrained one on every single forgotten example."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from oblivio.core import Outputs, Run, Score, Trial, predict


@dataclass(frozen=True)
class Closeness:
    """Distance of the outputs on D_f to retrain's, example by example, beside its own null.

    d(a, b) = 100/|D_f| Σ |p_a(y|x) − p_b(y|x)|,
    JS(a, b) = 100/|D_f| Σ (KL(p_a ‖ m) + KL(p_b ‖ m)) / 2,  m = (p_a + p_b) / 2,  log to base 2

    with a the unlearned model and b the retrained one of the same seed. Two retrained models differ
    as well: the null is d and JS of one that is retrained from another seed, below which no method
    need come. Scores over the whole set, such as UA, may agree where single examples do not.
    Costly: it trains two models.

    Raises:
        ValueError: When called, if the run does not say how the original came to be.
    """

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "confidence_distance": Score(
            "Δp", "%", "down", "distance to retrain of the true class's probability, per example"
        ),
        "confidence_null": Score(
            "Δp null", "%", "retrain", "the same between two models retrained from different seeds"
        ),
        "divergence": Score(
            "JS", "%", "down", "Jensen-Shannon divergence from retrain's outputs, per example"
        ),
        "divergence_null": Score(
            "JS null", "%", "retrain", "the same between two retrained models"
        ),
    }

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Retrain twice, and compare.

        Returns:
            The four numbers.

        Raises:
            ValueError: If the run does not say how the original came to be.
        """
        models = trial.retrained(run, "Closeness"), trial.retrained_again(run, "Closeness")
        one, two = (predict(model, trial.split.forget) for model in models)
        return {
            "confidence_distance": distance(trial.on_forget, one),
            "confidence_null": distance(two, one),
            "divergence": divergence(trial.on_forget, one),
            "divergence_null": divergence(two, one),
        }


def distance(a: Outputs, b: Outputs) -> float:
    """d, from 0 to 100."""
    true = a.labels[:, None]
    of_a, of_b = (one.logits.double().softmax(1).gather(1, true) for one in (a, b))
    return 100 * float((of_a - of_b).abs().mean())


def divergence(a: Outputs, b: Outputs) -> float:
    """JS, from 0 to 100."""
    p, q = (one.logits.double().softmax(1) for one in (a, b))
    middle = (p + q) / 2
    return 100 * float((_relative(p, middle) + _relative(q, middle)).mean() / 2)


def _relative(p: Float[Tensor, "n classes"], q: Float[Tensor, "n classes"]) -> Float[Tensor, " n"]:
    """KL(p ‖ q) in bits, where q is positive wherever p is."""
    return (p.xlogy(p) - p.xlogy(q)).sum(1).clamp(min=0) / math.log(2)
