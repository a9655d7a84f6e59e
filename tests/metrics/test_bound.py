"""The bound's four numbers agree with slow ones; the mask is held in all of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

import laws
import oracles_fisher
import worlds
from oblivio.core import Data, Run, Split, Trial, derive, seeded, unlearn
from oblivio.mask import Mask
from oblivio.methods.gradient_ascent import GradientAscent
from oblivio.methods.retrain import Retrain
from oblivio.metrics.bound import Bound
from oblivio.prune import sparse
from oblivio.prune.magnitude import Magnitude
from oblivio.train import Recipe, fit

RECIPE = Recipe(epochs=3, lr=0.05, batch_size=8, momentum=0.0, weight_decay=0.0)


@cache
def case(sparsity: float = 0.0) -> tuple[Trial, Run]:
    """A small network, dense or pruned, whose unlearned model is still the original."""
    here = laws.standard("mlp")
    origin = replace(here.origin, train=RECIPE, build=lambda: worlds.tiny_network(3, (1, 8, 8)))
    run = replace(here.run, origin=origin)
    data = worlds.pictures(42, seed=1)
    made = sparse(origin, Magnitude(sparsity, rewind=0)) if sparsity else origin
    model = made.make(data, run)
    split = Split.of(data, data.ids[:9])
    return Trial(model, copy.deepcopy(model), split, here.test), run


def retrained_by_hand(trial: Trial, run: Run) -> nn.Module:
    """From m ⊙ θ_0 on D_r, by the training loop itself."""
    assert run.origin is not None
    mask = Mask.of(trial.original)
    own = replace(run, seed=derive(run.origin.seed, "order"), mask=mask)
    with seeded(derive(run.origin.seed, "training")):
        return fit(mask.apply(run.origin.fresh()), trial.split.retain, RECIPE, own)


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_the_four_numbers_by_hand(sparsity: float) -> None:
    trial, run = case(sparsity)
    assert run.origin is not None
    mask = Mask.of(trial.original)
    assert mask.sparsity == pytest.approx(sparsity, abs=0.005)
    found = Bound()(trial, run)

    first = worlds.weights(mask.apply(run.origin.fresh()))
    distance = float((worlds.weights(trial.original) - first).norm())
    everything = worlds.pictures(42, seed=1)
    curvature = torch.linalg.eigvalsh(oracles_fisher.hessian(trial.original, everything, mask))
    sharpness = float(curvature[curvature.abs().argmax()])
    rest = worlds.weights(retrained_by_hand(trial, run))
    assert found["distance"] == pytest.approx(distance, rel=1e-6)
    assert found["sharpness"] == pytest.approx(sharpness, rel=1e-5)
    # 42 examples by 8 are 6 steps in each of 3 epochs.
    assert found["bound"] == pytest.approx(0.05**2 * 18 * distance * abs(sharpness), rel=1e-5)
    error = float((worlds.weights(trial.unlearned) - rest).norm())
    assert found["unlearning_error"] == pytest.approx(error, rel=1e-6)
    assert error > 0.01


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_retraining_with_the_same_mask_has_no_error(sparsity: float) -> None:
    trial, run = case(sparsity)
    exact = replace(trial, unlearned=retrained_by_hand(trial, run))
    assert Bound()(exact, run)["unlearning_error"] == 0
    if not sparsity:
        made = unlearn(Retrain(), trial.original, trial.split, run).model
        assert Bound()(replace(trial, unlearned=made), run)["unlearning_error"] == 0


def test_only_kept_weights_take_part() -> None:
    """What was pruned does not count as moved, although the first weights were not zero."""
    trial, run = case(0.9)
    assert run.origin is not None
    dense = float((worlds.weights(trial.original) - worlds.weights(run.origin.fresh())).norm())
    assert Bound()(trial, run)["distance"] < 0.8 * dense


def test_only_the_error_depends_on_what_the_method_did() -> None:
    """Sharpness, distance and bound are the original's."""
    trial, run = case()
    recipe = replace(RECIPE, epochs=1)
    ascent = unlearn(GradientAscent(recipe), trial.original, trial.split, run).model
    before, after = Bound()(trial, run), Bound()(replace(trial, unlearned=ascent), run)
    assert after["unlearning_error"] != before["unlearning_error"]
    for name in ("bound", "sharpness", "distance"):
        assert after[name] == before[name]


def test_rate_and_steps_are_read_or_given() -> None:
    trial, run = case()
    assert run.origin is not None
    read = Bound()(trial, run)["bound"]
    assert Bound(steps=36)(trial, run)["bound"] == pytest.approx(2 * read)
    assert Bound(lr=0.5)(trial, run)["bound"] == pytest.approx(100 * read)

    def train(model: nn.Module, data: Data, own: Run) -> nn.Module:
        return fit(model, data, RECIPE, own)

    closed = replace(run, origin=replace(run.origin, train=train))
    with pytest.raises(ValueError, match="lr and steps"):
        Bound(lr=0.05)(trial, closed)
    assert Bound(lr=0.05, steps=18)(trial, closed)["bound"] == read
    train.recipe = RECIPE  # pyright: ignore[reportFunctionMemberAccess]
    assert Bound()(trial, closed)["bound"] == read


def test_another_network_has_no_distance() -> None:
    trial, run = case()
    other = replace(trial, unlearned=worlds.tiny_network(3, (1, 8, 8), width=7))
    assert set(Bound()(other, run)) == {"bound", "sharpness", "distance"}


def test_what_cannot_be_done_is_said() -> None:
    trial, run = case()
    with pytest.raises(ValueError, match="origin=Origin"):
        Bound()(trial, replace(run, origin=None))
    with pytest.raises(ValueError, match="above 0"):
        Bound(lr=0.0)
    with pytest.raises(ValueError, match="1 or more"):
        Bound(steps=0)


def test_it_is_asked_for_by_name() -> None:
    assert Bound.on_request
    assert all(score.better == "down" for score in Bound.scores.values())
