"""Power against tables, an integral, and simulated experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats

from oblivio.bench.power import CHANCE, detectable, needed, power
from oblivio.bench.significance import paired_t

LEVELS = st.sampled_from([0.05, 0.05 / 3, 0.05 / 190])


def integral(effect: float, n: int, level: float) -> float:
    """The same power: a normal mean over an independent chi-distributed spread, integrated."""
    critical, df = scipy_stats.t.ppf(1 - level / 2, n - 1), n - 1

    def given_spread(u: float) -> float:
        edge, shift = critical * u / math.sqrt(df), effect * math.sqrt(n)
        seen = scipy_stats.norm.sf(edge - shift) + scipy_stats.norm.cdf(-edge - shift)
        return float(scipy_stats.chi.pdf(u, df) * seen)

    middle = math.sqrt(df)
    return sum(
        integrate.quad(given_spread, low, high, limit=200)[0]
        for low, high in ((0, middle), (middle, middle + 12))
    )


@settings(max_examples=25)
@given(st.floats(0, 8), st.integers(2, 60), LEVELS)
def test_power_is_the_integral(effect, n, level):
    assert power(effect, n, level) == pytest.approx(integral(effect, n, level), abs=1e-6)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_cohens_small_medium_and_large_effects(effect, n):
    """The sample sizes that tables give for a paired t test, two-sided, 5 %, power 80 %."""
    assert needed(1.0, effect) == n
    assert power(effect, n) >= CHANCE > power(effect, n - 1)


def test_simulated_experiments_see_the_detectable_difference():
    n, spread = 5, 2.0
    difference = detectable(spread, n)
    draws = np.random.default_rng(0).normal(difference, spread, (4000, n))
    seen = np.mean([paired_t(one) < 0.05 for one in draws.tolist()])
    assert seen == pytest.approx(CHANCE, abs=3 * math.sqrt(0.16 / 4000))


@given(st.floats(0.01, 50), st.integers(2, 100), LEVELS)
def test_detectable_is_where_power_is_enough(spread, n, level):
    assert power(detectable(spread, n, level) / spread, n, level) == pytest.approx(CHANCE)


@given(st.floats(0.1, 50), st.floats(0.1, 10), LEVELS)
def test_needed_is_the_fewest(spread, difference, level):
    n = needed(spread, difference, level)
    assert power(difference / spread, n, level) >= CHANCE
    assert n == 2 or power(difference / spread, n - 1, level) < CHANCE
    assert detectable(spread, n, level) <= difference * (1 + 1e-6)


@given(st.floats(0, 5), st.integers(2, 40))
def test_power_grows_with_effect_and_seeds(effect, n):
    assert power(effect + 0.1, n) >= power(effect, n) - 1e-9
    assert power(effect, n + 1) >= power(effect, n) - 1e-9
    assert power(-effect, n) == power(effect, n)
    assert power(0.0, n) == pytest.approx(0.05)


def test_no_spread():
    assert detectable(0.0, 5) == 0.0
    assert needed(0.0) == 2
