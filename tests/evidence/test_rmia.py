"""RMIA agrees with three loops, and keeps to itself what it must not know."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles_evidence as oracles
from oblivio.evidence.rmia import Rmia, _relative
from oblivio.shadow import Answers, Shadows, TooFew


@settings(max_examples=20)
@given(
    st.integers(0, 1000),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.8, 1.0, 1.5]),
)
def test_agrees_with_three_loops(seed: int, points: int, a: float, gamma: float) -> None:
    shadows = oracles.drawn(6, (points, 2, 7), seed=seed, unlearned=1.0)
    found, expected = Rmia(a, gamma)(shadows), oracles.rmia(shadows, a, gamma)
    assert found["rmia_auc"] == pytest.approx(expected["auc"], abs=1e-10)
    assert found["per_point"] == pytest.approx(expected["per_point"], abs=1e-10)


def test_the_tail_agrees_where_it_can_be_shown() -> None:
    shadows = oracles.drawn(4, (12, 2, 100), unlearned=4.0)
    found, expected = Rmia()(shadows), oracles.rmia(shadows, 0.3, 1.0)
    assert found["rmia_tpr_1"] == pytest.approx(expected["tpr_1"], abs=1e-10)
    assert found["rmia_tpr_1"] > 5
    assert "rmia_tpr_1" not in Rmia()(oracles.drawn(6, (6, 2, 99)))


def test_the_null_is_a_coin_where_both_sets_are_alike() -> None:
    assert Rmia()(oracles.drawn(32, (200, 2, 200)))["rmia_auc"] == pytest.approx(50, abs=4)
    assert Rmia()(oracles.drawn(32, (200, 2, 200), unlearned=4.0))["rmia_auc"] > 80


def test_hardness_is_taken_off_by_the_references() -> None:
    """Points that all models find hard or easy are no members for that; raw margins say so."""
    shadows = oracles.drawn(32, (60, 2, 60), unlearned=1.0, places=3.0)
    flat = replace(
        shadows,
        retrained=Answers(torch.zeros_like(shadows.retrained.margins), shadows.retrained.right),
    )
    assert Rmia()(shadows)["rmia_auc"] > Rmia()(flat)["rmia_auc"] + 5


def test_a_models_own_retrained_twin_is_no_reference() -> None:
    """What a shadow's own retrained model says moves every other target's ratios, and not its."""
    shadows = oracles.drawn(4, (3, 2, 8), design="fixed")

    def changed(row: int) -> Shadows:
        margins = shadows.retrained.margins.clone()
        margins[row] += torch.linspace(-5, 5, margins.shape[1])
        return replace(shadows, retrained=Answers(margins, margins > 0))

    before, after = (_relative(s, "forget", 0.3) for s in (shadows, changed(2)))
    same = ((before - after).abs() < 1e-12).all(1)
    assert same.tolist() == [False, False, True, False]


def test_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(TooFew, match="There are 3 shadow models, but 4 are needed"):
        Rmia()(oracles.drawn(3, design="fixed"))
    with pytest.raises(TooFew, match="1 test points, but 2"):
        Rmia()(oracles.drawn(4, (3, 3, 1), design="fixed"))
    with pytest.raises(ValueError, match="a = 2 must be from 0 to 1"):
        Rmia(a=2)
    with pytest.raises(ValueError, match="gamma = 0"):
        Rmia(gamma=0)
