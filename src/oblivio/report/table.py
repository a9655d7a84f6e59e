"""The results as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from oblivio.bench.estimate import Estimate
from oblivio.bench.stats import (
    ORIGINAL,
    RETRAIN,
    Comparison,
    Record,
    Results,
    Row,
    Unfinished,
    summarise,
)
from oblivio.bench.sweep import scenes
from oblivio.core import Score
from oblivio.report import words
from oblivio.report.significance_words import verdict
from oblivio.report.sweep_table import disparity_table, empty_table, sweep_caption, sweep_table

_WIDE = 104  # columns from which two decimals fit
_MANY = 4  # comparisons up to which each has a table of its own


def print_table(
    records: Iterable[Record],
    console: Console | None = None,
    scores: Mapping[str, Score] | None = None,
) -> None:
    """Print one table per scenario, then what failed or was skipped.

    Where models were pruned, a table of dense against sparse follows; a scenario with many pruners
    and sparsities has all its scores in a single table.

    Args:
        records: An experiment's records.
        console: Where to print; None is the terminal.
        scores: What the numbers mean; None asks the catalogue's metrics.
    """
    console = console or Console()
    results = summarise(records, scores)
    wide = console.width >= _WIDE
    many = len(results.comparisons) > _MANY
    for scene in scenes(results):
        for comparison in [scene.dense] if many and scene.sweeps else scene.all:
            if comparison is not None:
                _print_comparison(comparison, results, console)
        if many and scene.sweeps:
            console.print()
            console.print(sweep_table(scene, results, wide=wide))
        if (changes := disparity_table(scene, results, wide=wide)) is not None:
            console.print()
            console.print(changes)
        if scene.sweeps:
            console.print(sweep_caption(scene, results))
    if not results.comparisons:
        console.print("No cell is done yet.")
    if results.unfinished:
        console.print()
        console.print(unfinished_list(results.unfinished))


def _print_comparison(comparison: Comparison, results: Results, console: Console) -> None:
    """Print all that is known of one scenario, dense or of one pruner."""
    wide, results = console.width >= _WIDE, results.within(comparison)
    console.print()
    console.print(comparison_table(comparison, results, wide=wide))
    if others := [n for n in results.scores if n not in (*results.headline, "seconds")]:
        console.print(others_table(comparison, results, others, wide=wide))
    console.print(_caption(comparison, results))
    if told := verdict(comparison, short=True):
        console.print(Text(f"Told apart? {told}"))


def comparison_table(comparison: Comparison, results: Results, *, wide: bool = True) -> Table:
    """One scenario: a row per method, a column per headline score.

    Args:
        comparison: The scenario.
        results: What it belongs to.
        wide: Whether there is room for two decimals.

    Returns:
        A table; below each mean stands its gap to retrain.
    """
    table = _table(comparison.title, results, results.headline)
    if results.headline:
        table.add_column("Avg gap", justify="right", no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    for row in comparison.rows:
        table.add_row(*_cells(row, results, wide), end_section=row.name == RETRAIN)
    return table


def others_table(
    comparison: Comparison, results: Results, names: Sequence[str], *, wide: bool = True
) -> Table:
    """One scenario: the scores that do not make up the average gap.

    Args:
        comparison: The scenario.
        results: What it belongs to.
        names: The scores.
        wide: Whether there is room for two decimals.

    Returns:
        A table; below each mean stands its gap to retrain.
    """
    table = _table(None, results, names)
    for row in comparison.rows:
        table.add_row(*_score_cells(row, results, names, wide), end_section=row.name == RETRAIN)
    return table


def _table(title: str | None, results: Results, names: Sequence[str]) -> Table:
    """An empty table: the method, and a column for each score."""
    table = empty_table(title, 15)
    for name in names:
        score = results.scores[name]
        head = f"{score.label} {score.unit}"
        table.add_column(head.replace(" ", "\n") if " " in score.label else head, justify="right")
    return table


def _score_cells(
    row: Row, results: Results, names: Sequence[str], wide: bool
) -> list[RenderableType]:
    """A method's name and scores."""
    most, rival = 2 if wide else 1, row.name == RETRAIN
    cells: list[RenderableType] = [Text(row.label, style="bold" if rival else "")]
    for name in names:
        value, gap = row.values.get(name), None if rival else row.gaps.get(name)
        digits = most if value is None else words.digits(value, results.scores[name], most)
        beside = "" if gap is None else f"Δ {words.number(gap.mean, digits)}"
        cells.append(_stacked(_spread(value, wide, digits), beside))
    return cells


def _cells(row: Row, results: Results, wide: bool) -> list[RenderableType]:
    """A method's cells in the main table."""
    cells = _score_cells(row, results, results.headline, wide)
    if results.headline:
        cells.append(
            _stacked(_spread(None if row.name == RETRAIN else row.gap, wide, 2 if wide else 1))
        )
    seconds = row.values.get("seconds")
    time = words.ABSENT if seconds is None else words.duration(seconds.mean)
    pace = "" if row.rte is None or row.name in (ORIGINAL, RETRAIN) else words.speed(row.rte)
    cells.append(_stacked(time, pace))
    return cells


def _spread(estimate: Estimate | None, wide: bool, digits: int) -> str:
    """Mean and half-width, in one line where there is room for it."""
    if estimate is None:
        return words.ABSENT
    text = words.spread(estimate, digits)
    return text if wide else text.replace(" ± ", "\n± ")


def _stacked(first: str, second: str = "") -> Text:
    """A number, and below it, muted, what it means beside retrain."""
    text = Text(first)
    return text.append(f"\n{second}", style="dim") if second else text


def _caption(comparison: Comparison, results: Results) -> Text:
    """How to read the table."""
    n = len(comparison.seeds)
    spread = "no intervals: they need two" if n == 1 else "± is half of a 95 % Student-t interval"
    said = [f"Means over {words.seeds(n)}; {spread}."]
    if results.headline:
        names = words.listed([results.scores[name].label for name in results.headline])
        said.append(
            f"Δ is the mean distance to retrain, seed by seed; avg gap is its mean over {names}: "
            "lower is better."
        )
    for way in dict.fromkeys(results.scores[name].better for name in results.headline):
        own = [n for n in results.headline if results.scores[n].better == way]
        names = words.listed([results.scores[name].label for name in own])
        said.append(f"{names}: {words.direction(results.scores[own[0]])}.")
    if comparison.row(RETRAIN) is None:
        said.append("retrain has no finished record here: no gaps.")
    said.append(words.caution(comparison))
    return Text(" ".join(filter(None, said)), style="dim")


def unfinished_list(unfinished: Iterable[Unfinished]) -> Group:
    """What failed or was skipped, a line each with the reason.

    Returns:
        Lines for a console.
    """
    styles = {"failed": "bold red", "skipped": "yellow"}
    lines = []
    for cell in unfinished:
        where = f" {cell.label}, {cell.title}, seed {cell.record['cell']['seed']}: "
        line = Text().append(cell.status, style=styles.get(cell.status, ""))
        lines.append(line.append(where).append(cell.reason, style="dim"))
    return Group(*lines)
