"""Mean ranks over all scenarios: a critical-difference diagram with a line for each method."""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go

from oblivio.bench.rank import Ranking
from oblivio.report import words
from oblivio.report.plot import broken, escape

_BAR = "#8A8F98"  # seen on light and on dark paper
_APART = 0.045  # of the ranks' width, between two bars


def rank_plot(ranking: Ranking, looks: Mapping[str, tuple[str, str]]) -> go.Figure:
    """Each method's mean rank, nearest to retrain first; bars at the right join ties.

    The diagram as Demšar draws it runs along one axis and writes labels at its sides, where long
    ones do not fit. Here each method has a line, and a bar a dot for each method that it joins.

    Args:
        ranking: The ranks.
        looks: Each label's colour and symbol.

    Returns:
        The figure.
    """
    labels = list(ranking.ranks)
    place = {label: number for number, label in enumerate(labels)}
    figure = go.Figure()
    for label, rank in ranking.ranks.items():
        colour, symbol = looks[label]
        figure.add_trace(
            go.Scatter(
                x=[1, rank],
                y=[place[label]] * 2,
                name=escape(label),
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"color": colour, "symbol": symbol, "size": [0, 11], "opacity": 1},
                hovertemplate=f"mean rank {words.number(rank)}<extra>%{{fullData.name}}</extra>",
            )
        )
    step = _APART * len(labels)
    for number, group in enumerate(ranking.groups):
        figure.add_trace(
            go.Scatter(
                x=[len(labels) + (number + 1.5) * step] * len(group),
                y=[place[label] for label in group],
                mode="lines+markers",
                line={"color": _BAR, "width": 4},
                marker={"color": _BAR, "size": 9},
                hovertemplate="not told apart: "
                + words.listed([escape(label) for label in group])
                + "<extra></extra>",
            )
        )
    lines = max(broken(label).count("<br>") for label in labels)
    figure.update_layout(
        height=80 + (34 + 14 * lines) * len(labels),
        showlegend=False,
        xaxis={
            "title": {"text": "mean rank (1 is nearest to retrain)"},
            "tickvals": list(range(1, len(labels) + 1, math.ceil(len(labels) / 10))),
            "range": [0.9, len(labels) + (len(ranking.groups) + 1) * step],
            "zeroline": False,
        },
        yaxis={
            "tickvals": list(place.values()),
            "ticktext": [
                f"{broken(label)} <b>{words.number(rank, 1)}</b>"
                for label, rank in ranking.ranks.items()
            ],
            "range": [len(labels) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
    )
    return figure
