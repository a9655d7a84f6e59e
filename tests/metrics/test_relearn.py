"""Relearn time agrees with a plain loop; its ratio, its cap, and where there is none."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import laws
import oracles
import worlds
from conformance import KeepsFeatures
from oblivio.core import Data, Run, Split, Trial, derive, seeded, unlearn
from oblivio.data.arrays import Arrays
from oblivio.metrics.relearn import Relearn, _Halves, loss
from oblivio.train import Recipe

RECIPE = Recipe(lr=0.1, batch_size=8, weight_decay=0.0, augment=False)
QUICK = Relearn(RECIPE, floor=0.5, most=60)


def slow(model: nn.Module, split: Split, enough: float, most: int, run: Run) -> int:
    """SGD with momentum written out, and the loss of one example at a time after every step."""
    model = copy.deepcopy(model).eval()
    forget: Arrays = split.forget  # pyright: ignore
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    taken, turn, seed = 0, 0, derive(run.seed, "relearn")
    while oracles.cross_entropy(model(forget.inputs), forget.labels) > enough:
        for batch in _Halves(split).batches(8, shuffle=derive(seed, "epoch", turn)):
            if taken == most:
                return most
            model.zero_grad()
            F.cross_entropy(model(batch.inputs), batch.labels).backward()
            with torch.no_grad():
                for p, v in zip(model.parameters(), velocity, strict=True):
                    v.mul_(0.9).add_(p.grad)  # pyright: ignore
                    p.sub_(0.1 * v)
            taken += 1
            if oracles.cross_entropy(model(forget.inputs), forget.labels) <= enough:
                return taken
        turn += 1
    return taken


@pytest.mark.parametrize("class_wise", [False, True])
def test_agrees_with_a_plain_loop(class_wise: bool) -> None:
    here = laws.standard("mlp", class_wise=class_wise)  # without BatchNorm, modes play no part
    retrained = here.origin.make(here.split.retain, here.run)
    fresh = here.origin.fresh()
    trial = Trial(here.original, fresh, here.split, here.test)
    enough = max(1.05 * loss(here.original, here.split.forget), 0.5)
    own, reference = (slow(m, here.split, enough, 60, here.run) for m in (fresh, retrained))
    assert 0 < own < 60
    assert 0 < reference < 60
    found = QUICK(trial, here.run)
    assert found["relearn_steps"] == own
    assert found["relearn_retrain"] == reference
    assert found["relearn"] == own / reference


def test_retrain_has_one_and_the_original_none() -> None:
    here = laws.standard("mlp")
    retrained = here.origin.make(here.split.retain, here.run)
    for model, ratio in ((retrained, 1.0), (here.original, 0.0)):
        found = QUICK(Trial(here.original, model, here.split, here.test), here.run)
        assert found["relearn"] == ratio


@pytest.mark.parametrize("class_wise", [False, True])
def test_what_is_only_hidden_comes_back_sooner(class_wise: bool) -> None:
    """Forgotten in the last layer alone: all that leads to it still knows."""
    here = laws.standard("mlp", class_wise=class_wise)
    hidden = unlearn(KeepsFeatures(), here.original, here.split, here.run).model
    metric = Relearn(replace(RECIPE, lr=0.02, momentum=0.5), floor=0.05)
    found = metric(Trial(here.original, hidden, here.split, here.test), here.run)
    assert 0 < found["relearn"] < 0.5


def stubborn() -> nn.Module:
    """Nothing can be learned: its last layer hears nothing and has no bias."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), Nothing(), nn.Linear(4, 3, bias=False))


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * x


def test_who_does_not_get_there_counts_as_most() -> None:
    here = laws.standard("mlp")
    found = QUICK(Trial(here.original, stubborn(), here.split, here.test), here.run)
    assert found["relearn_steps"] == 60 > found["relearn_retrain"]
    assert found["relearn"] == 60 / found["relearn_retrain"]
    hot = replace(QUICK, recipe=replace(RECIPE, lr=1e20))
    found = hot(Trial(here.original, here.original, here.split, here.test), here.run)
    assert found["relearn_retrain"] == 60  # it diverges
    assert found["relearn"] == 0


def test_there_is_no_ratio_without_a_reference() -> None:
    """Nothing is divided by 0 steps, nor by two models of which neither got there."""
    here = laws.standard("mlp")
    trial = Trial(here.original, here.origin.fresh(), here.split, here.test)
    easy = replace(QUICK, floor=100.0)(trial, here.run)
    assert easy == {"relearn_steps": 0, "relearn_retrain": 0}
    hard = replace(QUICK, most=1)(trial, here.run)
    assert hard == {"relearn_steps": 1, "relearn_retrain": 1}


def test_looking_seldom_rounds_up() -> None:
    here = laws.standard("mlp")
    trial = Trial(here.original, here.origin.fresh(), here.split, here.test)
    often, seldom = QUICK(trial, here.run), replace(QUICK, every=4)(trial, here.run)
    for name in ("relearn_steps", "relearn_retrain"):
        assert seldom[name] % 4 == 0
        assert seldom[name] >= often[name]


@pytest.mark.parametrize("size", [1, 2, 5, 8, 100])
def test_half_of_a_batch_is_to_be_learned_again(size: int) -> None:
    data = worlds.pictures(30)
    split = Split.of(data, data.ids[:7])
    forgotten = []
    with seeded(1), laws.untouched_randomness():
        for batch in _Halves(split).batches(size, shuffle=4):
            half = len(batch.labels) // 2
            assert half <= max(1, size // 2)
            assert len(batch.inputs) == 2 * half
            forgotten += [x.sum().item() for x in batch.inputs[:half]]
            retained = {x.sum().item() for x in batch.inputs[half:]}
            assert len(retained) == half
            assert retained <= {x.sum().item() for x in split.retain.inputs}  # pyright: ignore
    assert sorted(forgotten) == sorted(x.sum().item() for x in split.forget.inputs)  # pyright: ignore


def test_more_to_forget_than_to_retain() -> None:
    data = worlds.pictures(12)
    split = Split.of(data, data.ids[:10])
    sizes = [len(batch.labels) for batch in _Halves(split).batches(100, shuffle=0)]
    assert sizes == [12]


@pytest.mark.parametrize("forget", [1, 9])
def test_one_example_and_batchnorm(forget: int) -> None:
    here = laws.standard("cnn")
    split = Split.of(here.split.retain, here.split.retain.ids[:forget])
    trial = Trial(here.original, here.origin.fresh(), split, here.test)
    found = replace(QUICK, most=3)(trial, here.run)
    assert found["relearn_steps"] in (1, 2, 3)


def test_the_loss_is_the_mean_over_examples() -> None:
    here = laws.standard()
    forget: Data = here.split.forget
    logits = here.original(forget.inputs)  # pyright: ignore
    expected = oracles.cross_entropy(logits, forget.labels)
    assert loss(here.original, forget) == pytest.approx(expected, rel=1e-4)


def test_what_cannot_be_done_is_said() -> None:
    for settings in ({"within": -0.1}, {"floor": -1.0}, {"most": 0}, {"every": 0}, {"every": 501}):
        with pytest.raises(ValueError, match="must be"):
            Relearn(**settings)  # pyright: ignore
    with pytest.raises(ValueError, match="it must be 'constant'"):
        Relearn(replace(RECIPE, schedule="cosine"))
    with pytest.raises(ValueError, match="Relearn compares with a retrained model"):
        Relearn()(laws.trial(), replace(laws.standard().run, origin=None))
