"""From records to means, intervals and gaps.

Every method is paired with `retrain` by scenario and seed i, where both forgot the same examples:

    mean         s̄ = 1/n Σ s_i
    half-width   h = t(0.975, n−1) · σ / √n,  with σ² = 1/(n−1) Σ (s_i − s̄)²
    difference   d_i = s_i(method) − s_i(retrain)
    gap          g_i = |d_i|
    average gap  a_i = mean of g_i over the headline scores that the scenario has
    RTE          r_i = seconds_i(method) / seconds_i(retrain), its geometric mean over i

The ratio's mean is geometric because then "4 times faster" and "a quarter of the time" agree; its
interval is Student's on log r_i. One seed has a mean and no interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oblivio import catalogue
from oblivio.bench import label
from oblivio.bench.estimate import Estimate, Point, estimate, geometric, joined, paired
from oblivio.bench.spec import canonical
from oblivio.core import Score

Record = Mapping[str, Any]

ORIGINAL = "original"
RETRAIN = "retrain"

_FIRST = ("ua", "mia_efficacy", "ra", "ta")  # the order in which papers print them


@dataclass(frozen=True)
class Row:
    """A method in a scenario: its scores, and how far they are from retrain's.

    Args:
        label: The method's name, with its settings where another of that name differs in them.
        method: The method's name and settings.
        records: What the numbers come from, in the order of their seeds.
        values: The scores.
        differences: The scores minus retrain's, paired by seed.
        gaps: The absolute differences.
        gap: The average gap over the headline scores; seeds that lack one of them are left out.
        rte: The seconds as a share of retrain's.
    """

    label: str
    method: Mapping[str, Any]
    records: tuple[Record, ...]
    values: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    gaps: Mapping[str, Estimate]
    gap: Estimate | None
    rte: Estimate | None

    @property
    def name(self) -> str:
        """The method's name, without settings."""
        return str(self.method["name"])


@dataclass(frozen=True)
class Comparison:
    """All methods in one scenario, on dense models or on models of one pruner.

    Args:
        title: The scenario's, and where models are pruned, the pruner's.
        surroundings: What all its cells share: all but method and seed.
        rows: Original first, then retrain, then the others in their order.
    """

    title: str
    surroundings: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def pruner(self) -> Mapping[str, Any] | None:
        """What made its models sparse; None where they are dense."""
        return self.surroundings.get("pruner")

    def row(self, name: str) -> Row | None:
        """The first row of a method's name."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def scores(self) -> frozenset[str]:
        """The names of all scores that some row has."""
        return frozenset(name for row in self.rows for name in row.values)

    @property
    def methods(self) -> tuple[Row, ...]:
        """The rows that are neither the original nor retrain."""
        return tuple(row for row in self.rows if row.name not in (ORIGINAL, RETRAIN))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed for which there is a record."""
        return tuple(
            sorted({record["cell"]["seed"] for row in self.rows for record in row.records})
        )


@dataclass(frozen=True)
class Unfinished:
    """A cell without numbers: it failed, or it does not apply."""

    status: str
    title: str
    label: str
    record: Record

    @property
    def reason(self) -> str:
        """Why, in one line."""
        lines = str(self.record.get("reason") or "no reason was given").strip().splitlines()
        return lines[0] if lines else ""


@dataclass(frozen=True)
class Results:
    """Everything that a report tells.

    Args:
        comparisons: One per scenario, and per pruner in it.
        scores: What the numbers mean; only those that occur, headline scores first.
        headline: The names of the scores that make up the average gap.
        unfinished: The cells that failed or were skipped.
    """

    comparisons: tuple[Comparison, ...]
    scores: Mapping[str, Score]
    headline: tuple[str, ...]
    unfinished: tuple[Unfinished, ...]

    def within(self, comparison: Comparison) -> Results:
        """Of one comparison alone: with no scores but those that it has.

        Returns:
            Results, of which the headline is what the comparison's average gaps are over.
        """
        scores = {n: s for n, s in self.scores.items() if n in comparison.scores}
        headline = tuple(name for name in self.headline if name in scores)
        return Results((comparison,), scores, headline, self.unfinished)


def described() -> dict[str, Score]:
    """What each number of each metric in the catalogue means.

    Returns:
        Descriptions by the number's name.

    Example:
        >>> described()["ua"].label
        'UA'
    """
    found: dict[str, Score] = {}
    for name in catalogue.names("metrics"):
        found |= catalogue.find("metrics", name).scores
    return found


