"""Which classes are forgotten for a target: how they are ranked, and by what data."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import laws
import worlds
from oblivio.core import Origin, Run, Unread, derive, predict
from oblivio.data.arrays import Arrays
from oblivio.data.source import Source
from oblivio.models import factory
from oblivio.scenarios import harmful
from oblivio.scenarios._influence import (
    against_gradient,
    fold_of,
    halves,
    leave_one_out,
    subsets,
)
from oblivio.scenarios.classes import Classes
from oblivio.scenarios.harmful import Harmful
from oblivio.train import Recipe
from oblivio.transfer import head, probed

RECIPE = Recipe(epochs=3, lr=0.05, batch_size=16)
SOURCE = worlds.pictures(60, 4)
TARGET = worlds.pictures(30, 3, seed=5)
RUN = Run.on("cpu", seed=1)
BUILD = factory({"name": "mlp", "hidden": [6]}, (1, 8, 8), 4)
QUICK: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [6]},
    "recipe": RECIPE,
    "probe": RECIPE,
    "repeats": 1,
}
WAYS = ("subsets", "leave_one_out", "gradient", "chance")


@pytest.fixture(autouse=True)
def target(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target whose test data raise when they are touched."""
    guarded = Source(TARGET, TARGET, 3, (1, 8, 8))
    object.__setattr__(guarded, "test", Unread("target's test", "Harmful"))
    monkeypatch.setattr(harmful, "load", lambda _: guarded)
    monkeypatch.setattr(harmful, "_KNOWN", {})


# --- Against slow truths ------------------------------------------------------------------------


def loss(origin: Origin, seen: set[int]) -> float:
    """The cross-validated loss of probes of a model that has seen some classes, one by one."""
    own = torch.isin(SOURCE.labels, torch.tensor(sorted(seen)))
    model = origin.make(SOURCE.take(torch.where(own)[0]), RUN)
    fold, total = fold_of(TARGET.labels, 3, derive(RUN.seed, "folds")), 0.0
    for k in range(3):
        learnt, left = (TARGET.take(torch.where(m)[0]) for m in (fold != k, fold == k))
        logits, labels = predict(probed(model, learnt, 3, RECIPE, RUN), left)
        for row, label in zip(logits.double().softmax(1), labels.tolist(), strict=True):
            total += 1 - float(row[label])
    return total / len(TARGET)


def test_leave_one_out_agrees_with_one_training_after_another() -> None:
    origins = [Origin(BUILD, RECIPE, seed) for seed in (0, 1)]
    found = leave_one_out(SOURCE, TARGET, origins, RECIPE, RUN, folds=3)
    every = set(range(4))
    whole, *rest = (
        sum(loss(origin, seen) for origin in origins) / 2
        for seen in (every, *(every - {c} for c in every))
    )
    expected = [whole - own for own in rest]
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0, atol=1e-4)
    assert float(found.std()) > 1e-3


