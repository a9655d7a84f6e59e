"""Population LiRA: a membership attack that needs no shadow models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from oblivio.core import Score
from oblivio.evidence._likelihood import FLOOR
from oblivio.evidence._sample import bounded, enough
from oblivio.roc import share_below, true_positives
from oblivio.shadow import RATES, Design, Shadows

Margins = Float64[Tensor, "models points"]
Others = Float64[Tensor, "models others"]


@dataclass(frozen=True)
class PopulationLira:
    """LiRA from the population alone: how far above test points of its class a point's margin is.

    Each unlearned model is attacked by itself. Its non-members are the test points, its members the
    points of D_f that it was trained on and has unlearned.

        score(x) = (φ(x) − μ_y) / σ_y

    with μ_y and σ_y the mean and standard deviation of φ over the test points of x's class, or over
    all test points where the class has too few; the judged test point itself is left out. AUC and
    true positive rate are computed for each model, and the mean over models is given; a point's own
    number is the share of test points that it is above, a mean over models. This attacker knows
    neither how hard a point is nor what retraining would have made of it: the weakest here, the
    cheapest, and the only one that a single deployed model lets anyone run. For a class that is
    forgotten as a whole, or for hard points, a perfect method does not give 50 %: compare with the
    null.

    Args:
        per_class: The fewest test points from which a class has its own μ and σ.

    Raises:
        ValueError: If `per_class` is below 3.
        TooFew: When called, if there are fewer than 4 shadow models, 3 test points, or a model that
            saw none of D_f. The true positive rate is left out with fewer than 100 test points.

    Source: the population attack of Ye et al. 2022, "Enhanced membership inference attacks against
    machine learning models" (Attack P), with the scaled logit and the global variance of Carlini et
    al. 2022. Ours: μ and σ by class, and the mean over models.
    """

    per_class: int = 20

    design: ClassVar[Design] = "fixed"
    scores: ClassVar[Mapping[str, Score]] = {
        "population_auc": Score(
            "Population AUC", "%", "retrain", "forget points above test points; as for retraining"
        ),
        "population_tpr_1": Score(
            "Population TPR @ 1 %",
            "%",
            "retrain",
            "true positives at 1 % false ones; as for retraining",
        ),
    }

    def __post_init__(self) -> None:
        if self.per_class < 3:
            raise ValueError(f"per_class = {self.per_class} must be 3 or more.")

    def __call__(self, shadows: Shadows) -> Mapping[str, Any]:
        """AUC, true positive rate, the ROC curve, and each point's share."""
        seen = shadows.seen[:, shadows.points("forget")]
        enough(len(shadows), 4, "shadow models", "take a mean over them")
        enough(shadows.counts[2], 3, "test points", "be the population")
        least = int(seen.sum(0).min()) if seen.numel() else 0
        enough(least, 1, "shadow models that saw each point", "judge it")
        members, others = self._standardised(shadows)
        below = share_below(members, others)
        # the attacks on models that saw none of D_f have no positives
        attacks = [t for t in range(len(seen)) if bool(seen[t].any())]
        areas = torch.stack([below[t, seen[t]].mean() for t in attacks])
        curves = torch.stack(
            [true_positives(members[t, seen[t]], others[t], (*RATES, 0.01)) for t in attacks]
        ).mean(0)
        found: dict[str, Any] = {
            "population_auc": 100 * float(areas.mean()),
            "roc": curves[:-1].tolist(),
            "per_point": (100 * below.where(seen, 0).sum(0) / seen.sum(0)).tolist(),
        }
        if shadows.counts[2] >= 100:
            found["population_tpr_1"] = 100 * float(curves[-1])
        return found

    def _standardised(self, shadows: Shadows) -> tuple[Margins, Others]:
        """The scores of points of D_f, and of test points, in all unlearned models."""
        forget, test = (
            bounded(shadows.of("unlearned", part).margins) for part in ("forget", "test")
        )
        of_forget, of_test = (shadows.labels[shadows.points(part)] for part in ("forget", "test"))
        members, others = torch.empty_like(forget), torch.empty_like(test)
        for label in shadows.labels.unique():
            mine = of_test == label
            population = mine if int(mine.sum()) >= self.per_class else torch.ones_like(mine)
            judged = of_forget == label
            members[:, judged] = _scores(forget[:, judged], test[:, population])
            others[:, mine] = _scores(test[:, population])[:, mine[population]]
        return members, others


def _scores(judged: Margins, population: Others | None = None) -> Margins:
    """(φ − μ) / σ in a population, or in the judged points themselves, each left out of its own."""
    own = population is None
    around = judged if own else population
    n = around.shape[1]
    mean = around.mean(1, keepdim=True)
    squares = (around - mean).square().sum(1, keepdim=True)
    if not own:
        return (judged - mean) / (squares / (n - 1)).sqrt().clamp(min=FLOOR)
    off = judged - mean
    variance = (squares - off.square() * n / (n - 1)).clamp(min=0) / (n - 2)
    return off * n / (n - 1) / variance.sqrt().clamp(min=FLOOR)
