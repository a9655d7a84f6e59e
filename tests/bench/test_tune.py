"""The search for settings: what it never sees, one budget for all, and what comes of it."""

import importlib
import json
import re
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from oblivio import cli
from oblivio.bench import cell as bench_cell
from oblivio.bench.event import Event
from oblivio.bench.held_out import held_out, search_seeds, stand_ins
from oblivio.bench.run import run
from oblivio.bench.space import Choice, Range, Search, dimension, searches, space_of
from oblivio.bench.spec import Experiment, canonical, read
from oblivio.bench.store import Store
from oblivio.bench.study import Book, Outcome, opened
from oblivio.bench.tune import searching, tune
from oblivio.bench.tuned import Found, Rule, Tuning, write
from oblivio.catalogue import choose, names
from oblivio.data.sets.digits import Digits
from oblivio.data.source import load
from oblivio.train import Recipe

GIVEN = {"recipe.lr": 0.1, "recipe.epochs": 1}
PUBLISHED = {"recipe.lr": 0.01, "recipe.epochs": 10}
ASKED = Experiment(
    name="tiny",
    data={"name": "digits"},
    model={"name": "mlp", "hidden": [8]},
    train=Recipe(epochs=2, lr=0.05, batch_size=64),
    scenarios=({"name": "random", "fraction": 0.1}, {"name": "class_wise", "label": 3}),
    methods=(
        {"name": "fine_tune", "recipe": {"epochs": 1, "lr": 0.1, "batch_size": 256}},
        {"name": "gradient_ascent", "recipe": {"batch_size": 256}},
    ),
    metrics=({"name": "accuracy"},),
    seeds=2,
).resolved()
RULE = Rule(trials=3, seeds=2)


class Tripwire:
    """Test data that nobody may look at."""

    def _refuse(self, *_, **__):
        raise PermissionError("Somebody looks at the test data.")

    ids = labels = property(_refuse)
    __len__ = take = to = batches = _refuse


@contextmanager
def mined():
    """Meanwhile, the test data of the handwritten digits raise when they are touched."""
    real = Digits.__call__

    def source_of(self: Digits):
        source = real(self)
        object.__setattr__(source, "test", Tripwire())  # type checks look at what they are given
        return source

    bench_cell._source.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Digits, "__call__", source_of)
        yield
    bench_cell._source.cache_clear()


