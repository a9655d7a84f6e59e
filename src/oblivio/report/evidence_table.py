"""What shadow models say, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from oblivio.bench.stats import Record, summarise
from oblivio.report import words
from oblivio.report.evidence_words import amount as number
from oblivio.report.evidence_words import mark, reading_aid, sight, silence, span, spread
from oblivio.report.proof import Column, Proof, read_proofs
from oblivio.report.sweep_table import empty_table
from oblivio.report.table import unfinished_list

NULL, CEILING = "null (retrain again)", "ceiling (original)"
_WIDEST = 100


def print_evidence(proofs: Sequence[Record], console: Console) -> None:
    """Print tables for every scenario that was repeated with shadow models, then what failed.

    Args:
        proofs: The records of shadow models.
        console: Where to print.
    """
    for proof in read_proofs(proofs):
        console.print()
        for place, columns in enumerate(_fitting(proof, console)):
            console.print(_table(proof, columns, titled=not place))
        if not proof.main:
            console.print(f"{proof.title}, shadow models: no measure had enough to speak.")
        said = [sentence for voice in proof.voices for sentence in silence(voice, proof.methods)]
        blind = [
            sentence
            for column, sentence in zip(proof.main, sight(proof), strict=True)
            if not column.reference.sees
        ]
        aid = [reading_aid(proof)] if proof.main else []
        console.print(Text("\n".join([*aid, *blind, *said]), style="dim"))
    unfinished = summarise(proofs, {}).unfinished
    if unfinished:
        console.print()
        console.print(unfinished_list(unfinished))


def _fitting(proof: Proof, console: Console) -> list[list[Column]]:
    """The main columns, in as many tables as it takes for each to fit."""
    room = min(console.width, _WIDEST)
    boundless = console.options.update(max_width=100 * _WIDEST)
    tables: list[list[Column]] = []
    for column in proof.main:
        wider = [*(tables[-1] if tables else ()), column]
        size = Measurement.get(console, boundless, _table(proof, wider, titled=False))
        if tables and size.maximum <= room:
            tables[-1] = wider
        else:
            tables.append([column])
    return tables


def _table(proof: Proof, columns: Sequence[Column], *, titled: bool) -> Table:
    """Null, ceiling and methods in rows, scores in columns."""
    table = empty_table(f"{proof.title}, shadow models" if titled else None, 15)
    for column in columns:
        table.add_column(Text(f"{column.head} {column.score.unit}".strip()), justify="right")
    nulls = [column.reference.null for column in columns]
    table.add_row(
        NULL,
        *(
            Text(words.ABSENT)
            if null is None
            else Text(number(column, null.mean)).append(f"\n{span(column, null)}", style="dim")
            for column, null in zip(columns, nulls, strict=True)
        ),
    )
    table.add_row(
        CEILING,
        *(Text(number(column, column.reference.ceiling)) for column in columns),
        end_section=True,
    )
    for method in proof.methods:
        table.add_row(Text(method), *(_cell(column, method) for column in columns))
    return table


def _cell(column: Column, method: str) -> Text:
    """A method's number, and whether it is beyond what chance alone gives."""
    reading = column.readings.get(method)
    if reading is None:
        return Text(words.ABSENT)
    beyond = reading.verdict == "beyond"
    return Text(spread(column, reading.value)).append(
        f" {mark(reading)}".rstrip(), style="bold red" if beyond else "dim"
    )
