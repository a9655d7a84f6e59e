"""The population attack agrees with a loop over models, classes and points."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles_evidence as oracles
from oblivio.evidence.population_lira import PopulationLira
from oblivio.shadow import Design, TooFew
from worlds import TwoGaussians


@settings(max_examples=25)
@given(
    st.integers(0, 1000),
    st.integers(1, 6),
    st.integers(3, 14),
    st.sampled_from(["fixed", "halves"]),
    st.sampled_from([3, 4, 100]),
)
def test_agrees_with_loops(
    seed: int, points: int, tests: int, design: Design, per_class: int
) -> None:
    points = points + (design == "halves")
    shadows = oracles.drawn(6, (points, 2, tests), seed=seed, design=design, unlearned=1.0)
    found = PopulationLira(per_class)(shadows)
    expected = oracles.population(shadows, per_class)
    assert found["population_auc"] == pytest.approx(expected["auc"], abs=1e-10)
    assert found["per_point"] == pytest.approx(expected["per_point"], abs=1e-10)


def test_the_tail_agrees_where_it_can_be_shown() -> None:
    shadows = oracles.drawn(5, (20, 2, 100), design="fixed", unlearned=3.0)
    found, expected = PopulationLira()(shadows), oracles.population(shadows, 20)
    assert found["population_tpr_1"] == pytest.approx(expected["tpr_1"], abs=1e-10)
    assert found["population_tpr_1"] > 20
    assert "population_tpr_1" not in PopulationLira()(oracles.drawn(4, (20, 2, 99)))


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0])
def test_points_that_are_all_alike_are_told_apart_as_well_as_can_be(distance: float) -> None:
    """60 models × 150 points of one place: a standard error of the AUC is about 0.4 %."""
    world = TwoGaussians(distance)
    shadows = oracles.drawn(60, (150, 2, 150), design="fixed", unlearned=distance, places=0.0)
    found = PopulationLira()(shadows)
    assert found["population_auc"] == pytest.approx(100 * world.auc, abs=1.2)
    expected = 100 * world.true_positives(0.01)
    assert found["population_tpr_1"] == pytest.approx(expected, abs=2)


def test_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(TooFew, match="2 test points, but 3"):
        PopulationLira()(oracles.drawn(4, (3, 3, 2), design="fixed"))
    with pytest.raises(ValueError, match="per_class = 2"):
        PopulationLira(per_class=2)
