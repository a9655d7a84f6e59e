"""Cells become records: resumed, damaged, failed, in several processes, always the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from laws import assert_same_state
from oblivio.bench import run as bench
from oblivio.bench.event import Event
from oblivio.bench.spec import Experiment, as_toml
from oblivio.bench.store import Store
from oblivio.catalogue import choose
from oblivio.mask import Mask
from oblivio.prune import sparse
from oblivio.train import Recipe

TINY = Experiment(
    name="tiny",
    data={"name": "digits"},
    model={"name": "mlp", "hidden": [16]},
    train=Recipe(epochs=3, lr=0.05, batch_size=64),
    scenarios=({"name": "random", "fraction": 0.1}, {"name": "class_wise", "label": 3}),
    methods=({"name": "fine_tune", "recipe": {"epochs": 1}},),
    metrics=tuple({"name": n} for n in ("accuracy", "membership", "time", "confusion")),
    seeds=1,
).resolved()


def done(experiment, folder, jobs=1):
    events = []
    store = Store(folder, warn=lambda text: events.append(Event("", "warning", text)))
    store.create()
    records = bench.run(experiment, store, jobs=jobs, tell=events.append)
    return records, events


def numbers(records):
    """What must be the same: all but times and provenance."""
    return {
        record["key"]: {
            "metrics": {k: v for k, v in record["metrics"].items() if k != "seconds"},
            "exhibits": record["exhibits"],
            "split": record["split"],
        }
        for record in records
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return done(TINY, tmp_path_factory.mktemp("reference"))[0]


def test_records_say_what_was_measured_and_where_it_comes_from(reference):
    assert [record["status"] for record in reference] == ["done"] * 6
    record = reference[1]
    assert record["cell"]["method"]["name"] == "retrain"
    assert {"ua", "ra", "ta", "mia_efficacy", "seconds"} <= set(record["metrics"])
    assert record["split"]["forget"] + record["split"]["retain"] == 1437
    assert {"oblivio", "torch", "hardware", "threads", "finished"} <= set(record["provenance"])
    assert json.loads(json.dumps(record)) == record


def test_second_run_computes_nothing(tmp_path):
    done(TINY, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.[js]*")}
    records, events = done(TINY, tmp_path)
    assert events == []
    assert len(records) == 6
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.[js]*")}
    assert after == before


def test_several_processes_give_the_same_numbers(tmp_path, reference):
    records, _ = done(TINY, tmp_path, jobs=2)
    assert numbers(records) == numbers(reference)


def test_models_that_are_there_are_judged_not_made_again(tmp_path, reference):
    done(TINY, tmp_path)
    models = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()}
    more = replace(TINY, metrics=(*TINY.metrics, {"name": "confidence", "bins": 5}))
    records, _ = done(more, tmp_path)
    assert all("confidence" in record["exhibits"] for record in records)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()} == models
    same = [{**r, "exhibits": {"confusion": r["exhibits"]["confusion"]}} for r in records]
    assert numbers(same) == numbers(reference)


@pytest.mark.parametrize("kind", ["records", "models"])
def test_damaged_files_are_made_again_and_it_is_said(tmp_path, reference, kind):
    done(TINY, tmp_path)
    for path in (tmp_path / kind).iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    if kind == "models":
        for path in (tmp_path / "records").iterdir():
            path.unlink()
    store = Store(tmp_path)
    said = []
    Store(tmp_path, warn=said.append).records()
    records, events = done(TINY, tmp_path)
    said += [event.text for event in events if event.kind == "warning"]
    assert any("damaged" in text for text in said)
    assert numbers(records) == numbers(reference)
    assert len(store.records()) == 6


PRUNED = replace(
    TINY,
    train=replace(TINY.train, epochs=2),
    scenarios=TINY.scenarios[1:],
    pruners=({"name": "magnitude", "sparsity": 0.8, "rewind": 1},),
    metrics=({"name": "accuracy"},),
).resolved()


def test_a_pruned_original_is_made_as_its_retrained_rival_is(tmp_path):
    records, _ = done(PRUNED, tmp_path)
    assert [record["status"] for record in records] == ["done"] * 6
    store = Store(tmp_path)
    for cell in PRUNED.cells():
        source, run = bench.prepare(cell)
        network = run.origin.fresh()
        zeros = []
        for key in (cell.original_key, cell.key):
            store.read_model(key, network)
            zeros.append(Mask.of(network))
        assert all(mask.total - mask.kept == (819 if cell.pruner else 0) for mask in zeros)
        if cell.pruner and cell.method["name"] == "retrain":
            made = sparse(run.origin, choose("pruners", cell.pruner))
            whole = made.make(source.train, run)
            store.read_model(cell.original_key, network)
            assert_same_state(whole.state_dict(), network.state_dict())
            alone = made.make(bench.split_of(cell, source).retain, run)
            store.read_model(cell.key, network)
            assert_same_state(alone.state_dict(), network.state_dict())


def test_pruned_cells_give_the_same_numbers_in_several_processes_and_when_resumed(tmp_path):
    one, _ = done(PRUNED, tmp_path / "one")
    two, _ = done(PRUNED, tmp_path / "two", jobs=2)
    assert numbers(one) == numbers(two)
    for path in (*(tmp_path / "two" / "records").iterdir(), *(tmp_path / "two/models").iterdir()):
        if path.stem in {cell.key for cell in PRUNED.cells()[::2]} or "models" in path.parts:
            path.unlink()
    again, _ = done(PRUNED, tmp_path / "two")
    assert numbers(again) == numbers(one)


def test_layer_collapse_is_said_by_name(tmp_path):
    empty = {"name": "magnitude", "sparsity": 0.9999, "rewind": 0}
    experiment = replace(
        PRUNED, model={"name": "mlp", "hidden": [4, 4]}, pruners=(empty,), methods=()
    ).resolved()
    records, events = done(experiment, tmp_path)
    said = [event.text for event in events if event.kind == "warning"]
    assert any("collapse" in text and ".weight" in text for text in said)
    assert all(record["status"] == "done" for record in records)


def test_a_suite_shares_its_models(tmp_path):
    stores = [Store(tmp_path / name, tmp_path / "models") for name in ("one", "two")]
    for store in stores:
        store.create()
        bench.run(PRUNED, store, jobs=1, tell=lambda _: None)
    assert not (tmp_path / "two" / "models").exists()
    assert numbers(stores[0].records()) == numbers(stores[1].records())
    assert len(stores[1].records()) == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pruners": ({"name": "magnitude", "rewind": 9},)}, "rewind = 9"),
        ({"model": {"name": "mlp", "hidden": []}}, "nothing to prune"),
    ],
)
def test_what_cannot_be_pruned_is_said_before_anything_runs(change, said):
    with pytest.raises(ValueError, match=said):
        bench.check(replace(PRUNED, **change).resolved())


def test_a_failing_cell_does_not_stop_the_others_and_is_tried_again(tmp_path):
    mad = {"name": "fine_tune", "recipe": {"epochs": 1, "lr": 1e30}}
    experiment = replace(TINY, methods=(*TINY.methods, mad)).resolved()
    records, events = done(experiment, tmp_path)
    by = {}
    for record in records:
        by.setdefault(record["status"], []).append(record)
    assert len(by["failed"]) == 2
    assert len(by["done"]) == 6
    assert "learning rate" in by["failed"][0]["reason"]
    assert "Traceback" in by["failed"][0]["traceback"]
    assert len([e for e in events if e.kind == "failed"]) == 2
    assert len(bench.plan(experiment, Store(tmp_path)).left) == 2


def test_a_method_that_does_not_apply_is_skipped_with_its_reason(tmp_path, monkeypatch):
    from oblivio.core import NotApplicable
    from oblivio.methods.fine_tune import FineTune

    def refuse(*_):
        raise NotApplicable("it needs a moon")

    monkeypatch.setattr(FineTune, "__call__", refuse)
    records, _ = done(TINY, tmp_path)
    skipped = [record for record in records if record["status"] == "skipped"]
    assert [record["reason"] for record in skipped] == ["it needs a moon"] * 2
    assert not bench.plan(TINY, Store(tmp_path)).left


def test_given_weights_are_the_original(tmp_path):
    done(TINY, tmp_path / "a")
    key = TINY.cells()[0].original_key
    weights = tmp_path / "a" / "models" / f"{key}.safetensors"
    given = replace(TINY, model={**TINY.model, "weights": str(weights)}).resolved()
    records, _ = done(given, tmp_path / "b")
    ours = next(r for r in records if r["cell"]["method"]["name"] == "original")
    theirs = next(
        r for r in done(TINY, tmp_path / "a")[0] if r["cell"]["method"] == ours["cell"]["method"]
    )
    assert ours["metrics"]["ra"] == theirs["metrics"]["ra"]
    assert not (tmp_path / "b" / "models" / f"{given.cells()[0].original_key}.safetensors").exists()


def test_keep_originals_leaves_no_unlearned_weights(tmp_path):
    done(replace(TINY, keep="originals"), tmp_path)
    kept = [path.stem for path in (tmp_path / "models").iterdir()]
    assert kept == [TINY.cells()[0].original_key]


# --- What is prepared ---------------------------------------------------------------------------

ASKING = replace(
    PRUNED, methods=tuple({"name": "asking:Asking", "threshold": t} for t in (3.0, 9.0))
).resolved()


def kept(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("models/*.fisher-*")}


def test_what_can_be_prepared_is_there_once_for_every_original(tmp_path):
    """In one process and in two, dense and pruned; and when resumed, it is not made again."""
    one, events = done(ASKING, tmp_path / "one")
    assert [record["status"] for record in one] == ["done"] * 8, [e.text for e in events]
    originals = {cell.original_key for cell in ASKING.cells()}
    files = kept(tmp_path / "one")
    assert set(files) == {f"{key}.fisher-data.safetensors" for key in originals}
    for record in one:
        asks = record["cell"]["method"]["name"] == "asking:Asking"
        assert ("prepared_seconds" in record["notes"]) == asks
    two, _ = done(ASKING, tmp_path / "two", jobs=2)
    assert numbers(one) == numbers(two)

    for path in [p for part in ("records", "models") for p in (tmp_path / "one" / part).iterdir()]:
        if path.name.partition(".")[0] not in originals:
            path.unlink()
    again, _ = done(ASKING, tmp_path / "one")
    assert numbers(again) == numbers(one)
    assert kept(tmp_path / "one") == files


def test_an_original_that_is_made_again_is_prepared_again(tmp_path):
    one, _ = done(ASKING, tmp_path)
    for path in (*tmp_path.glob("models/*"), *tmp_path.glob("records/*")):
        path.write_bytes(path.read_bytes()[:-7])
    again, events = done(ASKING, tmp_path)
    assert numbers(again) == numbers(one)
    assert not [event for event in events if event.kind == "failed"]


def test_preparing_sees_all_of_the_training_data_before_any_cell(tmp_path, monkeypatch):
    """Once for every original and method that can; its time is not the method's."""
    from oblivio.methods.fine_tune import FineTune

    calls = []

    def prepare(self, model, data, run):
        assert not model.training
        kept = None if run.mask is None else run.mask.kept
        calls.append((len(data), run.beside, kept, len(list(tmp_path.glob("records/*")))))
        time.sleep(1)

    monkeypatch.setattr(FineTune, "prepare", prepare, raising=False)
    records, _ = done(PRUNED, tmp_path)
    store = Store(tmp_path)
    keys = dict.fromkeys(cell.original_key for cell in PRUNED.cells())
    assert calls == [
        (1437, store.weights(key), mask, 0) for key, mask in zip(keys, (None, 205), strict=True)
    ]
    for record in records:
        about = store.read_model(record["key"], bench.prepare(PRUNED.cells()[0])[1].origin.fresh())
        assert about["seconds"] < 0.9


