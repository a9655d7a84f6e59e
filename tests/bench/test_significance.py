"""Paired tests against scipy's and against every flip of signs; Holm's correction by definition."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from oblivio.bench.estimate import Point, estimate
from oblivio.bench.significance import (
    ALPHA,
    average_gaps,
    holm,
    level,
    paired_t,
    pairs,
    signed_rank,
)
from oblivio.bench.stats import summarise
from records import RANDOM, make_record, make_records

P = st.floats(0, 1)


def gap(*values: float, first: int = 0):
    found = estimate(Point(seed, value, f"key{seed}") for seed, value in enumerate(values, first))
    assert found is not None
    return found


def flipped(values: list[float]) -> float:
    """How often a random choice of signs makes the mean as large as it is: the exact p."""
    seen = abs(sum(values)) - 1e-9
    flips = [abs(sum(map(math.prod, zip(values, signs, strict=True)))) >= seen
             for signs in product((-1, 1), repeat=len(values))]  # fmt: skip
    return sum(flips) / len(flips)


class TestPairedT:
    @given(st.lists(st.floats(-50, 50), min_size=2, max_size=12))
    def test_is_scipys(self, differences):
        if np.std(differences) < 1e-6:
            return
        rival = np.linspace(3, 5, len(differences))
        theirs = scipy_stats.ttest_rel(rival + differences, rival).pvalue
        assert paired_t(differences) == pytest.approx(theirs, rel=1e-4, abs=1e-12)

    def test_a_known_value(self):
        # Student 1908: by how many hours more ten patients slept with one drug than the other
        gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
        assert paired_t(gained) == pytest.approx(0.00283, abs=1e-5)

    @given(st.lists(st.floats(-50, 50), min_size=2, max_size=12))
    def test_says_what_the_interval_says(self, differences):
        if np.std(differences) < 1e-6:
            return
        p = paired_t(differences)
        if abs(p - ALPHA) > 1e-6:
            assert (p < ALPHA) == gap(*differences).excludes(0.0)

    def test_agrees_roughly_with_every_flip_of_signs(self):
        draw = np.random.default_rng(0)
        found = [(draw.normal(shift, 1, 10).tolist()) for shift in (0.0, 0.3, 0.6, 1.0)]
        assert [paired_t(one) for one in found] == pytest.approx(
            [flipped(one) for one in found], abs=0.03
        )

    def test_without_spread(self):
        assert paired_t([0.0, 0.0, 0.0]) == 1.0
        assert paired_t([1e-14, 1e-14, 1e-14]) == 1.0  # rounding is no difference
        assert paired_t([2.0, 2.0, 2.0]) == 0.0

    @pytest.mark.parametrize("test", [paired_t, signed_rank])
    @pytest.mark.parametrize("differences", [[], [1.0]])
    def test_takes_two(self, test, differences):
        with pytest.raises(ValueError, match=r"given \d difference\(s\): it takes at least two"):
            test(differences)


class TestSignedRank:
    @given(st.lists(st.integers(1, 9).map(float), min_size=2, max_size=8, unique=True), st.data())
    def test_is_every_flip_of_the_ranks_signs(self, sizes, data):
        signs = [data.draw(st.sampled_from([-1, 1])) for _ in sizes]
        ranks = [sign * rank for sign, rank in zip(signs, scipy_stats.rankdata(sizes), strict=True)]
        values = [sign * size for sign, size in zip(signs, sizes, strict=True)]
        assert signed_rank(values) == pytest.approx(flipped(ranks))

    def test_five_seeds_cannot_reach_five_percent(self):
        assert signed_rank([9.0, 9.1, 9.2, 9.3, 9.4]) == pytest.approx(0.0625)

    def test_all_zero(self):
        assert signed_rank([0.0, 0.0, 1e-15]) == 1.0


class TestHolm:
    @given(st.lists(P, max_size=8), P)
    def test_rejects_what_the_stepwise_procedure_rejects(self, raw, alpha):
        """By Holm's own words: step through the sorted p until one is too large, and stop."""
        order = sorted(range(len(raw)), key=lambda place: raw[place])
        rejected = set()
        for step, place in enumerate(order):
            if (len(raw) - step) * raw[place] > alpha:
                break
            rejected.add(place)
        assert {place for place, p in enumerate(holm(raw)) if p <= alpha} == rejected or alpha == 1

    @given(st.lists(P, min_size=1, max_size=8))
    def test_lies_between_raw_and_bonferroni(self, raw):
        for p, adjusted in zip(raw, holm(raw), strict=True):
            assert p <= adjusted <= min(1.0, len(raw) * p)

    @given(st.lists(P, max_size=8), st.randoms())
    def test_order_does_not_matter(self, raw, draw):
        places = list(range(len(raw)))
        draw.shuffle(places)
        assert holm([raw[place] for place in places]) == [holm(raw)[place] for place in places]