def test_subsets_agree_with_one_training_after_another() -> None:
    origins = [Origin(BUILD, RECIPE, seed) for seed in range(6)]
    found = subsets(SOURCE, TARGET, origins, RECIPE, RUN, folds=3)
    seen = [set(torch.where(row)[0].tolist()) for row in halves(4, 6, derive(RUN.seed, "halves"))]
    losses = [loss(origin, own) for origin, own in zip(origins, seen, strict=True)]
    for c in range(4):
        inside = mean(one for one, own in zip(losses, seen, strict=True) if c in own)
        outside = mean(one for one, own in zip(losses, seen, strict=True) if c not in own)
        assert float(found[c]) == pytest.approx(inside - outside, abs=1e-4)
    assert float(found.std()) > 1e-3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=st.integers(2, 9), pairs=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_class_is_in_one_half_of_each_pair(classes: int, pairs: int, seed: int) -> None:
    seen = halves(classes, 2 * pairs, seed)
    assert bool((seen[::2] ^ seen[1::2]).all())
    assert bool((seen.sum(1) >= classes // 2).all())


def test_folds_hold_every_class_equally() -> None:
    fold = fold_of(TARGET.labels, 5, 0)
    for k in range(5):
        assert TARGET.labels[fold == k].bincount().tolist() == [2, 2, 2]


def test_gradients_agree_with_a_loop() -> None:
    model = Origin(BUILD, RECIPE, 0).make(SOURCE, RUN).double()
    source, goal = (Arrays(d.inputs.double(), d.labels, d.ids) for d in (SOURCE, TARGET))
    found = against_gradient(model, source, goal, RECIPE, RUN)

    def pull(at: nn.Module, data: Arrays) -> torch.Tensor:
        total = torch.zeros(64 * 6 + 6, dtype=torch.float64)
        body = [p for n, p in at.named_parameters() if n.startswith("1.")]
        for x, y in zip(data.inputs, data.labels, strict=True):
            grads = torch.autograd.grad(F.cross_entropy(at(x[None]), y[None]), body)
            total += torch.cat([g.flatten() for g in grads])
        return total

    assert head(model, goal) == "3"
    aim = pull(probed(model, goal, 3, RECIPE, RUN), goal)
    for c in range(4):
        own = pull(model, source.take(torch.where(source.labels == c)[0]))
        expected = -float(own @ aim / own.norm() / aim.norm())
        assert float(found[c]) == pytest.approx(expected, abs=1e-6)


# --- The scenario -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", WAYS)
def test_the_targets_test_data_are_not_touched(by: Any) -> None:
    split = Harmful(by=by, worst=2, **QUICK)(SOURCE, 0)
    assert len(split.gone) == 2


def test_the_worst_are_forgotten_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    told = torch.tensor([0.1, 0.4, -0.2, 0.3], dtype=torch.float64)
    monkeypatch.setattr(harmful, "subsets", lambda *_, **__: told)
    split = Harmful(worst=2, **QUICK)(SOURCE, 0)
    assert split.gone.tolist() == [1, 3]
    assert split.digest == Classes((3, 1))(SOURCE, 0).digest
    assert split.notes == {
        "forgotten_classes": [1, 3],
        "harm_subsets": {"0": 0.1, "1": 0.4, "2": -0.2, "3": 0.3},
    }
    assert split.to(torch.device("cpu")).notes == split.notes


def test_a_rank_is_made_once_for_all_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def told(*_: Any, **__: Any) -> torch.Tensor:
        calls.append(1)
        return torch.arange(4.0, dtype=torch.float64)

    monkeypatch.setattr(harmful, "subsets", told)
    for worst in (1, 2, 3):
        Harmful(worst=worst, **QUICK)(SOURCE, 0)
    assert len(calls) == 1
    Harmful(**QUICK)(SOURCE, 1)
    Harmful(**{**QUICK, "folds": 3})(SOURCE, 0)
    Harmful(**QUICK)(replace(SOURCE, inputs=SOURCE.inputs + 1), 0)
    assert len(calls) == 4


def test_chance_draws_every_class_as_often() -> None:
    drawn = torch.zeros(4)
    for seed in laws.seeds(400):
        drawn[Harmful(by="chance")(SOURCE, seed).gone] += 1
    assert float((drawn - 100).abs().max()) < 5 * (400 * 0.25 * 0.75) ** 0.5


def test_weights_that_are_given_are_ranked_by(tmp_path: Any) -> None:
    model = Origin(BUILD, RECIPE, 0).make(SOURCE, RUN)
    torch.save(model.state_dict(), tmp_path / "source.pt")
    table = {**QUICK["model"], "weights": str(tmp_path / "source.pt")}
    found = Harmful(by="gradient", **{**QUICK, "model": table}).harm(SOURCE, TARGET, 0)
    own = replace(RUN, seed=derive(0, "harmful"))
    assert torch.equal(found, against_gradient(model, SOURCE, TARGET, RECIPE, own))
    with pytest.raises(ValueError, match="it has no use for weights"):
        Harmful(**{**QUICK, "model": table})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"worst": 0}, "worst = 0 must be 1 or more"),
        ({"folds": 1}, "folds = 1 must be 2 or more"),
        ({"by": "gradients"}, "Did you mean gradient"),
        ({"target": {"name": "digts"}}, "Did you mean digits"),
    ],
)
def test_rejects(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Harmful(**settings)


@pytest.mark.usefixtures("unchecked")
def test_says_what_the_data_do_not_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"worst = 4, but the source has 4 classes.*3 at most"):
        Harmful(worst=4, by="chance")(SOURCE, 0)
    linear = {**QUICK, "model": {"name": "mlp", "hidden": []}}
    with pytest.raises(ValueError, match="no trainable parameters but its last layer's"):
        Harmful(by="gradient", **linear)(SOURCE, 0)
    other = Source(worlds.pictures(9, shape=(1, 9, 9)), TARGET, 3, (1, 9, 9))
    monkeypatch.setattr(harmful, "load", lambda _: other)
    with pytest.raises(ValueError, match="The target's inputs are 1×9×9"):
        Harmful(**QUICK)(SOURCE, 0)


# --- Classes ------------------------------------------------------------------------------------


def test_classes_are_forgotten_as_a_whole() -> None:
    split = Classes((2, 0))(SOURCE, 0)
    assert split.gone.tolist() == [0, 2]
    assert split.retain.labels.unique().tolist() == [1, 3]
    for wrong in ((), (1, 1), (-1,)):
        with pytest.raises(ValueError, match="must name one class or more"):
            Classes(wrong)
    with pytest.raises(ValueError, match="label 7; there are: 0, 1, 2, 3"):
        Classes((1, 7))(SOURCE, 0)
    with pytest.raises(ValueError, match="are all 4 classes"):
        Classes((0, 1, 2, 3))(SOURCE, 0)
