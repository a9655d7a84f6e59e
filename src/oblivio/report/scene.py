"""What the page shows of a scenario: dense models alone, or beside pruned ones over sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oblivio.bench.stats import ORIGINAL, RETRAIN
from oblivio.bench.sweep import Disparity, Scene, Sweep, disparities
from oblivio.report import words
from oblivio.report.cell import Cell, gap_cell, score_cell
from oblivio.report.panel import disparity_panel, panel_id, row_panel
from oblivio.report.section import Sheet, section
from oblivio.report.sweep_plot import GAP, GLYPHS, dashes, disparity_plot, sweep_plot, ticks
from oblivio.report.verdict import finding, usual, verdict

_SHORT = 16  # rows up to which a table of numbers stands open


def scene_parts(
    name: str, scene: Scene, sheet: Sheet, numbers: Mapping[int, str]
) -> dict[str, Any]:
    """All that the page shows of a scenario.

    Args:
        name: The id of what it shows over sparsity.
        scene: The scenario.
        sheet: Where it belongs.
        numbers: A comparison's section id, by the comparison's `id()`.

    Returns:
        What the template asks for: `dense` and `sparse` comparisons, and what is `over` sparsity.
    """
    dense = scene.dense and section(numbers[id(scene.dense)], scene.dense, sheet)
    return {
        "id": name,
        "title": scene.title,
        "summary": finding(scene, sheet.results) if scene.sweeps else dense and dense["summary"],
        "over": _over(name, scene, sheet, numbers) if scene.sweeps else None,
        "dense": dense,
        "sparse": [section(numbers[id(one)], one, sheet) for one in scene.sparse],
    }


def _over(name: str, scene: Scene, sheet: Sheet, numbers: Mapping[int, str]) -> dict[str, Any]:
    """A scenario over sparsity, and dense against sparse."""
    found = disparities(scene, sheet.results)
    scores, others = _scores(sheet)
    inside = [*scores, *(others if sheet.details else ["seconds"] if "seconds" in others else [])]
    panels = [
        row_panel(panel_id(numbers[id(one)], place), one, row, sheet.results, inside)
        for one in scene.all
        for place, row in enumerate(one.rows)
    ]
    # Numbers of dense against sparse have a panel of their own, or else lead to their row's.
    of = {
        id(row): panel_id(numbers[id(one)], place)
        for one in scene.sparse
        for place, row in enumerate(one.rows)
    }
    if sheet.details:
        of = {id(one.row): panel_id(name, place) for place, one in enumerate(found)}
        panels += [disparity_panel(of[id(one.row)], one, scene.title) for one in found]
    return {
        "sweeps": [
            _sweep(f"{name}-{place}", sweep, sheet, numbers)
            for place, sweep in enumerate(scene.sweeps)
        ],
        "scores": scores,
        "keys": _keys(scene, sheet),
        "panels": panels,
        "disparity": _disparity(name, scene, found, sheet, of) if found else None,
        "caution": words.caution(*scene.all),
        "seeds": words.seeds(len({seed for one in scene.all for seed in one.seeds})),
    }


def _scores(sheet: Sheet) -> tuple[list[str], list[str]]:
    """The scores that stand first, which are the headline scores if there are any; the others."""
    results = sheet.results
    first = [*results.headline] or [name for name in results.scores if name != "seconds"]
    return first, [name for name in results.scores if name not in first]


def _keys(scene: Scene, sheet: Sheet) -> list[tuple[str, str, str, str]]:
    """What the lines of the plots stand for: label, colour, symbol and dash."""
    rows = {row.label: row.name for one in scene.all for row in one.rows}
    found = []
    for label, name in rows.items():
        if name != ORIGINAL:
            colour, symbol = sheet.looks[label]
            shown = "var(--retrain)" if name == RETRAIN else colour
            found.append((label, shown, GLYPHS[symbol], dashes(sheet.looks)[label]))
    return found


def _sweep(name: str, sweep: Sweep, sheet: Sheet, numbers: Mapping[int, str]) -> dict[str, Any]:
    """A pruner: plots where it has at least two sparsities, and a row per method and sparsity."""
    first, others = _scores(sheet)

    def plots(scores: Sequence[str]) -> list[str]:
        if len(sweep.sparse) < 2:
            return []
        drawn = [
            sheet.drawn(
                f"{name}-{score}",
                sweep_plot(
                    sweep,
                    lambda row, score=score: row.values.get(score),
                    sheet.results.scores[score],
                    sheet.looks,
                ),
            )
            for score in scores
        ]
        return [id for id in drawn if id]

    main = plots(first)
    if main and sheet.results.headline:
        figure = sweep_plot(sweep, lambda row: row.gap, GAP, sheet.looks)
        main += [id for id in (sheet.drawn(f"{name}-gap", figure),) if id]
    rows = _rows(sweep, sheet, numbers, first)
    return {
        "name": sweep.name,
        "plots": main,
        "others": plots(others),
        "rows": rows,
        "open": len(rows) <= _SHORT,
    }


def _rows(
    sweep: Sweep, sheet: Sheet, numbers: Mapping[int, str], scores: Sequence[str]
) -> list[dict[str, Any]]:
    """A pruner's table: each method from dense to the sparsest."""
    found = []
    for label in sweep.labels:
        again = False
        for one, tick, row in zip(sweep.all, ticks(sweep), sweep.rows(label), strict=True):
            if row is None:
                continue
            found.append(
                {
                    "label": label,
                    "again": again,
                    "retrain": row.name == RETRAIN,
                    "colour": sheet.looks[label][0],
                    "sparsity": tick if tick == "dense" else f"{tick} %",
                    "cells": [score_cell(row, s, sheet.results, one.title) for s in scores],
                    "gap": gap_cell(row, sheet.results, one.title),
                    "time": [
                        score_cell(row, s, sheet.results, one.title)
                        for s in sheet.results.scores
                        if s == "seconds"
                    ],
                    "panel": panel_id(numbers[id(one)], one.rows.index(row)),
                }
            )
            again = True
    return found


