"""What the page shows of paired tests: who is told apart, each p, and ranks over all scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plotly.graph_objects import Figure

from oblivio.bench.estimate import Estimate
from oblivio.bench.rank import ranking
from oblivio.bench.significance import Pair, average_gaps, competitors, level, pairs
from oblivio.bench.stats import Comparison, Results
from oblivio.report.cell import Cell, pair_cell
from oblivio.report.significance_plot import rank_plot
from oblivio.report.significance_words import method, omitted, ranks, verdict

_LARGEST = 8  # methods up to which each two have a place in a matrix

Look = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Tested:
    """A test as a table shows it: the cell, whether the two are told apart, and its row's panel."""

    cell: Cell
    told: bool
    panel: str | None


@dataclass(frozen=True)
class Apart:
    """Who is told apart in a comparison.

    Args:
        said: In sentences.
        method: What the tests are.
        best: The label of the method nearest to retrain.
        columns: What is tested: the average gap, then each headline score.
        rows: Every other method's label, its colour, and a test for each column.
        matrix: Every method's label, its colour, and its average gap's test against each that is
            nearer; empty with few methods, which the rows say all of, and with many.
    """

    said: str
    method: str
    best: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Tested, ...]], ...]
    matrix: tuple[tuple[str, str, tuple[Tested, ...]], ...]


def apart(
    comparison: Comparison, results: Results, looks: Look, panels: Mapping[str, str | None]
) -> Apart | None:
    """All that the page says of who is told apart.

    Args:
        comparison: Of one scenario.
        results: What it belongs to.
        looks: Each label's colour and symbol.
        panels: The panel to which the numbers of a label's row lead; None where each has its own.

    Returns:
        What the template asks for; None where no two methods have a gap.
    """
    said = verdict(comparison)
    if not said:
        return None
    gaps = average_gaps(comparison)
    best, *others = gaps
    title = comparison.title
    families = {"Avg gap": _Family.of(gaps, f"Average gap · {title}", panels)}
    for name in results.within(comparison).headline:
        shown = results.scores[name].label
        by_label = {row.label: row.gaps[name] for row in competitors(comparison)}
        families[shown] = _Family.of(by_label, f"Gap in {shown} · {title}", panels)
    average = families["Avg gap"]
    if not average.tests:
        return Apart(said, "", best, (), (), ())
    rows = tuple(
        (label, looks[label][0], tuple(one.test(label, best) for one in families.values()))
        for label in others
    )
    labels = list(gaps) if 2 < len(gaps) <= _LARGEST else []
    matrix = tuple(
        (
            label,
            looks[label][0],
            tuple(average.test(label, nearer, brief=True) for nearer in labels[:place]),
        )
        for place, label in enumerate(labels)
    )
    method_said = method(list(average.tests.values()))
    return Apart(said, method_said, best, tuple(families), rows, matrix)


@dataclass(frozen=True)
class _Family:
    """The tests of every two methods in one gap."""

    gaps: Mapping[str, Estimate]
    tests: Mapping[frozenset[str], Pair]
    alpha: float
    what: str
    panels: Mapping[str, str | None]

    @classmethod
    def of(
        cls, gaps: Mapping[str, Estimate], what: str, panels: Mapping[str, str | None]
    ) -> _Family:
        family = pairs(gaps)
        found = {frozenset((pair.nearer, pair.farther)): pair for pair in family}
        return cls(gaps, found, level(family), what, panels)

    def test(self, label: str, other: str, *, brief: bool = False) -> Tested:
        pair = self.tests.get(frozenset((label, other)))
        cell = pair_cell(pair, label, self.gaps, self.what, self.alpha, brief=brief)
        return Tested(cell, pair is not None and pair.told, self.panels[label])


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over all scenarios.

    Args:
        said: What they say.
        figure: The id of the diagram.
        omitted: How it is made, and what is left out.
    """

    said: str
    figure: str
    omitted: str


def ranks_of(results: Results, looks: Look, figures: dict[str, Figure]) -> Ranks | None:
    """The ranks of all methods over all scenarios, with a diagram.

    Args:
        results: All of them.
        looks: Each label's colour and symbol.
        figures: Where the page's figures are put, by id.

    Returns:
        What the template asks for; None with fewer than three methods or cases.
    """
    found = ranking(results)
    if found is None:
        return None
    figures["ranks"] = rank_plot(found, looks)
    return Ranks(ranks(found), "ranks", omitted(found))