class TestPairs:
    def test_by_hand(self):
        gaps = {
            "near": gap(1.0, 1.2, 0.9, 1.1, 1.0),
            "far": gap(9.0, 9.5, 8.8, 9.4, 9.1),
            "like near": gap(1.1, 1.0, 1.0, 1.2, 0.9),
        }
        found = {frozenset((pair.nearer, pair.farther)): pair for pair in pairs(gaps)}
        assert len(found) == 3
        apart = found[frozenset(("near", "far"))]
        assert (apart.nearer, apart.farther, apart.told) == ("near", "far", True)
        assert apart.difference.mean == pytest.approx(8.12)
        assert apart.raw == pytest.approx(scipy_stats.ttest_rel(
            [p.value for p in gaps["far"].points], [p.value for p in gaps["near"].points]
        ).pvalue)  # fmt: skip
        assert not found[frozenset(("near", "like near"))].told
        assert [pair.p for pair in found.values()] == holm([pair.raw for pair in found.values()])

    @given(st.lists(st.lists(st.floats(0, 50), min_size=3, max_size=3), min_size=2, max_size=5))
    def test_the_nearer_is_the_nearer_and_order_does_not_matter(self, gaps):
        named = {f"m{place}": gap(*values) for place, values in enumerate(gaps)}
        found = pairs(named)
        assert len(found) == len(gaps) * (len(gaps) - 1) // 2
        for pair in found:
            assert pair.difference.mean >= 0
            assert named[pair.nearer].mean <= named[pair.farther].mean + 1e-9
            assert pair.beside(pair.nearer) == pair.farther
            assert pair.beside(pair.farther) == pair.nearer
        back = {frozenset((p.nearer, p.farther)): p.p for p in pairs(dict(reversed(named.items())))}
        for pair in found:
            assert back[frozenset((pair.nearer, pair.farther))] == pytest.approx(pair.p)

    def test_only_shared_seeds_count(self):
        gaps = {"a": gap(1.0, 2.0, 3.0), "b": gap(2.5, 3.0, 9.0, first=1), "c": gap(5.0, first=7)}
        (pair,) = pairs(gaps)
        assert [(p.seed, p.value) for p in pair.difference.points] == [(1, 0.5), (2, 0.0)]

    def test_one_seed_or_one_method_has_no_test(self):
        assert pairs({"a": gap(1.0), "b": gap(2.0)}) == ()
        assert pairs({"a": gap(1.0, 2.0)}) == ()

    def test_level_is_where_the_next_pair_is_told_apart(self):
        """Shrink an open pair's p until it is told apart: that happens at the level."""
        raw = [0.001, 0.004, 0.2, 0.3]
        adjusted = holm(raw)
        told = sum(p <= ALPHA for p in adjusted)
        assert told == 2
        edge = ALPHA / (len(raw) - told)
        for p, wins in ((edge * 0.999, True), (edge * 1.001, False)):
            assert (holm([*raw[:2], p, 0.3])[2] <= ALPHA) is wins
        family = pairs({"a": gap(1.0, 1.1, 1.2), "b": gap(1.1, 1.0, 1.2), "c": gap(9.0, 9.1, 9.2)})
        assert [pair.told for pair in family] == [False, True, True]
        assert level(family) == pytest.approx(ALPHA)

    def test_family_wise_error_is_kept(self):
        """Four methods that are the same: a false find in at most 5 % of experiments."""
        draw = np.random.default_rng(0)
        seed = draw.normal(10, 2, (250, 5, 1))  # some seeds are harder, for all methods
        gaps = seed + draw.normal(0, 1, (250, 5, 4))
        wrong = [
            any(pair.told for pair in pairs({str(m): gap(*one[:, m]) for m in range(4)}))
            for one in gaps
        ]
        assert 0.005 < np.mean(wrong) < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 250)


class TestComparison:
    def test_original_competes_and_retrain_does_not(self):
        (comparison,) = summarise(make_records(3, (RANDOM,))).comparisons
        gaps = average_gaps(comparison)
        assert set(gaps) == {"original", "fine_tune", "gradient_ascent"}
        assert [g.mean for g in gaps.values()] == sorted(g.mean for g in gaps.values())

    def test_every_difference_keeps_its_records(self):
        records = make_records(2, (RANDOM,))
        (comparison,) = summarise(records).comparisons
        keys = {(r["cell"]["method"]["name"], r["cell"]["seed"]): r["key"] for r in records}
        for pair in pairs(average_gaps(comparison)):
            for point in pair.difference.points:
                assert point.key == keys[pair.farther, point.seed]
                assert point.rival == keys[pair.nearer, point.seed]

    def test_failed_cells_and_missing_retrain(self):
        failed = make_record("fine_tune", 2, status="failed")
        records = [*(r for r in make_records(3, (RANDOM,)) if r["key"] != failed["key"]), failed]
        (comparison,) = summarise(records).comparisons
        found = {frozenset((p.nearer, p.farther)): p for p in pairs(average_gaps(comparison))}
        assert found[frozenset(("fine_tune", "original"))].difference.n == 2
        assert found[frozenset(("gradient_ascent", "original"))].difference.n == 3
        without = [r for r in records if r["cell"]["method"]["name"] != "retrain"]
        assert average_gaps(summarise(without).comparisons[0]) == {}
