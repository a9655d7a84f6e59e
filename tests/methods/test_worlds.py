"""Problems with known answers: the methods reach them, and the answers are right themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import worlds
from oblivio.core import Origin, Run, Split, unlearn
from oblivio.data.arrays import Arrays
from oblivio.methods.fine_tune import FineTune
from oblivio.methods.gradient_ascent import GradientAscent
from oblivio.methods.retrain import Retrain
from oblivio.train import Recipe
from worlds import Logistic, Ridge, TwoGaussians


def arrays(split: Split) -> tuple[Arrays, Arrays]:
    assert isinstance(split.forget, Arrays)
    assert isinstance(split.retain, Arrays)
    return split.forget, split.retain


def at(world: Logistic, theta: torch.Tensor) -> nn.Module:
    model = world.build()
    nn.utils.vector_to_parameters(theta, model.parameters())
    return model


LOGISTIC = Logistic()
SPLIT = Split.of(LOGISTIC.data, LOGISTIC.data.ids[:15])
RUN = Run.on("cpu")  # Fabric casts nothing here: models and data are float64, and stay so


def test_logistic_gradient_is_the_loss_s() -> None:
    theta = torch.linspace(-1, 1, 15, dtype=torch.float64)
    slope = torch.func.grad(lambda t: LOGISTIC.loss(t, LOGISTIC.data))(theta)
    torch.testing.assert_close(
        LOGISTIC.gradient(theta, LOGISTIC.data), slope, rtol=1e-12, atol=1e-14
    )


def test_retrain_reaches_the_optimum_on_what_is_retained() -> None:
    run = replace(RUN, origin=Origin(LOGISTIC.build, LOGISTIC.recipe(600)))
    retrained = unlearn(Retrain(), LOGISTIC.build(), SPLIT, run).model
    _, retain = arrays(SPLIT)
    optimum = LOGISTIC.optimum(retain)
    torch.testing.assert_close(worlds.weights(retrained), optimum, rtol=0, atol=1e-10)
    assert float((optimum - LOGISTIC.optimum(LOGISTIC.data)).norm()) > 0.1


def test_fine_tune_runs_from_the_originals_optimum_into_the_retrained_one() -> None:
    _, retain = arrays(SPLIT)
    start, goal = LOGISTIC.optimum(LOGISTIC.data), LOGISTIC.optimum(retain)
    distances = [float((start - goal).norm())]
    for epochs in (60, 200, 600):
        method = FineTune(LOGISTIC.recipe(epochs))
        tuned = unlearn(method, at(LOGISTIC, start), SPLIT, RUN).model
        distances.append(float((worlds.weights(tuned) - goal).norm()))
    assert distances[1] < 0.3 * distances[0]
    assert distances[2] < 1e-2 * distances[1]
    assert distances[3] < 1e-9


def test_ascent_takes_one_step_along_the_gradient_and_long_ascent_leaves_the_goal() -> None:
    forget, retain = arrays(SPLIT)
    start, goal = LOGISTIC.optimum(LOGISTIC.data), LOGISTIC.optimum(retain)
    slope = LOGISTIC.gradient(start, forget)

    def ascend(lr: float, epochs: int) -> torch.Tensor:
        recipe = Recipe(epochs=epochs, lr=lr, batch_size=100, weight_decay=0.0)
        method = GradientAscent(recipe, limit=1e9)
        return worlds.weights(unlearn(method, at(LOGISTIC, start), SPLIT, RUN).model)

    torch.testing.assert_close(ascend(0.1, 1), start + 0.1 * slope, rtol=1e-13, atol=1e-15)
    # The right way to begin with: ⟨∇ℓ(D_f), θ_r − θ_o⟩ > 0, so a short step comes nearer.
    assert float(slope @ (goal - start)) > 0
    distance = float((goal - start).norm())
    assert float((ascend(0.1, 1) - goal).norm()) < distance
    assert float((ascend(0.1, 300) - goal).norm()) > 5 * distance
    assert float(LOGISTIC.loss(ascend(0.1, 300), forget)) > 2 * float(LOGISTIC.loss(start, forget))


@pytest.mark.parametrize("count", [1, 2, 11])
def test_ridge_without_rows_agrees_with_solving_again(count: int) -> None:
    world = Ridge()
    forget, retain = arrays(Split.of(world.data, world.data.ids[:count]))
    again, downdated = world.solve(retain), world.without(world.data, forget)
    torch.testing.assert_close(downdated, again, rtol=1e-11, atol=1e-13)
    assert float((again - world.solve(world.data)).norm()) > 1e-3


def test_one_influence_step_on_ridge_is_exact_with_the_retain_sets_hessian_only() -> None:
    world = Ridge()
    forget, retain = arrays(Split.of(world.data, world.data.ids[:11]))
    again, start = world.solve(retain), world.solve(world.data)
    exact = world.influence(world.data, forget, world.hessian(retain))
    torch.testing.assert_close(exact, again, rtol=1e-11, atol=1e-13)
    stale = world.influence(world.data, forget, world.hessian(world.data))
    assert float((stale - again).norm()) > 0.05 * float((start - again).norm())


def test_retrain_by_the_closed_form_gives_the_downdated_ridge_regression() -> None:
    world = Ridge()
    split = Split.of(world.data, world.data.ids[:11])
    run = replace(RUN, origin=Origin(world.build, world.train))
    retrained = unlearn(Retrain(), world.build(), split, run).model
    forget, _ = arrays(split)
    torch.testing.assert_close(
        retrained.get_parameter("weight").T,
        world.without(world.data, forget),
        rtol=1e-11,
        atol=1e-13,
    )


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0])
def test_two_gaussians_are_as_hard_as_they_say(distance: float) -> None:
    """Over n = 20,000, each estimate lies within five standard errors."""
    n, world = 20_000, TwoGaussians(distance)
    members, others = world.draw(n)
    error = 5 * math.sqrt(0.25 / n)
    threshold = distance / 2
    assert float((members > threshold).double().mean()) == pytest.approx(world.accuracy, abs=error)
    assert float((others <= threshold).double().mean()) == pytest.approx(world.accuracy, abs=error)
    ranks = torch.cat([others, members]).argsort().argsort()[n:].double() + 1
    auc = float((ranks.sum() - n * (n + 1) / 2) / n**2)
    assert auc == pytest.approx(world.auc, abs=error)
    cut = others.sort().values[int(0.9 * n)]
    assert float((members > cut).double().mean()) == pytest.approx(
        world.true_positives(0.1), abs=3 * error
    )
    # No threshold does better.
    both = torch.cat([members, others])
    best = max(
        float(((members > t).double().mean() + (others <= t).double().mean()) / 2)
        for t in both[:200]
    )
    assert best <= world.accuracy + error
