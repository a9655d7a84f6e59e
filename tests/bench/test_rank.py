"""Mean ranks and Friedman's test by hand, and cliques against every subset."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oblivio.bench.rank import friedman, groups, not_told, ranking
from oblivio.bench.stats import summarise
from records import CLASS, MAGNITUDE, RANDOM, make_record, make_records, make_sweep


def cases(gaps: dict[str, list[float]], scenarios=(RANDOM,)) -> list[dict]:
    """Records of methods with these gaps, for seeds 0, 1, … of each scenario in turn."""
    each = len(next(iter(gaps.values()))) // len(scenarios)
    return [
        make_record(method, place % each, scenarios[place // each], metrics={"ua": 50 + gap})
        for method, own in {"retrain": [0.0] * each * len(scenarios), **gaps}.items()
        for place, gap in enumerate(own)
    ]


def ranked(*args, **more):
    found = ranking(summarise(cases(*args, **more)))
    assert found is not None
    return found


class TestGroups:
    @given(st.integers(1, 7), st.data())
    def test_are_all_largest_cliques(self, n, data):
        both = list(combinations(range(n), 2))
        ties = {pair for pair in both if data.draw(st.booleans())}
        cliques = [
            set(some)
            for size in range(2, n + 1)
            for some in combinations(range(n), size)
            if all(pair in ties for pair in combinations(some, 2))
        ]
        largest = [one for one in cliques if not any(one < other for other in cliques)]
        assert groups(n, ties) == sorted(tuple(sorted(one)) for one in largest)

    def test_none_and_all(self):
        assert groups(4, set()) == []
        assert groups(40, set(combinations(range(40), 2))) == [tuple(range(40))]


class TestFriedman:
    def test_by_hand(self):
        # three cases ranked 1, 2, 3 alike: χ² = 12 · 3 / (3 · 4) · (1 + 0 + 1) = 6
        assert friedman(np.array([[1.0, 2, 3]] * 3))[0] == pytest.approx(6.0)

    @given(st.integers(3, 5), st.integers(3, 8), st.integers(0, 99))
    def test_is_the_formula_where_nothing_is_tied(self, k, n, seed):
        gaps = np.random.default_rng(seed).normal(size=(n, k))
        ranks = gaps.argsort(1).argsort(1) + 1
        spread = ((ranks.mean(0) - (k + 1) / 2) ** 2).sum()
        assert friedman(gaps)[0] == pytest.approx(12 * n / (k * (k + 1)) * spread)

    def test_all_tied(self):
        assert friedman(np.ones((4, 3)) + 1e-13 * np.eye(4, 3)) == (0.0, 1.0)


class TestRanking:
    def test_mean_ranks_by_hand_with_ties(self):
        found = ranked({"a": [1.0, 1.0, 4.0], "b": [2.0, 1.0, 3.0], "c": [9.0, 9.0, 9.0]})
        assert found.ranks == pytest.approx({"a": 1.5, "b": 1.5, "c": 3.0})
        assert (found.cases, found.scenarios, found.missing, found.partial) == (3, 1, 0, ())

    def test_those_not_told_apart_are_joined(self):
        draw = np.random.default_rng(0)
        near = draw.normal(1, 0.1, 6)
        far = {"a": near, "b": near + draw.normal(0, 0.1, 6), "c": near + 5, "d": near + 9}
        found = ranked({name: own.tolist() for name, own in far.items()})
        assert found.differ
        assert found.test == "paired t"
        assert [set(group) for group in found.groups] == [{"a", "b"}]

    def test_friedman_comes_first(self):
        draw = np.random.default_rng(1)
        found = ranked({name: draw.uniform(1, 2, 4).tolist() for name in "abc"})
        assert not found.differ
        assert [set(group) for group in found.groups] == [{"a", "b", "c"}]

    def test_scenarios_with_scales_of_their_own_are_tested_by_ranks(self):
        """Ten cases in one order, five of them in points, the others in tens of points."""
        steps = [1.0, 1.1, 1.2, 0.9, 0.8, 30.0, 10.0, 20.0, 40.0, 35.0]
        gaps = {name: [factor * step for step in steps] for factor, name in enumerate("abc", 1)}
        found = ranked(gaps, (RANDOM, CLASS))
        assert (found.test, found.scenarios, found.cases) == ("signed-rank", 2, 10)
        assert list(found.ranks) == ["a", "b", "c"]
        assert found.groups == ()
        array = np.array([gaps[name] for name in "abc"]).T
        assert len(not_told(array, within=True)) == 3  # Student's t would see nothing

    def test_only_complete_cases_count(self):
        records = cases({name: [1.0, 2.0, 3.0, 4.0] for name in "abcd"})
        records = [
            r
            for r in records
            if (r["cell"]["method"]["name"], r["cell"]["seed"])
            not in {("a", 0), ("d", 0), ("d", 1), ("d", 2)}
        ]
        found = ranking(summarise(records))
        assert found is not None
        assert set(found.ranks) == {"a", "b", "c"}  # d is there in one case of four
        assert (found.cases, found.missing, found.partial) == (3, 1, ("d",))
        assert (found.statistic, found.p) == (0.0, 1.0)

    def test_too_little(self):
        three = {name: [1.0, 2.0, 3.0] for name in "abc"}
        assert ranking(summarise(cases(three))) is not None
        assert ranking(summarise(cases({name: three[name] for name in "ab"}))) is None
        assert ranking(summarise(cases({name: own[:2] for name, own in three.items()}))) is None
        assert ranking(summarise([])) is None
        without = [r for r in make_records(3) if r["cell"]["method"]["name"] != "retrain"]
        assert ranking(summarise(without)) is None

    def test_a_scenario_counts_once(self):
        found = ranking(summarise(make_sweep(3)))
        assert found is not None
        assert (found.cases, found.scenarios) == (3, 1)
        sparse = [r for r in make_sweep(3, (MAGNITUDE,)) if r["cell"].get("pruner")]
        found = ranking(summarise(sparse))
        assert found is not None
        assert (found.cases, found.scenarios) == (6, 2)

    def test_twenty_methods(self):
        draw = np.random.default_rng(0)
        found = ranked({f"method{m}": draw.uniform(0, 9, 5).tolist() for m in range(20)})
        assert len(found.ranks) == 20
        assert sum(found.ranks.values()) == pytest.approx(20 * 21 / 2)
