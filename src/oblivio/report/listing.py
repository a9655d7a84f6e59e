"""The page's last parts: every record in full, where they come from, and the settings."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from oblivio.bench import label
from oblivio.bench.stats import Record
from oblivio.report import words
from oblivio.report.explanation import NOTE
from oblivio.report.gan import without_pictures


def listing(records: Sequence[Record], *, exhibits: bool, details: bool) -> list[dict[str, Any]]:
    """Every record, with its JSON.

    Args:
        records: As read from their files.
        exhibits: Whether with the lists of numbers that plots are made of.
        details: Whether with anything at all, but for the reason of what is not done.

    Returns:
        What the page shows of each.
    """
    unique = list({record["key"]: record for record in records}.values())
    methods = label.methods(record["cell"]["method"] for record in unique)
    titles = label.scenarios(unique)
    found = []
    for record in unique:
        cell = record["cell"]
        shadows = record.get("shadows") or {}
        seconds = (record.get("metrics") or {}).get("seconds")
        if shadows:
            seconds = (record.get("seconds") or {}).get("method")
        found.append(
            {
                "key": record["key"],
                "status": record["status"],
                "title": titles[label.canonical(label.surroundings(record))],
                "label": methods[label.canonical(cell["method"])]
                + (f", {shadows['models']} shadow models, {shadows['design']}" if shadows else ""),
                "seed": cell["seed"],
                "time": words.duration(float(seconds)) if isinstance(seconds, int | float) else "",
                # Quotes are safe in a <pre>; escaped, they would be a quarter of the page.
                "json": Markup(
                    html.escape(_shown(record, exhibits=exhibits, details=details), quote=False)
                ),
            }
        )
    return found


def _shown(record: Record, *, exhibits: bool, details: bool) -> str:
    """A record's JSON, or as much of it as there is room for."""
    if not details:
        return "" if record["status"] == "done" else str(record.get("reason") or "")
    if "measures" in record:
        record = _heard(record, exhibits=exhibits)
    record = without_pictures(record)
    if not exhibits:
        notes = {k: v for k, v in (record.get("notes") or {}).items() if k != NOTE}
        record = {k: v for k, v in record.items() if k != "exhibits"} | {"notes": notes}
    return readable(record)


def _heard(record: Record, *, exhibits: bool) -> Record:
    """A record of shadow models without pictures and without the numbers of single examples."""
    points = {name: v for name, v in record["points"].items() if name == "counts"}
    measures = [
        {
            **one,
            "exhibits": {
                name: v
                for name, v in one["exhibits"].items()
                if exhibits and not name.startswith("per_point")
            },
        }
        for one in record["measures"]
    ]
    kept = {name: v for name, v in record.items() if name != "pictures"}
    return kept | {"points": points, "measures": measures}


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


def finite(value: Any) -> Any:
    """The same data with null for numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def readable(record: Record) -> str:
    """A record as JSON, with lists of numbers and words in one line.

    Returns:
        Text.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False)
    # Within a string there is no line break, so that what is joined here stands between values.
    return re.sub(r"\[[^\[\]{}]*\]", lambda m: re.sub(r"\n\s*", " ", m[0]), text)
