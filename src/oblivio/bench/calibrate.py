"""A measure beside its null, its ceiling and its interval: what its number is worth.

    value     m(case)
    null      m of retrained models against retrained models, the mean over random swaps of each
              shadow's two, and the central 95 % of it: what chance alone makes of a perfect method
    ceiling   m(original against retrained): what it says of a method that does nothing
    interval  value ± t · √(v_models + v_points), v by the delete-a-group jackknife over G groups:
              v = (G−1)/G Σ_g (m_(g) − m̄)²,  m_(g) without group g,  t = t(0.975, G−1)

The jackknife takes models away where a bootstrap would repeat them: an attack that leaves a model
out would meet its double. Complementary shadows of "halves" leave together.

Source: Kott, "The delete-a-group jackknife", Journal of Official Statistics, 2001. Random swaps are
a permutation test: both are retrained on the same data, so they are exchangeable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from scipy.stats import t as student
from torch import Tensor

from oblivio.core import derive
from oblivio.shadow import RATES, Measure, Shadows, TooFew

Positions = Int64[Tensor, "k size"]

SWAPS = 40
GROUPS = 12


class Ranged(NamedTuple):
    """A number and 95 % around it, which is None where too few models are left to tell."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Scale:
    """What a measure says of a perfect method, and of one that does nothing.

    Args:
        null: For each number, its mean over swaps and their central 95 %.
        ceiling: For each number, that of the originals.
        exhibits: `roc_null`, the central 95 % of the null's curve, and `roc_ceiling`; likewise of
            single points, what the most exposed have at the least: see `exceeded`.
    """

    null: Mapping[str, Ranged]
    ceiling: Mapping[str, float]
    exhibits: Mapping[str, Any]


def scale(measure: Measure, shadows: Shadows, seed: int = 0, swaps: int = SWAPS) -> Scale:
    """What a measure says of a perfect method, and of one that does nothing.

    Args:
        measure: What measures.
        shadows: The case of any method; its unlearned models play no part.
        seed: Of the swaps.
        swaps: How many draws of the null.

    Returns:
        The null and the ceiling.

    Raises:
        ValueError: If the case has no models that are retrained once more.
    """
    draw = torch.Generator().manual_seed(derive(seed, "swaps"))
    found = [
        measure(shadows.null(torch.rand(len(shadows), generator=draw) < 0.5)) for _ in range(swaps)
    ]
    ceiling = measure(shadows.ceiling())
    null = {
        name: Ranged(float(np.mean(values)), *map(float, np.quantile(values, (0.025, 0.975))))
        for name in measure.scores
        if (values := [one[name] for one in found if name in one])
    }
    exhibits: dict[str, Any] = {}
    if "roc" in ceiling:
        curves = np.array([one["roc"] for one in found])
        exhibits["roc_null"] = np.quantile(curves, (0.025, 0.975), axis=0).tolist()
        exhibits["roc_ceiling"] = list(ceiling["roc"])
    if "per_point" in ceiling:
        curves = np.array([exceeded(one["per_point"]) for one in found])
        exhibits["per_point_null"] = np.quantile(curves, (0.025, 0.975), axis=0).tolist()
        exhibits["per_point_ceiling"] = exceeded(ceiling["per_point"])
    numbers = {name: float(ceiling[name]) for name in measure.scores if name in ceiling}
    return Scale(null, numbers, exhibits)


def exceeded(values: Sequence[float]) -> list[float]:
    """The number that a share of all reaches or exceeds, for each share in `RATES`.

    Returns:
        From the largest number, for shares of less than one point, to the smallest.

    Example:
        >>> exceeded([3.0, 1.0, 2.0, 4.0])[0], exceeded([3.0, 1.0, 2.0, 4.0])[-1]
        (4.0, 1.0)
    """
    order = np.sort(values)[::-1]
    places = np.ceil(np.array(RATES) * len(order) - 1e-9).astype(int) - 1
    return order[places.clip(0)].tolist()


def estimate(
    measure: Measure, shadows: Shadows, seed: int = 0, groups: int = GROUPS
) -> tuple[dict[str, Ranged], dict[str, Any]]:
    """A measure's numbers with their intervals, and its lists for plots.

    Args:
        measure: What measures.
        shadows: The case.
        seed: Of the grouping.
        groups: Into how many the models, and the points, are grouped; fewer if there are fewer.

    Returns:
        The numbers, and what else the measure returned.
    """
    found = measure(shadows)
    names = [name for name in measure.scores if name in found]
    cases = {
        "models": [shadows.take(kept) for kept in _without(_units(shadows), groups, seed)],
        "points": [shadows.at(kept) for kept in _without(_strata(shadows), groups, seed)],
    }
    try:
        left = {
            what: np.array([[one[name] for name in names] for one in map(measure, some)])
            for what, some in cases.items()
        }
    except TooFew:
        values = {name: Ranged(float(found[name]), None, None) for name in names}
    else:
        variance = sum((len(v) - 1) * v.var(axis=0) for v in left.values())
        groups = max(len(v) for v in left.values())
        half = student.ppf(0.975, groups - 1) * np.sqrt(variance)
        values = {
            name: Ranged(float(found[name]), float(found[name] - h), float(found[name] + h))
            for name, h in zip(names, half, strict=True)
        }
    return values, {name: value for name, value in found.items() if name not in measure.scores}


def _units(shadows: Shadows) -> list[Positions]:
    """The shadows that leave together: a pair of complements, or one."""
    size = 2 if shadows.design == "halves" and len(shadows) % 2 == 0 else 1
    return [torch.arange(len(shadows)).view(-1, size)]


def _strata(shadows: Shadows) -> list[Positions]:
    """The points by part, so that every group takes its share of each."""
    parts = (shadows.points(part) for part in ("forget", "retain", "test"))
    return [positions[:, None] for positions in parts if len(positions)]


def _without(strata: Sequence[Positions], groups: int, seed: int) -> list[Tensor]:
    """What is left of rows of positions without each of G groups, drawn within each stratum.

    A row that is alone in its stratum always stays: without it there is nothing to measure.
    """
    groups = min(groups, max(map(len, strata)))
    if groups < 2:
        return [torch.cat([rows.flatten() for rows in strata])]
    draw = torch.Generator().manual_seed(derive(seed, "groups"))
    # dealt like cards: every group has as many of a stratum as another, or one more
    dealt = [
        torch.randperm(len(rows), generator=draw) % groups if len(rows) > 1 else torch.tensor([-1])
        for rows in strata
    ]
    return [
        torch.cat([rows[of != group].flatten() for rows, of in zip(strata, dealt, strict=True)])
        for group in range(groups)
    ]
