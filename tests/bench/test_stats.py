"""Means, intervals and gaps against hand-computed values and scipy's own intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from oblivio.bench import label
from oblivio.bench.estimate import Point, bootstrapped, estimate, geometric, paired
from oblivio.bench.stats import described, summarise
from oblivio.core import Score
from records import CLASS, RANDOM, make_record, make_records

SCORES = {
    "seconds": Score("Time", "s", "down", "run time"),
    "ra": Score("RA", "%", "retrain", "retain", headline=True),
    "ua": Score("UA", "%", "retrain", "forget", headline=True),
}


def points(*values: float) -> list[Point]:
    return [Point(seed, value, f"key{seed}") for seed, value in enumerate(values)]


def by_hand(**methods: list[dict]) -> list[dict]:
    """Records of these methods, with these metrics for seeds 0, 1, …"""
    return [
        make_record(method, seed, metrics=metrics)
        for method, runs in methods.items()
        for seed, metrics in enumerate(runs)
    ]


def row(records: list[dict], name: str):
    (comparison,) = summarise(records, SCORES).comparisons
    found = comparison.row(name)
    assert found is not None
    return found


def test_cells_of_two_files_in_a_folder_are_compared():
    """The file's name is no part of a cell's key: a method of another file meets retrain's."""
    records = by_hand(retrain=[{"ua": 3.0}] * 2, fine_tune=[{"ua": 1.0}] * 2)
    for record in records:
        if record["cell"]["method"]["name"] == "fine_tune":
            record["cell"]["experiment"] = "another"
    assert row(records, "fine_tune").gaps["ua"].mean == pytest.approx(2.0)


class TestEstimate:
    def test_hand_computed(self):
        # mean 2, standard deviation 1, t(0.975, 2) = 4.302653
        found = estimate(points(1.0, 2.0, 3.0))
        assert found.mean == pytest.approx(2.0)
        assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
        assert (found.low, found.high) == pytest.approx((2 - found.half, 2 + found.half))
        assert found.n == 3

    @given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
    def test_interval_agrees_with_scipy(self, values):
        found = estimate(points(*values))
        error = float(np.std(values, ddof=1) / math.sqrt(len(values)))
        if error == 0:
            assert found.half == pytest.approx(0, abs=1e-9)
            return
        low, high = scipy_stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)

    def test_one_seed_has_no_interval(self):
        found = estimate(points(5.0))
        assert (found.mean, found.low, found.high, found.half) == (5.0, None, None, None)
        assert not found.excludes(0.0)

    def test_nan_and_infinity_are_left_out(self):
        found = estimate(points(1.0, math.nan, 3.0, math.inf))
        assert found.mean == pytest.approx(2.0)
        assert [point.seed for point in found.points] == [0, 2]

    def test_nothing_left(self):
        assert estimate(points(math.nan)) is None
        assert geometric(points(0.0, -1.0)) is None

    def test_geometric_mean_is_the_inverse_of_the_inverse(self):
        values = (0.1, 0.4, 0.25)
        ratio, inverse = geometric(points(*values)), geometric(points(*(1 / v for v in values)))
        assert ratio.mean == pytest.approx(math.prod(values) ** (1 / 3))
        assert ratio.mean == pytest.approx(1 / inverse.mean)
        assert (ratio.low, ratio.high) == pytest.approx((1 / inverse.high, 1 / inverse.low))

    @given(st.lists(st.floats(0, 100), min_size=2, max_size=12))
    def test_bootstrap_stays_in_the_range_of_the_numbers(self, values):
        found = bootstrapped(points(*values), 99)
        assert found.mean == estimate(points(*values)).mean
        assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9

    def test_bootstrap_is_the_percentile_interval_where_nothing_is_skewed(self):
        values = np.random.default_rng(0).normal(50, 3, 12)
        values = [*values, *(2 * values.mean() - values)]
        drawn = np.random.default_rng(1).choice(values, (20_000, 24)).mean(1)
        found = bootstrapped(points(*values))
        assert (found.low, found.high) == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.1)

    def test_bootstrap_of_numbers_near_a_bound(self):
        values = [100.0] * 8 + [99.0, 92.0]
        assert estimate(points(*values)).high > 100
        found = bootstrapped(points(*values))
        assert found.low < 99 < found.high <= 100
        assert found == bootstrapped(points(*values))  # the same at each call

    def test_bootstrap_of_little(self):
        assert bootstrapped([]) is None
        assert bootstrapped(points(3.0)).half is None
        assert bootstrapped(points(3.0, 3.0)).half == 0

    def test_paired_uses_shared_seeds_only(self):
        ours = estimate([Point(0, 5.0, "a0"), Point(1, 7.0, "a1"), Point(3, 100.0, "a3")])
        theirs = estimate([Point(1, 4.0, "b1"), Point(0, 4.0, "b0"), Point(2, -50.0, "b2")])
        found = paired(ours, theirs)
        assert found.mean == pytest.approx(2.0)
        assert found.points == (Point(0, 1.0, "a0", "b0"), Point(1, 3.0, "a1", "b1"))
        assert paired(ours, None) is None
        assert paired(ours, estimate([Point(9, 1.0, "c")])) is None


