"""The report's plots, as plotly figures that say nothing of light or dark: the page does.

The palette is Okabe and Ito's, which colour-blind readers can tell apart; methods differ in their
symbols too, so that nothing rests on colour alone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from typing import Any

import plotly.graph_objects as go

from oblivio.bench.stats import ORIGINAL, RETRAIN, Comparison, Estimate, Results, Row
from oblivio.core import Score
from oblivio.report import words

PALETTE = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
REFERENCE = {ORIGINAL: "#8A8F98", RETRAIN: "#0072B2"}


def escape(label: str) -> str:
    """A label as plotly shows it to the letter: plotly reads a little HTML."""
    return html.escape(label, quote=False)


def faint(colour: str) -> str:
    """A colour of the palette, mostly transparent."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.3)"


def colours(results: Results) -> dict[str, tuple[str, str]]:
    """A colour and a symbol for each method's label, the same in every plot.

    Returns:
        Colour and symbol by label.
    """
    rows = {row.label: row.name for c in results.comparisons for row in c.rows}
    rest = [label for label, name in rows.items() if name not in REFERENCE]
    looks = {
        label: (PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)])
        for place, label in enumerate(rest)
    }
    return {
        label: (REFERENCE[name], "diamond-tall" if name == RETRAIN else "circle-open")
        if name in REFERENCE
        else looks[label]
        for label, name in rows.items()
    }


# --- Scores -------------------------------------------------------------------------------------


def score_plot(
    comparison: Comparison, name: str, score: Score, looks: Mapping[str, tuple[str, str]]
) -> go.Figure:
    """One score: each method's mean and interval, its seeds as dots, retrain as a line and band."""
    timed = score.unit == "s"
    rows = [row for row in comparison.rows if name in row.values]
    if timed:  # the original does nothing, in no time: it would squeeze all else together
        rows = [row for row in rows if row.name != ORIGINAL]
    figure = go.Figure()
    for place, row in enumerate(rows):
        figure.add_trace(_seeds(row, name, place, looks[row.label][0], score))
        figure.add_trace(_mean(row, name, place, looks[row.label], score))
    rival = comparison.row(RETRAIN)
    if rival is not None and name in rival.values:
        _mark(figure, rival.values[name])
    figure.update_layout(
        height=90 + 44 * max(2, len(rows)),
        showlegend=False,
        xaxis={
            "title": {"text": axis(score)},
            **(
                logarithmic(p.value for row in rows for p in row.values[name].points)
                if timed
                else {}
            ),
        },
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [broken(row.label) for row in rows],
            "range": [len(rows) - 0.3, -0.6],
            "showgrid": False,
            "zeroline": False,
        },
    )
    return figure