def summarise(records: Iterable[Record], scores: Mapping[str, Score] | None = None) -> Results:
    """Group records by scenario and pruner, pair every method with retrain, and average over seeds.

    Scenarios and methods keep the order of the records. Cells that differ in anything but method
    and seed (another data set, model, recipe, device or version) are never averaged together.

    Args:
        records: As read from their files; one that comes twice counts once.
        scores: What the numbers mean; None asks the catalogue's metrics.

    Returns:
        Means, intervals and gaps.
    """
    known = described() if scores is None else scores
    unique = list({record["key"]: record for record in records}.values())
    methods = label.methods(record["cell"]["method"] for record in unique)
    titles = label.scenarios(unique)
    done = [record for record in unique if record["status"] == "done"]
    present = _present(done, known)

    comparisons = []
    for group, title in titles.items():
        own = [record for record in done if canonical(label.surroundings(record)) == group]
        if own:
            rows = _rows(own, methods, _present(own, known))
            comparisons.append(Comparison(title, label.surroundings(own[0]), rows))
    unfinished = tuple(
        Unfinished(
            record["status"],
            titles[canonical(label.surroundings(record))],
            methods[canonical(record["cell"]["method"])],
            record,
        )
        for record in unique
        if record["status"] != "done"
    )
    return Results(tuple(comparisons), present, _headline(present), unfinished)


def _headline(scores: Mapping[str, Score]) -> tuple[str, ...]:
    """The names of the headline scores."""
    return tuple(name for name, score in scores.items() if score.headline)


def _present(done: Sequence[Record], known: Mapping[str, Score]) -> dict[str, Score]:
    """The scores that occur, headline ones first, in the order in which papers print them."""
    there = {name for record in done for name in record.get("metrics") or {}}
    bare = {name: Score(name, "", "retrain", "not described") for name in sorted(there - {*known})}
    found = {name: score for name, score in known.items() if name in there} | bare
    place = {name: number for number, name in enumerate(_FIRST)}
    order = sorted(found, key=lambda n: (not found[n].headline, place.get(n, len(place))))
    return {name: found[name] for name in order}


def _rows(
    own: Sequence[Record],
    methods: Mapping[str, str],
    scores: Mapping[str, Score],
) -> tuple[Row, ...]:
    """One scenario's rows."""
    grouped: dict[str, list[Record]] = {}
    for record in own:
        grouped.setdefault(canonical(record["cell"]["method"]), []).append(record)
    values: dict[str, dict[str, Estimate]] = {}
    for method, group in grouped.items():
        group.sort(key=lambda record: record["cell"]["seed"])
        values[method] = _values(group, scores)
    names = {method: group[0]["cell"]["method"]["name"] for method, group in grouped.items()}
    rival = next((values[method] for method, name in names.items() if name == RETRAIN), {})
    place = {ORIGINAL: 0, RETRAIN: 1}
    return tuple(
        _row(methods[method], grouped[method], values[method], rival, _headline(scores))
        for method in sorted(grouped, key=lambda method: place.get(names[method], 2))
    )


def _values(group: Sequence[Record], scores: Mapping[str, Score]) -> dict[str, Estimate]:
    """A method's scores in one scenario."""
    found = {}
    for name in scores:
        numbers = (
            Point(record["cell"]["seed"], float(value), record["key"])
            for record in group
            if isinstance(value := (record.get("metrics") or {}).get(name), int | float)
        )
        if (mean := estimate(numbers)) is not None:
            found[name] = mean
    return found


def _row(
    called: str,
    group: Sequence[Record],
    values: Mapping[str, Estimate],
    rival: Mapping[str, Estimate],
    headline: Sequence[str],
) -> Row:
    """A method beside retrain."""
    found = {name: paired(value, rival.get(name)) for name, value in values.items()}
    differences = {name: difference for name, difference in found.items() if difference}
    gaps = gaps_to(rival, values)
    rte = joined(
        values.get("seconds"),
        rival.get("seconds"),
        lambda a, b: a / b if b > 0 else math.nan,
        geometric,
    )
    method = group[0]["cell"]["method"]
    average = average_gap(gaps, headline)
    return Row(called, method, tuple(group), values, differences, gaps, average, rte)


def gaps_to(rival: Mapping[str, Estimate], values: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """How far scores are from another model's, g_i = |s_i − s_i(rival)|, by score."""
    found = {
        name: joined(value, rival.get(name), lambda a, b: abs(a - b))
        for name, value in values.items()
    }
    return {name: gap for name, gap in found.items() if gap is not None}


def average_gap(by_score: Mapping[str, Estimate], headline: Sequence[str]) -> Estimate | None:
    """The mean of several scores' gaps, seed by seed; a seed that lacks one of them is left out.

    Returns:
        The estimate, or None where a score is missing, or there is none.
    """
    gaps = [by_score.get(name) for name in headline]
    if not gaps or any(gap is None for gap in gaps):
        return None
    by_seed: dict[int, list[Point]] = {}
    for gap in gaps:
        for point in gap.points if gap else ():
            by_seed.setdefault(point.seed, []).append(point)
    return estimate(
        points[0]._replace(value=math.fsum(point.value for point in points) / len(points))
        for points in by_seed.values()
        if len(points) == len(gaps)
    )
