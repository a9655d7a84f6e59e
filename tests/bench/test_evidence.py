"""Requests repeated with shadow models: what is recorded, shared, resumed and refused."""

import base64
from dataclasses import replace

import pytest

from oblivio.bench import evidence
from oblivio.bench import run as bench
from oblivio.bench.spec import Evidence, Experiment, as_toml, read
from oblivio.bench.store import Store
from oblivio.methods.fine_tune import FineTune
from oblivio.train import Recipe

SHIFT, HALF = {"name": "worlds:Shift"}, {"name": "worlds:HalfShift"}

SHADOWED = Experiment(
    name="shadowed",
    data={"name": "digits"},
    model={"name": "mlp", "hidden": [8]},
    train=Recipe(epochs=1, lr=0.05, batch_size=128),
    scenarios=({"name": "random", "fraction": 0.05},),
    methods=({"name": "fine_tune", "recipe": {"epochs": 1}}, {"name": "gradient_ascent"}),
    metrics=({"name": "accuracy"},),
    evidence=Evidence(models=4, measures=(SHIFT, HALF), points=50),
    seeds=1,
).resolved()


def proofs(experiment, folder, jobs=1):
    """The records, and the events of making them."""
    events = []
    store = Store(folder)
    store.create()
    store.evidence.create()
    bench.run(experiment, store, jobs=jobs, tell=events.append)
    return evidence.records(experiment, store.evidence), events


