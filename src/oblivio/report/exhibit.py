"""Plots of what models do to single examples: how sure they are, and which class they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from oblivio.bench.stats import ORIGINAL, Comparison, Record, Row
from oblivio.report.plot import REFERENCE, escape, faint

_BLUES = [[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]]


def confidence_plot(
    comparison: Comparison, part: str, looks: Mapping[str, tuple[str, str]]
) -> go.Figure | None:
    """How sure the models are of the true class on a part of the data, summed over seeds.

    Heights follow the square root of the share: nearly all examples are in the last bin, and what
    tells models apart is the rest. Original and retrain are always shown; the methods carry their
    label as `meta`, so that a reader can choose one.

    Returns:
        The figure; None where no record has the counts.
    """
    figure = go.Figure()
    chosen = False
    references = [row for row in comparison.rows if row.name in REFERENCE]
    for row in (*comparison.methods, *references):  # the fill of a method lies below their lines
        counts = _summed([_counts(record, part) for record in row.records])
        total = sum(counts or ())
        if not counts or not total:
            continue
        width = 1 / len(counts)
        shares = [100 * count / total for count in counts]
        reference = row.name in REFERENCE
        colour = looks[row.label][0]
        figure.add_trace(
            go.Scatter(
                x=[*(place * width for place in range(len(counts))), 1.0],
                y=[share**0.5 for share in (*shares, shares[-1])],
                customdata=[*zip(shares, counts, strict=True), (shares[-1], counts[-1])],
                name=escape(row.label),
                meta=None if reference else row.label,
                visible=True if reference or not chosen else "legendonly",
                line={
                    "shape": "hv",
                    "color": colour,
                    "width": 2,
                    "dash": "dot" if row.name == ORIGINAL else "solid",
                },
                fill=None if reference else "tozeroy",
                fillcolor=faint(colour),
                hovertemplate=f"from %{{x:.2f}} to +{width:.2f}: %{{customdata[0]:.1f}} % "
                "(%{customdata[1]} examples)<extra>%{fullData.name}</extra>",
            )
        )
        chosen = chosen or not reference
    if not figure.data:
        return None
    figure.update_layout(
        height=280,
        showlegend=False,
        xaxis={"title": {"text": "true class's probability"}, "range": [-0.01, 1.01]},
        yaxis={
            "title": {"text": f"share of the {part} set (%)"},
            "tickvals": [share**0.5 for share in (0, 1, 5, 20, 50, 100)],
            "ticktext": ["0", "1", "5", "20", "50", "100"],
            "range": [0, 10.2],
        },
    )
    return figure


def _counts(record: Record, part: str) -> Sequence[int] | None:
    return ((record.get("exhibits") or {}).get("confidence") or {}).get(part)


def _summed(lists: Sequence[Sequence[int] | None]) -> list[int] | None:
    """The sums of lists of one length; those that are missing are left out."""
    there = [counts for counts in lists if counts]
    if not there or len({len(counts) for counts in there}) > 1:
        return None
    return [sum(column) for column in zip(*there, strict=True)]


def confusion(row: Row) -> list[list[int]] | None:
    """A method's confusion matrix, summed over seeds.

    Returns:
        Rows of true classes, columns of predicted ones; None where no record has one.
    """
    matrices = [(record.get("exhibits") or {}).get("confusion") for record in row.records]
    there = [matrix for matrix in matrices if matrix]
    if not there or len({len(matrix) for matrix in there}) > 1:
        return None
    return [
        [sum(column) for column in zip(*lines, strict=True)] for lines in zip(*there, strict=True)
    ]


def confusion_plot(rows: Sequence[Row]) -> go.Figure | None:
    """Confusion matrices over the test data, one visible at a time, as shares of the true class.

    Returns:
        The figure; None where no record has one. A trace's `meta` is its method's label.
    """
    figure = go.Figure()
    for row in rows:
        counts = confusion(row)
        if counts is None:
            continue
        shares = [[100 * cell / max(1, sum(line)) for cell in line] for line in counts]
        names = [str(number) for number in range(len(counts))]
        figure.add_trace(
            go.Heatmap(
                x=names,
                y=names,
                z=[[share**0.5 for share in line] for line in shares],
                customdata=[
                    [[s, c] for s, c in zip(*pair, strict=True)]
                    for pair in zip(shares, counts, strict=True)
                ],
                text=[[f"{s:.0f}" if s >= 0.5 else "" for s in line] for line in shares],
                texttemplate="%{text}" if len(counts) <= 12 else None,
                name=escape(row.label),
                meta=row.label,
                visible=not figure.data,
                colorscale=_BLUES,
                zmin=0,
                zmax=10,
                xgap=1,
                ygap=1,
                showscale=False,
                hovertemplate="true %{y}, predicted %{x}: %{customdata[0]:.1f} % "
                "(%{customdata[1]} examples)<extra>%{fullData.name}</extra>",
            )
        )
    if not figure.data:
        return None
    figure.update_layout(
        height=360,
        xaxis={"title": {"text": "predicted class"}, "type": "category", "constrain": "domain"},
        yaxis={
            "title": {"text": "true class"},
            "type": "category",
            "autorange": "reversed",
            "scaleanchor": "x",
            "constrain": "domain",
        },
    )
    return figure
