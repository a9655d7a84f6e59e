"""Experiments whose model is a GAN: the same bench, other methods, metrics and recipe."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from laws import assert_same_state
from oblivio.adversarial import Adversarial, fit_gan
from oblivio.bench import gan as bench_gan
from oblivio.bench import run as bench
from oblivio.bench.cell import prepare, source_of, split_of
from oblivio.bench.event import Event
from oblivio.bench.gan import BestOf, in_generators_range, quality
from oblivio.bench.kind import judges, usual_metrics, works_on
from oblivio.bench.space import searches
from oblivio.bench.spec import Experiment, as_toml, read
from oblivio.bench.stats import summarise
from oblivio.bench.store import Store
from oblivio.bench.tune import tune
from oblivio.bench.tuned import Rule, write
from oblivio.catalogue import find, names
from oblivio.core import Score, unlearn
from oblivio.data.arrays import Arrays
from oblivio.data.dataset import loaded
from oblivio.data.source import Source
from oblivio.gan.fine_tune import FineTune
from oblivio.generative import generate
from oblivio.judge import frechet_distance, judge
from oblivio.metrics.time import Time
from oblivio.train import Recipe
from records import make_record

TINY = Experiment(
    name="tiny",
    data={"name": "digits", "validation": 0.1},
    model={"name": "dcgan", "width": 2, "latent": 4},
    train=Adversarial(steps=20, batch_size=32, save_every=8),
    scenarios=({"name": "class_wise", "label": 3}, {"name": "random", "count": 64}),
    methods=({"name": "fine_tune", "recipe": {"steps": 3, "batch_size": 32}},),
    metrics=({"name": "time"},),
    seeds=1,
).resolved()

ONE = replace(TINY, scenarios=TINY.scenarios[:1], methods=()).resolved()


def done(experiment, folder, tell=None):
    events = []
    store = Store(folder, warn=lambda text: events.append(Event("", "warning", text)))
    store.create()
    records = bench.run(experiment, store, jobs=1, tell=tell or events.append)
    return records, events


def state(model):
    """As a file holds it: in the order of the names."""
    return dict(sorted(model.state_dict().items()))


def weights(experiment, folder):
    """The original's and the retrained model's."""
    cell = next(c for c in experiment.cells() if c.method["name"] == "retrain")
    store = Store(folder)
    found = [store.read_tensors(key)[0] for key in (cell.original_key, cell.key)]
    return [dict(sorted(tensors.items())) for tensors in found]


# --- What an experiment is ----------------------------------------------------------------------


def test_the_model_decides_which_methods_metrics_and_recipe_there_are():
    assert (TINY.kind, TINY.family) == ("gan", "gan")
    assert [method["name"] for method in TINY.methods] == ["original", "retrain", "fine_tune"]
    assert TINY.methods[2]["recipe"]["average"] == Adversarial().average
    everything = replace(TINY, metrics=()).resolved().metrics
    assert [metric["name"] for metric in everything] == usual_metrics("gan")
    assert {judges(name) for name in usual_metrics("gan")} == {"gan", "any"}
    assert not {"accuracy", "membership"} & set(usual_metrics("gan"))
    assert not [name for name in usual_metrics("classifier") if judges(name) == "gan"]


@pytest.mark.parametrize("family", ["methods", "gan", "metrics", "models", "scenarios"])
def test_of_every_name_it_is_known_what_it_works_on(family):
    said = {works_on(family, name) for name in names(family)}
    assert said <= ({""} if family == "scenarios" else {"classifiers", "GANs", "both"})
    assert family != "metrics" or works_on(family, "time") == "both"


@pytest.mark.parametrize(
    "model", ['name = "dcgan"\nwidth = 2\nlatent = 4', 'name = "factories:pair"']
)
def test_a_file_says_it_in_its_own_words_and_survives_being_written(tmp_path, model):
    text = f'data = {{ name = "digits" }}\n[model]\n{model}\n[train]\nsteps = 7\nbetas = [0, 0.9]\n'
    (tmp_path / "one.toml").write_text(text)
    asked = read(tmp_path / "one.toml")
    assert asked.train == Adversarial(steps=7, betas=(0, 0.9))
    (tmp_path / "two.toml").write_text(as_toml(asked))
    again = read(tmp_path / "two.toml")
    assert replace(again, name="one") == asked
    assert [cell.key for cell in again.cells()] == [cell.key for cell in asked.cells()]
    assert asked.cells()[0].described["kind"] == "gan"


def test_a_gan_needs_no_recipe_and_a_users_factory_without_steps_makes_a_classifier(tmp_path):
    base = 'data = { name = "digits" }\n'
    (tmp_path / "gan.toml").write_text(base + 'model = { name = "dcgan" }')
    assert read(tmp_path / "gan.toml").train == Adversarial()
    (tmp_path / "other.toml").write_text(base + 'model = { name = "factories:classifier" }')
    assert read(tmp_path / "other.toml").train == Recipe()


GAN = 'data = { name = "digits" }\nmodel = { name = "dcgan" }\n'
CLASSIFIER = 'data = { name = "digits" }\nmodel = { name = "mlp" }\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GAN + "train = { epochs = 3 }", "train: There is no field 'epochs'.*steps"),
        (GAN + "train = { steps = -1 }", r"train: steps = -1 must be 0 or more"),
        (GAN + "train = 3", "train = 3 does not fit"),
        (CLASSIFIER + "train = { steps = 3 }", "train: There is no field 'steps'.*epochs"),
        (GAN + 'metrics = ["accuracy"]', "metrics accuracy judges classifiers, but .* are GANs"),
        (CLASSIFIER + 'metrics = ["steps"]', "metrics steps judges GANs, but .* are classifiers"),
        (GAN + '[[methods]]\nname = "gradient_ascent"', "no gan entry 'gradient_ascent'"),
        (CLASSIFIER + '[[methods]]\nname = "cascade"', "no methods entry 'cascade'"),
        (GAN + '[[pruners]]\nname = "magnitude"', "pruners magnitude: GANs are not pruned"),
        (GAN + "evidence = { models = 4 }", r"evidence: .*leave out \[evidence\]"),
        (GAN + '[[scenarios]]\nname = "poisoned"', "scenarios poisoned: .* poison"),
    ],
)
def test_what_does_not_suit_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "case.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read(path)
    assert "case.toml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": Recipe()}, "train is a Recipe, but the model dcgan is trained by Adversarial"),
        ({"model": {"name": "mlp"}}, "train is a Adversarial, but the model mlp is trained by Rec"),
    ],
)
def test_a_recipe_of_the_wrong_kind_is_refused_in_python_too(change, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **change).resolved()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"name": "factories:classifier"}}, "makes a Sequential, but .* is a GAN"),
        (
            {"model": {"name": "factories:pair"}, "train": Recipe(), "methods": ()},
            r"makes a GAN, which is trained by steps, not by epochs: give \[train\] steps",
        ),
        ({"model": {"name": "factories:knowing", "known": 5}}, "label 9, but .* knows 5 classes"),
    ],
)
def test_mistakes_show_before_anything_is_trained(change, said):
    assert bench.check(TINY) is source_of(TINY)
    with pytest.raises(ValueError, match=said):
        bench.check(replace(TINY, **change).resolved())


# --- Data ---------------------------------------------------------------------------------------


def seen(data):
    return torch.cat([batch.inputs for batch in data.batches(4)])


def source(inputs):
    labels = torch.arange(len(inputs)) % 2
    return Source(Arrays(inputs, labels), Arrays(inputs, labels), 2, tuple(inputs.shape[1:]))


def test_images_are_in_the_generators_range():
    found = source_of(TINY)
    for part in (found.train, found.test, found.validation):
        assert (float(seen(part).min()), float(seen(part).max())) == (-1, 1)
    classifiers = source_of(replace(TINY, train=Recipe(), model={"name": "mlp"}))
    assert float(seen(classifiers.train).min()) == 0


def test_only_pixels_that_are_known_to_be_bytes_or_of_the_unit_interval_are_moved():
    bytes_ = torch.tensor([0, 51, 255, 255], dtype=torch.uint8).view(2, 2, 1, 1)
    for inputs in (bytes_, bytes_ / 255):
        moved = seen(in_generators_range(source(inputs)).train).flatten()
        assert moved.tolist() == pytest.approx([-1, -0.6, 1, 1], abs=1e-6)
    there = source(bytes_ / 127.5 - 1)
    assert in_generators_range(there) is there
    dataset = torch.utils.data.TensorDataset(bytes_ / 255, torch.tensor([0, 1]))
    theirs = Source(loaded(dataset), loaded(dataset), 2, (2, 1, 1))
    assert in_generators_range(theirs) is theirs


# --- Cells --------------------------------------------------------------------------------------


def test_cells_become_records_and_metrics_see_what_they_need(tmp_path, monkeypatch):
    trials = []

    def look(self, trial, run):
        trials.append((trial, run))
        return {"seconds": trial.seconds, "noted": dict(trial.notes)}

    monkeypatch.setattr(Time, "__call__", look)
    records, _ = done(TINY, tmp_path)
    assert [record["status"] for record in records] == ["done"] * 6
    steps = {"original": None, "retrain": 20, "fine_tune": 3}
    held = set(source_of(TINY).validation.ids.tolist())
    for record, (trial, run) in zip(records, trials, strict=True):
        notes = record["notes"]
        assert notes.get("generator_steps") == steps[record["cell"]["method"]["name"]]
        assert record["exhibits"]["noted"].get("generator_steps") == notes.get("generator_steps")
        assert run.beside.parent == tmp_path / "models"
        assert set(run.held_out.ids.tolist()) == held
        for part in (trial.split.forget, trial.split.retain):
            assert not held & set(part.ids.tolist())
            assert float(seen(part).min()) == -1
    assert json.loads(json.dumps(records)) == records
    assert not list((tmp_path / "models").glob("*.state"))


def test_cells_can_be_sent_to_other_processes():
    for cell in TINY.cells():
        sent = pickle.loads(pickle.dumps(cell))
        assert sent.key == cell.key
        assert sent.experiment.kind == "gan"


def test_retraining_is_training_without_the_forgotten(tmp_path):
    done(ONE, tmp_path)
    cell = ONE.cells()[0]
    data, run = prepare(cell)
    original, retrained = weights(ONE, tmp_path)
    assert_same_state(state(run.origin.make(data.train, run)), original)
    retain = split_of(cell, data).retain
    assert 3 not in retain.labels
    assert_same_state(state(run.origin.make(retain, run)), retrained)


class Killed(BaseException):
    """As a signal would: nothing catches it."""


@pytest.mark.parametrize("task", ["original", "class_wise · retrain"])
def test_a_training_that_was_killed_goes_on_to_the_same_bits(tmp_path, task):
    done(ONE, tmp_path / "whole")

    def kill(event):
        if event.task.startswith(task) and event.kind == "progress" and event.done == 13:
            raise Killed

    with pytest.raises(Killed):
        done(ONE, tmp_path / "killed", tell=kill)
    assert len(list((tmp_path / "killed" / "models").glob("*.state"))) == 1
    records, events = done(ONE, tmp_path / "killed")
    trained = [e.done for e in events if e.task.startswith(task) and e.kind == "progress"]
    assert trained == list(range(9, 21))  # the state is that of step 8
    assert [record["status"] for record in records] == ["done"] * 2
    assert not list((tmp_path / "killed" / "models").glob("*.state"))
    for one, two in zip(
        weights(ONE, tmp_path / "whole"), weights(ONE, tmp_path / "killed"), strict=True
    ):
        assert_same_state(one, two)


def test_given_weights_are_the_original(tmp_path):
    done(ONE, tmp_path / "a")
    file = tmp_path / "a" / "models" / f"{ONE.cells()[0].original_key}.safetensors"
    given = replace(ONE, model={**ONE.model, "weights": str(file)}).resolved()
    bench.check(given)
    done(given, tmp_path / "b")
    key = next(cell.key for cell in given.cells() if cell.method["name"] == "original")
    kept = Store(tmp_path / "b").read_tensors(key)[0]
    assert_same_state(dict(sorted(kept.items())), weights(ONE, tmp_path / "a")[0])


# --- The best pair ------------------------------------------------------------------------------


def test_the_best_pair_is_kept_by_a_judge_that_knows_the_training_data_alone(monkeypatch):
    asked, scored = [], iter([3.0, 1.0, 2.0, 9.0, 7.0, 8.0])

    def spy(data, run):
        asked.append(set(data.ids.tolist()))
        return lambda gan: next(scored)

    monkeypatch.setattr(bench_gan, "quality", spy)
    checked = replace(TINY, train=replace(TINY.train, steps=12, check_every=4))
    data, run = prepare(checked.cells()[0])
    assert isinstance(run.origin.train, BestOf)
    split = split_of(checked.cells()[0], data)
    made = run.origin.make(data.train, run)
    short = replace(run, origin=replace(run.origin, train=replace(TINY.train, steps=8)))
    assert_same_state(made.state_dict(), short.origin.make(data.train, run).state_dict())
    outcome = unlearn(find("gan", "retrain")(), made, split, run)
    assert (outcome.notes["best_step"], outcome.notes["best_quality"]) == (8, 7.0)
    assert asked == [set(data.train.ids.tolist()), set(split.retain.ids.tolist())]


def test_quality_is_the_distance_of_generated_images_to_the_training_images():
    data, run = prepare(TINY.cells()[0])
    train = data.train.take(torch.arange(200))
    gan = run.origin.fresh()
    found = quality(train, run)
    first = found(gan)
    assert found(gan) == first
    own = judge(train, run, "method")
    made = generate(gan, gan.latents(2000, bench_gan.SEED))
    assert first == pytest.approx(frechet_by_hand(own.features(seen(train)), own.features(made)))
    better = fit_gan(gan, train, Adversarial(steps=150, batch_size=64, average=0.9), run)
    assert found(better) < first


def frechet_by_hand(one, two):
    one, two = one.double().numpy(), two.double().numpy()
    a, b = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    apart = np.square(one.mean(0) - two.mean(0)).sum()
    root = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    return float(apart + np.trace(a + b) - 2 * root)


def test_the_distance_agrees_with_a_matrix_square_root():
    draw = torch.Generator().manual_seed(0)
    one, two = (torch.randn(40, 5, generator=draw) for _ in range(2))
    two = two * torch.arange(1, 6) + 1
    a, b = torch.cov(one.T.double()).numpy(), torch.cov(two.T.double()).numpy()
    by_root = (one.double().mean(0) - two.double().mean(0)).square().sum().item()
    by_root += np.trace(a + b - 2 * sqrtm(a @ b)).real
    assert frechet_distance(one, two) == pytest.approx(by_root, rel=1e-9)
    assert frechet_by_hand(one, two) == pytest.approx(by_root, rel=1e-9)
    assert frechet_distance(one, two) == pytest.approx(frechet_distance(two, one), rel=1e-9)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="two images or more"):
        frechet_distance(one[:1], two)


# --- Tuning -------------------------------------------------------------------------------------


def test_settings_of_a_gans_methods_can_be_searched(tmp_path):
    experiment = replace(
        TINY,
        scenarios=TINY.scenarios[1:],
        metrics=({"name": "d_score"},),
        tune={"fine_tune": {"recipe.steps": [1, 2, 3]}},
    ).resolved()
    store = Store(tmp_path)
    store.create()
    found = tune(experiment, store, Rule(trials=2, seeds=1), tell=lambda _: None)
    (searched,) = found.found
    assert [outcome.reason for outcome in searched.outcomes] == [None, None]
    best = found.tuned.methods[-1]
    assert best["recipe"]["steps"] == searched.best.settings["recipe.steps"] in (1, 2, 3)
    path = write(found, tmp_path)
    assert read(path).methods[-1] == best
    with pytest.raises(ValueError, match=r"fine_tune.*no setting 'recipe\.epochs'"):
        searches(replace(experiment, tune={"fine_tune": {"recipe.epochs": [1, 2, 3]}}))


# --- What is read off the records ---------------------------------------------------------------


def test_an_average_gap_is_over_the_scores_that_the_scenario_has():
    known = {
        name: Score(name, "%", "retrain", "as it is", headline=True) for name in ("share", "auc")
    }
    records = [
        make_record(method, 0, scenario=scenario, metrics=metrics)
        for scenario, own in (
            ({"name": "class_wise", "label": 3}, ("share", "auc")),
            ({"name": "random", "count": 64}, ("auc",)),
        )
        for method, value in (("retrain", 1.0), ("fine_tune", 4.0))
        for metrics in [{"auc": value, **({"share": 5 * value} if "share" in own else {})}]
    ]
    results = summarise(records, known)
    assert results.headline == ("share", "auc")
    assert [c.row("fine_tune").gap.mean for c in results.comparisons] == [(15 + 3) / 2, 3]
    narrow = [results.within(comparison) for comparison in results.comparisons]
    assert [one.headline for one in narrow] == [("share", "auc"), ("auc",)]
    assert set(narrow[1].scores) == {"auc"}


def test_methods_of_one_name_are_told_apart_by_what_is_not_usual_for_gans():
    from oblivio.bench import label

    usual = TINY.methods[2] | {"recipe": {**TINY.methods[2]["recipe"], "batch_size": 64}}
    specs = [
        usual | {"recipe": {**usual["recipe"], **change}}
        for change in ({"steps": 100, "lr": 1e-3}, {"steps": 5})
    ]
    assert list(label.methods(specs).values()) == ["fine_tune lr=0.001", "fine_tune steps=5"]
    assert FineTune().recipe.steps == 100
