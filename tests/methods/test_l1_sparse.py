"""ℓ1-sparse: the penalty's steps, its course, and what it leaves behind."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import laws
import worlds
from oblivio.core import Data, Run, Split, unlearn
from oblivio.mask import Mask, prunable, zeros
from oblivio.methods.l1_sparse import L1Sparse, penalties, soft_threshold
from oblivio.train import Recipe

PLAIN = Recipe(epochs=1, lr=0.1, batch_size=1000, momentum=0.0, weight_decay=0.0)


def logistic() -> tuple[nn.Module, Split, Run]:
    """A linear classifier in float64, somewhere, and its data."""
    world = worlds.Logistic()
    model = world.build()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64))
    return model, Split.of(world.data, world.data.ids[:5]), Run.on("cpu")


def tensors(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    batch = next(data.batches(len(data)))
    return batch.inputs, batch.labels


def test_a_subgradient_step_is_that_of_the_penalised_loss() -> None:
    model, split, run = logistic()
    method = L1Sparse(PLAIN, gamma=0.03, schedule="constant")
    after = unlearn(method, model, split, run).model
    x, y = tensors(split.retain)
    weights = list(model.parameters())
    loss = F.cross_entropy(model(x), y) + 0.03 * sum(w.abs().sum() for w in weights)
    slopes = torch.autograd.grad(loss, weights)
    for w, g, new in zip(weights, slopes, after.parameters(), strict=True):
        assert torch.allclose(new, w - 0.1 * g, atol=1e-14, rtol=0)


def test_a_proximal_step_is_a_step_and_a_soft_threshold() -> None:
    model, split, run = logistic()
    method = L1Sparse(PLAIN, gamma=0.7, schedule="constant", step="proximal")
    after = unlearn(method, model, split, run).model
    x, y = tensors(split.retain)
    weights = list(model.parameters())
    slopes = torch.autograd.grad(F.cross_entropy(model(x), y), weights)
    gone = 0
    for w, g, new in zip(weights, slopes, after.parameters(), strict=True):
        moved = w - 0.1 * g
        expected = moved.sign() * (moved.abs() - 0.07).clamp(min=0)
        assert torch.allclose(new, expected, atol=1e-14, rtol=0)
        gone += int((new == 0).sum())
    assert gone > 0


def test_the_threshold_is_the_proximal_operator() -> None:
    """argmin over z of ½(z − w)² + τ|z|, by looking at very many z."""
    weight = nn.Parameter(torch.tensor([-2.0, -0.3, 0.0, 0.31, 1.7], dtype=torch.float64))
    grid = torch.linspace(-3, 3, 600_001, dtype=torch.float64)
    best = [grid[(0.5 * (grid - w) ** 2 + 0.3 * grid.abs()).argmin()] for w in weight.detach()]
    soft_threshold([weight])(0.3)
    assert torch.allclose(weight, torch.stack(best), atol=1e-5)


def test_proximal_descent_ends_where_the_lasso_is_optimal() -> None:
    """∂ℓ/∂θ = −γ sign(θ) where θ ≠ 0, and |∂ℓ/∂θ| ≤ γ where θ = 0."""
    model, split, run = logistic()
    recipe = replace(PLAIN, epochs=3000, lr=0.3)
    method = L1Sparse(recipe, gamma=0.05, schedule="constant", step="proximal")
    after = unlearn(method, model, split, run).model
    x, y = tensors(split.retain)
    weights = list(after.parameters())
    slopes = torch.autograd.grad(F.cross_entropy(after(x), y), weights)
    for w, g in zip(weights, slopes, strict=True):
        there = w != 0
        assert torch.allclose(g[there], -0.05 * w.sign()[there], atol=1e-8)
        assert bool((g[~there].abs() <= 0.05 + 1e-8).all())
    assert sum(int((w == 0).sum()) for w in weights) >= 3


def test_only_proximal_steps_leave_zeros_and_the_notes_say_how_many() -> None:
    here = laws.standard()
    recipe = Recipe(epochs=3, lr=0.05, batch_size=8)
    found = {}
    for step in ("subgradient", "proximal"):
        method = L1Sparse(recipe, gamma=0.05, step=step)
        outcome = unlearn(method, here.original, here.split, here.run)
        found[step] = outcome.notes["sparsity"]
        assert (outcome.notes["sparsity"], outcome.notes["zeros"]) == pytest.approx(
            zeros(outcome.model), abs=1e-6
        )
    assert found["subgradient"] == 0
    assert 0.05 < float(str(found["proximal"])) < 1


def test_the_penalty_pulls_the_weights_in() -> None:
    here = laws.standard()
    sizes = [
        float(
            worlds.weights(unlearn(method, here.original, here.split, here.run).model).abs().sum()
        )
        for method in (
            L1Sparse(Recipe(epochs=3, lr=0.05, batch_size=8), gamma=gamma, step=step)
            for step in ("subgradient", "proximal")
            for gamma in (0.0, 0.01, 0.05)
        )
    ]
    assert sizes[0] == pytest.approx(sizes[3])  # without a penalty it is fine-tuning, both ways
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[3] > sizes[4] > sizes[5]


def test_the_courses_of_the_penalty() -> None:
    assert penalties(2.0, "constant", 3) == [2.0, 2.0, 2.0]
    assert penalties(2.0, "increasing", 4) == [0.0, 0.5, 1.0, 1.5]
    assert penalties(2.0, "decreasing", 4) == [2.0, 1.5, 1.0, 0.5]
    assert penalties(2.0, "decreasing", 0) == []


@pytest.mark.parametrize("step", ["subgradient", "proximal"])
def test_masked_weights_stay_zero(step: Any) -> None:
    here = laws.standard()
    model = copy.deepcopy(here.original)
    mask = Mask({name: w.detach().abs() > 0.1 for name, w in prunable(model).items()})
    mask.apply(model)
    run = replace(here.run, mask=mask)
    method = L1Sparse(Recipe(epochs=2, batch_size=8), gamma=1e-3, step=step)
    after = dict(unlearn(method, model, here.split, run).model.named_parameters())
    for name, keep in mask.keep.items():
        assert bool((after[name][~keep] == 0).all())
        assert bool((after[name][keep] != 0).any())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gamma": -1e-4}, "gamma = -0.0001"),
        ({"gamma": float("nan")}, "gamma = nan"),
        ({"schedule": "decreasin"}, "Did you mean decreasing"),
        ({"step": "newton"}, "no step 'newton'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        L1Sparse(**wrong)
