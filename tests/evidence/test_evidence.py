"""Every measure obeys the laws: one list, applied to every file of the folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import oracles_evidence as oracles
from laws import random_state, untouched_randomness
from oblivio.catalogue import build, find, names, settings_of
from oblivio.core import Score
from oblivio.shadow import RATES, Answers, Measure, Shadows, TooFew

KINDS = ("original", "unlearned", "retrained", "again")

BY_PROBABILITY = ("rmia",)
"""Measures to which it matters where zero is, not how margins differ alone."""

OF_OTHERS = ("collateral",)
"""Measures of those who did not ask to be forgotten, whom doing nothing does not harm."""


def case(measure: Measure, models: int = 32, **changes: Any) -> Shadows:
    """Shadows of the measure's design, half forgotten."""
    return oracles.drawn(
        models,
        (32, 24, 110),
        design=measure.design,
        seen_retain=1.0,
        **{"unlearned": 1.5} | changes,
    )


def numbers(measure: Measure, found: Mapping[str, Any]) -> dict[str, float]:
    return {name: found[name] for name in found if name in measure.scores}


def same(measure: Measure, one: Mapping[str, Any], two: Mapping[str, Any], slack: float) -> bool:
    """Whether all numbers agree."""
    assert set(one) == set(two)
    return numbers(measure, one) == pytest.approx(numbers(measure, two), abs=slack)


def with_margins(shadows: Shadows, change: Callable[[Tensor], Tensor]) -> Shadows:
    """All models' margins changed."""
    changed = {k: change(getattr(shadows, k).margins) for k in KINDS}
    kinds = {k: Answers(v, getattr(shadows, k).right) for k, v in changed.items()}
    return replace(shadows, **kinds)


# --- The laws -----------------------------------------------------------------------------------


def returns_what_it_describes(measure: Measure) -> None:
    """All scores, finite, shares from 0 to 100; the rest are lists; JSON holds it all."""
    shadows = case(measure, 64)
    found = measure(shadows)
    assert json.loads(json.dumps(dict(found))) == dict(found)
    described = numbers(measure, found)
    assert set(described) == set(measure.scores)
    for name, value in described.items():
        assert isinstance(value, float), name
        assert torch.isfinite(torch.tensor(value)), name
        if measure.scores[name].unit == "%":
            assert 0 <= value <= 100, name
    for name in set(found) - set(described):
        assert isinstance(found[name], list), name
    for score in measure.scores.values():
        assert isinstance(score, Score)
        assert score.label
        assert score.meaning


def draws_curves_over_all_rates_and_points(measure: Measure) -> None:
    """`roc` rises to 1 over RATES, `per_point` has a finite number for each point of D_f."""
    shadows = case(measure)
    found = measure(shadows)
    if "roc" in found:
        assert len(found["roc"]) == len(RATES)
        assert found["roc"] == sorted(found["roc"])
        assert found["roc"][-1] == 1
        assert min(found["roc"]) >= 0
    if "per_point" in found:
        assert len(found["per_point"]) == shadows.counts[0]
        assert torch.tensor(found["per_point"]).isfinite().all()


def points_out_the_exposed_point(measure: Measure) -> None:
    """Of points that are forgotten but one, that one has the highest number in `per_point`."""
    shadows = case(measure, 64, unlearned=0.0, places=0.1)
    margins = shadows.unlearned.margins.clone()
    margins[:, 7] += 9.0 * shadows.seen[:, 7]
    found = measure(replace(shadows, unlearned=Answers(margins, margins > 0)))
    if "per_point" in found:
        assert max(range(shadows.counts[0]), key=found["per_point"].__getitem__) == 7


