"""What the page shows of one comparison: tables of numbers, plots, and what methods noted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plotly.graph_objects import Figure

from oblivio.bench.stats import ORIGINAL, RETRAIN, Comparison, Results, Row
from oblivio.report import exhibit, plot, words
from oblivio.report.cell import Cell, gap_cell, score_cell
from oblivio.report.explanation import NOTE, explained, explanations
from oblivio.report.explanation_plot import layer_plot, ratio_plot
from oblivio.report.explanation_words import beside, filter_rows, said, summed
from oblivio.report.gan import MOVED, gan_parts, is_gan
from oblivio.report.listing import finite
from oblivio.report.panel import panel_id
from oblivio.report.significance import apart


@dataclass(frozen=True)
class Sheet:
    """What all parts of a page share.

    Args:
        results: All of them.
        looks: Each label's colour and symbol.
        figures: Where the parts put their figures, by id.
        plots: Whether single pruned models have plots.
        details: Whether panels say more than the headline scores.
        pictures: Whether there is room for pictures.
    """

    results: Results
    looks: Mapping[str, tuple[str, str]]
    figures: dict[str, Figure] = field(default_factory=dict)
    plots: bool = True
    details: bool = True
    pictures: bool = True

    def drawn(self, name: str, figure: Figure | None) -> str | None:
        """Put a figure on the page.

        Returns:
            Its id; None if there is nothing to see.
        """
        if figure is None or not figure.data:
            return None
        self.figures[name] = figure
        return name


def section(name: str, comparison: Comparison, sheet: Sheet) -> dict[str, Any]:
    """All that the page shows of a comparison.

    The numbers of pruned models lead to their row's panel, instead of one of their own each.

    Args:
        name: The section's id.
        comparison: Of one scenario, dense or pruned.
        sheet: Where it belongs.

    Returns:
        What the template asks for.
    """
    results = sheet.results

    def cells(row: Row, scores: Iterable[str]) -> list[Cell]:
        return [score_cell(row, score, results, comparison.title) for score in scores]

    panels = {
        row.label: panel_id(name, place) if comparison.pruner else None
        for place, row in enumerate(comparison.rows)
    }
    timed = [score for score in results.scores if score == "seconds"]
    others = [s for s in results.scores if s not in results.headline and s not in timed]
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
                "colour": sheet.looks[row.label][0],
                "cells": cells(row, results.headline),
                "gap": gap_cell(row, results, comparison.title),
                "time": cells(row, timed),
                "panel": panels[row.label],
            }
            for row in comparison.rows
        ],
        "others": {
            score: [score_cell(row, score, results, comparison.title) for row in comparison.rows]
            for score in others
        },
        "methods": [(row.label, sheet.looks[row.label][0]) for row in comparison.methods],
        "apart": apart(comparison, results, sheet.looks, panels),
        "notes": _notes(comparison),
        **_NO_PLOTS,
        **(_plots(name, comparison, sheet) if sheet.plots or not comparison.pruner else {}),
    }


_NO_PLOTS: dict[str, Any] = {
    "plots": [],
    "other_plots": [],
    "time": None,
    "cost": None,
    "profile": None,
    "confidence": [],
    "confusion": [],
    "weights": None,
    "gan": None,
}


def _plots(name: str, comparison: Comparison, sheet: Sheet) -> dict[str, Any]:
    """The ids of a comparison's plots."""
    results, looks = sheet.results, sheet.looks

    def drawn(short: str, figure: Figure | None) -> str | None:
        return sheet.drawn(f"{name}-{short}", figure)

    plots = {
        score: drawn(score, plot.score_plot(comparison, score, meaning, looks))
        for score, meaning in results.scores.items()
    }
    others = [s for s in plots if s not in results.headline and s != "seconds"]
    references = {row.name: row for row in comparison.rows if row.name in (ORIGINAL, RETRAIN)}
    return {
        "plots": [plots[s] for s in results.headline if plots[s]],
        "other_plots": [plots[s] for s in others if plots[s]],
        "time": plots.get("seconds"),
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
        "weights": _weights(f"{name}-weights", comparison, sheet),
        "gan": gan_parts(f"{name}-gan", comparison, looks, sheet.drawn, pictures=sheet.pictures),
    }


def _weights(name: str, comparison: Comparison, sheet: Sheet) -> dict[str, Any] | None:
    """Which weights were changed, by each method that says so."""
    methods = {row.label: found for row in comparison.methods if (found := explanations(row))}
    if not methods:
        return None
    return {
        "id": name,
        "layers": sheet.drawn(f"{name}-layers", layer_plot(methods, sheet.looks)),
        "ratios": sheet.drawn(f"{name}-ratios", ratio_plot(methods, sheet.looks)),
        "methods": [
            {
                "label": label,
                "colour": sheet.looks[label][0],
                "said": said(label, found),
                "beside": beside(found),
                "summed": summed(found),
                "several": len(found) > 1,
                "filters": [(one.seed, one.key, filter_rows(one)) for one in found if one.filters],
            }
            for label, found in methods.items()
        ],
    }


def _notes(comparison: Comparison) -> list[tuple[str, str, str, list[tuple[int, str]]]]:
    """What methods said of their results; what several seeds say alike stands once."""
    found: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for row in comparison.rows:
        for record in row.records:
            for name, value in (record.get("notes") or {}).items():
                if name == NOTE and explained(record):
                    continue  # it is shown in plots and words
                if name == MOVED and is_gan(record["cell"]):
                    continue  # it is shown in pictures
                text = value if isinstance(value, str) else json.dumps(finite(value))
                place = found.setdefault((row.label, str(name), text), [])
                place.append((record["cell"]["seed"], record["key"]))
    order = {row.label: place for place, row in enumerate(comparison.rows)}
    ranked = sorted(found, key=lambda what: (order[what[0]], what[1]))
    return [(*what, found[what]) for what in ranked]
