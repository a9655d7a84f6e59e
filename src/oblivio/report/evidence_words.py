"""What shadow models say, in sentences made from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from oblivio.report import words
from oblivio.report.proof import Column, Proof, Voice
from oblivio.report.reading import Band, Reading

TOLD, UNTOLD = "●", "○"
"""Marks of numbers beyond what chance alone makes of a perfect method, and within it."""

_SPOKEN = 3  # numbers that a sentence holds

DESIGNS = {
    "fixed": "trained on all of the training data and then made to forget the same examples; "
    "they differ in their seeds alone",
    "halves": "trained on a random half of the training data and then made to forget those of the "
    "examples that were in it; so half of the models have seen an example, and half have not",
}


def amount(column: Column, value: float | None) -> str:
    """A number with as many decimals as it deserves, and no unit."""
    return words.ABSENT if value is None else words.number(value, column.decimals(value))


def spread(column: Column, band: Band) -> str:
    """A number and half of its interval, without a unit."""
    half = "" if band.half is None else f" ± {halved(column, band)}"
    return f"{amount(column, band.mean)}{half}"


def halved(column: Column, band: Band) -> str:
    """Half of an interval, with the decimals of its middle."""
    return "" if band.half is None else words.number(band.half, column.decimals(band.mean))


def span(column: Column, band: Band | None) -> str:
    """An interval from end to end, without a unit."""
    if band is None or band.low is None or band.high is None:
        return words.ABSENT
    ends = (words.number(end, column.decimals(band.mean)) for end in (band.low, band.high))
    return " to ".join(dict.fromkeys(ends))


def mark(reading: Reading) -> str:
    """Whether a number is beyond what chance alone gives, within it, or neither is known."""
    return {"beyond": TOLD, "within": UNTOLD, "blind": "", "open": ""}[reading.verdict]


def told(reading: Reading) -> str:
    """The same in words.

    Returns:
        A few words.
    """
    return {
        "beyond": "told",
        "within": "not told",
        "blind": "sees nothing",
        "open": "no null",
    }[reading.verdict]


# --- What was done --------------------------------------------------------------------------------


def setup(proof: Proof) -> list[str]:
    """How the numbers came to be.

    Returns:
        Two paragraphs.
    """
    by_design: dict[str, list[str]] = {}
    for voice in proof.voices:
        by_design.setdefault(voice.design, []).append(voice.label)
    how = [
        f"For {words.listed(labels)} each was {DESIGNS.get(design, f'dealt as {design}')}."
        for design, labels in by_design.items()
    ]
    return [
        "One model may look as if it had forgotten by luck. So the request was repeated with "
        f"{_models(proof)} models of each kind: originals, models unlearned by each method, and "
        f"retrained ones. {' '.join(how)} Then each measure tries to tell the unlearned models "
        "from the retrained ones.",
        "A number alone says little. Beside it stand what the same measure says of models that "
        "were retrained and retrained again, which is what chance makes of perfect forgetting, "
        "and what it says of the originals, with which nothing was done.",
    ]


# --- What was found -------------------------------------------------------------------------------


def summary(proof: Proof) -> str:
    """Which methods are told from retraining, and by how many measures.

    Returns:
        A sentence or two.
    """
    groups: dict[tuple[int, int], list[str]] = {}
    for method in proof.methods:
        found = verdicts(proof, method)
        beyond, seeing = found.count("beyond"), found.count("beyond") + found.count("within")
        if seeing:
            groups.setdefault((beyond, seeing), []).append(method)
    if not groups:
        return "No measure has a number here that tells methods from retraining."
    ranked = sorted(groups, key=lambda group: -group[0] / group[1])
    said = [f"{words.listed(groups[group])} by {_of(*group)}" for group in ranked]
    return f"Told from retraining, with {_models(proof)} models of each kind: {'; '.join(said)}."


def _of(beyond: int, seeing: int) -> str:
    """So many of all measures."""
    if not beyond:
        return "none"
    if beyond < seeing:
        return f"{beyond} of {seeing} measures"
    return {1: "the measure", 2: "both measures"}.get(seeing, f"all {seeing} measures")


def _models(proof: Proof) -> str:
    """How many shadow models there were of each kind."""
    numbers = sorted({record["shadows"]["models"] for record in proof.records})
    return " or ".join(map(str, numbers))


def verdicts(proof: Proof, method: str) -> list[str]:
    """What the measures' main numbers say of a method."""
    return [c.readings[method].verdict for c in proof.main if method in c.readings]


