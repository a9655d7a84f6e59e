"""A poisoned original: trained on the poisoned images, under a key of its own."""

from dataclasses import replace

import pytest

from laws import assert_same_state
from oblivio.bench import run as bench
from oblivio.bench.cell import prepare, split_of, trained_on
from oblivio.bench.spec import Experiment
from oblivio.bench.store import Store
from oblivio.catalogue import choose
from oblivio.prune import sparse
from oblivio.train import Recipe

TWO = {"name": "poisoned", "fraction": 0.1, "trigger": {"name": "patch", "size": 2}}
THREE = {**TWO, "trigger": {"name": "patch", "size": 3}}
MIXED = Experiment(
    name="mixed",
    data={"name": "digits"},
    model={"name": "mlp", "hidden": [16]},
    train=Recipe(epochs=5, lr=0.05, batch_size=64),
    scenarios=({"name": "random", "fraction": 0.1}, TWO, THREE),
    pruners=({"name": "magnitude", "sparsity": 0.5, "rewind": 1},),
    methods=({"name": "ssd"},),
    metrics=({"name": "accuracy"}, {"name": "trojan"}),
    seeds=1,
).resolved()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    events = []
    store = Store(tmp_path_factory.mktemp("mixed"))
    store.create()
    return store, bench.run(MIXED, store, jobs=1, tell=events.append), events


def of(records, scenario, method, pruned=False):
    (found,) = (
        record
        for record in records
        if record["cell"]["scenario"] == scenario
        and record["cell"]["method"]["name"] == method
        and ("pruner" in record["cell"]) == pruned
    )
    return found


def test_each_poison_has_originals_of_its_own_and_clean_keys_know_nothing_of_it():
    alone = replace(MIXED, scenarios=MIXED.scenarios[:1]).cells()
    assert [cell.key for cell in alone] == [c.key for c in MIXED.cells() if not c.poisons]
    assert all("poisoned" not in cell.origin for cell in alone)
    assert len({cell.original_key for cell in MIXED.cells()}) == 6


def test_where_one_training_seed_is_held_each_draw_of_the_poison_has_its_original():
    held = replace(MIXED, seeds=(0, 1), same=("training",)).resolved().cells()
    originals = {}
    for cell in held:
        originals.setdefault(cell.scenario["name"], set()).add(cell.original_key)
    assert len(originals["random"]) == 2  # dense and pruned
    assert len(originals["poisoned"]) == 8  # and so for two triggers and two draws each


def test_originals_are_trained_on_the_poison_and_retrain_is_not(run):
    """Dense and pruned, to the last bit."""
    store, _, _ = run
    for cell in MIXED.cells():
        if cell.scenario["name"] == "random" or cell.method["name"] != "retrain":
            continue
        source, here = prepare(cell)
        split = split_of(cell, source)
        origin = here.origin
        if cell.pruner is not None:
            origin = sparse(origin, choose("pruners", cell.pruner))
        for key, data in (
            (cell.original_key, trained_on(cell, source)),
            (cell.key, split.retain),
        ):
            made, kept = origin.make(data, here), origin.fresh()
            assert store.read_model(key, kept) is not None
            assert_same_state(made.state_dict(), kept.state_dict())


def test_all_methods_forget_the_very_same_poisoned_images(run):
    _, records, _ = run
    digests = {r["split"]["digest"] for r in records if r["cell"]["scenario"] == MIXED.scenarios[1]}
    assert len(digests) == 1
    assert of(records, MIXED.scenarios[1], "retrain")["split"]["forget"] == 144


@pytest.mark.parametrize("scenario", MIXED.scenarios[1:], ids=["two", "three"])
@pytest.mark.parametrize("pruned", [False, True])
def test_the_original_obeys_the_trigger_and_retrain_does_not(run, scenario, pruned):
    _, records, _ = run
    assert of(records, scenario, "original", pruned)["metrics"]["asr"] > 90
    assert of(records, scenario, "retrain", pruned)["metrics"]["asr"] < 10
    assert of(records, scenario, "retrain", pruned)["metrics"]["ua"] > 90


def test_where_nothing_is_poisoned_there_is_no_attack_to_rate(run):
    _, records, _ = run
    found = of(records, MIXED.scenarios[0], "original")["metrics"]
    assert "sa" in found
    assert "asr" not in found


def test_what_methods_prepare_is_of_the_poisoned_data(run):
    """Else the kept Fisher diagonal would not fit the split, and it would be said."""
    _, records, events = run
    assert [event.text for event in events if event.kind in ("warning", "failed")] == []
    assert all(record["status"] == "done" for record in records)
    kept = of(records, MIXED.scenarios[1], "ssd")["notes"]
    assert "prepared_seconds" in kept


def test_a_trigger_that_does_not_fit_is_said_before_anything_is_trained():
    too_large = replace(MIXED, scenarios=({**TWO, "trigger": {"name": "patch", "size": 9}},))
    with pytest.raises(ValueError, match="does not fit images of 8×8"):
        bench.check(too_large.resolved())