def numbers(records):
    return {
        record["key"]: [(one["scores"], one["exhibits"]) for one in record["measures"]]
        for record in records
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shadowed")
    return folder, *proofs(SHADOWED, folder)


def test_every_method_has_a_record_for_every_design(made):
    _, records, events = made
    assert [(r["cell"]["method"]["name"], r["shadows"]["design"]) for r in records] == [
        ("fine_tune", "fixed"),
        ("gradient_ascent", "fixed"),
        ("fine_tune", "halves"),
        ("gradient_ascent", "halves"),
    ]
    assert all(record["status"] == "done" for record in records)
    assert sum(e.task.startswith("shadow models") and e.kind == "done" for e in events) == 2


def test_a_number_stands_beside_its_interval_null_and_ceiling(made):
    _, records, _ = made
    for record in records:
        (one,) = record["measures"]
        score = one["scores"]["shift"]
        assert score["low"] <= score["value"] <= score["high"]
        null, low, high = score["null"]
        assert low <= null <= high
        assert isinstance(score["ceiling"], float)
        assert {"roc", "roc_null", "roc_ceiling", "per_point"} <= set(one["exhibits"])


def test_methods_share_their_null_and_ceiling(made):
    _, records, _ = made
    one, two = (record["measures"][0]["scores"]["shift"] for record in records[:2])
    assert one["null"] == two["null"]
    assert one["ceiling"] == two["ceiling"]
    assert one["value"] != two["value"]


def test_the_most_exposed_examples_are_shown(made):
    _, records, _ = made
    pictures = records[0]["pictures"]
    exposure = dict(
        zip(
            records[0]["points"]["ids"],
            records[0]["measures"][0]["exhibits"]["per_point"],
            strict=True,
        )
    )
    shown = sorted(exposure, key=exposure.__getitem__, reverse=True)[: evidence.SHOWN]
    assert {int(id_) for id_ in pictures} == set(shown)
    kind, _, data = pictures[str(shown[0])].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")


def test_the_same_numbers_in_several_processes(made, tmp_path):
    _, records, _ = made
    assert numbers(proofs(SHADOWED, tmp_path, jobs=2)[0]) == numbers(records)


def test_done_is_not_done_again_and_a_new_measure_judges_what_is_there(made, monkeypatch):
    folder, records, _ = made
    monkeypatch.setattr(FineTune, "__call__", None)  # whoever calls it fails
    assert bench.plan(SHADOWED, Store(folder)).total == 0
    asked = replace(SHADOWED.evidence, measures=(SHIFT, HALF, {**SHIFT, "least": 3}))
    # a module's own measure takes settings as the catalogue's do
    more = replace(SHADOWED, evidence=asked)
    assert len(bench.plan(more, Store(folder)).cases) == 2
    found, _ = proofs(more, folder)
    assert [len(record["measures"]) for record in found] == [2, 2, 1, 1]
    assert found[0]["measures"][0] == records[0]["measures"][0]
    proofs(SHADOWED, folder)


def test_a_run_that_was_killed_in_between_gives_the_same(made, tmp_path):
    folder, records, _ = made
    for sub in ("models", "records", "evidence"):
        (tmp_path / sub).mkdir()
        for path in sorted((folder / sub).iterdir()):
            (tmp_path / sub / path.name).write_bytes(path.read_bytes())
    for record in records:
        (tmp_path / "evidence" / f"{record['key']}.json").unlink()
    (tmp_path / "models" / f"{records[0]['key']}.safetensors").unlink()
    cast = evidence.cases(SHADOWED)[-1].cast_key
    (tmp_path / "models" / f"{cast}.safetensors").write_bytes(b"damaged")
    assert numbers(proofs(SHADOWED, tmp_path)[0]) == numbers(records)


def test_too_few_models_give_a_sentence_and_no_number(tmp_path):
    asked = Evidence(models=2, measures=({**SHIFT, "least": 3},), points=20)
    found, _ = proofs(replace(SHADOWED, evidence=asked), tmp_path)
    for record in found:
        (one,) = record["measures"]
        assert record["status"] == "done"
        assert one["reason"] == "There are 2 shadow models; it takes 3."
        assert one["scores"] == {}


def test_a_method_that_fails_is_a_record_with_its_reason(tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no luck today")

    monkeypatch.setattr(FineTune, "__call__", fail)
    only = replace(SHADOWED, evidence=replace(SHADOWED.evidence, measures=(SHIFT,)))
    found, _ = proofs(only, tmp_path)
    assert [record["status"] for record in found] == ["failed", "done"]
    assert found[0]["reason"] == "no luck today"
    assert [case.cell.method["name"] for case in bench.plan(only, Store(tmp_path)).cases] == [
        "fine_tune"
    ]


def test_keys_depend_on_what_changes_the_answers_only():
    def keys(**change):
        asked = replace(SHADOWED, evidence=replace(SHADOWED.evidence, **change))
        return [case.key for case in evidence.cases(asked)]

    assert keys(measures=(HALF, SHIFT)) != keys(models=6)
    assert set(keys(measures=(HALF, SHIFT))) == set(keys())
    assert not set(keys(models=6)) & set(keys())
    assert not set(keys(points=51)) & set(keys())
    cells = [cell.key for cell in SHADOWED.cells()]
    assert cells == [cell.key for cell in replace(SHADOWED, evidence=Evidence()).cells()]


def test_the_original_and_the_retrained_are_no_cases_of_their_own():
    more = replace(SHADOWED, methods=(*SHADOWED.methods, {"name": "retrain_again"})).resolved()
    assert {case.cell.method["name"] for case in evidence.cases(more)} == {
        "fine_tune",
        "gradient_ascent",
    }


def test_evidence_is_of_the_first_seeds_and_of_dense_models():
    more = replace(
        SHADOWED,
        seeds=(3, 4, 5),
        pruners=({"name": "magnitude", "sparsity": 0.5},),
        evidence=replace(SHADOWED.evidence, seeds=2),
    ).resolved()
    found = evidence.cases(more)
    assert {case.cell.seed for case in found} == {3, 4}
    assert all(case.cell.pruner is None for case in found)


def test_a_resolved_experiment_is_read_back(tmp_path):
    path = tmp_path / "again.toml"
    path.write_text(as_toml(SHADOWED, ["some key"]))
    again = read(path)
    assert again.evidence == SHADOWED.evidence
    assert [case.key for case in evidence.cases(again)] == [
        case.key for case in evidence.cases(SHADOWED)
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("models = 3", "models = 3 must be an even number"),
        ("models = -2", "models = -2 must be an even number"),
        ("models = 4\npoints = 0", "points = 0 must be 1 or more"),
        ("models = 4\nseeds = 0", "seeds = 0 must be 1 or more"),
        ('models = 4\nmeasures = ["u_lyra"]', "Did you mean u_lira"),
        ("shadows = 4", "There is no field 'shadows'"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path, settings, said):
    path = tmp_path / "bad.toml"
    path.write_text(f'[data]\nname = "digits"\n[model]\nname = "mlp"\n[evidence]\n{settings}\n')
    with pytest.raises(ValueError, match=said):
        read(path)


def test_a_request_that_cannot_be_halved_is_refused_before_anything_runs():
    one = replace(SHADOWED, scenarios=({"name": "random", "count": 1},)).resolved()
    with pytest.raises(ValueError, match="1 examples to forget"):
        bench.check(one)
    bench.check(replace(one, evidence=replace(one.evidence, measures=(SHIFT,))))
