"""ℓ1-sparse unlearning takes the steps that it says, and ends where theory says."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import laws
import oracles
import worlds
from oblivio.core import Outcome, Run, Split, derive, unlearn
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask, prunable
from oblivio.methods.fine_tune import FineTune
from oblivio.methods.l1_sparse import L1Sparse, penalties, soft_threshold
from oblivio.train import Recipe

SHARES = {
    "constant": [1.0, 1.0, 1.0, 1.0],
    "increasing": [0.0, 0.25, 0.5, 0.75],
    "decreasing": [1.0, 0.75, 0.5, 0.25],
}
STEPS = ("subgradient", "proximal")


def double() -> tuple[nn.Module, Split, Arrays, Run]:
    """The standard MLP and its data in float64, and what is retained."""
    here = laws.standard("mlp")
    parts = []
    for part in (here.split.forget, here.split.retain):
        assert isinstance(part, Arrays)
        parts.append(replace(part, inputs=part.inputs.double()))
    return here.original.double(), Split(*parts), parts[1], Run.on("cpu", seed=3)


def assert_close(one: nn.Module, two: nn.Module) -> None:
    for name, weight in one.named_parameters():
        torch.testing.assert_close(weight, two.get_parameter(name), rtol=1e-10, atol=1e-12)


# --- The penalty's schedule ---------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SHARES)
def test_schedules(schedule: Any) -> None:
    assert penalties(0.5, schedule, 4) == [0.5 * share for share in SHARES[schedule]]
    assert penalties(0.0, schedule, 3) == [0.0] * 3
    assert penalties(1.0, schedule, 0) == []


# --- The steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SHARES)
def test_subgradient_steps_descend_the_penalised_loss(schedule: Any) -> None:
    """Autograd of ℓ + γ_t ‖θ‖₁ as it stands, with momentum and weight decay, in float64."""
    model, split, retain, run = double()
    recipe = Recipe(epochs=2, lr=0.1, batch_size=20)
    method = L1Sparse(recipe, gamma=0.02, schedule=schedule)
    found = unlearn(method, model, split, run).model
    expected, update = copy.deepcopy(model), oracles.SGD(0.9, 5e-4, nesterov=False)
    gammas = iter([0.02 * share for share in SHARES[schedule]])
    for epoch in range(2):
        for inputs, labels, _ in retain.batches(20, shuffle=derive(run.seed, "epoch", epoch)):
            weights = list(expected.parameters())
            size = torch.cat([w.flatten() for w in weights]).norm(1)
            loss = nn.functional.cross_entropy(expected(inputs), labels) + next(gammas) * size
            slopes = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for i, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
                    weight.copy_(update(i, weight, slope, 0.1))
    assert_close(found, expected)
    assert next(gammas, None) is None


@pytest.mark.parametrize("schedule", SHARES)
@pytest.mark.parametrize("rate", ["constant", "cosine"])
def test_proximal_steps_are_the_recipes_own_and_a_threshold(schedule: Any, rate: Any) -> None:
    """With the learning rate of the step that was just taken."""
    model, split, retain, run = double()
    recipe = Recipe(epochs=2, lr=0.1, batch_size=20, schedule=rate)
    method = L1Sparse(recipe, gamma=0.02, schedule=schedule, step="proximal")
    found = unlearn(method, model, split, run).model
    expected, update = copy.deepcopy(model), oracles.SGD(0.9, 5e-4, nesterov=False)
    gammas, rates = iter(SHARES[schedule]), iter(oracles.rates(rate, 0.1, 2, 2))
    for epoch in range(2):
        for inputs, labels, _ in retain.batches(20, shuffle=derive(run.seed, "epoch", epoch)):
            weights = list(expected.parameters())
            loss = nn.functional.cross_entropy(expected(inputs), labels)
            slopes = torch.autograd.grad(loss, weights)
            now = next(rates)
            threshold = now * 0.02 * next(gammas)
            with torch.no_grad():
                for i, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
                    moved = update(i, weight, slope, now)
                    weight.copy_(moved.sign() * (moved.abs() - threshold).clamp(min=0))
    assert_close(found, expected)


@given(
    x=st.floats(-3, 3),
    threshold=st.floats(0, 2),
    other=st.floats(-3, 3),
)
def test_the_threshold_is_the_proximal_operator(x: float, threshold: float, other: float) -> None:
    """prox(x) = argmin over z of ½(z − x)² + τ|z|: no other z, near or far, is better."""
    weight = nn.Parameter(torch.tensor([x], dtype=torch.float64))
    soft_threshold([weight])(threshold)
    best = float(weight.detach())

    def objective(z: float) -> float:
        return (z - x) ** 2 / 2 + threshold * abs(z)

    for z in (other, 0.0, x, best + 1e-4, best - 1e-4):
        assert objective(best) <= objective(z) + 1e-12
    assert best == pytest.approx(math.copysign(max(abs(x) - threshold, 0), x), abs=1e-15)


@pytest.mark.parametrize("step", STEPS)
def test_without_a_penalty_it_is_fine_tuning(step: Any) -> None:
    here = laws.standard()
    recipe = Recipe(epochs=2, lr=0.05, batch_size=8)
    found = unlearn(L1Sparse(recipe, gamma=0.0, step=step), here.original, here.split, here.run)
    expected = unlearn(FineTune(recipe), here.original, here.split, here.run).model
    for name, weight in found.model.named_parameters():
        torch.testing.assert_close(weight, expected.get_parameter(name), rtol=1e-5, atol=1e-7)


# --- Where it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.02, 0.08])
def test_proximal_descent_ends_at_the_lasso(gamma: float) -> None:
    """0 ∈ ∇ℓ(θ) + γ ∂‖θ‖₁: the slope is −γ sign(θ) where θ ≠ 0, and at most γ in size elsewhere."""
    world = worlds.Logistic(decay=0.0)
    split = Split.of(world.data, world.data.ids[:12])
    retain = split.retain
    assert isinstance(retain, Arrays)
    recipe = Recipe(epochs=1500, lr=1.0, batch_size=60, momentum=0.0, weight_decay=0.0)
    method = L1Sparse(recipe, gamma=gamma, schedule="constant", step="proximal")
    theta = worlds.weights(unlearn(method, world.build(), split, Run.on("cpu")).model)
    slope, zero = world.gradient(theta, retain), theta == 0
    torch.testing.assert_close(slope[~zero], -gamma * theta[~zero].sign(), rtol=0, atol=1e-9)
    assert float(slope[zero].abs().max()) < gamma
    assert 2 <= int(zero.sum()) <= 13  # else this would show little


def test_a_large_penalty_leaves_nothing() -> None:
    world = worlds.Logistic(decay=0.0)
    split = Split.of(world.data, world.data.ids[:12])
    recipe = Recipe(epochs=200, lr=0.5, batch_size=60, momentum=0.0, weight_decay=0.0)
    method = L1Sparse(recipe, gamma=5.0, schedule="constant", step="proximal")
    outcome = unlearn(method, world.build(), split, Run.on("cpu"))
    assert not bool(worlds.weights(outcome.model).any())
    assert outcome.notes == {"sparsity": 0.0, "zeros": 1.0}  # one layer: none is prunable


def run_on(step: Any, **changes: Any) -> tuple[nn.Module, Outcome]:
    here = laws.standard()
    recipe = Recipe(epochs=4, lr=0.05, batch_size=8)
    method = L1Sparse(recipe, gamma=0.1, step=step)
    run = replace(here.run, **changes)
    return here.original, unlearn(method, here.original, here.split, run)


def test_proximal_steps_reach_zeros_and_subgradient_steps_do_not() -> None:
    for step, sparse in (("proximal", True), ("subgradient", False)):
        original, outcome = run_on(step)
        weights = torch.cat([w.detach().flatten() for w in prunable(outcome.model).values()])
        everything = worlds.weights(outcome.model)
        assert outcome.notes == {
            "sparsity": round(float((weights == 0).double().mean()), 6),
            "zeros": round(float((everything == 0).double().mean()), 6),
        }
        assert (float(str(outcome.notes["sparsity"])) > 0.3) == sparse
        assert sparse or not bool((weights == 0).any())
        assert everything.abs().sum() < 0.7 * worlds.weights(original).abs().sum()


@pytest.mark.parametrize("step", STEPS)
def test_the_penalty_is_on_all_that_is_trainable_and_on_nothing_else(step: Any) -> None:
    here = laws.standard()
    frozen = here.original.get_parameter("0.weight").requires_grad_(False)
    recipe = Recipe(epochs=2, lr=0.05, batch_size=8)
    outcome = unlearn(L1Sparse(recipe, gamma=0.05, step=step), here.original, here.split, here.run)
    assert torch.equal(outcome.model.get_parameter("0.weight"), frozen)
    plain = unlearn(FineTune(recipe), here.original, here.split, here.run).model
    for name, weight in outcome.model.named_parameters():
        if name != "0.weight":  # biases and BatchNorm shrink as well
            assert bool(weight.abs().sum() < plain.get_parameter(name).abs().sum()), name


@pytest.mark.parametrize("step", STEPS)
def test_a_mask_is_held(step: Any) -> None:
    original, _ = run_on(step)
    draw = torch.Generator().manual_seed(0)
    mask = Mask(
        {n: torch.rand(w.shape, generator=draw) > 0.5 for n, w in prunable(original).items()}
    )
    _, outcome = run_on(step, mask=mask)
    assert mask.held_by(outcome.model)
    assert float(str(outcome.notes["sparsity"])) >= mask.sparsity - 1e-6
    kept = [w[mask.keep[n]] for n, w in prunable(outcome.model).items()]
    assert any(bool(part.any()) for part in kept)


# --- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"gamma": -1e-4}, r"gamma = -0\.0001 must be a finite number, 0 or more"),
        ({"gamma": math.inf}, "gamma = inf must be"),
        ({"gamma": math.nan}, "gamma = nan must be"),
        ({"schedule": "linear"}, "no schedule 'linear'.*constant, increasing, decreasing"),
        ({"step": "proximate"}, "no step 'proximate'. Did you mean proximal"),
    ],
)
def test_bad_input(unchecked: None, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        L1Sparse(**settings)