def sentences(proof: Proof) -> list[tuple[str, str]]:
    """What is found of each method.

    Returns:
        Its label, and how a sentence about it goes on.
    """
    return [(method, _finding(proof, method)) for method in proof.methods]


def _finding(proof: Proof, method: str) -> str:
    """By which measures a method is told from retraining, with numbers, and by which it is not."""
    found: dict[str, list[Column]] = {}
    for column in proof.main:
        if method in column.readings:
            found.setdefault(column.readings[method].verdict, []).append(column)
    beyond, within = found.get("beyond", []), found.get("within", [])
    said = []
    if beyond:
        said.append(f"is told from retraining by {_numbers(beyond, method)}")
    if within:
        start = "it cannot be told" if beyond else "cannot be told from retraining"
        said.append(f"{start} by {_numbers(within, method)}")
    if not said:
        return "has no number that can tell it from retraining."
    return f"{'; '.join(said)}."


def _numbers(columns: Sequence[Column], method: str) -> str:
    """Measures with their numbers; of many, the numbers of the first alone."""
    parts = [
        f"{column.head} ({_between(column, column.readings[method])})"
        if place < _SPOKEN
        else column.head
        for place, column in enumerate(columns)
    ]
    return words.listed(parts)


def _between(column: Column, reading: Reading) -> str:
    value = f"{spread(column, reading.value)}{column.unit}"
    return f"{value}; chance alone gives {span(column, reading.null)}{column.unit}"


def sight(proof: Proof) -> list[str]:
    """What would have shown, with as many models as there were.

    Returns:
        A sentence for each measure's main number.
    """
    return [_sight(column) for column in proof.main]


def _sight(column: Column) -> str:
    reading = column.reference
    ceiling = f"{amount(column, reading.ceiling)}{column.unit}"
    chance = f"{span(column, reading.null)}{column.unit}"
    if reading.null is None or reading.null.low is None or reading.null.high is None:
        return f"{column.head}: it has no null, so nothing says what would have shown."
    if not reading.sees:
        return (
            f"{column.head}: not even the originals, which forgot nothing, are told from "
            f"retraining by it ({ceiling}; chance alone gives {chance}). So not to be told proves "
            "nothing here; to be told means that a method does what retraining does not."
        )
    low, high = (
        f"{amount(column, end)}{column.unit}" for end in (reading.null.low, reading.null.high)
    )
    outside = f"but {chance}" if " to " not in chance else f"outside {chance}"
    where = {"down": f"above {high}", "up": f"below {low}", "retrain": outside}
    return (
        f"{column.head}: with {column.models} shadow models, anything "
        f"{where[column.score.better]} would have shown; forgetting nothing gives {ceiling}."
    )


def silence(voice: Voice, methods: Sequence[str]) -> list[str]:
    """Why a measure did not speak, and of whom."""
    return [
        f"{voice.label}{'' if len(of) == len(methods) else f' on {words.listed(list(of))}'}: {why}"
        for why, of in voice.reasons.items()
    ]


def reading_aid(proof: Proof) -> str:
    """How to read a table of numbers between null and ceiling.

    Returns:
        Two or three sentences.
    """
    several = len(proof.seeds) > 1
    over = f"Means over {words.seeds(len(proof.seeds))}. " if several else ""
    return (
        f"{over}± is half of a 95 % interval over models and examples; the null is followed by the "
        f"central 95 % of what chance makes of perfect forgetting. {TOLD} lies beyond that: the "
        f"method is told from retraining. {UNTOLD} lies within: it is not told. Even "
        "perfect forgetting lands beyond it once in sixteen to fifty times."
    )
