"""The ROC curve and its area agree with counting all pairs, and with a world that is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles_evidence as oracles
import oracles_gan
from oblivio.roc import auc, share_below, true_positives
from worlds import TwoGaussians

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12)


@given(SCORES, SCORES)
def test_auc_agrees_with_counting_pairs(f: list[float], h: list[float]) -> None:
    assert tuple(auc(torch.tensor(f), torch.tensor(h))) == pytest.approx(
        oracles_gan.auc_by_pairs(f, h)
    )


def test_auc_of_two_gaussians_is_known() -> None:
    world, z = TwoGaussians(0.8), []
    for seed in range(20):
        value, error = auc(*world.draw(300, seed))
        assert error is not None
        z.append((value - world.auc) / error)
    assert max(map(abs, z)) < 3.5
    assert 0.5 < torch.tensor(z).std() < 1.6  # the standard error is neither too small nor large


def test_auc_of_a_single_score_has_no_error() -> None:
    assert auc(torch.tensor([1.0]), torch.tensor([0.0, 2.0])) == (0.5, None)


@given(SCORES, SCORES, st.integers(0, 1000))
def test_weighted_auc_agrees_with_counting_pairs(f: list[float], h: list[float], seed: int) -> None:
    """Σ w_j ψ(p_i, n_j) / p; equal weights are none."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(len(h), generator=draw, dtype=torch.float64)
    weights /= weights.sum()
    value, error = auc(torch.tensor(f), torch.tensor(h), weights)
    psi = [[(a > b) + 0.5 * (a == b) for b in h] for a in f]
    w = weights.tolist()
    v = [sum(x * y for x, y in zip(w, row, strict=True)) for row in psi]
    above = [sum(row[j] for row in psi) / len(f) for j in range(len(h))]
    expected = sum(v) / len(f)
    assert value == pytest.approx(expected, abs=1e-12)
    spread = sum((x * (a - expected)) ** 2 for x, a in zip(w, above, strict=True))
    variance = sum((x - expected) ** 2 for x in v) / (len(f) - 1) / len(f)
    assert error == pytest.approx((variance + spread / (1 - sum(x * x for x in w))) ** 0.5)
    equal = torch.full((len(h),), 1 / len(h), dtype=torch.float64)
    plain = auc(torch.tensor(f), torch.tensor(h))
    assert tuple(auc(torch.tensor(f), torch.tensor(h), equal)) == pytest.approx(plain)


def test_weights_undo_another_mix_of_groups() -> None:
    """Of two groups, one higher, drawn 1 to 4 and 4 to 1; within a group nothing tells.

    Over many draws the weighted area is ½, as far from it as its error says; the plain one is not.
    """
    z, plain = [], []
    for seed in range(30):
        draw = torch.Generator().manual_seed(seed)
        f, h = (torch.randn(100, generator=draw) for _ in range(2))
        f[:80] += 1
        h[:20] += 1
        weights = torch.cat([torch.full((20,), 0.8 / 20), torch.full((80,), 0.2 / 80)]).double()
        value, error = auc(f, h, weights)
        assert error is not None
        z.append((value - 0.5) / error)
        plain.append(auc(f, h).value)
    assert min(plain) > 0.55
    assert abs(sum(z)) / len(z) ** 0.5 < 3
    assert max(map(abs, z)) < 3.5


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_curves_agree_with_all_pairs_and_all_thresholds(
    seed: int, p: int, n: int, ties: bool
) -> None:
    draw = torch.Generator().manual_seed(seed)
    positives, negatives = (torch.randn(k, generator=draw, dtype=torch.float64) for k in (p, n))
    if ties:
        positives, negatives = positives.round(), negatives.round()
    lists = positives.tolist(), negatives.tolist()
    assert float(share_below(positives, negatives).mean()) == pytest.approx(oracles.area(*lists))
    rates = (0.0, 1e-3, 0.05, 0.1, 0.29, 0.5, 1.0)
    found = true_positives(positives, negatives, rates).tolist()
    assert found == pytest.approx([oracles.true_positives(*lists, rate) for rate in rates])
