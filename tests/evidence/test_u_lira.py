"""U-LiRA agrees with a loop that leaves one model out, and with worlds whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles_evidence as oracles
from oblivio.evidence._likelihood import Density, log_ratios
from oblivio.evidence.u_lira import ULira
from oblivio.shadow import Answers, TooFew
from worlds import TwoGaussians

NUMBERS = ("accuracy", "auc", "tpr_1", "tpr_01")


@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from(["gaussian", "kde"]))
def test_agrees_with_leaving_one_out_by_hand(seed: int, points: int, density: Density) -> None:
    shadows = oracles.drawn(16, (points, 2, 4), seed=seed, unlearned=1.0)
    found = ULira(density)(shadows)
    one, two = map(oracles.rows, shadows.versus())
    expected = oracles.told_apart(one, two, density, pooled=True)
    assert found["per_point"] == pytest.approx(expected["per_point"], abs=1e-10)
    for name in NUMBERS[:2]:
        assert found[f"u_lira_{name}"] == pytest.approx(expected[name], abs=1e-10)


@pytest.mark.parametrize("density", ["gaussian", "kde"])
def test_agrees_where_every_point_has_its_own_spread(density: Density) -> None:
    shadows = oracles.drawn(2 * 64, (3, 2, 2), unlearned=1.0)
    one, two = shadows.versus()
    expected = oracles.told_apart(one.tolist(), two.tolist(), density, pooled=False)
    found = ULira(density)(shadows)
    assert found["per_point"] == pytest.approx(expected["per_point"], abs=1e-10)
    for name in NUMBERS[:3]:
        assert found[f"u_lira_{name}"] == pytest.approx(expected[name], abs=1e-10)
    assert "u_lira_tpr_01" not in found  # 192 negatives cannot show one in a thousand


def test_ratios_are_of_the_densities_that_scipy_fits() -> None:
    """One value each, against scipy's normal density and its kernel estimate."""
    from scipy.stats import gaussian_kde, norm

    draw = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 70, 1, generator=draw, dtype=torch.float64)
    two = 2 * two + 1
    others = [sample[1:, 0].numpy() for sample in (one, two)]
    value = float(one[0, 0])
    by_normal = [norm(o.mean(), o.std(ddof=1)).logpdf(value) for o in others]
    by_kernels = [gaussian_kde(o, "scott").logpdf(value)[0] for o in others]
    for density, (p, q) in (("gaussian", by_normal), ("kde", by_kernels)):
        found, _ = log_ratios(one, two, density)  # pyright: ignore[reportArgumentType]
        assert float(found[0, 0]) == pytest.approx(p - q, abs=1e-10)


@pytest.mark.parametrize("density", ["gaussian", "kde"])
@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0])
def test_two_gaussians_are_told_apart_as_well_as_can_be(distance: float, density: Density) -> None:
    """128 models each, 200 points: 2.5 standard errors of the accuracy are 0.55 %."""
    world = TwoGaussians(distance)
    shadows = oracles.drawn(256, (200, 2, 2), unlearned=distance)
    found = ULira(density)(shadows)
    slack = 2.5 if density == "kde" else 1.5
    assert found["u_lira_accuracy"] == pytest.approx(100 * world.accuracy, abs=slack)
    assert found["u_lira_auc"] == pytest.approx(100 * world.auc, abs=slack)
    assert found["u_lira_tpr_1"] == pytest.approx(100 * world.true_positives(0.01), abs=2 * slack)
    assert found["roc"][-1] == 1
    assert found["roc"] == sorted(found["roc"])


def test_a_narrower_answer_is_told_from_a_wider_one_though_the_means_agree() -> None:
    """σ = 1 against σ = 4: the best accuracy is ½ + Φ(c) − Φ(c/4) = 80.3 %, c² = 32/15 · log 4."""
    shadows = oracles.drawn(256, (50, 2, 2))
    place = shadows.retrained.margins.mean(0)
    wide = place + 4 * (shadows.retrained.margins - place)
    found = ULira()(replace(shadows, retrained=Answers(wide, wide > 0)))
    assert found["u_lira_accuracy"] == pytest.approx(80.3, abs=1.5)


def test_only_the_exposed_point_is_exposed() -> None:
    shadows = oracles.drawn(64, (5, 2, 2))
    margins = shadows.unlearned.margins.clone()
    margins[:, 2] += 50
    found = ULira()(replace(shadows, unlearned=Answers(margins, margins > 0)))
    assert found["per_point"][2] == 100
    assert max(x for i, x in enumerate(found["per_point"]) if i != 2) < 75


def test_the_null_is_a_coin_on_average() -> None:
    """Few models: the fits are poor, the mean over 40 draws is 50 all the same."""
    for density in ("gaussian", "kde"):
        found = [
            ULira(density)(oracles.drawn(16, (20, 2, 2), seed=seed))["u_lira_accuracy"]
            for seed in range(40)
        ]
        assert sum(found) / 40 == pytest.approx(50, abs=1.0)


def test_equal_answers_are_a_coin_and_broken_models_have_a_number() -> None:
    shadows = oracles.drawn(16)
    same = replace(shadows, unlearned=shadows.retrained)
    found = ULira()(same)
    assert found["u_lira_accuracy"] == found["u_lira_auc"] == 50
    for value in (torch.nan, torch.inf, -torch.inf, 1e300):
        margins = torch.full_like(shadows.unlearned.margins, value)
        broken = replace(shadows, unlearned=Answers(margins, margins > 0))
        for density in ("gaussian", "kde"):
            assert ULira(density)(broken)["u_lira_accuracy"] == 100


def test_too_few_models() -> None:
    ULira()(oracles.drawn(16))
    with pytest.raises(TooFew, match="There are 7 shadow models that saw each point, but 8"):
        ULira()(oracles.drawn(14))
