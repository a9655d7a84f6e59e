"""KLoM agrees with NumPy's histograms, and with its published null."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles_evidence as oracles
from oblivio.evidence.klom import Klom, divergence
from oblivio.shadow import Answers, TooFew


@given(
    st.integers(0, 1000),
    st.integers(8, 40),
    st.sampled_from([2, 7, 20]),
    st.sampled_from([1.0, 80.0]),
)
def test_agrees_with_numpy(seed: int, models: int, bins: int, scale: float) -> None:
    """Also where values are clipped, and all of a point's values are equal."""
    draw = torch.Generator().manual_seed(seed)
    one, two = scale * torch.randn(2, models, 5, generator=draw, dtype=torch.float64)
    one[:, 0] = two[:, 0] = 3.0
    found = divergence(one, two, bins).tolist()
    assert found == pytest.approx(oracles.klom(one.tolist(), two.tolist(), bins), abs=1e-10)
    assert found[0] == 0


@pytest.mark.parametrize(
    ("shift", "mean", "high", "highest"),
    [(0.0, 0.35, 0.68, 0.90), (0.5, 0.57, 1.06, 1.37), (1.0, 1.20, 2.01, 2.45)],
)
def test_what_100_models_say(shift: float, mean: float, high: float, highest: float) -> None:
    """Numbers of 20,000 points of another seed; a standard error of the mean here is 0.007."""
    shadows = oracles.drawn(100, (4000, 1, 1), design="fixed", unlearned=shift)
    found = Klom()(shadows)
    assert found["klom_forget"] == pytest.approx(mean, abs=0.02)
    assert found["klom_forget_95"] == pytest.approx(high, rel=0.08)
    assert found["klom_forget_99"] == pytest.approx(highest, rel=0.12)


def test_the_largest_value_is_in_the_last_bin() -> None:
    """Of one sample a quarter is the largest value, of the other nothing."""
    one = torch.tensor([[0.0], [0.1], [0.2], [1.0]], dtype=torch.float64)
    two = torch.tensor([[0.0], [0.1], [0.2], [0.2]], dtype=torch.float64)
    expected = 0.25 * math.log(0.25 / 1e-5) + 0.25 * math.log(0.25 / 0.5)
    assert float(divergence(one, two)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("part", ["forget", "retain", "test"])
def test_parts_are_told_from_each_other(part: str) -> None:
    shadows = oracles.drawn(32, design="fixed")
    margins = shadows.unlearned.margins.clone()
    margins[:, shadows.points(part)] += 20  # pyright: ignore
    found = Klom()(replace(shadows, unlearned=Answers(margins, margins > 0)))
    for name in ("forget", "retain", "test"):
        assert (found[f"klom_{name}"] > 5) == (name == part)
        assert found[f"klom_{name}"] <= found[f"klom_{name}_99"]


def test_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(TooFew, match="7 shadow models that saw each point, but 8"):
        Klom()(oracles.drawn(7, design="fixed"))
    with pytest.raises(TooFew, match="0 retain points, but 1"):
        Klom()(oracles.drawn(8, (3, 0, 2), design="fixed"))
    with pytest.raises(ValueError, match="bins = 1"):
        Klom(bins=1)
