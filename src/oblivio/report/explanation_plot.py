"""Plots of what methods that choose weights did to a network: where they chose, and by what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from oblivio.bench.stats import ORIGINAL
from oblivio.report.explanation import (
    Explanation,
    Histogram,
    Layer,
    layers,
    thresholds,
    together,
)
from oblivio.report.explanation_words import count, percent, ratio, span
from oblivio.report.plot import REFERENCE, escape, faint

Methods = Mapping[str, Sequence[Explanation]]
"""The explanations of each method that has some, by its label."""


def layer_plot(methods: Methods, looks: Mapping[str, tuple[str, str]]) -> go.Figure:
    """The share of each layer that was changed: bars are means over seeds, dots are seeds.

    Only the first method is visible; traces carry their label as `meta`, so that a reader can
    choose one.

    Returns:
        The figure; a network's first layer is at the top.
    """
    figure = go.Figure()
    rows, far = 1, 0.0
    for label, found in methods.items():
        parts, colour = layers(found), looks[label][0]
        rows, far = max(rows, len(parts)), max(far, *(max(part.shares) for part in parts))
        shared = {
            "name": escape(label),
            "meta": label,
            "visible": label == next(iter(methods)),
            "hoverinfo": "text",
        }
        figure.add_trace(_bars(parts, colour, len(found) > 1).update(shared))
        figure.add_trace(_counts(parts).update(shared))
        if len(found) > 1:
            figure.add_trace(_dots(parts, colour).update(shared))
    figure.update_layout(
        height=max(320, 84 + 24 * rows),
        showlegend=False,
        bargap=0.35,
        xaxis={
            "title": {"text": "changed weights (% of the layer)"},
            "range": [0, 1.45 * far or 1],  # the counts stand beside the bars
            "tickvals": _steps(far),
        },
        yaxis={"type": "category", "autorange": "reversed", "showgrid": False, "ticksuffix": " "},
    )
    return figure


def _steps(far: float) -> list[float]:
    """Ticks from 0 to the end of the bars, and not below the counts beside them."""
    if far <= 0:
        return [0.0]
    size = 10.0 ** math.floor(math.log10(far))
    step = next(size * part for part in (0.2, 0.5, 1, 2) if far / (size * part) < 6)
    return [float(f"{place * step:.6g}") for place in range(int(1.02 * far / step) + 1)]


def _bars(parts: Sequence[Layer], colour: str, several: bool) -> go.Bar:
    over = ", mean over seeds" if several else ""
    return go.Bar(
        orientation="h",
        y=[escape(part.name) for part in parts],
        x=[part.share for part in parts],
        marker={"color": faint(colour), "line": {"color": colour, "width": 1}},
        hovertext=[
            f"{escape(part.name)}: {count(part)} weights ({percent(part.share)} %){over}"
            for part in parts
        ],
    )


def _counts(parts: Sequence[Layer]) -> go.Scatter:
    """How many weights that is, beside the bars: a large share of a bias may be a single weight."""
    return go.Scatter(
        mode="text",
        y=[escape(part.name) for part in parts],
        x=[max(part.shares) for part in parts],
        text=[f"\u2002{count(part)}" for part in parts],
        textposition="middle right",
        textfont={"size": 11},
    )


def _dots(parts: Sequence[Layer], colour: str) -> go.Scatter:
    points = [
        (part.name, seed, changed, total, share)
        for part in parts
        for seed, changed, total, share in zip(
            part.seeds, part.changed, part.totals, part.shares, strict=True
        )
    ]
    return go.Scatter(
        mode="markers",
        y=[escape(name) for name, *_ in points],
        x=[share for *_, share in points],
        marker={"color": colour, "size": 6, "opacity": 0.55},
        hovertext=[
            f"seed {seed}: {changed:,} of {total:,} weights ({percent(share)} %)"
            for _, seed, changed, total, share in points
        ],
    )


def ratio_plot(methods: Methods, looks: Mapping[str, tuple[str, str]]) -> go.Figure | None:
    """How many weights have which ratio, the chosen ones on top, and the cut as a line.

    Ratios of 0 and infinity stand in bars of their own at the ends of the axis. The first method
    is visible; traces carry their label as `meta`.

    Returns:
        The figure; None where no explanation has a histogram.
    """
    figure, there = go.Figure(), {}
    for label, found in methods.items():
        histogram, _ = together(found)
        if histogram is not None:
            there[label] = histogram
    if not there:
        return None
    ends = (
        min(one.edges[0] for one in there.values()),
        max(one.edges[-1] for one in there.values()),
    )
    most = max(max(*one.all, one.zero, one.infinite, 1) for one in there.values())
    for label, histogram in there.items():
        colour = looks[label][0]
        shared = {
            "name": escape(label),
            "meta": label,
            "visible": label == next(iter(methods)),
            "hoverinfo": "text",
        }
        for counts, look in (
            (_every(histogram), {"color": REFERENCE[ORIGINAL], "opacity": 0.45}),
            ((0, *histogram.chosen, histogram.taken), {"color": colour}),
        ):
            figure.add_trace(_heights(histogram, counts, ends).update(marker=look, **shared))
        if cuts := thresholds(methods[label]):
            figure.add_trace(_cut(cuts, ends, _TALL * most, colour).update(shared))
    figure.update_layout(
        height=340,
        showlegend=False,
        barmode="overlay",
        bargap=0,
        xaxis={"title": {"text": "ratio"}, **_ratios(*ends)},
        yaxis={"title": {"text": "weights"}, **_decades(_TALL * most)},
    )
    return figure


_TALL = 4.0  # room for the cut's label above the highest bar
_LOW = 0.5  # where a logarithmic axis of counts starts, so that a single weight shows


def _every(histogram: Histogram) -> tuple[int, ...]:
    return (histogram.zero, *histogram.all, histogram.infinite)


def _apart(low: float, high: float) -> float:
    """The width of the bars of ratio 0 and infinity, and how far they stand off the others."""
    return (high - low) / 24 or 1.0


def _heights(histogram: Histogram, counts: Sequence[int], ends: tuple[float, float]) -> go.Bar:
    """A bar per bin, and those for ratio 0 and infinity."""
    apart, edges = _apart(*ends), histogram.edges
    bins = list(pairwise(edges))
    texts = [f"{ratio(10**low)} to {ratio(10**high)}" for low, high in bins]
    texts[0], texts[-1] = f"below {ratio(10 ** edges[1])}", f"from {ratio(10 ** edges[-2])}"
    chosen = (0, *histogram.chosen, histogram.taken)
    return go.Bar(
        x=[
            ends[0] - 1.5 * apart,
            *((low + high) / 2 for low, high in bins),
            ends[1] + 1.5 * apart,
        ],
        y=list(counts),
        width=[apart, *(high - low for low, high in bins), apart],
        hovertext=[
            f"ratio {text}: {every:,} weights, {some:,} of them changed"
            for text, every, some in zip(
                ("0", *texts, "infinite"), _every(histogram), chosen, strict=True
            )
        ],
    )


def _cut(cuts: Sequence[float], ends: tuple[float, float], top: float, colour: str) -> go.Scatter:
    """A line for each seed's cut, with a label that says where."""
    apart = _apart(*ends)
    places = [min(max(math.log10(cut), ends[0] - apart / 2), ends[1] + apart / 2) for cut in cuts]
    text = f"cut at {span(cuts)}"
    right = max(places) < sum(ends) / 2
    # The outermost line, which has the label, is the first: behind a gap plotly writes none.
    places.sort(reverse=right)
    return go.Scatter(
        mode="lines+text",
        x=[place for one in places for place in (one, one, None)],
        y=[top, _LOW, None] * len(places),
        text=[f"\u2009{text}\u2009"] + [""] * (3 * len(places) - 1),
        textposition="bottom right" if right else "bottom left",
        line={"color": colour, "width": 1.5, "dash": "dash"},
        hovertext=text,
    )


def _ratios(low: float, high: float) -> dict[str, Any]:
    """An axis of log10 ratios, with 0 and infinity at its ends."""
    apart = _apart(low, high)
    decades = range(math.ceil(low), math.floor(high) + 1)
    step = 1 if len(decades) < 6 else 2
    inside = [place for place in decades if place % step == 0 and low < place < high]
    return {
        "range": [low - 2.6 * apart, high + 2.6 * apart],
        "tickvals": [low - 1.5 * apart, *inside, high + 1.5 * apart],
        "ticktext": ["0", *(ratio(10.0**place) for place in inside), "∞"],
        "tickangle": 0,
        "showgrid": False,
        "zeroline": False,
    }


def _decades(top: float) -> dict[str, Any]:
    """A logarithmic axis of counts."""
    decades = range(math.floor(math.log10(top)) + 1)
    return {
        "type": "log",
        "range": [math.log10(_LOW), math.log10(top)],
        "tickvals": [10**decade for decade in decades],
        "ticktext": [f"{10**decade:,}" for decade in decades],
    }
