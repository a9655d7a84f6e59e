"""A number in the page's tables, beside retrain, with the records that it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from oblivio.bench.estimate import Estimate
from oblivio.bench.stats import ORIGINAL, RETRAIN, Results, Row
from oblivio.report import words

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
    closing = f"mean {words.spread(value, digits)}{unit}"
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
    parts = [results.scores[name].label for name in results.headline]
    by_seed = [{p.seed: p.value for p in row.gaps[name].points} for name in results.headline]
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
