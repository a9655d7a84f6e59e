"""Tables on the terminal that put dense and pruned models of a scenario side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from oblivio.bench.estimate import Estimate
from oblivio.bench.stats import ORIGINAL, RETRAIN, Results, Row
from oblivio.bench.sweep import Disparity, Scene, disparities, sparsity
from oblivio.report import words

_ROOM = 4  # scores that fit beside each other


def empty_table(title: str | None, width: int) -> Table:
    """A table of methods, as yet without rows.

    Args:
        title: What stands above it.
        width: The least that a method's name takes.

    Returns:
        A table with its first column.
    """
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
    )
    table.add_column("Method", overflow="fold", min_width=width)
    return table


def sweep_table(scene: Scene, results: Results, *, wide: bool = True) -> Table:
    """A scenario's scores over sparsity: a row per pruner, sparsity and method, without intervals.

    Args:
        scene: The scenario, dense and pruned.
        results: What it belongs to.
        wide: Whether there is room for two decimals.

    Returns:
        A table; the dense model stands first, under every pruner its sparsities in rising order.
    """
    table = empty_table(f"{scene.title}: over sparsity, means", 17)
    names = results.headline or [name for name in results.scores if name != "seconds"][:_ROOM]
    for name in names:
        score = results.scores[name]
        table.add_column(f"{score.label} {score.unit}".strip(), justify="right")
    if results.headline:
        table.add_column("Avg gap", justify="right", no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    groups = [("dense", scene.dense)] if scene.dense else []
    groups += [
        (f"{sweep.name} {sparsity(one):g} %", one) for sweep in scene.sweeps for one in sweep.sparse
    ]
    for called, comparison in groups:
        table.add_section()
        table.add_row(Text(called, style="bold"))
        for row in comparison.rows:
            table.add_row(*_means(row, results, names, 2 if wide else 1))
    return table


def _means(row: Row, results: Results, names: Sequence[str], most: int) -> list[Text]:
    """A method's name and means."""
    cells = [_called(row)]
    for name in names:
        value = row.values.get(name)
        text = words.ABSENT
        if value is not None:
            places = words.digits(value, results.scores[name], most)
            text = words.number(value.mean, places)
        cells.append(Text(text))
    if results.headline:
        gap = None if row.name == RETRAIN else row.gap
        cells.append(Text(words.ABSENT if gap is None else words.number(gap.mean, most)))
    seconds = row.values.get("seconds")
    cells.append(Text(words.ABSENT if seconds is None else words.duration(seconds.mean)))
    return cells


def disparity_table(scene: Scene, results: Results, *, wide: bool = True) -> Table | None:
    """Dense against pruned: each method's average gap before and after, and the paired change.

    Args:
        scene: The scenario, dense and pruned.
        results: What it belongs to.
        wide: Whether there is room for two decimals.

    Returns:
        A table; None where no headline score was measured or nothing was pruned.
    """
    found = [one for one in disparities(scene, results) if one.row.name != ORIGINAL]
    if not found:
        return None
    table = empty_table(f"{scene.title}: dense against pruned, average gap in points", 17)
    for name in ("Dense", "Pruned", "Change", "Pruned, to\ndense retrain"):
        table.add_column(name, justify="right")
    for place, one in enumerate(found):
        if place == 0 or found[place - 1].pruned != one.pruned:
            table.add_section()
            table.add_row(Text(one.pruned, style="bold"))
        table.add_row(*_disparity(one, 2 if wide else 1))
    return table


def _disparity(one: Disparity, digits: int) -> list[Text]:
    """A method's cells; a change whose interval leaves out zero is bold."""
    sure = one.change is not None and one.change.excludes(0.0)
    changed = words.ABSENT if one.change is None else words.signed(one.change, digits)
    return [
        _called(one.row),
        Text(_spread(one.dense, digits)),
        Text(_spread(one.sparse, digits)),
        Text(changed, style="bold" if sure else ""),
        Text(_spread(one.across, digits)),
    ]


def _called(row: Row) -> Text:
    """A method's label, below its pruner's."""
    return Text(f"  {row.label}", style="bold" if row.name == RETRAIN else "")


def _spread(estimate: Estimate | None, digits: int) -> str:
    return words.ABSENT if estimate is None else words.spread(estimate, digits)


def sweep_caption(scene: Scene, results: Results) -> Text:
    """How to read these tables."""
    said = [f"Means over {words.seeds(max(len(one.seeds) for one in scene.all))}."]
    if results.headline:
        said.append(
            "Every gap is to the retrain of the same sparsity. Change is pruned minus dense, seed "
            "by seed: below zero, forgetting is simpler on the pruned model; bold where the 95 % "
            "interval leaves zero out. A pruned retrain may be a weaker model: the last column is "
            "beside the dense retrain, and in the row of retrain how far pruning alone moves it."
        )
    said.append(words.caution(*scene.all))
    return Text(" ".join(filter(None, said)), style="dim")
