"""Which methods are told apart: paired tests on their gaps, corrected for how many there are.

With g_i(A) the gap of method A at seed i, at which all methods forgot the same examples of the same
model:

    difference   d_i = g_i(B) − g_i(A)
    t            t = d̄ √n / σ,  with σ² = 1/(n−1) Σ (d_i − d̄)²,  and p = P(|T_{n−1}| ≥ |t|)
    Holm         p̃_(k) = max_{j ≤ k} min(1, (m − j + 1) p_(j)),  where p_(1) ≤ … ≤ p_(m)

Student's t is the default because experiments have few seeds. At n = 5 the smallest two-sided p of
Wilcoxon's signed ranks is 2 · 2⁻⁵ = 0.0625, so that no difference, however large, could be found.
The price is that t takes differences to be about normal, which five of them cannot show. Signed
ranks ask only for symmetry: they suit ten seeds or more, and gaps of scenarios whose scales differ.

Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979. In a family of m
pairs, all of them true ties, even one is told apart with a probability of at most 5 %, however the
pairs depend on each other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from scipy.special import stdtr
from scipy.stats import wilcoxon

from oblivio.bench.estimate import LEVEL, Estimate, paired
from oblivio.bench.stats import RETRAIN, Comparison, Row

ALPHA = 1 - LEVEL
"""The adjusted p up to which two methods count as told apart."""

_DECIMALS = 9  # beyond them a difference of two gaps is rounding, and would break ties

Test = Callable[[Sequence[float]], float]
"""From the differences of at least two pairs to a two-sided p."""


@dataclass(frozen=True)
class Pair:
    """Two methods beside each other.

    Args:
        nearer: The label of the method that is nearer to retrain in the mean over shared seeds.
        farther: The other's.
        difference: The gap of the farther minus that of the nearer; each point's `key` is the
            farther's record, and `rival` the nearer's.
        raw: The test's p.
        p: The same after Holm's correction over the pairs of its family.
    """

    nearer: str
    farther: str
    difference: Estimate
    raw: float
    p: float

    @property
    def told(self) -> bool:
        """Whether the two are told apart."""
        return self.p <= ALPHA

    def beside(self, label: str) -> str:
        """The other of the two methods."""
        return self.nearer if label == self.farther else self.farther


def paired_t(differences: Sequence[float]) -> float:
    """Student's paired test of differences whose mean is 0.

    Without any spread the formula's limit stands: 1 if all differences are zero, else 0.

    Returns:
        The two-sided p.

    Raises:
        ValueError: If there are fewer than two differences.

    Example:
        >>> round(paired_t([2.0, 1.0, 3.0, 2.5, 1.5]), 4)
        0.0048
    """
    values, n = _values(differences), len(differences)
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    if round(spread, _DECIMALS) == 0:
        return float(round(mean, _DECIMALS) == 0)
    return float(2 * stdtr(n - 1, -abs(mean) * math.sqrt(n) / spread))


def signed_rank(differences: Sequence[float]) -> float:
    """Wilcoxon's signed-rank test of differences that are symmetric about 0; zeros are left out.

    Returns:
        The two-sided p; 1 if all differences are zero.

    Raises:
        ValueError: If there are fewer than two differences.

    Example:
        >>> signed_rank([2.0, 1.0, 3.0, 2.5, 1.5])
        0.0625
    """
    values = _values(differences)
    if not any(values):
        return 1.0
    return float(wilcoxon(values).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def _values(differences: Sequence[float]) -> list[float]:
    """The differences, without their rounding errors."""
    if len(differences) < 2:
        raise ValueError(
            f"A paired test was given {len(differences)} difference(s): it takes at least two."
        )
    return [round(value, _DECIMALS) for value in differences]


def holm(raw: Sequence[float]) -> list[float]:
    """Adjust the p of several tests: one false find among them stays as rare as in a single one.

    Returns:
        The adjusted p, in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(raw), 0.0
    for done, place in enumerate(sorted(range(len(raw)), key=raw.__getitem__)):
        highest = max(highest, min(1.0, (len(raw) - done) * raw[place]))
        adjusted[place] = highest
    return adjusted


def competitors(comparison: Comparison) -> tuple[Row, ...]:
    """The rows that are compared with each other, nearest to retrain first.

    Returns:
        All but retrain. The original is one of them: to do nothing is a method, and the first that
        another must beat.
    """
    rows = [row for row in comparison.rows if row.name != RETRAIN and row.gap is not None]
    return tuple(sorted(rows, key=lambda row: (row.gap.mean if row.gap else 0.0, row.label)))


def average_gaps(comparison: Comparison) -> dict[str, Estimate]:
    """Every competitor's average gap by its label, nearest to retrain first."""
    return {row.label: row.gap for row in competitors(comparison) if row.gap is not None}


def pairs(gaps: Mapping[str, Estimate], test: Test = paired_t) -> tuple[Pair, ...]:
    """Test each two methods on the seeds that both have, and correct for the number of tests.

    Args:
        gaps: Each method's gap to retrain, by its label.
        test: What a p is made with.

    Returns:
        The pairs with at least two shared seeds; the others cannot be tested.
    """
    found = []
    for first, second in combinations(gaps, 2):
        difference = paired(gaps[second], gaps[first])
        if difference is not None and difference.mean < 0:
            first, second = second, first
            difference = paired(gaps[second], gaps[first])
        if difference is not None and difference.n > 1:
            raw = test([point.value for point in difference.points])
            found.append(Pair(first, second, difference, raw, raw))
    adjusted = holm([pair.raw for pair in found])
    return tuple(replace(pair, p=p) for pair, p in zip(found, adjusted, strict=True))


def level(family: Sequence[Pair]) -> float:
    """The p below which a pair that is not told apart would have been, all else as it is.

    With r of m pairs told apart, the next one is if p ≤ 0.05 / (m − r).

    Returns:
        A level between 0.05 / m and 0.05.
    """
    return ALPHA / max(1, sum(not pair.told for pair in family))
