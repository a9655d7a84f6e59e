"""Who is nearer to retrain over all scenarios: mean ranks, and which of them are told apart.

A case is a scenario with a seed. In each of N cases the k methods are ranked by their average gap,
1 for the nearest, ties sharing the mean of their ranks:

    mean rank   R_j = 1/N Σ_i r_ij
    Friedman    χ² = 12 N / (k (k + 1)) · Σ_j (R_j − (k + 1) / 2)², corrected for ties
    groups      the largest sets of methods of which no two are told apart

Friedman's test comes first: where it finds no difference among all, nothing is told apart. The
pairs are tested on the gaps, over one scenario by Student's paired t, as everywhere else, and over
several by Wilcoxon's signed ranks, since a point is not worth the same in each; Holm corrects both.

Seeds of one scenario share its data. So the cases speak for these scenarios with other seeds, not
for other scenarios.

Source: J. Demšar, "Statistical comparisons of classifiers over multiple data sets", 2006; tests
per pair instead of his critical distance after A. Benavoli et al., "Should we really use post-hoc
tests based on mean-ranks?", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import friedmanchisquare, rankdata

from oblivio.bench.significance import ALPHA, average_gaps, holm, paired_t, signed_rank
from oblivio.bench.stats import Results

FEWEST = 3
"""Methods, and cases, from which on ranks are worth a look."""

_DECIMALS = 9  # beyond them two gaps differ by rounding

Case = tuple[int, int]
"""A comparison's place among the results, and a seed."""


@dataclass(frozen=True)
class Ranking:
    """Methods by their mean rank over all cases.

    Args:
        ranks: Mean rank by label, nearest to retrain first.
        cases: How many cases have a gap of every method.
        scenarios: How many comparisons these come from.
        statistic: Friedman's χ².
        p: Friedman's p.
        groups: Labels that are not told apart, for each largest set of two or more.
        partial: Methods that are left out, because they have a gap in less than half of the cases.
        missing: Cases that are left out, because another method has no gap in them.
    """

    ranks: Mapping[str, float]
    cases: int
    scenarios: int
    statistic: float
    p: float
    groups: tuple[tuple[str, ...], ...]
    partial: tuple[str, ...]
    missing: int

    @property
    def differ(self) -> bool:
        """Whether Friedman's test finds any difference."""
        return self.p <= ALPHA

    @property
    def test(self) -> str:
        """What the pairs are tested with."""
        return "paired t" if self.scenarios == 1 else "signed-rank"

    @property
    def blind(self) -> bool:
        """Whether even a method that is nearer in every case would not be told apart.

        Signed ranks of N cases have no smaller p than 2 · 2⁻ᴺ, which Holm multiplies by the pairs.
        """
        least = 0.0 if self.scenarios == 1 else 2.0 ** (1 - self.cases)
        return least * math.comb(len(self.ranks), 2) > ALPHA


def ranking(results: Results) -> Ranking | None:
    """Rank the methods, and the original, over every scenario and seed of dense models.

    Pruned models are left out where there are dense ones: they would count a scenario twice.

    Returns:
        The ranking, or None with fewer than three methods or cases.
    """
    by_label, cases = _gaps(results)
    labels = [label for label, own in by_label.items() if 2 * len(own) >= len(cases)]
    complete = [case for case in cases if all(case in by_label[label] for label in labels)]
    if min(len(labels), len(complete)) < FEWEST:
        return None
    gaps = np.array([[by_label[label][case] for label in labels] for case in complete])
    means = rankdata(gaps.round(_DECIMALS), axis=1).mean(0)
    order = sorted(range(len(labels)), key=lambda place: (means[place], labels[place]))
    gaps, labels = gaps[:, order], [labels[place] for place in order]
    scenarios = len({place for place, _ in complete})
    statistic, p = friedman(gaps)
    ties = not_told(gaps, within=scenarios == 1) if p <= ALPHA else _all(len(labels))
    return Ranking(
        {labels[new]: float(means[old]) for new, old in enumerate(order)},
        len(complete),
        scenarios,
        statistic,
        p,
        tuple(tuple(labels[place] for place in group) for group in groups(len(labels), ties)),
        tuple(label for label in by_label if label not in labels),
        len(cases) - len(complete),
    )


def _gaps(results: Results) -> tuple[dict[str, dict[Case, float]], list[Case]]:
    """Each method's average gap by case, and all cases."""
    dense = [one for one in results.comparisons if one.pruner is None]
    by_label: dict[str, dict[Case, float]] = {}
    for place, comparison in enumerate(dense or results.comparisons):
        for label, gap in average_gaps(comparison).items():
            own = by_label.setdefault(label, {})
            own.update({(place, point.seed): point.value for point in gap.points})
    return by_label, sorted({case for own in by_label.values() for case in own})


def friedman(gaps: np.ndarray) -> tuple[float, float]:
    """Friedman's test of gaps, one row for each case and one column for each method.

    Returns:
        χ² and p; 0 and 1 where every case is a tie.
    """
    rounded = gaps.round(_DECIMALS)
    if np.all(rounded == rounded[:, :1]):
        return 0.0, 1.0
    found = friedmanchisquare(*rounded.T)
    return float(found.statistic), float(found.pvalue)


def not_told(gaps: np.ndarray, *, within: bool) -> set[tuple[int, int]]:
    """The pairs of columns that are not told apart after Holm's correction.

    Args:
        gaps: One row for each case and one column for each method.
        within: Whether all cases come from one scenario.

    Returns:
        Pairs of places, the smaller first.
    """
    both = list(combinations(range(gaps.shape[1]), 2))
    test = paired_t if within else signed_rank
    raw = [test((gaps[:, b] - gaps[:, a]).tolist()) for a, b in both]
    return {pair for pair, p in zip(both, holm(raw), strict=True) if p > ALPHA}


def _all(n: int) -> set[tuple[int, int]]:
    return set(combinations(range(n), 2))


def groups(n: int, ties: Collection[tuple[int, int]]) -> list[tuple[int, ...]]:
    """The largest sets of two or more of which each two are tied: maximal cliques.

    As C. Bron and J. Kerbosch, "Finding all cliques of an undirected graph", 1973: R is a clique, P
    holds those that would extend it, X those that were tried, and of the pivot's ties none need be
    tried, since a largest clique without the pivot holds one that is not tied to it.

    Args:
        n: How many things there are, numbered from 0.
        ties: Pairs of them, the smaller first.

    Returns:
        Cliques in lexical order, each in rising order.

    Example:
        >>> groups(4, [(0, 1), (1, 2), (0, 2), (2, 3)])
        [(0, 1, 2), (2, 3)]
    """
    tied = {one: {sum(pair) - one for pair in ties if one in pair} for one in range(n)}
    found: list[tuple[int, ...]] = []

    def grow(r: Sequence[int], p: set[int], x: set[int]) -> None:
        if not p and not x and len(r) > 1:
            found.append(tuple(r))
        pivot = max(p | x, key=lambda one: len(p & tied[one]), default=0)
        for one in sorted(p - tied.get(pivot, set())):
            grow([*r, one], p & tied[one], x & tied[one])
            p, x = p - {one}, x | {one}

    grow([], set(range(n)), set())
    return sorted(tuple(sorted(one)) for one in found)
