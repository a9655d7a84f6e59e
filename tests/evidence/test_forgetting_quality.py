"""F agrees with two loops over thresholds and intervals, and its null is what is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles_evidence as oracles
from oblivio.evidence.forgetting_quality import ForgettingQuality, largest_epsilon
from oblivio.shadow import Answers, TooFew


@given(
    st.integers(0, 1000),
    st.integers(8, 14),
    st.booleans(),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from([0.0, 1e-5, 0.2]),
    st.booleans(),
)
def test_agrees_with_two_loops(
    seed: int, models: int, intervals: bool, shift: float, delta: float, ties: bool
) -> None:
    shadows = oracles.drawn(models, (4, 2, 3), design="fixed", seed=seed, unlearned=shift)
    if ties:
        rounded = {k: getattr(shadows, k).margins.round() for k in ("unlearned", "retrained")}
        shadows = replace(shadows, **{k: Answers(v, v > 0) for k, v in rounded.items()})
    found = ForgettingQuality(intervals, delta)(shadows)
    one, two = (margins.tolist() for margins in shadows.versus())
    quality, each = oracles.forgetting(one, two, intervals, delta)
    assert found["per_point"] == pytest.approx(each, abs=1e-10)
    assert found["forgetting_quality"] == pytest.approx(quality, abs=1e-10)


@pytest.mark.parametrize(
    ("models", "single", "intervals"),
    [(32, 0.227, 0.092), (64, 0.221, 0.073), (128, 0.217, 0.060), (512, 0.218, None)],
)
def test_the_null(models: int, single: float, intervals: float | None) -> None:
    """Numbers of 8000 points (1000 with intervals) of another seed; an error here is 0.004."""
    shadows = oracles.drawn(models, (1000, 1, 1), design="fixed")
    found = ForgettingQuality(intervals=False)(shadows)["forgetting_quality"]
    assert found == pytest.approx(single, abs=0.012)
    if intervals:
        few = shadows.at(torch.cat([torch.arange(300), torch.tensor([1000, 1001])]))
        found = ForgettingQuality(intervals=True)(few)["forgetting_quality"]
        assert found == pytest.approx(intervals, abs=0.008)


def test_intervals_are_stronger_attacks() -> None:
    shadows = oracles.drawn(32, (50, 1, 1), design="fixed")
    both = [torch.tensor(ForgettingQuality(i)(shadows)["per_point"]) for i in (True, False)]
    assert bool((both[0] >= both[1]).all())
    assert bool((both[0] > both[1]).any())


def test_an_interval_finds_what_no_threshold_does() -> None:
    """Unlearned models agree in the middle, retrained ones are on either side."""
    side = torch.linspace(1, 2, 8, dtype=torch.float64)
    retrained = torch.cat([-side, side])[:, None]
    unlearned = torch.linspace(-0.1, 0.1, 16, dtype=torch.float64)[:, None]
    assert float(largest_epsilon(unlearned, retrained)) == 50
    assert float(largest_epsilon(retrained, unlearned)) == 50
    assert float(largest_epsilon(unlearned, retrained, intervals=False)) < 3


def test_the_score_takes_accuracies_into_account() -> None:
    shadows = oracles.drawn(16, design="fixed")
    forget, retain, test = (shadows.points(part) for part in ("forget", "retain", "test"))
    right = torch.ones_like(shadows.retrained.right)
    worse = right.clone()
    worse[:8, retain] = False
    worse[:4, test] = False
    worse[:, forget] = False
    shadows = replace(
        shadows,
        unlearned=Answers(shadows.unlearned.margins, worse),
        retrained=Answers(shadows.retrained.margins, right),
    )
    found = ForgettingQuality()(shadows)
    assert found["forgetting_score"] == pytest.approx(found["forgetting_quality"] * 0.5 * 0.75)
    wrong = replace(shadows, retrained=Answers(shadows.retrained.margins, ~right))
    with pytest.raises(TooFew, match="right on none of the retain points"):
        ForgettingQuality()(wrong)


def test_a_point_that_is_told_for_certain_is_not_forgotten_at_all() -> None:
    found = ForgettingQuality()(oracles.drawn(16, design="fixed", unlearned=40.0))
    assert found["forgetting_quality"] == found["forgetting_score"] == 0
    assert set(found["per_point"]) == {50.0}


def test_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(TooFew, match="7 shadow models that saw each point, but 8"):
        ForgettingQuality()(oracles.drawn(7, design="fixed"))
    with pytest.raises(TooFew, match="0 retain points, but 1"):
        ForgettingQuality()(oracles.drawn(8, (3, 0, 2), design="fixed"))
    with pytest.raises(ValueError, match="delta = 1"):
        ForgettingQuality(delta=1.0)
