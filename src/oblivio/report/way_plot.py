"""A plot of how far methods are from retraining, on the way to doing nothing, by each measure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import plotly.graph_objects as go

from oblivio.report.evidence_plot import BAND, BLUE, GREY, Looks
from oblivio.report.evidence_words import span, spread, told
from oblivio.report.plot import escape
from oblivio.report.proof import Column, Proof
from oblivio.report.reading import Reading

_ENDS = (-0.75, 2.0)  # what lies further from retrain is drawn at the edge, with its number
_STEP = 15  # pixels between methods in a row


def way_plot(proof: Proof, looks: Looks) -> go.Figure | None:
    """How much of the way from retraining, 0, to doing nothing, 1, each method has left.

    A row per measure's main number. Symbols are filled where the number lies beyond the null's
    95 %, which is the band, and hollow where it lies within.

    Returns:
        The figure; None where no measure tells the originals from retraining.
    """
    columns = [column for column in proof.main if column.reference.sees]
    if not columns:
        return None
    figure = go.Figure()
    tall = max(44, _STEP * (len(proof.methods) + 1.5))
    for place, column in enumerate(columns):
        _null(figure, column, place)
    left, right = _range(columns)
    ticks = [k / 2 for k in range(math.ceil(2 * left), math.floor(2 * right) + 1)]
    for rank, method in enumerate(proof.methods):
        shift = (rank - (len(proof.methods) - 1) / 2) * _STEP / tall
        _dots(figure, columns, method, shift, looks[method], (left, right))
    for x, colour, text in ((0, BLUE, "retraining"), (1, GREY, "doing nothing")):
        figure.add_vline(
            x=x, line={"color": colour, "width": 1, "dash": "dot"}, layer="below"
        ).add_annotation(x=x, yref="paper", y=1, yshift=14, text=text, showarrow=False)
    figure.update_layout(
        height=round(90 + tall * len(columns)),
        showlegend=False,
        margin={"t": 44},
        xaxis={
            "title": {"text": "way from retraining to doing nothing"},
            "range": [left, right],
            "tickvals": ticks,
            "ticktext": [percent(tick) for tick in ticks],
            "zeroline": False,
        },
        yaxis={
            "tickvals": list(range(len(columns))),
            "ticktext": [wrapped(column.head) for column in columns],
            "range": [len(columns) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
    )
    return figure


def wrapped(label: str, width: int = 14) -> str:
    """A label in short lines."""
    return "<br>".join(escape(line) for line in textwrap.wrap(label, width))


def percent(share: float) -> str:
    """A share in whole percent.

    Returns:
        Text.

    Example:
        >>> percent(-12.345)
        '−1,234 %'
    """
    return f"{100 * share:,.0f} %".replace("-", "−")


def _ways(column: Column, reading: Reading) -> tuple[float, float, float] | None:
    """A reading and its interval on the column's own way."""
    value = reading.value
    low = value.mean if value.low is None else value.low
    high = value.mean if value.high is None else value.high
    found = [reading.way(end) for end in (value.mean, low, high)]
    if any(one is None for one in found):
        return None
    middle, *ends = (one for one in found if one is not None)
    return middle, min(ends), max(ends)


def _range(columns: Sequence[Column]) -> tuple[float, float]:
    """What the axis spans: all that lies not too far."""
    found = [
        end
        for column in columns
        for reading in column.readings.values()
        for end in (_ways(column, reading) or ())
    ]
    left = max(_ENDS[0], min([-0.2, *(end - 0.08 for end in found)]))
    right = min(_ENDS[1], max([1.3, *(end + 0.08 for end in found)]))
    return left, right


def _null(figure: go.Figure, column: Column, place: int) -> None:
    """The band of what chance alone gives, in a measure's row."""
    reading = column.reference
    assert reading.null is not None
    ends = [reading.way(end) for end in reading.null[1:] if end is not None]
    x = sorted(end for end in ends if end is not None)
    if len(x) == 2:
        figure.add_shape(
            type="rect",
            x0=max(x[0], _ENDS[0]),
            x1=min(x[1], _ENDS[1]),
            y0=place - 0.46,
            y1=place + 0.46,
            fillcolor=BAND,
            line_width=0,
            layer="below",
        )


def _dots(
    figure: go.Figure,
    columns: Sequence[Column],
    method: str,
    shift: float,
    look: tuple[str, str],
    ends: tuple[float, float],
) -> None:
    """A method's numbers, a little above or below those of others; beyond the edge as arrows."""
    colour, symbol = look
    found = [
        (place, column, reading, ways)
        for place, column in enumerate(columns)
        if (reading := column.readings.get(method)) and (ways := _ways(column, reading))
    ]
    inside = [one for one in found if ends[0] <= one[3][0] <= ends[1]]
    if inside:
        figure.add_trace(
            go.Scatter(
                x=[ways[0] for *_, ways in inside],
                y=[place + shift for place, *_ in inside],
                name=escape(method),
                mode="markers",
                marker={
                    "color": colour,
                    "size": 10,
                    "symbol": [
                        symbol if reading.verdict == "beyond" else f"{symbol}-open"
                        for _, _, reading, _ in inside
                    ],
                    "line": {"width": 2, "color": colour},
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - middle for *_, (middle, _, high) in inside],
                    "arrayminus": [middle - low for *_, (middle, low, _) in inside],
                    "color": colour,
                    "thickness": 1.5,
                    "width": 0,
                },
                text=[_hover(column, reading) for _, column, reading, _ in inside],
                hovertemplate="%{x:.0%} of the way<br>%{text}<extra>%{fullData.name}</extra>",
            )
        )
    for place, column, reading, ways in found:
        if not ends[0] <= ways[0] <= ends[1]:
            far = ways[0] > ends[1]
            figure.add_trace(
                go.Scatter(
                    x=[ends[1] - 0.03 if far else ends[0] + 0.03],
                    y=[place + shift],
                    name=escape(method),
                    mode="markers+text",
                    marker={
                        "color": colour,
                        "size": 10,
                        "symbol": "triangle-right" if far else "triangle-left",
                    },
                    text=[percent(ways[0])],
                    textposition="middle left" if far else "middle right",
                    textfont={"size": 11},
                    hovertext=[_hover(column, reading)],
                    hoverinfo="text+name",
                )
            )


def _hover(column: Column, reading: Reading) -> str:
    """A number in words."""
    return (
        f"{escape(column.head)}: {spread(column, reading.value)}{column.unit}, {told(reading)}"
        f"<br>chance alone: {span(column, reading.null)}{column.unit}"
    )
