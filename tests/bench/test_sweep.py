"""Dense beside pruned: what belongs together, and by how much sparsity changes a gap."""

from __future__ import annotations

import math

import pytest

from oblivio.bench.stats import summarise
from oblivio.bench.sweep import disparities, scenes
from records import CLASS, MAGNITUDE, RANDOM, SYNFLOW, make_record, make_records, make_sweep

SCORES = ("ua", "mia_efficacy", "ra", "ta")


def record(method, seed, ua, pruner=None, scenario=CLASS):
    metrics = {"ua": ua, "mia_efficacy": ua, "ra": 100.0, "ta": 90.0, "seconds": 1.0}
    return make_record(method, seed, scenario, pruner=pruner, metrics=metrics)


def test_comparisons_of_a_scenario_belong_together_in_the_order_of_sparsity():
    results = summarise(make_sweep(sparsities=(0.95, 0.5), scenarios=(CLASS, RANDOM)))
    found = scenes(results)
    assert [scene.title for scene in found] == ["Class 3", "Random 10 %"]
    for scene in found:
        assert scene.dense is not None
        assert scene.dense.pruner is None
        assert [sweep.name for sweep in scene.sweeps] == ["magnitude", "synflow"]
        assert len(scene.all) == 5
        for sweep in scene.sweeps:
            assert sweep.sparsities == pytest.approx((0, 50, 95))
            assert [row.label for row in sweep.rows("fine_tune")] == ["fine_tune"] * 3
    titles = [comparison.title for comparison in results.comparisons]
    assert "Class 3 · magnitude 95 %" in titles
    assert len(set(titles)) == len(titles) == 10


def test_without_pruners_a_scene_is_its_comparison():
    results = summarise(make_records())
    assert [scene.all for scene in scenes(results)] == [(one,) for one in results.comparisons]
    assert all(disparities(scene, results) == () for scene in scenes(results))


def test_changes_are_paired_by_seed_and_each_gap_is_to_its_own_retrain():
    dense_ua, sparse_ua = {0: 20.0, 1: 40.0}, {0: 50.0, 1: 90.0}
    records = []
    for seed in (0, 1):
        records += [record("retrain", seed, 100.0), record("fine_tune", seed, dense_ua[seed])]
        records += [
            record("retrain", seed, 94.0, MAGNITUDE),
            record("fine_tune", seed, sparse_ua[seed], MAGNITUDE),
        ]
    results = summarise(records)
    (scene,) = scenes(results)
    rows = {one.row.name: one for one in disparities(scene, results)}
    one = rows["fine_tune"]
    assert one.pruned == "magnitude 95 %"
    # The gap is the mean of four, of which UA and MIA differ: half of UA's distance.
    assert [p.value for p in one.dense.points] == [40.0, 30.0]
    assert [p.value for p in one.sparse.points] == [22.0, 2.0]
    assert [p.value for p in one.change.points] == [-18.0, -28.0]
    assert one.change.half == pytest.approx(12.706204736 * math.sqrt(50) / math.sqrt(2))
    assert [p.value for p in one.across.points] == [25.0, 5.0]
    yardstick = rows["retrain"]
    assert (yardstick.dense, yardstick.sparse, yardstick.change) == (None, None, None)
    assert [p.value for p in yardstick.across.points] == [3.0, 3.0]


def test_a_seed_that_one_side_lacks_is_left_out_of_the_change():
    records = [record("retrain", seed, 100.0, p) for seed in (0, 1) for p in (None, MAGNITUDE)]
    records += [record("fine_tune", seed, 50.0) for seed in (0, 1)]
    records += [record("fine_tune", 1, 60.0, MAGNITUDE)]
    results = summarise(records)
    (scene,) = scenes(results)
    one = next(d for d in disparities(scene, results) if d.row.name == "fine_tune")
    assert one.dense.n == 2
    assert one.change.n == 1
    assert one.change.mean == -5.0
    assert one.change.half is None


def test_what_is_missing_is_none():
    records = [record("retrain", 0, 100.0, MAGNITUDE), record("fine_tune", 0, 60.0, MAGNITUDE)]
    results = summarise(records)
    (scene,) = scenes(results)
    assert scene.dense is None
    one = next(d for d in disparities(scene, results) if d.row.name == "fine_tune")
    assert one.sparse.mean == 20.0
    assert (one.dense, one.change, one.across) == (None, None, None)
    failed = [*make_sweep(), make_record("influence", 0, CLASS, pruner=SYNFLOW, status="failed")]
    results = summarise(failed)
    assert "synflow 95 %" in results.unfinished[0].title


def test_the_same_sparsity_by_other_settings_is_told_apart():
    late = {**MAGNITUDE, "rewind": 20}
    records = [record("retrain", 0, 100.0, p) for p in (None, MAGNITUDE, late)]
    (scene,) = scenes(summarise(records))
    assert len({sweep.name for sweep in scene.sweeps}) == 2
    assert all("rewind" in sweep.name for sweep in scene.sweeps)