def test_what_cannot_be_prepared_is_said_and_cells_do_without(tmp_path, monkeypatch):
    from oblivio.methods.fine_tune import FineTune

    def prepare(self, model, data, run):
        raise ValueError("there is no moon")

    monkeypatch.setattr(FineTune, "prepare", prepare, raising=False)
    records, events = done(TINY, tmp_path)
    assert [record["status"] for record in records] == ["done"] * 6
    said = [event.text for event in events if event.kind == "warning"]
    assert said == ["fine_tune cannot prepare: there is no moon"]


# --- Killed, and in company ---------------------------------------------------------------------


def start(folder, path):
    command = [
        sys.executable,
        "-m",
        "oblivio",
        "run",
        str(path),
        "--out",
        str(folder),
        "--jobs",
        "1",
    ]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": ""}
    )


def wait_for_records(folder, count):
    end = time.monotonic() + 120
    while len(list((folder / "records").glob("*.json"))) < count:
        assert time.monotonic() < end, "no record in two minutes"
        time.sleep(0.01)


def test_killed_at_any_moment_the_run_goes_on_to_the_same_numbers(tmp_path, reference):
    path = tmp_path / "tiny.toml"
    path.write_text(as_toml(TINY))
    for count in (0, 2):
        (tmp_path / "records").mkdir(exist_ok=True)
        process = start(tmp_path, path)
        wait_for_records(tmp_path, count)
        process.send_signal(signal.SIGKILL)
        process.wait()
    records, _ = done(TINY, tmp_path)
    assert numbers(records) == numbers(reference)


def test_two_processes_share_a_folder(tmp_path, reference):
    path = tmp_path / "tiny.toml"
    path.write_text(as_toml(TINY))
    both = [start(tmp_path, path) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert numbers(Store(tmp_path).records()) == numbers(reference)
    assert not list(tmp_path.rglob(".*"))
