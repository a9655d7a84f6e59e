"""The probe agrees with a slow one, sees what is there, and is a coin where nothing is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import laws
import worlds
from oblivio.core import Run, Split, Trial, derive
from oblivio.data.arrays import Arrays
from oblivio.metrics._features import Penultimate, some
from oblivio.metrics.probe import Probe

RUN = Run.on("cpu", seed=3)


def identity(features: int = 4) -> nn.Module:
    """Its penultimate features are its inputs."""
    return nn.Sequential(nn.Identity(), nn.Linear(features, 3))


def told(forget: Tensor, unseen: Tensor, **settings: float) -> float:
    """What the probe tells of inputs as they are."""
    zeros = torch.zeros(len(unseen), dtype=torch.int64)
    test = Arrays(unseen.float(), zeros)
    of = Arrays(forget.float(), zeros.new_zeros(len(forget)))
    return Probe(**settings)._told(identity(forget.shape[1]), of, test)  # pyright: ignore


def slow(forget: Tensor, unseen: Tensor, penalty: float, folds: int) -> float:
    """The weighted normal equations with an intercept, one example at a time."""
    right = 0
    n = len(forget)
    folds = min(folds, n)
    for i in range(n):
        for side, y in ((forget, 1), (unseen, -1)):
            keep = [k for k in range(n) if k % folds != i % folds]
            x = torch.cat([forget[keep], unseen[keep]]).double()
            means = [float(column.mean()) for column in x.T]
            deviations = [float(c.std(correction=0)) for c in x.T]
            z = torch.ones(len(x), x.shape[1] + 1, dtype=torch.float64)
            new = torch.ones(x.shape[1] + 1, dtype=torch.float64)
            for j, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
                scale = deviation if deviation > 1e-12 else torch.inf
                z[:, j] = (x[:, j] - mean) / scale
                new[j] = (float(side[i, j]) - mean) / scale
            truth = torch.cat([torch.ones(len(keep)), -torch.ones(len(keep))]).double()
            ridge = penalty * len(x) * torch.eye(z.shape[1], dtype=torch.float64)
            ridge[-1, -1] = 0  # the intercept is free
            w = torch.linalg.solve(z.T @ z + ridge, z.T @ truth)
            right += int((1 if float(new @ w) > 0 else -1) == y)
    return 100 * right / (2 * n)


@given(st.integers(2, 9), st.integers(1, 12), st.sampled_from([2, 3, 5]), st.integers(0, 99))
def test_agrees_with_a_slow_probe(n: int, features: int, folds: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    forget, unseen = torch.randn(2, n, features, generator=draw).unbind()
    forget = forget + 0.5
    expected = slow(forget, unseen, 0.1, folds)
    assert told(forget, unseen, penalty=0.1, folds=folds) == pytest.approx(expected)


def test_sees_what_can_be_told_by_a_line_and_only_that() -> None:
    draw = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 300, 4, generator=draw).unbind()
    assert 43 < told(one, two) < 57
    assert told(one + 4, two) > 97
    # A ring around a heap: no line tells them apart.
    assert 40 < told(6 * one / one.norm(dim=1, keepdim=True), two) < 60
    # Scale and offset of features play no part.
    odd = torch.tensor([1.0, 1e-3, 100.0, 7.0])
    assert told(odd * (one + 0.3) + 5, odd * two + 5) == told(one + 0.3, two)


def test_features_that_do_not_vary_tell_nothing() -> None:
    """Not even by their rounding, which may go with the place of an example in its batch."""
    flat = torch.full((30, 4), 0.3)
    assert told(flat, flat) == 50
    assert told(flat * (1 + 2e-7), flat) == 50
    apart = flat.clone()
    apart[:, 2] = 0.5
    assert told(apart, flat) == 100


def test_the_same_examples_are_drawn_for_all_three_models() -> None:
    here = laws.standard()
    found = Probe()(laws.trial(here.original), here.run)
    assert found["probe"] == found["probe_original"]
    found = Probe()(laws.trial(), here.run)
    assert found["probe"] == found["probe_retrain"]
    seed = derive(here.run.seed, "probe")
    forget = some(here.split.forget, 9, derive(seed, "forget"))
    unseen = some(here.test, 9, derive(seed, "unseen"))
    assert found["probe_original"] == Probe()._told(here.original, forget, unseen)


def test_the_order_of_the_data_plays_no_part() -> None:
    data = worlds.pictures(20)
    turned = data.take(torch.arange(20).flip(0))
    for most in (7, 50):
        one, two = some(data, most, 5), some(turned, most, 5)
        assert torch.equal(one.ids, two.ids)
        assert torch.equal(one.inputs, two.inputs)
    assert not torch.equal(some(data, 7, 6).ids, some(data, 7, 5).ids)


def test_a_single_example_has_no_number_and_two_have() -> None:
    here = laws.standard()
    for count in (1, 2):
        split = Split.of(here.split.retain, here.split.retain.ids[:count])
        trial = Trial(here.original, here.original, split, here.test)
        assert len(Probe()(trial, here.run)) == (0, 3)[count - 1]


def test_penultimate_features_are_the_last_executed_linear_layers_input() -> None:
    class Backwards(nn.Module):
        """The classifier is made first and used last; a third layer is not used at all."""

        def __init__(self) -> None:
            super().__init__()
            self.last, self.first, self.idle = nn.Linear(5, 3), nn.Linear(4, 5), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).relu())

    model, x = Backwards(), torch.randn(6, 4)
    before = laws.snapshot(model)
    torch.testing.assert_close(Penultimate(model)(x), model.first(x).relu())
    laws.assert_same(before, laws.snapshot(model))


def test_what_cannot_be_done_is_said() -> None:
    for settings in ({"penalty": 0.0}, {"folds": 1}, {"most": 1}):
        with pytest.raises(ValueError, match="must be"):
            Probe(**settings)  # pyright: ignore
    here = laws.standard()
    with pytest.raises(ValueError, match="Probe compares with a retrained model"):
        Probe()(laws.trial(), replace(here.run, origin=None))
    convolution = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    with pytest.raises(ValueError, match=r"executes no nn\.Linear"):
        Probe()(laws.trial(convolution), here.run)
    gone = laws.trial(class_wise=True)
    only = worlds.pictures(6).take(torch.tensor([2, 5]))
    with pytest.raises(ValueError, match="nothing to tell D_f from"):
        Probe()(replace(gone, test=only), here.run)
    ruined = here.origin.fresh()
    with torch.no_grad():
        next(ruined.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN or infinity"):
        Probe()(laws.trial(ruined), here.run)