def _disparity(
    name: str,
    scene: Scene,
    found: Sequence[Disparity],
    sheet: Sheet,
    panels: Mapping[int, str],
) -> dict[str, Any]:
    """Dense against sparse: the plot, of which one pruner and sparsity is shown, and the table."""
    there = [one.pruned for one in found if one.change is not None and one.row.name != ORIGINAL]
    choices = list(dict.fromkeys(there))
    short = [one for sweep in scene.sweeps for one in usual(sweep, found)]
    chosen = next((one.pruned for one in short if one.pruned in choices), "".join(choices[:1]))

    def rows(shown: Sequence[Disparity]) -> list[dict[str, Any]]:
        return [
            {
                "pruned": one.pruned,
                "again": place > 0 and shown[place - 1].pruned == one.pruned,
                "label": one.row.label,
                "retrain": one.row.name == RETRAIN,
                "colour": sheet.looks[one.row.label][0],
                "cells": _disparity_cells(one),
                "panel": panels[id(one.row)],
            }
            for place, one in enumerate(shown)
        ]

    return {
        "plot": sheet.drawn(f"{name}-disparity", disparity_plot(found, sheet.looks, chosen)),
        "choices": choices,
        "chosen": chosen,
        "usual": rows(short) if len(found) > _SHORT else [],
        "rows": rows(found),
    }


def _disparity_cells(found: Disparity) -> list[Cell]:
    """Dense, sparse, change, and sparse to the dense retrain."""
    cells = []
    for value in (found.dense, found.sparse, found.change, found.across):
        if value is None:
            cells.append(Cell(words.ABSENT))
            continue
        change = value is found.change
        text = words.signed(value) if change else words.spread(value)
        mean, _, half = text.partition(" ± ")
        cells.append(Cell(mean, half, verdict(value) if change else ""))
    return cells
