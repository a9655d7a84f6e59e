"""All numbers of a method in one comparison, seed by seed, with the records behind them.

Where models are pruned, the same numbers stand in several tables. So each row has one panel to
which all of its numbers lead, instead of one panel per number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oblivio.bench.estimate import Estimate
from oblivio.bench.stats import RETRAIN, Comparison, Results, Row
from oblivio.bench.sweep import Disparity
from oblivio.report import words

Line = tuple[str, str, tuple[tuple[str, str], ...], str]
"""What it is, its unit, each seed's number with a note below it, and the mean."""


@dataclass(frozen=True)
class Panel:
    """Numbers by seed.

    Args:
        id: The element's.
        title: What it is about.
        seeds: A column each.
        lines: A line per number.
        links: A line per kind of record, with each seed's key, or None.
        closing: How to read it.
    """

    id: str
    title: str
    seeds: tuple[int, ...]
    lines: tuple[Line, ...]
    links: tuple[tuple[str, tuple[str | None, ...]], ...]
    closing: str


def panel_id(section: str, place: int) -> str:
    """The id of the panel of a section's row."""
    return f"{section}-row-{place}"


def row_panel(
    name: str, comparison: Comparison, row: Row, results: Results, scores: Iterable[str]
) -> Panel:
    """These scores of a method in a comparison, and its average gap."""
    seeds = tuple(record["cell"]["seed"] for record in row.records)
    lines = []
    for key in scores:
        value, score = row.values.get(key), results.scores[key]
        if value is None:
            continue
        beside = row.differences.get(key) if key in results.headline else None
        digits = 4 if score.unit == "s" else words.digits(value, score)
        notes = {} if beside is None or row.name == RETRAIN else _texts(beside, digits, signed=True)
        texts = _texts(value, digits)
        cells = tuple((texts.get(seed, words.ABSENT), notes.get(seed, "")) for seed in seeds)
        unit = "" if score.unit == "s" else score.unit
        lines.append((score.label, unit, cells, words.measured(value, score)))
    if row.gap is not None and row.name != RETRAIN:
        lines.insert(len(results.headline), _line("Avg gap", row.gap, seeds))
    own = {record["cell"]["seed"]: record["key"] for record in row.records}
    links = [("record", _keys(own, seeds))]
    rival = comparison.row(RETRAIN)
    if rival is not None and row.name != RETRAIN:
        theirs = {record["cell"]["seed"]: record["key"] for record in rival.records}
        links.append(("retrain's", _keys(theirs, seeds)))
    told = any(note for line in lines for _, note in line[2])
    closing = "Below a number: its difference from retrain's. " if told else ""
    title = f"{row.label} · {comparison.title}"
    return Panel(name, title, seeds, tuple(lines), tuple(links), f"{closing}n = {len(seeds)}")


def disparity_panel(name: str, found: Disparity, title: str) -> Panel:
    """The average gaps of a method on dense and on pruned models."""
    parts = {
        "Dense to dense retrain": found.dense,
        "Sparse to sparse retrain": found.sparse,
        "Change": found.change,
        "Sparse to dense retrain": found.across,
    }
    there = {what: value for what, value in parts.items() if value is not None}
    seeds = tuple(sorted({point.seed for value in there.values() for point in value.points}))
    lines = tuple(
        _line(what, value, seeds, signed=value is found.change) for what, value in there.items()
    )
    links = {}
    pairs = (("dense", found.dense), ("sparse", found.sparse), ("sparse", found.across))
    for what, value in pairs:
        for point in value.points if value else ():
            links.setdefault(what, {})[point.seed] = point.key
            retrain = "dense retrain" if value is not found.sparse else "sparse retrain"
            links.setdefault(retrain, {})[point.seed] = point.rival
    return Panel(
        name,
        f"{found.row.label} · {title} · {found.pruned}",
        seeds,
        lines,
        tuple((what, _keys(keys, seeds)) for what, keys in links.items()),
        f"Average gaps; change = sparse − dense, seed by seed. n = {len(seeds)}",
    )


def _line(what: str, value: Estimate, seeds: tuple[int, ...], *, signed: bool = False) -> Line:
    """A line of percentage points."""
    texts = _texts(value, 2, signed=signed)
    cells = tuple((texts.get(seed, words.ABSENT), "") for seed in seeds)
    mean = words.signed(value) if signed else words.spread(value)
    return what, "pp", cells, mean


def _texts(value: Estimate, digits: int, *, signed: bool = False) -> dict[int, str]:
    """Each seed's number."""
    return {
        point.seed: ("+" if signed and point.value > 0 else "") + words.number(point.value, digits)
        for point in value.points
    }


def _keys(by_seed: Mapping[int, str | None], seeds: tuple[int, ...]) -> tuple[str | None, ...]:
    return tuple(by_seed.get(seed) for seed in seeds)
