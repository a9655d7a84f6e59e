"""Retrained from another seed: exact, another model, and what metrics take for their null."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

import laws
import worlds
from oblivio.core import Data, Run, Trial, derive, unlearn
from oblivio.methods.retrain import Retrain
from oblivio.methods.retrain_again import RetrainAgain
from oblivio.prune import Pruned
from oblivio.prune.magnitude import Magnitude
from oblivio.prune.random import Random
from oblivio.train import fit


def test_it_is_the_origin_made_from_another_seed() -> None:
    here = laws.standard()
    model = unlearn(RetrainAgain(), here.original, here.split, here.run).model
    reborn = replace(here.origin, seed=derive(here.origin.seed, "another"))
    made = reborn.make(here.split.retain, here.run)
    laws.assert_same_state(model.state_dict(), made.state_dict())
    assert laws.differs(model, here.origin.make(here.split.retain, here.run))


def test_it_needs_the_origin() -> None:
    here = laws.standard()
    with pytest.raises(ValueError, match="origin=Origin"):
        unlearn(RetrainAgain(), here.original, here.split, replace(here.run, origin=None))


@pytest.mark.parametrize("pruner", [Magnitude(0.5, rewind=1), Random(0.5)])
def test_pruned_models_too_come_from_another_seed(pruner: object) -> None:
    """All that makes a sparse model starts anew: the dense training, the mask, the sparse one."""
    here = worlds.case(epochs=3)
    original = Pruned(pruner, Retrain()).prepare(here.original, here.split.retain, here.run)  # pyright: ignore
    one, two = (
        unlearn(Pruned(pruner, method), original, here.split, here.run).model  # pyright: ignore
        for method in (Retrain(), RetrainAgain())
    )
    by_hand = Pruned(pruner, Retrain()).origin(here.origin.another())  # pyright: ignore
    laws.assert_same_state(two.state_dict(), by_hand.make(here.split.retain, here.run).state_dict())
    assert laws.differs(one, two)


# --- What a trial holds for all metrics ---------------------------------------------------------


def counted(case: worlds.Case) -> tuple[Run, list[Data]]:
    """A run whose trainings are counted."""
    made: list[Data] = []

    def train(model: nn.Module, data: Data, run: Run) -> nn.Module:
        made.append(data)
        return fit(model, data, case.origin.train, run)  # pyright: ignore[reportArgumentType]

    return replace(case.run, origin=replace(case.origin, train=train)), made


def test_a_trial_retrains_once_for_all_metrics() -> None:
    here = worlds.case(epochs=2)
    run, made = counted(here)
    trial = Trial(here.original, here.original, here.split, here.test)
    one = trial.retrained(run)
    assert trial.retrained(replace(run, seed=9)) is one
    assert len(made) == 1
    two = trial.retrained_again(run)
    assert trial.retrained_again(run) is two
    assert len(made) == 2
    laws.assert_same_state(
        one.state_dict(), unlearn(Retrain(), one, here.split, run).model.state_dict()
    )
    laws.assert_same_state(
        two.state_dict(), unlearn(RetrainAgain(), one, here.split, run).model.state_dict()
    )
    # Another trial, or another origin, has references of its own.
    assert replace(trial, seconds=1.0).retrained(run) is not one
    elsewhere = replace(run, origin=replace(here.origin, seed=5))
    assert laws.differs(trial.retrained(elsewhere), one)


def test_the_reference_of_a_pruned_model_is_pruned_likewise() -> None:
    here = worlds.case(epochs=3)
    method = Pruned(Magnitude(0.5, rewind=1), Retrain())
    original = method.prepare(here.original, here.split.retain, here.run)
    unlearned = unlearn(method, original, here.split, here.run).model
    trial = Trial(original, unlearned, here.split, here.test, method=method)
    laws.assert_same_state(trial.retrained(here.run).state_dict(), unlearned.state_dict())
    assert laws.differs(trial.retrained_again(here.run), unlearned)


def test_who_asks_without_an_origin_is_named() -> None:
    here = laws.trial()
    run = replace(laws.standard().run, origin=None)
    with pytest.raises(ValueError, match="ToW compares with a retrained model"):
        here.retrained(run, "ToW")
    with pytest.raises(ValueError, match="give the run its origin"):
        here.retrained_again(run)
