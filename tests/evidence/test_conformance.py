"""What every measure must say of methods that are known to have forgotten all, nothing or half.

On digits, 160 to train on: either 20 with wrong labels, learned by heart, are to be forgotten
("samples"), or all of a class. 32 shadow models of each kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch

import laws
from conformance import PLANTED, KeepsFeatures, last_layer, remembered
from oblivio.catalogue import find, names
from oblivio.core import Data, Method, Origin, Run, Split, derive, predict, unlearn
from oblivio.data.arrays import Arrays
from oblivio.data.sets.digits import Digits
from oblivio.fleet import make_many
from oblivio.game import ask, assembled, deal, forgetful, originals, references
from oblivio.models import factory
from oblivio.shadow import Design, Measure, Shadows
from oblivio.train import Recipe

HEADLINE = {
    "collateral": "collateral_class",
    "forgetting_quality": "forgetting_quality",
    "klom": "klom_forget",
    "population_lira": "population_auc",
    "rmia": "rmia_auc",
    "ruli": "ruli_accuracy",
    "u_lira": "u_lira_accuracy",
}
"""The number by which a measure is judged here."""

SLACK = {
    "collateral": 4.0,
    "forgetting_quality": 0.04,
    "klom": 0.4,
    "population_lira": 1.0,
    "rmia": 1.0,
    "ruli": 4.0,
    "u_lira": 4.0,
}
"""How far beyond 40 swaps of one null another draw of it may lie."""

BLIND: Mapping[tuple[str, str], set[str]] = {
    ("u_lira", "samples"): set(),
    ("u_lira", "class"): set(),
    ("forgetting_quality", "samples"): set(),
    ("forgetting_quality", "class"): set(),
    ("klom", "samples"): set(),
    ("klom", "class"): set(),
    ("ruli", "samples"): {"random"},
    ("ruli", "class"): {"does_nothing", "forgets_half", "keeps_features", "random"},
    ("rmia", "samples"): set(),
    ("rmia", "class"): {"keeps_features"},
    ("population_lira", "samples"): set(),
    ("population_lira", "class"): {"keeps_features"},
    ("collateral", "samples"): set(),
    ("collateral", "class"): {"does_nothing", "forgets_half", "keeps_features"},
}
"""Forgetters that a measure takes for perfect: nothing in its number tells them from retraining.

RULI asks who was forgotten, not how well: harm that all models share gives nobody away, and of a
class that is gone as a whole every half says the same. Collateral asks about the others. The
attacks by a threshold common to all points see low margins as good: a class whose logit is dropped
is forgotten to them, whatever the features know.
"""

# --- Shadow models of real networks -------------------------------------------------------------

MODELS = 32


class Game(NamedTuple):
    """A request with what all kinds of models say of its points."""

    split: Split
    base: Shadows
    said: Mapping[str, Shadows]


@cache
def played(request: str, design: Design) -> Game:
    """The game of all planted forgetters, played once."""
    train, split, test = _request(request)
    recipe = Recipe(epochs=20, lr=0.2, batch_size=40, weight_decay=0.0)
    origin = Origin(factory({"name": "mlp", "hidden": [32]}, (1, 8, 8), 10), recipe, seed=0)
    run = Run.on("cpu", origin=origin)
    dealt = deal(train, split, test, models=MODELS, design=design)
    first = originals(dealt, origin, run)
    known = references(first, dealt, origin, run)
    said = {}
    tuned = {"tuned": KeepsFeatures(bias=-11.0)} if request == "class" else {}
    for name, method in {**PLANTED, **tuned}.items():
        if hasattr(method, "anew"):
            said[name] = ask(_anew(method, dealt.splits, run), dealt)
        else:
            said[name], _ = forgetful(_brief(method), first, dealt, origin, run)
    base = assembled(dealt, known, known.again)
    return Game(split, base, {k: assembled(dealt, known, v) for k, v in said.items()})


def _request(name: str) -> tuple[Arrays, Split, Data]:
    source = Digits()()
    train, test = source.train.take(torch.arange(160)), source.test.take(torch.arange(150))
    assert isinstance(train, Arrays)
    labels = train.labels.clone()
    rows = torch.where(labels == 3)[0] if name == "class" else torch.arange(0, 160, 8)
    if name == "samples":
        labels[rows] = (labels[rows] + 3) % 10
    train = replace(train, labels=labels)
    return train, Split.of(train, train.ids[rows]), test


def _anew(method: Any, splits: tuple[Split, ...], run: Run) -> list[torch.nn.Module]:
    """Forgetters that train anew may be trained together."""
    assert run.origin is not None
    seeds = [derive(run.origin.seed, "conformance", place) for place in range(len(splits))]
    runs = [replace(run, origin=replace(run.origin, seed=seed)) for seed in seeds]
    pairs = [method.anew(split, own) for split, own in zip(splits, runs, strict=True)]
    return make_many([origin for origin, _ in pairs], [data for _, data in pairs], run)


def _brief(method: Method) -> Method:
    if isinstance(method, KeepsFeatures):
        return replace(method, recipe=replace(method.recipe, epochs=5))
    return method


def headline(measure: Measure, name: str, shadows: Shadows) -> float:
    return measure(shadows)[HEADLINE[name]]


@cache
def judged(name: str, request: str) -> tuple[tuple[float, float], Mapping[str, float]]:
    """The range of the null, and what the measure says of every forgetter."""
    measure = find("evidence", name)()
    game = played(request, measure.design)
    draw = torch.Generator().manual_seed(0)
    swaps = [torch.rand(MODELS, generator=draw) < 0.5 for _ in range(40)]
    nulls = [headline(measure, name, game.base.null(swap)) for swap in swaps]
    found = {k: headline(measure, name, shadows) for k, shadows in game.said.items()}
    return (min(nulls), max(nulls)), found


def taken_for_perfect(name: str, request: str, forgetter: str) -> bool:
    """Whether the measure's number is one that its null gives, too."""
    (low, high), found = judged(name, request)
    return low - SLACK[name] <= found[forgetter] <= high + SLACK[name]


