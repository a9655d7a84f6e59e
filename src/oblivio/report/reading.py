"""A number that a measure said of many shadow models, between its null and its ceiling.

The null is what chance alone makes of a perfect method, the ceiling what the measure says of a
method that does nothing:

    way   (s − null) / (ceiling − null): 0 is retraining, 1 is doing nothing

A record's interval says how far the chance in models and points moves its number, so that means
over seeds have intervals as means of independent numbers do:

    mean   s̄ = 1/n Σ s_i
    low    s̄ − 1/n √(Σ (s_i − low_i)²),  and high likewise
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from oblivio.bench.stats import Record
from oblivio.core import Score

Verdict = Literal["beyond", "within", "blind", "open"]


class Band(NamedTuple):
    """A number and 95 % around it, None where these are not known."""

    mean: float
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """Half of its width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


class Said(NamedTuple):
    """A number of one seed, its record's key, and what it stands between."""

    seed: int
    key: str
    value: Band
    null: Band | None
    ceiling: float | None


@dataclass(frozen=True)
class Reading:
    """A method's number, over all seeds, between null and ceiling.

    Args:
        score: What it means.
        value: The mean over seeds.
        null: That of retrained models beside retrained ones.
        ceiling: That of the originals.
        said: What it is the mean of.
    """

    score: Score
    value: Band
    null: Band | None
    ceiling: float | None
    said: tuple[Said, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether the number is one that a perfect method could have.

        "beyond" lies outside of the null's 95 % on the worse side, "within" does not; "blind" does
        not either, but neither does the ceiling, so that the measure sees nothing here; "open" has
        no null.
        """
        if self.null is None or self.null.low is None:
            return "open"
        if self._beyond(self.value.mean):
            return "beyond"
        return "within" if self.sees else "blind"

    @property
    def sees(self) -> bool:
        """Whether the measure tells a method that does nothing from retraining."""
        return self.ceiling is not None and self._beyond(self.ceiling)

    def _beyond(self, value: float) -> bool:
        if self.null is None or self.null.low is None or self.null.high is None:
            return False
        above, below = value > self.null.high, value < self.null.low
        return {"down": above, "up": below, "retrain": above or below}[self.score.better]

    def way(self, value: float) -> float | None:
        """Where a value lies from retraining, 0, to doing nothing, 1; None if these are alike."""
        if self.null is None or self.ceiling is None or not self.sees:
            return None
        return (value - self.null.mean) / (self.ceiling - self.null.mean)


def reading(
    score: Score, pairs: Iterable[tuple[Record, Mapping[str, Any] | None]]
) -> Reading | None:
    """A method's number over its seeds.

    Args:
        score: What it means.
        pairs: Records, and the number with its surroundings as they stand in them.

    Returns:
        The reading, or None where no number is left: those that are not finite are left out.
    """
    said = [
        Said(
            record["cell"]["seed"],
            record["key"],
            Band(one["value"], *_ends(one["low"], one["high"])),
            None if one["null"] is None else Band(one["null"][0], *_ends(*one["null"][1:])),
            one["ceiling"],
        )
        for record, one in pairs
        if one is not None and _finite(one["value"])
    ]
    if not said:
        return None
    nulls = [one.null for one in said if one.null is not None and _finite(one.null.mean)]
    ceilings = [v for one in said if (v := one.ceiling) is not None and math.isfinite(v)]
    return Reading(
        score,
        mean([one.value for one in said]),
        mean(nulls) if len(nulls) == len(said) else None,
        math.fsum(ceilings) / len(said) if len(ceilings) == len(said) else None,
        tuple(said),
    )


def mean(bands: Sequence[Band]) -> Band:
    """The mean of independent numbers, with its interval where each of them has one.

    Returns:
        The mean.

    Example:
        >>> mean([Band(1.0, -2.0, 4.0), Band(2.0, -2.0, 6.0)])
        Band(mean=1.5, low=-1.0, high=4.0)
    """
    n = len(bands)
    middle = math.fsum(band.mean for band in bands) / n
    lows = [band.mean - band.low for band in bands if band.low is not None]
    highs = [band.high - band.mean for band in bands if band.high is not None]
    if min(len(lows), len(highs)) < n:
        return Band(middle, None, None)
    return Band(middle, middle - math.hypot(*lows) / n, middle + math.hypot(*highs) / n)


def _ends(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """An interval's ends, or none where one of them is no number."""
    return (low, high) if _finite(low) and _finite(high) else (None, None)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