def the_order_of_models_plays_no_part(measure: Measure) -> None:
    """Shadows may be permuted; of "halves", complements stay together but may change places."""
    shadows = case(measure)
    draw = torch.Generator().manual_seed(3)
    order = torch.randperm(len(shadows) // 2, generator=draw)
    order = torch.stack([2 * order + 1, 2 * order], 1).flatten()
    assert same(measure, measure(shadows), measure(shadows.take(order)), 1e-9)


def the_order_of_points_plays_no_part(measure: Measure) -> None:
    """Within their part; `per_point` follows."""
    shadows = case(measure)
    draw = torch.Generator().manual_seed(3)
    parts = (shadows.points(part) for part in ("forget", "retain", "test"))
    order = torch.cat([p[torch.randperm(len(p), generator=draw)] for p in parts])
    one, two = measure(shadows), measure(shadows.at(order))
    assert same(measure, one, two, 1e-9)
    if "per_point" in one:
        moved = [one["per_point"][i] for i in order[: shadows.counts[0]].tolist()]
        assert two["per_point"] == pytest.approx(moved, abs=1e-9)


def is_deterministic(measure: Measure) -> None:
    """Bit for bit, whatever the global random state is, and without touching it."""
    found = []
    for seed in (1, 2):
        with random_state(seed), untouched_randomness():
            found.append(measure(case(measure)))
    assert found[0] == found[1]


def leaves_the_shadows_as_they_are(measure: Measure) -> None:
    """Bit for bit."""
    shadows, other = case(measure), case(measure)
    measure(shadows)
    assert torch.equal(shadows.seen, other.seen)
    for kind in KINDS:
        for one, two in zip(getattr(shadows, kind), getattr(other, kind), strict=True):
            assert torch.equal(one, two)


def a_shift_of_all_margins_plays_no_part(measure: Measure) -> None:
    """Unless the measure looks at probabilities. Margins are such that adding does not round."""
    shadows = with_margins(case(measure), lambda m: (m * 2**20).round() / 2**20)
    shifted = with_margins(shadows, lambda m: m + 2.125)
    unchanged = same(measure, measure(shadows), measure(shifted), 1e-6)
    assert unchanged != (find_name(measure) in BY_PROBABILITY)


def does_not_look_at_what_it_does_not_need(measure: Measure) -> None:
    """Neither at the models that are retrained again, nor at ids."""
    shadows = case(measure)
    bare = replace(shadows, again=None, ids=shadows.ids + 100)
    assert measure(bare) == measure(shadows)


def the_ceiling_is_beyond_the_null(measure: Measure) -> None:
    """Some number of the originals lies outside of the numbers of ten nulls, on the worse side."""
    shadows = case(measure, 64, original=4.0)
    draw = torch.Generator().manual_seed(0)
    nulls = [
        numbers(measure, measure(shadows.null(torch.rand(64, generator=draw) < 0.5)))
        for _ in range(10)
    ]
    ceiling = numbers(measure, measure(shadows.ceiling()))
    beyond = []
    for name, value in ceiling.items():
        of_null = [null[name] for null in nulls]
        worse = (
            value < min(of_null) if measure.scores[name].better == "up" else value > max(of_null)
        )
        beyond.append(worse)
    assert any(beyond) != (find_name(measure) in OF_OTHERS)


def needs_more_than_two_models(measure: Measure) -> None:
    """With one or two there is no number but TooFew, in one sentence with how many there are."""
    for models in (1, 2):
        shadows = case(measure, 32).take(torch.arange(models))
        with pytest.raises(TooFew, match=r"There are \d+ .* but \d+ are needed to .*\.$"):
            measure(shadows)


def has_numbers_for_broken_models(measure: Measure) -> None:
    """Margins that are infinite, not a number, or all equal."""
    shadows = case(measure)
    for value in (torch.nan, torch.inf, -torch.inf, 1e300, 0.0):
        margins = torch.full_like(shadows.unlearned.margins, value)
        broken = replace(shadows, unlearned=Answers(margins, margins > 0))
        for name, number in numbers(measure, measure(broken)).items():
            assert torch.isfinite(torch.tensor(number)), name


def can_be_built_again(measure: Measure) -> None:
    """`build` makes the same measure of `settings_of`."""
    assert build(type(measure), settings_of(measure)) == measure


LAWS = [
    returns_what_it_describes,
    draws_curves_over_all_rates_and_points,
    points_out_the_exposed_point,
    the_order_of_models_plays_no_part,
    the_order_of_points_plays_no_part,
    is_deterministic,
    leaves_the_shadows_as_they_are,
    a_shift_of_all_margins_plays_no_part,
    does_not_look_at_what_it_does_not_need,
    the_ceiling_is_beyond_the_null,
    needs_more_than_two_models,
    has_numbers_for_broken_models,
    can_be_built_again,
]


def find_name(measure: Measure) -> str:
    """What the measure is called in the catalogue."""
    return type(measure).__module__.rpartition(".")[2]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", names("evidence"))
def test_law(name: str, law: Callable[[Measure], None]) -> None:
    measure = find("evidence", name)()
    assert isinstance(measure, Measure)
    law(measure)


def test_no_number_has_two_meanings() -> None:
    scores = [score for name in names("evidence") for score in find("evidence", name).scores]
    assert len(scores) == len(set(scores))
