"""The results as one self-contained HTML page, on which every number leads to its records."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from oblivio.bench import label
from oblivio.bench.stats import (
    ORIGINAL,
    RETRAIN,
    Comparison,
    Record,
    Results,
    Row,
    summarise,
)
from oblivio.bench.store import write_whole
from oblivio.core import Score
from oblivio.report import exhibit, plot, words
from oblivio.report.cell import Cell, gap_cell, score_cell

_ROOM = 3_000_000  # characters of records; plotly takes 5 of the 10 MB that a page may have


def write_page(
    folder: Path,
    records: Iterable[Record],
    experiment: Mapping[str, Any],
    scores: Mapping[str, Score] | None = None,
) -> Path:
    """Write `report.html`: one file that needs no network, whole or not at all.

    Args:
        folder: Where to write it.
        records: The experiment's records.
        experiment: Its resolved settings.
        scores: What the numbers mean; None asks the catalogue's metrics.

    Returns:
        The page's path.
    """
    path = folder / "report.html"
    write_whole(path, page(list(records), experiment, scores).encode())
    return path


def page(
    records: Sequence[Record],
    experiment: Mapping[str, Any],
    scores: Mapping[str, Score] | None = None,
) -> str:
    """The page as text.

    Returns:
        HTML.
    """
    results = summarise(records, scores)
    looks = plot.colours(results)
    figures: dict[str, Figure] = {}
    sections = [
        _section(f"s{number}", comparison, results, looks, figures)
        for number, comparison in enumerate(results.comparisons)
    ]
    environment = Environment(
        loader=PackageLoader("oblivio", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return (
        environment.get_template("page.html")
        .render(
            name=str(experiment.get("name") or "experiment"),
            title=str(experiment.get("title") or experiment.get("name") or "experiment"),
            about=str(experiment.get("about") or "").strip(),
            opening=opening(records, results),
            sections=sections,
            results=results,
            direction=words.direction,
            settings=_toml(experiment),
            provenance=provenance(records),
            records=_listing(records, results),
            figures={name: plain(figure) for name, figure in figures.items()},
            plotly=get_plotlyjs(),
        )
        .lstrip()
    )


def opening(records: Sequence[Record], results: Results) -> str:
    """How much was run, in a sentence or two.

    Returns:
        A paragraph.
    """
    done = [record for record in records if record["status"] == "done"]
    if not done:
        return "No cell is done yet, so there is nothing to compare."
    methods = {row.label for comparison in results.comparisons for row in comparison.methods}
    seeds = {record["cell"]["seed"] for record in done}
    data = sorted({str(record["cell"]["data"]["name"]) for record in done})
    models = sorted({str(record["cell"]["model"]["name"]) for record in done})
    said = (
        f"Compared: {_counted(len(methods), 'method')} of forgetting, beside the untouched "
        f"original and a retrained model, in {_counted(len(results.comparisons), 'scenario')} on "
        f"{words.listed(data)} with {words.listed(models)}, over {words.seeds(len(seeds))}. "
    )
    missing = [
        f"{sum(cell.status == status for cell in results.unfinished)} {status}"
        for status in dict.fromkeys(cell.status for cell in results.unfinished)
    ]
    rest = f"; {words.listed(missing)}" if missing else ""
    return f"{said}{len(done)} of {len(records)} cells are done{rest}."


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


# --- Sections -----------------------------------------------------------------------------------


def _section(
    name: str,
    comparison: Comparison,
    results: Results,
    looks: Mapping[str, tuple[str, str]],
    figures: dict[str, Figure],
) -> dict[str, Any]:
    """All that the page shows of a scenario; its figures go to `figures`."""

    def drawn(short: str, figure: Figure | None) -> str | None:
        if figure is None or not figure.data:
            return None
        figures[f"{name}-{short}"] = figure
        return f"{name}-{short}"

    def cells(row: Row, scores: Iterable[str]) -> list[Cell]:
        return [score_cell(row, score, results, comparison.title) for score in scores]

    timed = [score for score in results.scores if score == "seconds"]
    others = [s for s in results.scores if s not in results.headline and s not in timed]
    plots = {
        score: drawn(score, plot.score_plot(comparison, score, results.scores[score], looks))
        for score in results.scores
    }
    references = {row.name: row for row in comparison.rows if row.name in (ORIGINAL, RETRAIN)}
    return {
        "id": name,
        "title": comparison.title,
        "summary": words.summary(comparison, results),
        "caution": words.caution(comparison),
        "seeds": words.seeds(len(comparison.seeds)),
        "paired": comparison.row(RETRAIN) is not None,
        "rows": [
            {
                "label": row.label,
                "name": row.name,
                "colour": looks[row.label][0],
                "cells": cells(row, results.headline),
                "gap": gap_cell(row, results, comparison.title),
                "time": cells(row, timed),
            }
            for row in comparison.rows
        ],
        "others": {
            score: [score_cell(row, score, results, comparison.title) for row in comparison.rows]
            for score in others
        },
        "plots": [plots[s] for s in results.headline if plots[s]],
        "other_plots": [plots[s] for s in others if plots[s]],
        "time": next((plots[s] for s in timed if plots[s]), None),
        "cost": drawn("cost", plot.cost_plot(comparison, looks)),
        "profile": drawn("profile", plot.profile_plot(comparison, results, looks)),
        "confidence": [
            (part, figure)
            for part in ("forget", "retain", "test")
            if (figure := drawn(part, exhibit.confidence_plot(comparison, part, looks)))
        ],
        "confusion": [
            (caption, figure, chosen)
            for short, caption, rows, chosen in (
                ("before", "Before: original", [references.get(ORIGINAL)], False),
                ("after", "After: ", comparison.methods, True),
                ("retrained", "Aim: retrain", [references.get(RETRAIN)], False),
            )
            if (figure := drawn(short, exhibit.confusion_plot([row for row in rows if row])))
        ],
        "methods": [(row.label, looks[row.label][0]) for row in comparison.methods],
        "notes": _notes(comparison),
    }


def _notes(comparison: Comparison) -> list[tuple[str, str, str, list[tuple[int, str]]]]:
    """What methods said of their results; what several seeds say alike stands once."""
    found: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for row in comparison.rows:
        for record in row.records:
            for name, value in (record.get("notes") or {}).items():
                text = value if isinstance(value, str) else json.dumps(finite(value))
                place = found.setdefault((row.label, str(name), text), [])
                place.append((record["cell"]["seed"], record["key"]))
    order = {row.label: place for place, row in enumerate(comparison.rows)}
    ranked = sorted(found, key=lambda what: (order[what[0]], what[1]))
    return [(*what, found[what]) for what in ranked]


def _listing(records: Sequence[Record], results: Results) -> list[dict[str, Any]]:
    """Every record, with its JSON; where they are too many, without its exhibits."""
    unique = list({record["key"]: record for record in records}.values())
    methods = label.methods(record["cell"]["method"] for record in unique)
    titles = label.scenarios(unique)
    whole = sum(len(json.dumps(record)) for record in unique) < _ROOM
    listing = []
    for record in unique:
        cell = record["cell"]
        shown = record if whole else {k: v for k, v in record.items() if k != "exhibits"}
        seconds = (record.get("metrics") or {}).get("seconds")
        listing.append(
            {
                "key": record["key"],
                "status": record["status"],
                "title": titles[label.canonical(label.surroundings(record))],
                "label": methods[label.canonical(cell["method"])],
                "seed": cell["seed"],
                "time": words.duration(float(seconds)) if isinstance(seconds, int | float) else "",
                "json": readable(shown),
                "whole": whole,
            }
        )
    return listing


def provenance(records: Sequence[Record]) -> dict[str, list[str]]:
    """Where and when the records were made: every value that occurs, by what it is.

    Returns:
        Values by name.
    """
    made = [record.get("provenance") or {} for record in records]
    names = dict.fromkeys(name for one in made for name in one if name != "finished")
    found = {
        name: list(dict.fromkeys(str(one[name]) for one in made if one.get(name) is not None))
        for name in names
    }
    finished = sorted(str(one["finished"]) for one in made if one.get("finished"))
    if finished:
        ends = (finished[0], finished[-1])
        found["finished"] = list(dict.fromkeys(end.replace("T", " ", 1) for end in ends))
    return {name: values for name, values in found.items() if values}


# --- Text ---------------------------------------------------------------------------------------


def plain(figure: Figure) -> dict[str, Any]:
    """A figure's data and layout, without plotly's own colours.

    Returns:
        What JSON can hold.
    """
    found = finite(figure.to_plotly_json())
    found["layout"].pop("template", None)
    return found


def finite(value: Any) -> Any:
    """The same data with null for numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def readable(record: Record) -> str:
    """A record as JSON, with lists of numbers in one line.

    Returns:
        Text.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False)
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda m: re.sub(r"\s+", " ", m[0]), text)


def _toml(experiment: Mapping[str, Any]) -> str:
    """The settings as TOML, which knows no null: what is not set is left out."""
    import tomli_w

    def present(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): present(v) for k, v in value.items() if v is not None}
        return [present(v) for v in value] if isinstance(value, list | tuple) else value

    return tomli_w.dumps(present(experiment))
