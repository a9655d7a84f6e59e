"""What measures said of many shadow models, by scenario, measure, score and method."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from oblivio import catalogue
from oblivio.bench import label
from oblivio.bench.spec import canonical
from oblivio.bench.stats import Record
from oblivio.core import Score
from oblivio.report.reading import Reading, reading


@dataclass(frozen=True)
class Column:
    """One score of one measure, for all methods.

    Args:
        head: What to call it, the same for no other column of the scenario.
        measure: The measure's label.
        models: How many shadow models it is read off.
        main: Whether it stands for the measure.
        score: What it means.
        readings: By the method's label.
    """

    head: str
    measure: str
    models: int
    main: bool
    score: Score
    readings: Mapping[str, Reading]

    @property
    def reference(self) -> Reading:
        """The reading with most seeds: its null and ceiling stand for all, who share them."""
        return max(self.readings.values(), key=lambda one: len(one.said))

    @property
    def unit(self) -> str:
        """The unit, with a space before it."""
        return f"\u00a0{self.score.unit}" if self.score.unit else ""

    @cached_property
    def _decimals(self) -> int:
        """As many as show two figures of what chance alone does."""
        null = self.reference.null
        half = (null and null.half) or 0.0
        found = 1 - math.floor(math.log10(half)) if half > 0 else 2
        return min(max(found, 0), 2 if self.score.unit else 4)

    def decimals(self, value: float) -> int:
        """How many decimals a number of this column deserves: it has three figures at the most."""
        if not value:
            return self._decimals
        return min(self._decimals, max(0, 2 - math.floor(math.log10(abs(value)))))


class Heard(NamedTuple):
    """A measure's lists for plots, and the record that they stand in."""

    record: Record
    exhibits: Mapping[str, Any]


