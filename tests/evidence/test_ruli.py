"""RULI plays its game with unlearned models alone; collateral looks at those who stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles_evidence as oracles
from oblivio.evidence._likelihood import Density
from oblivio.evidence._sample import parted
from oblivio.evidence.collateral import Collateral
from oblivio.evidence.ruli import Ruli
from oblivio.shadow import Answers, TooFew
from worlds import TwoGaussians


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from(["gaussian", "kde"]))
def test_agrees_with_leaving_one_out_by_hand(seed: int, density: Density) -> None:
    shadows = oracles.drawn(16, (3, 2, 2), seed=seed, unlearned=1.0)
    margins, seen = shadows.unlearned.margins, shadows.seen
    with_it, without = (
        [
            list(row)
            for row in zip(
                *(
                    [float(margins[t, x]) for t in range(16) if bool(seen[t, x]) == held]
                    for x in range(3)
                ),
                strict=True,
            )
        ]
        for held in (True, False)
    )
    expected = oracles.told_apart(with_it, without, density, pooled=True)
    found = Ruli(density)(shadows)
    assert found["per_point"] == pytest.approx(expected["per_point"], abs=1e-10)
    assert found["ruli_auc"] == pytest.approx(expected["auc"], abs=1e-10)


def test_two_gaussians_are_told_apart_as_well_as_can_be() -> None:
    for distance in (0.0, 2.0):
        shadows = oracles.drawn(256, (150, 2, 2), unlearned=distance)
        found = Ruli()(shadows)
        world = TwoGaussians(distance)
        assert found["ruli_accuracy"] == pytest.approx(100 * world.accuracy, abs=2)


def test_harm_that_all_models_share_is_not_evidence_of_who_was_forgotten() -> None:
    """An unlearned model that answers everything otherwise gives nobody away."""
    shadows = oracles.drawn(64)
    margins = shadows.unlearned.margins - 30
    harmed = replace(shadows, unlearned=Answers(margins, margins > 0))
    assert Ruli()(harmed)["ruli_accuracy"] == pytest.approx(Ruli()(shadows)["ruli_accuracy"])
    assert Ruli()(harmed)["ruli_accuracy"] < 60


def test_retrained_models_play_no_part() -> None:
    shadows = oracles.drawn(16)
    other = replace(shadows, retrained=shadows.original)
    assert Ruli()(shadows) == Ruli()(other)


def test_parts_of_fixed_models_cannot_be_had() -> None:
    with pytest.raises(TooFew, match="0 shadow models that did not see each point, but 8"):
        Ruli()(oracles.drawn(16, design="fixed"))


def test_rows_are_of_complementary_shadows() -> None:
    shadows = oracles.drawn(16, (6, 4, 2))
    numbered = torch.arange(16, dtype=torch.float64)[:, None].expand(16, 12).contiguous()
    told = replace(shadows, unlearned=Answers(numbered, numbered > 0))
    seen, other = parted(told, "unlearned", "retain")
    assert torch.equal(seen // 2, other // 2)
    assert not bool((seen == other).any())


# --- Collateral ---------------------------------------------------------------------------------


def test_exposure_of_retained_points_that_grows_is_seen() -> None:
    """Retrained models expose retained points at σ, unlearned ones too, or at 3 σ."""
    world = TwoGaussians(1.0)
    shadows = oracles.drawn(256, (2, 100, 20), seen_retain=1.0)
    found = Collateral()(shadows)
    assert found["collateral_exposure"] == pytest.approx(100 * world.accuracy, abs=1.5)
    assert found["collateral_change"] == pytest.approx(0, abs=1.5)
    margins = shadows.unlearned.margins + 2 * shadows.seen
    found = Collateral()(replace(shadows, unlearned=Answers(margins, margins > 0)))
    assert found["collateral_exposure"] == pytest.approx(100 * TwoGaussians(3.0).accuracy, abs=1.5)
    assert found["collateral_change"] > 20


def test_the_class_that_has_lost_is_named() -> None:
    shadows = oracles.drawn(16, (4, 6, 30))
    right = torch.ones_like(shadows.unlearned.right)
    worse = right.clone()
    worse[:4, shadows.labels == 1] = False
    kinds = {k: Answers(shadows.unlearned.margins, right) for k in ("original", "retrained")}
    shadows = replace(shadows, **kinds, unlearned=Answers(shadows.unlearned.margins, worse))
    found = Collateral()(shadows)
    assert found["collateral_class"] == 25
    assert found["classes"][1] == {
        "label": 1, "original": 100, "unlearned": 75, "retrained": 100
    }  # fmt: skip
    assert [row["label"] for row in found["classes"]] == [0, 1, 2]
