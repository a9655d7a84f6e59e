"""Nulls, ceilings and intervals: right on crowds whose truth is known."""

from dataclasses import dataclass, replace

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
    # swaps change signs of 40 or 20 differences of standard normals, meaned over 30 points
    width = 2 * 1.96 * (2 / (40 if design == "fixed" else 20) / 30) ** 0.5
    assert 0.6 * width < null.high - null.low < 1.7 * width
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
    for seed in range(40):
        shadows = crowd(24, forget=24, design=design, shift=1.0, seed=seed)
        value, low, high = estimate(Shift(), shadows)[0]["shift"]
        assert low <= value <= high
        covered.append(low <= 1.0 <= high)
    assert np.mean(covered) >= 0.8


def test_intervals_of_a_mean_are_students():
    """Without points that could be left out, the models' part is the usual s² / n."""
    shadows = crowd(13, forget=1, shift=1.0)
    difference = (shadows.unlearned.margins - shadows.retrained.margins)[:, 0]
    value, low, high = estimate(Shift(), shadows, draws=1000)[0]["shift"]
    assert value == pytest.approx(float(difference.mean()))
    half = 1.96 * float(difference.std()) / 13**0.5
    assert high - value == pytest.approx(half, rel=0.08)
    assert value - low == pytest.approx(high - value)


@dataclass(frozen=True)
class Alone(Shift):
    """How high the unlearned models' margins are: retrained models play no part."""

    def __call__(self, shadows):
        return {"shift": float(shadows.versus()[0].mean())}


@pytest.mark.parametrize("measure", [Shift(), Alone()])
@pytest.mark.parametrize("design", ["fixed", "halves"])
def test_a_perfect_method_seldom_lands_outside_its_null(measure, design):
    outside = []
    for seed in range(60):
        shadows = crowd(24, forget=3, retain=0, test=0, design=design, seed=seed)
        null = scale(measure, shadows, seed, swaps=50).null["shift"]
        outside.append(not null.low <= measure(shadows)["shift"] <= null.high)
    # of 60 draws, 3 are expected, and 9 or more once in 300 times; the swaps' own 95 % gave 20
    assert sum(outside) <= 8


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