# --- What measures must say ---------------------------------------------------------------------

every_measure = pytest.mark.parametrize("name", names("evidence"))
every_request = pytest.mark.parametrize("request_", ["samples", "class"])


def test_every_measure_is_judged() -> None:
    assert set(HEADLINE) == set(names("evidence"))
    assert {name for name, _ in BLIND} == set(names("evidence"))


@every_measure
@every_request
def test_retraining_from_another_seed_is_perfect(name: str, request_: str) -> None:
    assert taken_for_perfect(name, request_, "retrains"), judged(name, request_)


@every_measure
@every_request
def test_only_the_blind_take_another_for_perfect(name: str, request_: str) -> None:
    """What a measure is said to be blind to it does not see, and all else it does."""
    others = set(PLANTED) - {"retrains"}
    found = {one for one in others if taken_for_perfect(name, request_, one)}
    assert found == BLIND[name, request_], judged(name, request_)


@every_measure
@every_request
def test_doing_nothing_is_the_ceiling(name: str, request_: str) -> None:
    measure = find("evidence", name)()
    game = played(request_, measure.design)
    ceiling = headline(measure, name, game.base.ceiling())
    assert judged(name, request_)[1]["does_nothing"] == pytest.approx(ceiling, rel=1e-3)


@every_measure
def test_forgetting_half_of_the_samples_is_in_between(name: str) -> None:
    (low, high), found = judged(name, "samples")
    nearest = low if found["does_nothing"] < low else high
    between = sorted([nearest, found["does_nothing"]])
    assert between[0] < found["forgets_half"] < between[1]


@pytest.mark.parametrize("name", ["u_lira", "ruli", "rmia", "population_lira", "klom"])
def test_the_half_that_is_remembered_is_the_exposed_one(name: str) -> None:
    measure = find("evidence", name)()
    game = played("samples", measure.design)
    exposure = torch.tensor(measure(game.said["forgets_half"])["per_point"])
    kept = remembered(game.split.forget.ids)
    assert float(exposure[kept].mean()) > float(exposure[~kept].mean()) * 1.2


@pytest.mark.parametrize("name", ["u_lira", "rmia", "population_lira"])
def test_a_class_is_known_from_half_of_its_examples(name: str) -> None:
    """Forgetting half of a class is next to forgetting nothing."""
    (_, high), found = judged(name, "class")
    assert found["forgets_half"] - high > 0.75 * (found["does_nothing"] - high)


def test_what_gives_the_feature_keeper_away_is_its_bias_alone() -> None:
    """With a bias that fits, a class whose features are all there all but passes for forgotten."""
    assert taken_for_perfect("klom", "class", "tuned")
    assert not taken_for_perfect("klom", "class", "keeps_features")
    lira = judged("u_lira", "class")[1]
    assert lira["tuned"] < 80 < 95 < lira["keeps_features"]


# --- The planted forgetters themselves ----------------------------------------------------------


@pytest.mark.parametrize("class_wise", [False, True])
@pytest.mark.parametrize("name", PLANTED)
def test_planted_forgetters_are_methods(name: str, class_wise: bool) -> None:
    here = laws.standard("mlp", class_wise=class_wise)
    one, two = (unlearn(PLANTED[name], here.original, here.split, here.run).model for _ in range(2))
    laws.assert_same_state(one.state_dict(), two.state_dict())
    assert laws.differs(one, here.original) == (name != "does_nothing")
    other = replace(here.run, origin=replace(here.origin, seed=9))
    seedless = name == "does_nothing" or (name == "keeps_features" and class_wise)
    another = unlearn(PLANTED[name], here.original, here.split, other).model
    assert laws.differs(one, another) != seedless


def test_the_feature_keeper_changes_its_last_layer_alone() -> None:
    for class_wise in (False, True):
        here = laws.standard("mlp", class_wise=class_wise)
        model = unlearn(PLANTED["keeps_features"], here.original, here.split, here.run).model
        name, _ = last_layer(model)
        changed = {
            key
            for key, value in model.state_dict().items()
            if not torch.equal(value, here.original.state_dict()[key])
        }
        assert changed == {f"{name}.weight", f"{name}.bias"}
        outputs = predict(model, here.split.forget)
        if class_wise:
            assert not bool((outputs.logits.argmax(1) == outputs.labels).any())


def test_the_half_forgetter_remembers_about_half() -> None:
    kept = remembered(torch.arange(1000))
    assert 450 < int(kept.sum()) < 550
    here = laws.standard("mlp")
    outputs = predict(
        unlearn(PLANTED["forgets_half"], here.original, here.split, here.run).model,
        here.split.forget,
    )
    right = outputs.logits.argmax(1) == outputs.labels
    kept = remembered(here.split.forget.ids)
    assert 0 < int(kept.sum()) < len(kept)
    assert bool(right[kept].all())
    assert float(right[~kept].double().mean()) < 0.5
