"""A measure beside its null, its ceiling and its interval: what its number is worth.

    value     m(case)
    null      m of retrained models against retrained models: c, the mean over random swaps of each
              shadow's two, and 95 % around it, where the value of a perfect method lies
    ceiling   m(original against retrained): what it says of a method that does nothing
    interval  value ± t · √(v_models + v_points), v = k/d · var m(without d of n), over random
              halves, d of n being left out and k = n − d kept

The central 95 % of swaps alone would be too narrow a band for measures that look at one kind of
models only: two sets of n that are swapped vary by s² = σ²/2n around a centre that itself varies
by as much, while a perfect method's n further models vary by v = σ²/n. In general the centre
varies by v − s², with v the jackknife's for a single null, and the value's distance from the
centre by v + (v − s²). So the band is that of the swaps, at least ± t · s, widened by
√((2v − s²) / s²), which is √3 where one kind of models counts, and 1 where the difference of two
does. It is kept between the two, and its square is taken half as large again, since v is
uncertain itself.

Halves, not single models, are left out: leaving one out does not do for thresholds, percentiles and
histograms, and a bootstrap would repeat models, so that an attack that leaves one out would meet
its double. For such measures intervals are still somewhat too wide. Complementary shadows of
"halves" leave together.

Source: Shao and Wu, "A general theory for jackknife variance estimation", Annals of Statistics,
1989 (delete-d). Random swaps are a permutation test: both are retrained on the same data, so they
are exchangeable. The widening is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.stats import t as student
from torch import Tensor

from oblivio.core import derive
from oblivio.shadow import RATES, Measure, Shadows, TooFew

Positions = Int64[Tensor, "_ size"]
Numbers = Float64[np.ndarray, "..."]

SWAPS = 100
DRAWS = 40


class Ranged(NamedTuple):
    """A number and 95 % around it, which is None where too few models are left to tell."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Scale:
    """What a measure says of a perfect method, and of one that does nothing.

    Args:
        null: For each number, its mean over swaps and 95 % around it.
        ceiling: For each number, that of the originals.
        exhibits: `roc_null`, 95 % around the null's curve, and `roc_ceiling`; likewise of single
            points, what the most exposed have at the least: see `exceeded`.
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
    swapped = (torch.rand(len(shadows), generator=draw) < 0.5 for _ in range(swaps))
    found = [_numbers(measure, shadows.null(swap)) for swap in swapped]
    null = shadows.null()
    units = _units(null)
    kept, factor = _halves(units, DRAWS, seed)
    try:
        left = [_numbers(measure, null.take(models)) for models in kept]
    except TooFew:
        left = []
    ceiling = _numbers(measure, shadows.ceiling())
    bands = {
        name: _band(
            np.array([one[name] for one in found]),
            np.array([one[name] for one in left if name in one]),
            factor,
            len(units[0]),
        )
        for name in ceiling
        if all(name in one for one in found)
    }
    exhibits: dict[str, Any] = {}
    for name in set(bands) - set(measure.scores):
        exhibits[f"{name}_null"] = bands[name][1:].tolist()
        exhibits[f"{name}_ceiling"] = ceiling[name].tolist()
    return Scale(
        {name: Ranged(*map(float, bands[name])) for name in measure.scores if name in bands},
        {name: float(ceiling[name]) for name in measure.scores if name in ceiling},
        exhibits,
    )


def _numbers(measure: Measure, shadows: Shadows) -> dict[str, Numbers]:
    """A measure's scores and curves."""
    found = measure(shadows)
    numbers = {name: np.array(found[name]) for name in measure.scores if name in found}
    if "roc" in found:
        numbers["roc"] = np.array(found["roc"])
    if "per_point" in found:
        numbers["per_point"] = np.array(exceeded(found["per_point"]))
    return numbers


def _band(swapped: Numbers, left: Numbers, factor: float, n: int) -> Numbers:
    """The mean over swaps, and 95 % around it: see above.

    Args:
        swapped: The null of each swap.
        left: One null for each half of the models; where there are none, since no model may be
            missing, the band is as wide as it can be.
        factor: k/d.
        n: How many shadows, or pairs of complements.

    Returns:
        Centre, lower and upper end.
    """
    centre, variance = swapped.mean(0), swapped.var(0, ddof=1)
    low, high = np.quantile(swapped, (0.025, 0.975), axis=0) - centre
    # of few models the swaps alone do not know how much they vary
    least = student.ppf(0.975, n - 1) * np.sqrt(variance)
    ends = np.stack([np.minimum(low, -least), np.maximum(high, least)])
    full = factor * left.var(0, ddof=1) if len(left) > 1 else 2 * variance
    there = np.where(variance > 0, variance, 1)
    wider = np.sqrt(np.clip(1.5 * (2 * full - variance) / there, 1, 3))
    return np.stack([centre, *(centre + wider * ends)])


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
    measure: Measure, shadows: Shadows, seed: int = 0, draws: int = DRAWS
) -> tuple[dict[str, Ranged], dict[str, Any]]:
    """A measure's numbers with their intervals, and its lists for plots.

    Args:
        measure: What measures.
        shadows: The case.
        seed: Of the halves.
        draws: How many halves of the models, and as many of the points.

    Returns:
        The numbers, and what else the measure returned.
    """
    found = measure(shadows)
    names = [name for name in measure.scores if name in found]
    variance = np.zeros(len(names))
    for strata, some in ((_units(shadows), shadows.take), (_strata(shadows), shadows.at)):
        kept, factor = _halves(strata, draws, seed)
        try:
            left = [measure(some(half)) for half in kept]
        except TooFew:
            variance += np.nan
            continue
        numbers = np.array([[one.get(name, np.nan) for name in names] for one in left])
        variance += factor * numbers.var(0, ddof=1) if len(left) > 1 else 0.0
    half = student.ppf(0.975, draws - 1) * np.sqrt(variance)
    values = {
        name: Ranged(value := float(found[name]), *_ends(value, h))
        for name, h in zip(names, half, strict=True)
    }
    return values, {name: value for name, value in found.items() if name not in measure.scores}


def _ends(value: float, half: float) -> tuple[float | None, float | None]:
    """The ends of an interval; none where fewer models or points do not give the number."""
    return (None, None) if np.isnan(half) else (float(value - half), float(value + half))


def _units(shadows: Shadows) -> list[Positions]:
    """The shadows that leave together: a pair of complements, or one."""
    size = 2 if shadows.design == "halves" and len(shadows) % 2 == 0 else 1
    return [torch.arange(len(shadows)).view(-1, size)]


def _strata(shadows: Shadows) -> list[Positions]:
    """The points by part, so that every group takes its share of each."""
    parts = (shadows.points(part) for part in ("forget", "retain", "test"))
    return [positions[:, None] for positions in parts if len(positions)]


def _halves(strata: Sequence[Positions], draws: int, seed: int) -> tuple[list[Tensor], float]:
    """Random halves of rows of positions, drawn within each stratum.

    A row that is alone in its stratum always stays: without it there is nothing to measure.

    Returns:
        What is kept in each draw, and k/d; no draws if nothing can be left out.
    """
    gone = [len(rows) // 2 for rows in strata]
    some = sum(len(rows) for rows in strata if len(rows) > 1)
    if not some:
        return [], 1.0
    draw = torch.Generator().manual_seed(derive(seed, "halves"))
    kept = [
        torch.cat(
            [
                rows[torch.randperm(len(rows), generator=draw)[d:].sort().values].flatten()
                for rows, d in zip(strata, gone, strict=True)
            ]
        )
        for _ in range(draws)
    ]
    return kept, (some - sum(gone)) / sum(gone)
