"""Plots of what shadow models say: what attacks find, and on which examples.

In all of them the null is a band in retrain's blue, the ceiling a dotted line in original's grey.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from oblivio.bench.stats import ORIGINAL, RETRAIN
from oblivio.report.plot import REFERENCE, escape
from oblivio.report.proof import Heard, Voice
from oblivio.shadow import RATES

BLUE, GREY = REFERENCE[RETRAIN], REFERENCE[ORIGINAL]
BAND = f"{BLUE}38"  # mostly transparent; the page lightens its blue where it is dark

Looks = Mapping[str, tuple[str, str]]


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
        fillcolor=BAND if fill else None,
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
        fillcolor=BAND if fill else None,
        hoverinfo="skip" if band else None,
        hovertemplate=None
        if band
        else "%{x:.2%} of the examples have %{y:.4g} or more<extra>%{fullData.name}</extra>",
    )
