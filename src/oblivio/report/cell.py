"""A number in the page's tables, beside retrain, with the records that it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from oblivio.bench.estimate import Estimate, bootstrapped
from oblivio.bench.significance import Pair, signed_rank
from oblivio.bench.stats import ORIGINAL, RETRAIN, Results, Row
from oblivio.core import Score
from oblivio.report import words
from oblivio.report.significance_words import figures, shown

_ENOUGH = 10  # seeds from which on a bootstrap interval holds the mean about as often as it says

Source = tuple[tuple[str, ...], tuple[str, ...]]
"""Numbers of a seed as text, and the keys of the records that they come from."""


@dataclass(frozen=True)
class Cell:
    """A number in a table, and where it comes from.

    Args:
        text: The mean.
        half: Half of its interval, or nothing.
        note: What it means beside retrain, or nothing.
        title: What it is the mean of.
        columns: Heads of `sources`' columns.
        sources: A line per seed: numbers as text, then record keys.
        closing: The mean and its interval in full.
    """

    text: str
    half: str = ""
    note: str = ""
    title: str = ""
    columns: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    closing: str = ""


_NOTHING = Cell(words.ABSENT)


def score_cell(row: Row, name: str, results: Results, title: str) -> Cell:
    """A score of a method."""
    value, score = row.values.get(name), results.scores[name]
    if value is None:
        return _NOTHING
    gap, difference = row.gaps.get(name), row.differences.get(name)
    note = "" if gap is None else f"Δ {words.number(gap.mean, words.digits(value, score))}"
    if score.unit == "s":
        note = "" if row.rte is None or row.name == ORIGINAL else words.speed(row.rte)
    if row.name == RETRAIN:
        note, difference = "", None
    unit = f" {score.unit}" if score.unit else ""
    digits = 4 if score.unit == "s" else words.digits(value, score)
    closing = f"mean {words.spread(value, digits)}{unit}{_bounded(value, score, digits)}"
    if difference is not None:
        closing += f"; difference {words.spread(difference, digits)}{unit}"
    mean, _, half = words.measured(value, score).partition(" ± ")
    return Cell(
        mean,
        half,
        note,
        f"{score.label} · {row.label} · {title}",
        ("seed", score.label, *(("retrain", "difference") if difference else ())),
        tuple(_sources(value, difference, digits)),
        f"{closing}; n = {value.n}",
    )


def _bounded(value: Estimate, score: Score, digits: int) -> str:
    """A bootstrap interval where Student's leaves the scale of a percentage, from ten seeds on."""
    if score.unit != "%" or value.low is None or value.high is None or value.n < _ENOUGH:
        return ""
    if value.low >= 0 and value.high <= 100:
        return ""
    inside = bootstrapped(value.points)
    if inside is None or inside.low is None or inside.high is None:
        return ""
    low, high = (words.number(end, digits) for end in (inside.low, inside.high))
    return f" (that leaves the scale; a bootstrap's 95 % interval is {low} to {high})"


def _sources(value: Estimate, difference: Estimate | None, digits: int) -> Iterator[Source]:
    """A line per seed: the value and, where there is a pair, retrain's and their difference."""
    beside = {point.seed: point for point in difference.points} if difference else {}
    for point in value.points:
        texts, keys = [str(point.seed), words.number(point.value, digits)], [point.key]
        pair = beside.get(point.seed)
        if pair is not None and pair.rival is not None:
            texts.append(words.number(point.value - pair.value, digits))
            texts.append(words.number(pair.value, digits))
            keys.append(pair.rival)
        elif difference is not None:
            texts += [words.ABSENT, words.ABSENT]
        yield tuple(texts), tuple(keys)


def gap_cell(row: Row, results: Results, title: str) -> Cell:
    """The average gap of a method."""
    if row.name == RETRAIN or row.gap is None:
        return _NOTHING
    mean, _, half = words.spread(row.gap).partition(" ± ")
    own = [name for name in results.headline if name in row.gaps]  # not every scenario has all
    parts = [results.scores[name].label for name in own]
    by_seed = [{p.seed: p.value for p in row.gaps[name].points} for name in own]
    return Cell(
        mean,
        half,
        "",
        f"Average gap · {row.label} · {title}",
        ("seed", *(f"Δ {part}" for part in parts), "average"),
        tuple(
            (
                (
                    str(point.seed),
                    *(words.number(gaps[point.seed]) for gaps in by_seed),
                    words.number(point.value),
                ),
                (point.key, point.rival) if point.rival else (point.key,),
            )
            for point in row.gap.points
        ),
        f"mean {words.spread(row.gap)} percentage points; n = {row.gap.n}",
    )


def pair_cell(
    pair: Pair | None,
    label: str,
    gaps: Mapping[str, Estimate],
    what: str,
    alpha: float,
    *,
    brief: bool = False,
) -> Cell:
    """The test of a method against another.

    Args:
        pair: The test; None where too few seeds are shared.
        label: The method whose gap stands first.
        gaps: Each method's gap, by label.
        what: Which gap, and where.
        alpha: The p up to which the two would be told apart if nothing else changed.
        brief: Whether the p alone is shown.

    Returns:
        The difference of the gaps and its p; both with all seeds in the panel.
    """
    if pair is None:
        return _NOTHING
    other = pair.beside(label)
    sign = 1 if label == pair.farther else -1
    ours, theirs = ({p.seed: p for p in gaps[name].points} for name in (label, other))
    mean, half = sign * pair.difference.mean, pair.difference.half or 0.0
    p = words.probability(pair.p)
    ranks = signed_rank([point.value for point in pair.difference.points])
    size = shown(pair.difference, alpha)
    seen = f"; 80 % likely to be told apart: {figures(size)} points" if 0 < size < 100 else ""
    return Cell(
        p.lstrip("p =\u00a0") if brief else words.plus(mean),
        "" if brief else words.number(half),
        "" if brief else p,
        f"{what} · {label} and {other}",
        ("seed", label, other, "difference"),
        tuple(
            (
                (
                    str(seed),
                    words.number(ours[seed].value),
                    words.number(theirs[seed].value),
                    words.plus(sign * value),
                ),
                tuple(one[seed].key for one in (ours, theirs)),
            )
            for seed, value, *_ in pair.difference.points
        ),
        f"difference {words.plus(mean)} ± {words.number(half)} percentage points; paired t: "
        f"{words.probability(pair.raw)}, after Holm's correction {p}; signed ranks (Wilcoxon), "
        f"not corrected: {words.probability(ranks)}{seen}; n = {pair.difference.n}",
    )