class TestSummarise:
    def test_gaps_by_hand(self):
        records = by_hand(
            retrain=[{"ua": 4.0, "ra": 100.0}, {"ua": 6.0, "ra": 98.0}],
            fine_tune=[{"ua": 2.0, "ra": 99.0}, {"ua": 7.0, "ra": 98.0}],
        )
        found = row(records, "fine_tune")
        assert found.differences["ua"].mean == pytest.approx(-0.5)  # (−2 + 1) / 2
        assert found.gaps["ua"].mean == pytest.approx(1.5)  # (2 + 1) / 2: signs do not cancel
        assert found.gaps["ra"].mean == pytest.approx(0.5)
        assert [p.value for p in found.gap.points] == pytest.approx([1.5, 0.5])
        assert found.gap.mean == pytest.approx(1.0)
        # t(0.975, 1) = 12.7062, standard deviation 1/√2
        assert found.gap.half == pytest.approx(12.7062 / 2, rel=1e-4)

    def test_every_number_keeps_its_records(self):
        records = by_hand(retrain=[{"ua": 4.0, "ra": 9.0}], fine_tune=[{"ua": 2.0, "ra": 9.0}])
        found = row(records, "fine_tune")
        assert found.values["ua"].points[0].key == records[1]["key"]
        point = found.gap.points[0]
        assert (point.key, point.rival) == (records[1]["key"], records[0]["key"])

    def test_retrain_has_no_gap_to_itself(self):
        for comparison in summarise(make_records(4)).comparisons:
            rival = comparison.row("retrain")
            assert rival.gap.mean == 0
            assert all(gap.mean == 0 and gap.half == 0 for gap in rival.gaps.values())
            assert rival.rte.mean == pytest.approx(1)

    def test_unpaired_seeds_count_for_means_only(self):
        records = by_hand(
            retrain=[{"ua": 4.0, "ra": 1.0}],
            fine_tune=[{"ua": 2.0, "ra": 1.0}, {"ua": 8.0, "ra": 1.0}],
        )
        found = row(records, "fine_tune")
        assert found.values["ua"].n == 2
        assert found.values["ua"].mean == pytest.approx(5.0)
        assert found.gaps["ua"].n == 1
        assert found.gap.half is None

    def test_without_retrain_there_are_no_gaps(self):
        found = row(by_hand(fine_tune=[{"ua": 2.0, "seconds": 1.0}]), "fine_tune")
        assert (found.gap, found.rte, found.gaps, found.differences) == (None, None, {}, {})
        assert found.values["ua"].mean == pytest.approx(2.0)

    def test_a_seed_that_lacks_a_headline_score_is_no_part_of_the_average_gap(self):
        records = by_hand(
            retrain=[{"ua": 4.0, "ra": 1.0}, {"ua": 4.0, "ra": 1.0}],
            fine_tune=[{"ua": 2.0, "ra": math.nan}, {"ua": 2.0, "ra": 1.0}],
        )
        found = row(records, "fine_tune")
        assert found.gaps["ua"].n == 2
        assert [point.seed for point in found.gap.points] == [1]

    def test_a_headline_score_that_nobody_measured_is_not_missed(self):
        records = by_hand(retrain=[{"ua": 4.0}], fine_tune=[{"ua": 2.0}])
        assert summarise(records, SCORES).headline == ("ua",)
        assert row(records, "fine_tune").gap.mean == pytest.approx(2.0)

    def test_time_is_a_paired_geometric_ratio(self):
        records = by_hand(
            retrain=[{"seconds": 10.0}, {"seconds": 10.0}],
            fine_tune=[{"seconds": 1.0}, {"seconds": 4.0}],
        )
        assert row(records, "fine_tune").rte.mean == pytest.approx(0.2)  # √(0.1 · 0.4)

    def test_no_ratio_to_no_time(self):
        records = by_hand(retrain=[{"seconds": 0.0}], fine_tune=[{"seconds": 1.0}])
        assert row(records, "fine_tune").rte is None

    def test_scenarios_are_not_mixed_and_rows_are_in_order(self):
        results = summarise([make_record("fine_tune"), *make_records(2)])
        assert [comparison.title for comparison in results.comparisons] == [
            "Random 10 %",
            "Class 3",
        ]
        for comparison in results.comparisons:
            names = [found.name for found in comparison.rows]
            assert names == ["original", "retrain", "fine_tune", "gradient_ascent"]
            assert comparison.seeds == (0, 1)

    def test_cells_that_differ_in_anything_else_are_not_averaged(self):
        other = make_record("fine_tune", 1)
        other["cell"] = {**other["cell"], "version": "0.2.0"}
        results = summarise([make_record("fine_tune", 0), other])
        titles = [comparison.title for comparison in results.comparisons]
        assert titles == ["Random 10 % version=0.1.0", "Random 10 % version=0.2.0"]

    def test_a_record_that_comes_twice_counts_once(self):
        record = make_record("fine_tune")
        assert row([record, record], "fine_tune").values["ua"].n == 1

    def test_one_name_with_two_settings_makes_two_rows(self):
        rates = [{"name": "fine_tune", "recipe": {"lr": lr, "epochs": 5}} for lr in (0.01, 0.1)]
        (comparison,) = summarise(
            [make_record(spec, metrics={"ua": 1.0}) for spec in rates]
        ).comparisons
        assert [found.label for found in comparison.rows] == [
            "fine_tune lr=0.01",
            "fine_tune lr=0.1",
        ]

    def test_failed_and_skipped_cells_are_told_apart(self):
        records = [
            *make_records(1, (RANDOM,)),
            make_record("fine_tune", 1, status="failed", reason="RuntimeError: too much\nand more"),
            make_record("retrain", 0, CLASS, status="skipped", reason=None),
        ]
        results = summarise(records)
        assert len(results.comparisons) == 1
        assert [(cell.status, cell.title, cell.reason) for cell in results.unfinished] == [
            ("failed", "Random 10 %", "RuntimeError: too much"),
            ("skipped", "Class 3", "no reason was given"),
        ]

    def test_nothing_at_all(self):
        results = summarise([])
        assert (results.comparisons, results.unfinished, results.headline) == ((), (), ())

    def test_missing_metrics_and_nulls(self):
        bare = make_record("fine_tune", metrics={"ua": None, "ra": 3.0})
        del bare["exhibits"]
        found = row([bare, make_record("retrain", metrics={})], "fine_tune")
        assert set(found.values) == {"ra"}
        assert found.gap is None

    def test_scores_are_described_by_the_metrics(self):
        assert described()["ua"].headline
        results = summarise(by_hand(fine_tune=[{"zebra": 1.0, "ra": 1.0, "ua": 1.0}]))
        assert list(results.scores) == ["ua", "ra", "zebra"]
        assert results.scores["zebra"].label == "zebra"