@dataclass(frozen=True)
class Voice:
    """A measure in a scenario.

    Args:
        label: What to call it.
        about: The line that says what it is, or nothing.
        design: The shadow models that it is read off.
        columns: Its scores.
        heard: Its lists for plots, by the method's label.
        reasons: Why it has no numbers, with the methods of which it has none.
    """

    label: str
    about: str
    design: str
    columns: tuple[Column, ...]
    heard: Mapping[str, tuple[Heard, ...]]
    reasons: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Proof:
    """All that shadow models say of a scenario.

    Args:
        title: The scenario's.
        methods: Their labels.
        voices: The measures.
        records: What it is read from.
    """

    title: str
    methods: tuple[str, ...]
    voices: tuple[Voice, ...]
    records: tuple[Record, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All scores of all measures."""
        return tuple(column for voice in self.voices for column in voice.columns)

    @property
    def main(self) -> tuple[Column, ...]:
        """The scores that stand for their measures."""
        return tuple(column for column in self.columns if column.main)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed for which there is a record."""
        return tuple(sorted({record["cell"]["seed"] for record in self.records}))


def read_proofs(
    records: Iterable[Record], methods: Iterable[Mapping[str, Any]] = ()
) -> tuple[Proof, ...]:
    """Group records of shadow models by scenario, measure and method.

    Args:
        records: As read from their files; one that comes twice counts once.
        methods: Further methods that labels must tell apart.

    Returns:
        A proof for each scenario of which a record is done.
    """
    unique = list({record["key"]: record for record in records}.values())
    called = label.methods([*methods, *(record["cell"]["method"] for record in unique)])
    titles = label.scenarios(unique)
    found = []
    for group, title in titles.items():
        own = tuple(
            record
            for record in unique
            if record["status"] == "done" and canonical(label.surroundings(record)) == group
        )
        if own:
            by_method: dict[str, list[Record]] = {}
            for record in sorted(own, key=lambda record: record["cell"]["seed"]):
                by_method.setdefault(called[canonical(record["cell"]["method"])], []).append(record)
            labels = dict.fromkeys(called[canonical(record["cell"]["method"])] for record in own)
            rows = {name: by_method[name] for name in labels}
            found.append(Proof(title, tuple(rows), _voices(rows), own))
    return tuple(found)


_LONGEST = 16  # letters of a name that a docstring begins with

Pairs = Mapping[str, Sequence[tuple[Record, Mapping[str, Any]]]]
"""By method: the records that asked a measure, and what it said there."""


def _voices(rows: Mapping[str, Sequence[Record]]) -> tuple[Voice, ...]:
    """Every measure that was asked, in the order in which they were."""
    asked = {
        canonical(one["measure"]): (one["measure"], record["shadows"])
        for records in rows.values()
        for record in records
        for one in record["measures"]
    }
    short = label.methods(spec for spec, _ in asked.values())
    pairs = {key: _pairs(rows, key) for key in asked}
    known = {key: _described(spec["name"], pairs[key]) for key, (spec, _) in asked.items()}
    heads = [score.label for _, scores in known.values() for score in scores.values()]
    found = []
    for key, (_, shadows) in asked.items():
        about, scores = known[key]
        called = _called(short[key], about)
        readings = _readings(scores, pairs[key])
        main = [name for name in readings if scores[name].headline] or list(readings)[:1]
        columns = tuple(
            Column(
                scores[name].label
                + (f" ({called})" if heads.count(scores[name].label) > 1 else ""),
                called,
                shadows["models"],
                name in main,
                scores[name],
                by_method,
            )
            for name, by_method in readings.items()
        )
        found.append(
            Voice(
                called,
                about.partition(": ")[2] or about,
                shadows["design"],
                columns,
                _heard(pairs[key]),
                _why(pairs[key]),
            )
        )
    return tuple(found)


def _called(short: str, about: str) -> str:
    """A measure's name as its docstring writes it, "U-LiRA: tells …", and settings if any."""
    name, _, settings = short.rpartition(":")[2].partition(" ")
    written, colon, _ = about.partition(": ")
    written = written.partition(",")[0]
    own = written if colon and len(written) < _LONGEST else name.replace("_", " ")
    return f"{own} {settings}".strip()


def _pairs(rows: Mapping[str, Sequence[Record]], key: str) -> Pairs:
    """What a measure said of each method."""
    return {
        name: [
            (record, one)
            for record in records
            for one in record["measures"]
            if canonical(one["measure"]) == key
        ]
        for name, records in rows.items()
    }


def _described(name: str, pairs: Pairs) -> tuple[str, dict[str, Score]]:
    """What a measure is, in a line, and what its numbers mean: as far as anyone says it."""
    try:
        measure = catalogue.find("evidence", name)
    except ValueError:  # records outlive the measures of a user's own
        measure = None
    about = ((measure and inspect.getdoc(measure)) or "").partition("\n")[0]
    known = dict(getattr(measure, "scores", {}))
    there = {score for said in pairs.values() for _, one in said for score in one["scores"]}
    bare = {score: Score(score, "", "retrain", "not described") for score in there - {*known}}
    return about, known | dict(sorted(bare.items()))


def _heard(pairs: Pairs) -> dict[str, tuple[Heard, ...]]:
    """A measure's lists for plots."""
    found = {
        name: tuple(Heard(record, one["exhibits"]) for record, one in said if one["exhibits"])
        for name, said in pairs.items()
    }
    return {name: lists for name, lists in found.items() if lists}


def _why(pairs: Pairs) -> dict[str, tuple[str, ...]]:
    """Why a measure has no numbers, and of which methods."""
    found: dict[str, dict[str, None]] = {}
    for name, said in pairs.items():
        for _, one in said:
            if one["reason"]:
                found.setdefault(one["reason"], {})[name] = None
    return {why: tuple(names) for why, names in found.items()}


def _readings(scores: Mapping[str, Score], pairs: Pairs) -> dict[str, dict[str, Reading]]:
    """The scores that some method has."""
    found: dict[str, dict[str, Reading]] = {}
    for name, score in scores.items():
        for method, said in pairs.items():
            value = reading(score, [(record, one["scores"].get(name)) for record, one in said])
            if value is not None:
                found.setdefault(name, {})[method] = value
    return found