def searched(folder, experiment=ASKED, rule=RULE, tell=lambda _: None, **options):
    store = Store(folder)
    store.create()
    return tune(experiment, store, rule, tell=tell, **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A whole search, while the test data raise when they are touched."""
    folder = tmp_path_factory.mktemp("tune")
    with mined():
        return folder, searched(folder)


# --- What a search sees -------------------------------------------------------------------------


def test_a_search_never_touches_the_test_data(done, tmp_path):
    records = Store(done[0]).records()
    assert {record["status"] for record in records} == {"done"}
    store = Store(tmp_path)
    store.create()
    one = replace(ASKED, scenarios=ASKED.scenarios[:1], methods=({"name": "original"},), seeds=(0,))
    with mined():
        bare = run(one, store, jobs=1, tell=lambda _: None)  # which does trip over the wire
    assert [record["reason"] for record in bare] == ["Somebody looks at the test data."]


def test_a_part_of_the_training_data_stands_in_for_the_test_data():
    whole = load({"name": "digits"})
    source = held_out({"name": "digits"}, 0.2, 7)
    train, held = source.train.ids, source.test.ids
    assert len(held) == round(0.2 * len(whole.train))
    assert torch.equal(torch.cat([train, held]).sort().values, whole.train.ids.sort().values)
    share = source.test.labels.bincount() / whole.train.labels.bincount()
    assert share.min() > 0.19
    assert share.max() < 0.21
    assert torch.equal(held_out({"name": "digits"}, 0.2, 7).test.ids, held)
    assert not torch.equal(held_out({"name": "digits"}, 0.2, 8).test.ids, held)


def test_neither_seeds_nor_forget_sets_are_those_of_the_report():
    reported = replace(ASKED, seeds=(0, 1000)).resolved()
    asked, said = searching(reported, RULE)
    assert asked.seeds == (1001, 1002)
    sources = [bench_cell.source_of(one) for one in (reported, asked)]
    digests, forgotten = (
        [(c.scenario["name"], bench_cell.split_of(c, s)) for c in one.cells()]
        for one, s in zip((reported, asked), sources, strict=True)
    )
    assert not {split.digest for _, split in digests} & {split.digest for _, split in forgotten}
    classes = [{*s.forget.labels.tolist()} for name, s in forgotten if name == "class_wise"]
    assert {3} not in classes
    assert any("Class 4 stands in for Class 3" in sentence for sentence in said)
    held = set(sources[1].test.ids.tolist())
    assert not any(held & set(split.forget.ids.tolist()) for _, split in forgotten)


def test_requests_that_no_seed_changes_have_stand_ins():
    train = load({"name": "digits"}).train
    classes = tuple({"name": "class_wise", "label": k, "fraction": 1.0} for k in (8, 9, 1))
    assert [s["label"] for s in stand_ins(classes, train)[0]] == [0, 2, 3]
    ids = {"name": "items", "ids": [1, 5, 9], "file": None}
    found, said = stand_ins([ids], train)
    assert found == ({"name": "random", "fraction": None, "count": 3},)
    assert said == ["Random 3 examples stands in for Items 3 examples."]


def test_it_is_said_where_nothing_can_stand_in():
    train = load({"name": "digits"}).train
    every = tuple({"name": "class_wise", "label": k, "fraction": 1.0} for k in range(10))
    found, said = stand_ins(every, train)
    assert found == every
    assert len(said) == 10
    assert "nothing stands in for it" in said[0]


def test_weights_that_have_seen_everything_are_not_searched_with(tmp_path):
    given = replace(ASKED, model={**ASKED.model, "weights": str(tmp_path / "none.safetensors")})
    assert "weights" not in searching(given, RULE)[0].model


def test_seeds_of_a_search():
    assert search_seeds([0, 1, 1001], 3) == (1000, 1002, 1003)


# --- One budget for all -------------------------------------------------------------------------


def test_every_method_has_as_many_trials_its_default_the_first(done):
    found = {one.search.label: one for one in done[1].found}
    assert [len(one.outcomes) for one in found.values()] == [3, 3]
    assert all([o.number for o in one.outcomes] == [0, 1, 2] for one in found.values())
    assert found["fine_tune"].outcomes[0].settings == PUBLISHED
    assert found["fine_tune"].outcomes[1].settings == GIVEN
    assert found["gradient_ascent"].outcomes[0].settings == {"recipe.lr": 1e-4, "recipe.epochs": 5}
    assert found["fine_tune"].default.number == 0
    assert found["fine_tune"].given.number == 1
    tried = [canonical(o.settings) for o in found["fine_tune"].outcomes]
    assert len(set(tried)) == 3


def test_the_objective_is_the_mean_average_gap_to_retrain(done):
    folder, tuning = done
    rows = {}
    for record in Store(folder).records():
        about = record["cell"]
        where = (canonical(about["scenario"]), about["seed"])
        rows.setdefault(canonical(about["method"]), {})[where] = record["metrics"]
    retrain = rows[canonical({"name": "retrain"})]
    for outcome in tuning.found[0].outcomes:
        table = tuning.found[0].search.table(outcome.settings)
        gaps = {1000: [], 1001: []}
        for where, numbers in rows[canonical(table)].items():
            gaps[where[1]] += [abs(numbers[k] - retrain[where][k]) for k in ("ua", "ra", "ta")]
        means = {str(seed): sum(own) / len(own) for seed, own in gaps.items()}
        assert outcome.gaps == pytest.approx(means)
        assert len(outcome.cases) == 2
        assert outcome.gap.mean == pytest.approx(sum(means.values()) / 2)


def test_a_search_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    small = replace(ASKED, scenarios=ASKED.scenarios[:1], methods=ASKED.methods[:3])
    rule, ended = Rule(trials=4, seeds=1), []

    def stop(event: Event) -> None:
        ended.extend([event] * (event.kind == "done" and "fine_tune" in event.task))
        if len(ended) == 3:  # done, but not written into the book
            raise KeyboardInterrupt

    whole = searched(tmp_path / "whole", small, rule)
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "parts", small, rule, tell=stop)
    parts = searched(tmp_path / "parts", small, rule)
    for one, other in zip(whole.found[0].outcomes, parts.found[0].outcomes, strict=True):
        assert (one.number, one.settings, one.gaps) == (other.number, other.settings, other.gaps)
    for part in ("whole", "parts"):
        assert len(list((tmp_path / part / "records").iterdir())) == 2 + 4


def test_what_is_done_is_not_done_again_and_a_larger_budget_adds_to_it(done):
    folder, tuning = done
    heard = []
    again = searched(folder, tell=heard.append)
    assert [event.kind for event in heard] == ["size"]
    assert heard[0].total == 0
    assert [one.outcomes for one in again.found] == [one.outcomes for one in tuning.found]
    more = searched(folder, rule=replace(RULE, trials=4))
    assert [one.outcomes[:3] for one in more.found] == [one.outcomes for one in tuning.found]


def test_trials_that_fail_count_and_do_not_stop_the_others(tmp_path):
    space = {"fine_tune": {"recipe.lr": [1e30, 1e31]}, "gradient_ascent": {}}
    only = replace(ASKED, scenarios=ASKED.scenarios[:1], tune=space).resolved()
    tuning = searched(tmp_path, only, Rule(trials=3, seeds=1))
    (found,) = tuning.found
    assert [outcome.reason is None for outcome in found.outcomes] == [True, True, False]
    assert "learning rate" in found.outcomes[2].reason
    assert found.best.number < 2
    assert any("1 of 3 trials failed" in note for note in found.notes(tuning.original))


def test_what_takes_too_long_is_out_and_the_given_settings_stay(tmp_path):
    only = replace(ASKED, scenarios=ASKED.scenarios[:1], methods=ASKED.methods[:3])
    tuning = searched(tmp_path, only, Rule(trials=2, seeds=1, time_limit=1e-9))
    (found,) = tuning.found
    assert found.best is None
    assert all("of retrain's time" in outcome.reason for outcome in found.outcomes)
    assert tuning.tuned.methods == only.methods
    assert any("no settings are possible" in note for note in found.notes(tuning.original))
    assert any("1e-09 of retrain's time is out" in sentence for sentence in tuning.said)


# --- The book of trials -------------------------------------------------------------------------

SPACE = {"recipe.lr": Range(1e-3, 1.0), "recipe.epochs": Range(1, 10, whole=True)}
SEARCH = Search("fine_tune", ({"name": "fine_tune"},), SPACE, PUBLISHED, (GIVEN,))


def outcome(number, settings, *gaps, **more):
    return Outcome(number, settings, {str(1000 + i): gap for i, gap in enumerate(gaps)}, **more)


def test_processes_that_share_a_storage_keep_to_one_budget(tmp_path):
    one, two = (Book(opened(None, tmp_path), "b", SEARCH, alone=False) for _ in range(2))
    begun = [one.begin(3), two.begin(3), one.begin(3)]
    assert [number for number, _ in begun] == [0, 1, 2]
    for trial in begun[1:]:
        one.close(outcome(*trial, 1.0))
    # One is open still, and nothing is left to begin: whoever is free takes it up.
    assert two.begin(3) == begun[0]
    two.close(outcome(*begun[0], 2.0))
    one.close(outcome(*begun[0], 3.0))  # too late
    assert one.begin(3) is two.begin(3) is None
    assert [o.gap.mean for o in one.outcomes(3)] == [2.0, 1.0, 1.0]


def test_a_search_learns_from_its_trials(tmp_path):
    book = Book(opened(None, tmp_path), "b", SEARCH, alone=True)
    tried = []
    while trial := book.begin(40):
        rate = torch.tensor(trial[1]["recipe.lr"]).log10()
        tried.append(float((rate + 2.3).abs()))
        book.close(outcome(*trial, tried[-1]))
    early, late = (sorted(part)[len(part) // 2] for part in (tried[2:8], tried[-15:]))
    assert late < early / 2


def test_a_start_outside_of_the_space_is_tried_and_not_learned_from(tmp_path):
    far = {"recipe.lr": 7.0, "recipe.epochs": 99}
    book = Book(opened(None, tmp_path), "b", replace(SEARCH, given=(far,)), alone=True)
    trials = []
    while trial := book.begin(9):
        trials.append(trial)
        book.close(outcome(*trial, 1.0))
    assert trials[1] == (1, far)
    assert all(book.search.holds(settings) for number, settings in trials if number != 1)


def test_a_storage_that_cannot_be_opened(tmp_path):
    with pytest.raises(ValueError, match="storage cannot be opened"):
        opened("nonsense://here", tmp_path)


def test_without_optuna_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "oblivio.bench.study")
    with pytest.raises(ValueError, match=r"pip install 'oblivio\[tune\]'"):
        importlib.import_module("oblivio.bench.study")


# --- Spaces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("methods"))
def test_published_defaults_lie_in_a_method_s_own_space(name):
    space = space_of({"name": name}, {})
    if name in ("original", "retrain", "retrain_again"):
        assert not space
        return
    (search,), _ = searches(replace(ASKED, methods=({"name": name},)))
    assert search.space == space
    assert search.published is not None
    assert search.holds(search.published)
    assert choose("methods", search.table(search.published)) == choose("methods", {"name": name})


def test_two_numbers_are_a_range_and_anything_else_is_a_choice():
    assert dimension("x", [1, 10], 3) == Range(1, 10, whole=True)
    assert dimension("x", [1, 10], 3.0) == Range(1, 10)
    assert dimension("x", [0.1, 0.5], None) == Range(0.1, 0.5)
    assert dimension("x", [1, 2, 4], 3) == Choice((1, 2, 4))
    assert dimension("x", ["zero", "none"], "zero") == Choice(("zero", "none"))
    assert dimension("x", [True, False], True) == Choice((True, False))
    assert Range(1e-3, 1.0).log
    assert not Range(0.0, 1.0).log
    assert not Range(0.2, 1.0).log


def test_tables_that_differ_in_searched_settings_only_are_one_search():
    several = ({"name": "fine_tune", "recipe": {"lr": lr}} for lr in (0.1, 0.2))
    other = {"name": "fine_tune", "recipe": {"batch_size": 32}}
    wanted, unsearched = searches(replace(ASKED, methods=(*several, other)).resolved())
    assert [len(one.methods) for one in wanted] == [2, 1]
    assert [start["recipe.lr"] for start in wanted[0].starts] == [0.01, 0.1, 0.2]
    assert unsearched == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ()}, "nothing to search: none of original, retrain has a search space"),
        ({"tune": {"fine_tune": {}, "gradient_ascent": {}}}, "nothing to search"),
        ({"tune": {"finetune": {}}}, "no method of the experiment 'finetune'. Did you mean fine_t"),
        ({"tune": {"fine_tune": {"recipe.rate": [1, 2]}}}, "no setting 'recipe.rate'"),
        ({"tune": {"fine_tune": {"recipe.lr": [1.0, 0.1]}}}, "is no range: the lower number"),
        ({"tune": {"fine_tune": {"recipe.lr": 0.1}}}, "must be a range [low, high] or a list"),
        ({"tune": {"fine_tune": {"recipe.lr": [[1, 2]]}}}, "may list numbers, words, true and f"),
        ({"tune": {"fine_tune": {"recipe.lr": [-1.0, 0.1]}}}, "lr = -1.0 must be above 0"),
        ({"tune": {"fine_tune": {"recipe.epochs": [0.5, 2]}}}, "epochs = 0.5 does not fit"),
        ({"tune": {"fine_tune": {"recipe.optimizer": ["sgd", "sdg"]}}}, "sdg"),
        ({"tune": {"fine_tune": [1]}}, "must be a table of settings"),
    ],
)
def test_what_a_search_refuses(change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        searches(replace(ASKED, **change).resolved())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trials": 0}, "trials = 0 must be 1 or more"),
        ({"seeds": 0}, "seeds = 0 must be 1 or more"),
        ({"share": 1.0}, "share = 1.0 must be between 0 and 1"),
        ({"time_limit": 0.0}, "time_limit = 0.0 must be above 0"),
    ],
)
def test_rules_that_are_none(wrong, message):
    with pytest.raises(ValueError, match=message):
        Rule(**wrong)


def test_there_must_be_something_to_search_by():
    with pytest.raises(ValueError, match="none of the experiment's metrics has a headline score"):
        searching(replace(ASKED, metrics=({"name": "time"},)).resolved(), RULE)


# --- What comes of it ---------------------------------------------------------------------------


def notes(best, default, original=(9.0, 9.0, 9.0), settings=GIVEN):
    search = replace(SEARCH, given=())
    found = Found(search, (outcome(0, PUBLISHED, *default), outcome(1, settings, *best)))
    return " ".join(found.notes(outcome(0, {}, *original)))


def test_what_there_is_to_mind():
    middle = {"recipe.lr": 0.1, "recipe.epochs": 4}
    assert notes((1.0, 1.1, 0.9), (3.0, 3.1, 3.0), settings=middle) == ""
    assert "not told apart" in notes((1.0, 3.2, 0.9), (3.0, 3.1, 3.0), settings=middle)
    assert "not told apart" in notes((1.0,), (3.0,), settings=middle)
    assert "recipe.epochs = 1 lies at the lower edge of its range, 1 to 10" in notes((1,), (3,))
    assert "nothing tried is better than the default" in notes((3.0, 3.0), (3.0, 2.0))
    given = Found(SEARCH, (outcome(0, PUBLISHED, 3.0, 3.1), outcome(1, GIVEN, 1.0, 1.1)))
    assert "nothing tried is better than what is given" in given.notes(outcome(0, {}, 9.0))
    assert "no better than the original" in notes((1.0, 1.1), (3.0, 3.1), original=(1.0, 1.1))


def test_the_tuned_experiment_is_the_given_one_with_the_best_settings(done, tmp_path):
    folder, tuning = done
    path = write(tuning, folder)
    tuned = read(path)
    assert tuned.name == "tiny-tuned"
    assert replace(tuned, name="tiny", about="", methods=()) == replace(ASKED, methods=())
    own = {method["name"]: method for method in tuned.methods}
    best = tuning.found[0].best
    assert own["fine_tune"]["recipe"]["lr"] == best.settings["recipe.lr"]
    assert own["fine_tune"]["recipe"]["batch_size"] == 256
    assert best.gap.mean == min(o.gap.mean for o in tuning.found[0].outcomes)
    assert "never sees the test data" in tuned.about
    told = json.loads((folder / "trials.json").read_text())
    assert [len(method["trials"]) for method in told["methods"]] == [3, 3]
    assert told["rule"]["share"] == 0.2
    assert set(read(folder / "experiment.toml").seeds) == {1000, 1001}


def test_tables_that_are_equal_after_a_search_are_one():
    several = ({"name": "fine_tune", "recipe": {"lr": lr}} for lr in (0.1, 0.2))
    given = replace(ASKED, methods=tuple(several)).resolved()
    (search,), _ = searches(given)
    found = Found(search, (outcome(0, search.starts[0], 2.0), outcome(1, search.starts[1], 1.0)))
    tuning = Tuning(given, given, RULE, (), outcome(0, {}, 9.0), (found,), ())
    assert [method["name"] for method in tuning.tuned.methods] == [
        "original",
        "retrain",
        "fine_tune",
    ]
    assert tuning.tuned.methods[2]["recipe"]["lr"] == 0.1


TOML = """
data = { name = "digits" }
model = { name = "mlp", hidden = [8] }
train = { epochs = 1, lr = 0.05, batch_size = 128 }
metrics = ["accuracy"]
seeds = 1
methods = [{ name = "fine_tune" }]
[tune.fine_tune]
"recipe.epochs" = [1, 2]
"""


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "case.toml").write_text(TOML)

    def call(*words, status=0):
        monkeypatch.setattr("sys.argv", ["oblivio", *words, "--jobs", "1"])
        with pytest.raises(SystemExit, match=str(status)):
            cli.main()
        return capsys.readouterr()

    said = call("tune", "case.toml", "--trials", "2", "--seeds", "2").out
    assert "fine_tune, trial 2 of 2: average gap" in said
    assert "The search never sees the test data: 287 of 1,437 training examples" in said
    assert "oblivio run runs/case-tune/tuned.toml" in said
    call("run", "runs/case-tune/tuned.toml")
    assert (tmp_path / "runs" / "case-tuned" / "report.html").is_file()
    said = call("tune", "case.toml", "--trials", "0", status=2).err
    assert "trials = 0 must be 1 or more" in said