class TestLabels:
    def test_names_alone_where_they_suffice(self):
        specs = [{"name": "retrain"}, {"name": "fine_tune", "lr": 0.1}]
        assert list(label.methods(specs).values()) == ["retrain", "fine_tune"]

    def test_of_several_settings_the_usual_ones_are_not_said(self):
        specs = [
            {"name": "fine_tune", "recipe": {"lr": lr, "epochs": epochs}}
            for lr, epochs in ((0.01, 10), (0.1, 10), (0.1, 3))
        ]
        assert list(label.methods(specs).values()) == [
            "fine_tune",  # its defaults
            "fine_tune lr=0.1",
            "fine_tune lr=0.1 epochs=3",
        ]
        assert list(label.methods(specs[:2]).values()) == ["fine_tune lr=0.01", "fine_tune lr=0.1"]

    def test_nested_settings_are_short_unless_that_is_ambiguous(self):
        specs = [
            {
                "name": "pruned",
                "method": {"name": "fine_tune", "rate": 1.0},
                "pruner": {"rate": 0.5},
            },
            {
                "name": "pruned",
                "method": {"name": "retrain", "rate": 2.0},
                "pruner": {"rate": None},
            },
        ]
        assert list(label.methods(specs).values()) == [
            "pruned method=fine_tune method.rate=1 pruner.rate=0.5",
            "pruned method=retrain method.rate=2 pruner.rate=none",
        ]

    @pytest.mark.parametrize(
        ("scenario", "title"),
        [
            (RANDOM, "Random 10 %"),
            (CLASS, "Class 3"),
            ({"name": "class_wise", "label": 0, "fraction": 0.5}, "Class 0, 50 %"),
            ({"name": "random", "count": 1}, "Random 1 example"),
            ({"name": "items", "ids": [3, 4]}, "Items 2 examples"),
            ({"name": "random", "fraction": None, "count": 7}, "Random 7 examples"),
            ({"name": "items", "ids": [4, 5], "file": None}, "Items 2 examples"),
            ({"name": "mine.scenarios:Outliers"}, "Outliers"),
        ],
    )
    def test_titles(self, scenario, title):
        assert label.title(scenario) == title

    def test_the_same_title_twice_is_told_apart(self):
        specs = [{"name": "poisoned", "target": target} for target in (0, 1)]
        titles = label.scenarios([make_record("retrain", scenario=spec) for spec in specs])
        assert list(titles.values()) == ["Poisoned target=0", "Poisoned target=1"]
