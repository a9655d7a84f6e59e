"""What the page shows of shadow models: where methods stand, numbers, attacks, single examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from oblivio.bench.stats import ORIGINAL, RETRAIN, Record
from oblivio.report import evidence_plot, words
from oblivio.report import evidence_words as said
from oblivio.report.cell import Cell
from oblivio.report.exposed import Pictures, exposed
from oblivio.report.plot import PALETTE, REFERENCE, SYMBOLS
from oblivio.report.proof import Column, Proof, read_proofs
from oblivio.report.section import Sheet
from oblivio.report.sweep_plot import GLYPHS
from oblivio.report.way_plot import way_plot


def evidence_parts(
    proofs: Sequence[Record], sheet: Sheet, *, pictures: bool = True
) -> list[dict[str, Any]]:
    """A part of the page for every scenario that was repeated with shadow models.

    Args:
        proofs: The records of shadow models.
        sheet: Where they belong.
        pictures: Whether the most exposed examples are shown as such.

    Returns:
        What the template asks for.
    """
    known = [row.method for comparison in sheet.results.comparisons for row in comparison.rows]
    known += [one.record["cell"]["method"] for one in sheet.results.unfinished]
    found = read_proofs(proofs, known)
    looks = _looks(found, sheet.looks)
    return [_part(f"e{place}", proof, sheet, looks, pictures) for place, proof in enumerate(found)]


def _looks(
    proofs: Sequence[Proof], known: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """A colour and a symbol for each method: those of the rest of the page, if it has them."""
    looks, place = dict(known), count(len(known))
    for method in dict.fromkeys(method for proof in proofs for method in proof.methods):
        if method not in looks:
            at = next(place)
            looks[method] = (PALETTE[at % len(PALETTE)], SYMBOLS[at % len(SYMBOLS)])
    return looks


def _part(
    name: str,
    proof: Proof,
    sheet: Sheet,
    looks: Mapping[str, tuple[str, str]],
    pictures: bool,
) -> dict[str, Any]:
    """All that the page shows of a scenario's shadow models."""
    curves = [
        {
            "label": voice.label,
            "about": voice.about,
            "roc": sheet.drawn(f"{name}-roc-{place}", evidence_plot.roc_plot(voice, looks)),
            "ranked": sheet.drawn(
                f"{name}-ranked-{place}", evidence_plot.exposure_plot(voice, looks)
            ),
        }
        for place, voice in enumerate(proof.voices)
    ]
    album = Pictures(name, pictures)
    return {
        "id": name,
        "title": proof.title,
        "heading": f"{proof.title}: evidence".replace(" %", "\u00a0%"),
        "summary": said.summary(proof),
        "setup": said.setup(proof),
        "way": sheet.drawn(f"{name}-way", way_plot(proof, looks)),
        "methods": [(m, looks[m][0], GLYPHS[looks[m][1]]) for m in proof.methods],
        "findings": said.sentences(proof),
        "sight": said.sight(proof),
        "silence": [s for voice in proof.voices for s in said.silence(voice, proof.methods)],
        "main": _table(f"{name}-main", proof, proof.main, looks),
        "all": _table(f"{name}-all", proof, proof.columns, looks)
        if len(proof.columns) > len(proof.main)
        else None,
        "aid": said.reading_aid(proof),
        "voices": proof.voices,
        "attacks": [curve for curve in curves if curve["roc"]],
        "ranked": [curve for curve in curves if curve["ranked"]],
        "exposed": exposed(proof, looks, album),
        "pictures": album.shown,
        "facts": _facts(proof),
        "scores": {column.head: column.score for column in proof.columns},
    }


def _table(
    name: str, proof: Proof, columns: Sequence[Column], looks: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """Null, ceiling and methods in rows, scores in columns."""
    rows = [
        ("null", "null: retrain again", REFERENCE[RETRAIN], [_null(c, proof) for c in columns]),
        (
            "ceiling",
            "ceiling: original",
            REFERENCE[ORIGINAL],
            [_ceiling(c, proof) for c in columns],
        ),
        *(
            ("", method, looks[method][0], [_number(c, method, proof) for c in columns])
            for method in proof.methods
        ),
    ]
    return {"id": name, "columns": columns, "rows": rows}


_NOTHING = ("", Cell(words.ABSENT))


def _number(column: Column, method: str, proof: Proof) -> tuple[str, Cell]:
    """A method's number, and its verdict."""
    reading = column.readings.get(method)
    if reading is None:
        return _NOTHING
    note = f"{said.mark(reading)} {said.told(reading)}".strip()
    way = reading.way(reading.value.mean)
    closing = f"{said.told(reading)}: {said.spread(column, reading.value)}{column.unit}"
    if way is not None:
        closing += f", which is {words.number(100 * way, 0)} % of the way to doing nothing"
    cell = Cell(
        said.amount(column, reading.value.mean),
        said.halved(column, reading.value),
        note,
        f"{column.head} · {method} · {proof.title}",
        ("seed", column.head, "null, 95 %", "ceiling"),
        tuple(
            (
                (
                    str(one.seed),
                    said.spread(column, one.value),
                    said.span(column, one.null),
                    said.amount(column, one.ceiling),
                ),
                (one.key,),
            )
            for one in reading.said
        ),
        f"{closing}; {column.models} shadow models of each kind",
    )
    return reading.verdict, cell


def _null(column: Column, proof: Proof) -> tuple[str, Cell]:
    """What chance alone gives, and the records that say so."""
    reading = column.reference
    if reading.null is None:
        return _NOTHING
    return "", Cell(
        said.amount(column, reading.null.mean),
        "",
        said.span(column, reading.null),
        f"{column.head} · retrain against retrain · {proof.title}",
        ("seed", "null", "95 %"),
        tuple(
            (
                (str(one.seed), said.amount(column, one.null.mean), said.span(column, one.null)),
                (one.key,),
            )
            for one in reading.said
            if one.null is not None
        ),
        "the same for all methods; it stands in the record of each",
    )


def _ceiling(column: Column, proof: Proof) -> tuple[str, Cell]:
    """What doing nothing gives, and the records that say so."""
    reading = column.reference
    if reading.ceiling is None:
        return _NOTHING
    return "", Cell(
        said.amount(column, reading.ceiling),
        "",
        "" if reading.sees else "not told either",
        f"{column.head} · original · {proof.title}",
        ("seed", "ceiling"),
        tuple(
            ((str(one.seed), said.amount(column, one.ceiling)), (one.key,)) for one in reading.said
        ),
        "the same for all methods; it stands in the record of each",
    )


def _facts(proof: Proof) -> list[tuple[str, str]]:
    """How much was trained and asked: a row for each design."""
    found = []
    for design in dict.fromkeys(voice.design for voice in proof.voices):
        own = [record for record in proof.records if record["shadows"]["design"] == design]
        if not own:
            continue
        labels = [voice.label for voice in proof.voices if voice.design == design]
        forget, retain, test = own[0]["points"]["counts"]
        cast = {record["cell"]["seed"]: record["seconds"]["cast"] for record in own}
        each = [record["seconds"]["method"] for record in own]
        times = words.listed(
            list(dict.fromkeys(words.duration(end) for end in (min(each), max(each)))), "to"
        )
        found.append(
            (
                f"Models, {design}",
                f"{own[0]['shadows']['models']} of each kind, for {words.listed(labels)}; asked "
                f"about {forget:,} forgotten, {retain:,} retained and {test:,} test examples. "
                f"Training originals and retrained ones took {words.duration(sum(cast.values()))}, "
                f"forgetting in all of them {times} for each method.",
            )
        )
    return found
