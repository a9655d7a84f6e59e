"""Means over seeds, with their intervals and the records behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import bootstrap

LEVEL = 0.95
"""How often an interval holds the mean over all seeds that could have been drawn."""


class Point(NamedTuple):
    """A number of one seed, and its record's key; of a pair, `rival` is retrain's record."""

    seed: int
    value: float
    key: str
    rival: str | None = None


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval, and the numbers it is the mean of.

    `low` and `high` are None where there is a single seed.
    """

    mean: float
    low: float | None
    high: float | None
    points: tuple[Point, ...]

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.points)

    @property
    def half(self) -> float | None:
        """Half the interval's width; None for a single seed."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def excludes(self, value: float) -> bool:
        """Whether there is an interval and the value lies outside of it."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


def estimate(points: Iterable[Point]) -> Estimate | None:
    """The mean and its Student-t interval; numbers that are not finite are left out.

    Returns:
        The estimate, or None where no number is left.

    Example:
        >>> found = estimate([Point(0, 1.0, "a"), Point(1, 2.0, "b"), Point(2, 3.0, "c")])
        >>> found.mean, round(found.half, 3)
        (2.0, 2.484)
    """
    kept = tuple(point for point in points if math.isfinite(point.value))
    if not kept:
        return None
    n = len(kept)
    mean = math.fsum(point.value for point in kept) / n
    if n == 1:
        return Estimate(mean, None, None, kept)
    spread = math.sqrt(math.fsum((point.value - mean) ** 2 for point in kept) / (n - 1))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, kept)


def geometric(points: Iterable[Point]) -> Estimate | None:
    """The geometric mean of positive numbers; its interval is Student's on their logarithms.

    Returns:
        The estimate, or None where no positive number is left.
    """
    kept = tuple(point for point in points if point.value > 0 and math.isfinite(point.value))
    logs = estimate(point._replace(value=math.log(point.value)) for point in kept)
    if logs is None:
        return None
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return Estimate(math.exp(logs.mean), low, high, kept)


def bootstrapped(points: Iterable[Point], resamples: int = 9999) -> Estimate | None:
    """The mean and its bootstrap interval, bias-corrected and accelerated (BCa).

    It never leaves the range of the numbers, which Student's interval does near a score's bound.
    But it is for ten seeds or more: of five it holds the mean in 82 to 86 % of cases, where t holds
    it in 91 to 95 % (normal draws, and draws cut off at 100 %), for five numbers say too little of
    the tails.

    Args:
        points: Numbers; those that are not finite are left out.
        resamples: How many are drawn, by the same seed each time.

    Returns:
        The estimate, or None where no number is left.

    Source: B. Efron, "Better bootstrap confidence intervals", 1987.
    """
    found = estimate(points)
    if found is None or found.n == 1:
        return found
    values = [point.value for point in found.points]
    if math.isclose(max(values), min(values), rel_tol=1e-12, abs_tol=1e-12):
        return found  # there is nothing to resample
    ends = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=LEVEL,
        random_state=0,  # pyright: ignore[reportCallIssue]  # `rng` is its name since scipy 1.15
    ).confidence_interval
    return Estimate(found.mean, float(ends.low), float(ends.high), found.points)


def paired(ours: Estimate | None, theirs: Estimate | None) -> Estimate | None:
    """The mean of ours − theirs over the seeds that both have.

    Returns:
        The estimate, or None where no seed is shared.
    """
    return joined(ours, theirs, lambda a, b: a - b)


def joined(
    ours: Estimate | None,
    theirs: Estimate | None,
    join: Callable[[float, float], float],
    average: Callable[[Iterable[Point]], Estimate | None] = estimate,
) -> Estimate | None:
    """Join the numbers of the same seed, then average.

    Returns:
        The estimate, or None where no seed is shared.
    """
    if ours is None or theirs is None:
        return None
    other = {point.seed: point for point in theirs.points}
    return average(
        Point(p.seed, join(p.value, other[p.seed].value), p.key, other[p.seed].key)
        for p in ours.points
        if p.seed in other
    )
