"""Plots of what shadow models say: where methods stand, what attacks find, and on which examples.

In all of them the null is a band in retrain's blue, the ceiling a dotted line in original's grey.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from oblivio.bench.stats import ORIGINAL, RETRAIN
from oblivio.report.evidence_words import span, spread, told
from oblivio.report.plot import REFERENCE, escape
from oblivio.report.proof import Column, Heard, Proof, Voice
from oblivio.report.reading import Reading
from oblivio.shadow import RATES

BLUE, GREY = REFERENCE[RETRAIN], REFERENCE[ORIGINAL]
_BAND = f"{BLUE}38"  # mostly transparent; the page lightens its blue where it is dark
_ENDS = (-0.75, 2.0)  # what lies further from retrain is drawn at the edge, with its number
_STEP = 15  # pixels between methods in a row

Looks = Mapping[str, tuple[str, str]]


# --- From retraining to doing nothing -------------------------------------------------------------


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
            fillcolor=_BAND,
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


# --- What attacks find ----------------------------------------------------------------------------


def roc_plot(voice: Voice, looks: Looks) -> go.Figure | None:
    """An attack's true positive rate over its false positive rate, both logarithmic.

    Returns:
        The figure; None where the measure has no curves.
    """
    curves = {name: rates for name, all_ in voice.heard.items() if (rates := _mean(all_, "roc"))}
    if not curves:
        return None
    longest = max(voice.heard.values(), key=len)
    figure = go.Figure()
    lows, highs = (
        _averaged([one.exhibits["roc_null"][end] for one in longest if "roc_null" in one.exhibits])
        for end in (0, 1)
    )
    if lows and highs:
        for rates, fill in ((lows, None), (highs, "tonexty")):
            figure.add_trace(_curve(rates, "chance alone, 95 %", BLUE, fill=fill))
    figure.add_trace(_curve(list(RATES), "coin", GREY, width=1))
    if (ceiling := _mean(longest, "roc_ceiling")) is not None:
        figure.add_trace(_curve(ceiling, "original", GREY, dash="dot"))
    for name, rates in curves.items():
        figure.add_trace(_curve(rates, name, looks[name][0]))
    shown = [*curves.values(), *(found for found in (ceiling, highs) if found)]
    first = min(
        (rate for rates in shown for rate, y in zip(RATES, rates, strict=True) if y > 0),
        default=0.01,
    )
    decade = math.floor(math.log10(min(first, 0.1)) + 1e-9)
    ticks = [10.0**power for power in range(decade, 1)]
    axis = {
        "type": "log",
        "range": [decade, 0.03],
        "tickvals": ticks,
        "ticktext": [f"{100 * tick:g} %" for tick in ticks],
        "constrain": "domain",
    }
    figure.update_layout(
        height=340,
        showlegend=False,
        xaxis={**axis, "title": {"text": "false positives"}},
        yaxis={**axis, "title": {"text": "true positives"}, "scaleanchor": "x"},
    )
    return figure


def _curve(
    rates: Sequence[float],
    name: str,
    colour: str,
    *,
    fill: str | None = None,
    dash: str = "solid",
    width: float = 2,
) -> go.Scatter:
    """A curve; what has no logarithm lies below the plot."""
    band = name.startswith("chance")
    return go.Scatter(
        x=list(RATES),
        y=[max(rate, 1e-7) for rate in rates],
        name=escape(name),
        mode="lines",
        line={"color": colour, "width": 0 if band else width, "dash": dash},
        fill=fill,
        fillcolor=_BAND if fill else None,
        customdata=list(rates),
        hoverinfo="skip" if band else None,
        hovertemplate=None
        if band
        else "%{customdata:.2%} true at %{x:.2%} false positives<extra>%{fullData.name}</extra>",
    )


def _mean(heard: Sequence[Heard], name: str) -> list[float] | None:
    """The mean over seeds of a list."""
    return _averaged([one.exhibits[name] for one in heard if one.exhibits.get(name)])


def _averaged(lists: Sequence[Sequence[float]]) -> list[float] | None:
    if not lists or len({len(values) for values in lists}) > 1:
        return None
    return [math.fsum(values) / len(lists) for values in zip(*lists, strict=True)]


# --- On which examples ----------------------------------------------------------------------------

_DRAWN = 200  # points of a curve


def exposure_plot(voice: Voice, looks: Looks) -> go.Figure | None:
    """Each method's forgotten examples, the most exposed first, as a curve.

    Returns:
        The figure; None where the measure has no numbers of single examples.
    """
    curves = {
        name: found
        for name, heard in voice.heard.items()
        if (found := [v for one in heard for v in one.exhibits.get("per_point") or []])
    }
    if not curves:
        return None
    longest = max(voice.heard.values(), key=len)
    figure = go.Figure()
    nulls = [one.exhibits["per_point_null"] for one in longest if "per_point_null" in one.exhibits]
    lows, highs = (_averaged([null[end] for null in nulls]) for end in (0, 1))
    if lows and highs:
        for values, fill in ((lows, None), (highs, "tonexty")):
            figure.add_trace(_ranked(RATES, values, "chance alone, 95 %", BLUE, fill=fill))
    if (ceiling := _mean(longest, "per_point_ceiling")) is not None:
        figure.add_trace(_ranked(RATES, ceiling, "original", GREY, dash="dot"))
    for name, values in curves.items():
        n, order = len(values), sorted(values, reverse=True)
        places = sorted({round(n ** (k / (_DRAWN - 1))) for k in range(_DRAWN)})
        shares = [place / n for place in places]
        heights = [order[place - 1] for place in places]
        figure.add_trace(_ranked(shares, heights, name, looks[name][0]))
    most = max(map(len, curves.values()))
    figure.update_layout(
        height=340,
        showlegend=False,
        xaxis={
            "title": {"text": "share of the forgotten examples"},
            "type": "log",
            "range": [-math.log10(most) - 0.04, 0.02],
            "tickvals": [0.001, 0.01, 0.1, 0.2, 0.5, 1],
            "ticktext": ["0.1 %", "1 %", "10 %", "20 %", "50 %", "100 %"],
        },
        yaxis={"title": {"text": f"exposure ({escape(voice.label)})"}},
    )
    return figure


def _ranked(
    shares: Sequence[float],
    values: Sequence[float],
    name: str,
    colour: str,
    *,
    fill: str | None = None,
    dash: str = "solid",
) -> go.Scatter:
    """Numbers over the share of examples that have no less."""
    band = name.startswith("chance")
    return go.Scatter(
        x=list(shares),
        y=list(values),
        name=escape(name),
        mode="lines",
        line={"color": colour, "width": 0 if band else 2, "dash": dash},
        fill=fill,
        fillcolor=_BAND if fill else None,
        hoverinfo="skip" if band else None,
        hovertemplate=None
        if band
        else "%{x:.2%} of the examples have %{y:.4g} or more<extra>%{fullData.name}</extra>",
    )


def keys(methods: Sequence[str], looks: Looks, glyphs: Mapping[str, str]) -> list[dict[str, Any]]:
    """What symbols and lines stand for which method."""
    return [
        {"label": name, "colour": looks[name][0], "glyph": glyphs[looks[name][1]]}
        for name in methods
    ]
