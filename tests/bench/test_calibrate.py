"""Nulls, ceilings and intervals: right on crowds whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from oblivio.bench.calibrate import estimate, scale
from oblivio.shadow import RATES, TooFew
from worlds import Shift, crowd


@pytest.mark.parametrize("design", ["fixed", "halves"])
def test_the_null_is_about_nothing_and_the_ceiling_is_the_originals(design):
    shadows = crowd(40, forget=30, design=design, shift=1.0, ceiling=2.0)
    found = scale(Shift(), shadows, swaps=60)
    null = found.null["shift"]
    assert null.low < 0 < null.high
    assert abs(null.value) < 0.05
    assert found.ceiling["shift"] == pytest.approx(2.0, abs=0.15)
    # swaps change signs of 40 differences of two standard normals, meaned over 30 points
    assert null.high - null.low == pytest.approx(2 * 1.96 * (2 / 40 / 30) ** 0.5, rel=0.5)
    low, high = found.exhibits["roc_null"]
    assert all(a <= b for a, b in zip(low, high, strict=True))
    assert len(found.exhibits["roc_ceiling"]) == len(RATES)


def test_the_null_does_not_look_at_the_unlearned_models():
    shadows = crowd(8, shift=1.0)
    other = replace(shadows, unlearned=crowd(8, shift=9.0, seed=5).unlearned)
    assert scale(Shift(), shadows, swaps=5) == scale(Shift(), other, swaps=5)


@pytest.mark.parametrize("design", ["fixed", "halves"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(design):
    covered = []
    for seed in range(60):
        shadows = crowd(24, forget=24, design=design, shift=1.0, seed=seed)
        value, low, high = estimate(Shift(), shadows, groups=8)[0]["shift"]
        assert low <= value <= high
        covered.append(low <= 1.0 <= high)
    assert np.mean(covered) >= 0.85


def test_intervals_are_those_of_the_jackknife():
    """With as many groups as models, the models' part is the usual s² / n."""
    shadows = crowd(12, forget=1, shift=1.0)
    # The one point of D_f always stays: the points' part is nothing.
    difference = (shadows.unlearned.margins - shadows.retrained.margins)[:, 0]
    value, low, high = estimate(Shift(), shadows, groups=12)[0]["shift"]
    assert value == pytest.approx(float(difference.mean()))
    half = 2.2009851600829 * float(difference.std()) / 12**0.5
    assert high - value == pytest.approx(half)
    assert value - low == pytest.approx(half)


def test_lists_for_plots_are_handed_on():
    exhibits = estimate(Shift(), crowd(8))[1]
    assert set(exhibits) == {"roc", "per_point"}
    assert len(exhibits["per_point"]) == 5


def test_where_no_model_may_be_missing_there_is_no_interval():
    values, _ = estimate(Shift(least=8), crowd(8))
    assert values["shift"].low is None
    assert values["shift"].high is None


def test_too_few_models_give_no_number():
    with pytest.raises(TooFew, match="There are 8 shadow models; it takes 9"):
        estimate(Shift(least=9), crowd(8))


def test_without_a_null_there_is_no_scale():
    with pytest.raises(ValueError, match="without its null"):
        scale(Shift(), replace(crowd(8), again=None))


def test_same_seed_same_intervals_and_randomness_is_left_alone():
    before = torch.get_rng_state()
    assert estimate(Shift(), crowd(8), 3) == estimate(Shift(), crowd(8), 3)
    assert scale(Shift(), crowd(8), 3, swaps=4) == scale(Shift(), crowd(8), 3, swaps=4)
    assert torch.equal(before, torch.get_rng_state())