def logarithmic(values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis around these values, with ticks at 1, 2 and 5 in each decade."""
    found = [value for value in values if value > 0]
    if not found:
        return {}
    low, high = min(found) / 1.5, max(found) * 1.5
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return {
        "type": "log",
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
        "range": [math.log10(low), math.log10(high)],
    }


def broken(label: str) -> str:
    """A label with its settings in lines of their own."""
    name, *settings = escape(label).split(" ")
    return "<br>".join([name, *settings])


def _seeds(row: Row, name: str, place: int, colour: str, score: Score) -> go.Scatter:
    """The single seeds, a little below the mean."""
    points = row.values[name].points
    return go.Scatter(
        x=[point.value for point in points],
        y=[place + 0.27] * len(points),
        name=escape(row.label),
        mode="markers",
        marker={"color": colour, "size": 6, "opacity": 0.55},
        customdata=[point.seed for point in points],
        hovertemplate=f"seed %{{customdata}}: %{{x:.4g}} {score.unit}"
        "<extra>%{fullData.name}</extra>",
    )


def _mean(row: Row, name: str, place: int, look: tuple[str, str], score: Score) -> go.Scatter:
    """The mean with its interval."""
    estimate = row.values[name]
    colour, symbol = look
    unit = "" if score.unit in ("", "s") else f" {score.unit}"
    return go.Scatter(
        x=[estimate.mean],
        y=[place],
        name=escape(row.label),
        mode="markers",
        marker={
            "color": colour,
            "size": 10,
            "symbol": symbol,
            "line": {"width": 2, "color": colour},
        },
        error_x=bars(estimate, colour),
        hovertemplate=f"{words.measured(estimate, score)}{unit} (n = {estimate.n})"
        "<extra>%{fullData.name}</extra>",
    )


def _mark(figure: go.Figure, rival: Estimate) -> None:
    """Retrain's mean as a line and its interval as a band."""
    blue = REFERENCE[RETRAIN]
    figure.add_vline(x=rival.mean, line={"color": blue, "width": 1, "dash": "dot"}, layer="below")
    if rival.low is not None and rival.high is not None:
        low = max(rival.low, rival.mean / 100) if rival.mean > 0 else rival.low
        figure.add_vrect(
            x0=low, x1=rival.high, fillcolor=blue, opacity=0.12, line_width=0, layer="below"
        )


def axis(score: Score) -> str:
    """An axis' title: the score and its unit."""
    unit = f" ({score.unit})" if score.unit else ""
    return f"{escape(score.label)}{unit}"


def profile_plot(
    comparison: Comparison, results: Results, looks: Mapping[str, tuple[str, str]]
) -> go.Figure:
    """All headline gaps and the run time at once: the lower a line, the nearer to retrain.

    Every axis starts at 0 and is scaled to the largest value in this scenario, which stands at its
    head.

    Returns:
        The figure.
    """
    rows = [row for row in comparison.rows if row.name != RETRAIN and row.gaps]
    columns: list[tuple[str, dict[str, float], str]] = []
    for name in results.headline:
        found = {row.label: row.gaps[name].mean for row in rows if name in row.gaps}
        columns.append((escape(results.scores[name].label).replace("-", "-<br>"), found, "pp"))
    rte = {r.label: 100 * r.rte.mean for r in rows if r.rte is not None}
    columns.append(("RTE", rte, "% of retrain's time"))
    columns = [column for column in columns if column[1]]
    figure = go.Figure()
    for row in rows:
        kept = [(t, v[row.label], max(v.values()), u) for t, v, u in columns if row.label in v]
        colour, symbol = looks[row.label]
        figure.add_trace(
            go.Scatter(
                x=[title for title, *_ in kept],
                y=[value / top if top > 0 else 0.0 for _, value, top, _ in kept],
                name=escape(row.label),
                mode="lines+markers",
                line={
                    "color": colour,
                    "width": 2,
                    "dash": "dot" if row.name == ORIGINAL else "solid",
                },
                marker={"color": colour, "size": 9, "symbol": symbol},
                customdata=[f"{value:.3g} {unit}" for _, value, _, unit in kept],
                hovertemplate="%{x}: %{customdata}<extra>%{fullData.name}</extra>",
            )
        )
    for title, values, unit in columns:
        top = max(values.values())
        figure.add_annotation(
            x=title,
            y=1.0,
            yshift=22,
            text=f"{top:.3g}<br>{unit.split()[0]}",
            showarrow=False,
            font={"size": 12},
        )
    figure.update_layout(
        height=380,
        legend={"orientation": "h", "y": -0.16, "x": 0},
        xaxis={"showgrid": True, "type": "category"},
        yaxis={
            "title": {"text": "share of the largest"},
            "range": [-0.04, 1.2],
            "tickvals": [0, 0.25, 0.5, 0.75, 1],
            "ticktext": ["0", "25 %", "50 %", "75 %", "100 %"],
        },
    )
    return figure


def cost_plot(comparison: Comparison, looks: Mapping[str, tuple[str, str]]) -> go.Figure:
    """Closeness against cost: the average gap over the run time as a share of retrain's."""
    figure = go.Figure()
    for row in comparison.methods:
        if row.gap is None or row.rte is None:
            continue
        colour, symbol = looks[row.label]
        figure.add_trace(
            go.Scatter(
                x=[100 * row.rte.mean],
                y=[row.gap.mean],
                name=escape(row.label),
                mode="markers",
                marker={"color": colour, "size": 11, "symbol": symbol},
                error_x=bars(row.rte, colour, 100.0),
                error_y=bars(row.gap, colour),
                hovertemplate=f"gap {words.spread(row.gap)} pp, {words.speed(row.rte)}"
                "<extra>%{fullData.name}</extra>",
            )
        )
    original = comparison.row(ORIGINAL)
    if original is not None and original.gap is not None:
        figure.add_hline(
            y=original.gap.mean,
            line={"color": REFERENCE[ORIGINAL], "width": 1, "dash": "dot"},
            annotation={"text": "original: nothing done", "xanchor": "right"},
        )
    figure.update_layout(
        height=320,
        showlegend=True,
        legend={"orientation": "h", "y": -0.3, "x": 0},
        xaxis={
            "title": {"text": "run time (% of retrain's)"},
            **logarithmic(100 * p.value for r in comparison.methods if r.rte for p in r.rte.points),
        },
        yaxis={"title": {"text": "average gap (pp)"}, "rangemode": "tozero"},
    )
    return figure


def bars(estimate: Estimate, colour: str, factor: float = 1.0) -> dict[str, Any]:
    """The interval as error bars; none for a single seed."""
    low = estimate.mean if estimate.low is None else estimate.low
    high = estimate.mean if estimate.high is None else estimate.high
    return {
        "type": "data",
        "symmetric": False,
        "array": [factor * (high - estimate.mean)],
        "arrayminus": [factor * (estimate.mean - low)],
        "color": colour,
        "thickness": 2,
        "width": 4,
    }
