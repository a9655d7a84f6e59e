"""Plots of GANs: how often they make each class, and how real their discriminators find images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from oblivio.bench.stats import ORIGINAL, RETRAIN, Comparison, Row
from oblivio.report.plot import REFERENCE, escape, faint

INK = "#1B1F24"
"""The page's ink, which the page makes light where it is dark."""

_FORGOTTEN: dict[str, Any] = {
    "annotation": {"text": "forgotten", "yanchor": "bottom", "font": {"size": 12}},
    "annotation_position": "top",
}
_NAMED = 3  # forgotten classes up to which each is named
_PARTS = {"forget": "forget set", "held_out": "held out", "retain": "retain set"}


def class_plot(
    comparison: Comparison, looks: Mapping[str, tuple[str, str]], gone: Sequence[int]
) -> go.Figure | None:
    """How often each class is made, as means over seeds: original, the methods, retrain.

    The first method is visible; the methods carry their label as `meta`, so that a reader can
    choose one. Forgotten classes stand in a band.

    Returns:
        The figure; None where no record has the shares.
    """
    figure, first = go.Figure(), next((row.label for row in comparison.methods), None)
    ends = [comparison.row(name) for name in (ORIGINAL, RETRAIN)]
    for row in (ends[0], *comparison.methods, ends[1]):
        seeds = {} if row is None else _shares(row)
        if row is None or not seeds:
            continue
        means = [math.fsum(column) / len(seeds) for column in zip(*seeds.values(), strict=True)]
        colour, method = looks[row.label][0], row.name not in REFERENCE
        figure.add_trace(
            go.Bar(
                x=[str(place) for place in range(len(means))],
                y=means,
                name=escape(row.label),
                meta=row.label if method else None,
                visible=not method or row.label == first,
                marker={"color": colour},
                hovertext=[
                    f"class {place}: {mean:.1f} %" + _seeds(seeds, place)
                    for place, mean in enumerate(means)
                ],
                hovertemplate="%{hovertext}<extra>%{fullData.name}</extra>",
            )
        )
    if not figure.data:
        return None
    for place in gone:
        figure.add_vrect(
            x0=place - 0.5,
            x1=place + 0.5,
            fillcolor=REFERENCE[ORIGINAL],
            opacity=0.16,
            line_width=0,
            layer="below",
            **(_FORGOTTEN if len(gone) <= _NAMED else {}),
        )
    figure.update_layout(
        height=320,
        showlegend=False,
        bargap=0.25,
        xaxis={"title": {"text": "class, as the judge sees it"}, "type": "category"},
        yaxis={"title": {"text": "share of generated images (%)"}, "rangemode": "tozero"},
    )
    return figure


def _shares(row: Row) -> dict[int, list[float]]:
    """The share of each class, by seed; lists that are not as long as the first are left out."""
    found: dict[int, list[float]] = {}
    for record in row.records:
        shares = (record.get("exhibits") or {}).get("class_shares")
        if shares and len(shares) == len(next(iter(found.values()), shares)):
            found[record["cell"]["seed"]] = [float(share) for share in shares]
    return found


def _seeds(seeds: Mapping[int, Sequence[float]], place: int) -> str:
    """The single seeds, where there are several."""
    if len(seeds) < 2:
        return ""
    return "".join(f"<br>seed {seed}: {shares[place]:.1f} %" for seed, shares in seeds.items())


def discriminator_plot(
    scores: Mapping[str, Mapping[str, Sequence[float]] | None],
    looks: Mapping[str, tuple[str, str]],
) -> go.Figure | None:
    """How real a discriminator finds images: its logits of forget set, held-out and retain set.

    What is beyond the inner 99 % of all logits is counted in the outermost bins. The first model is
    visible; traces carry their label as `meta`.

    Args:
        scores: The logits of each model, by its label and by the part of the data.
        looks: Each label's colour and symbol.

    Returns:
        The figure; None where there are no logits.
    """
    figure = go.Figure()
    shown: str | None = None
    for label, by_part in scores.items():
        logits = {part: _finite((by_part or {}).get(part)) for part in _PARTS}
        if not len(logits["forget"]) or not len(logits["held_out"]):
            continue
        shown = shown or label
        edges = _edges(
            np.concatenate([*logits.values()]),
            min(len(logits[part]) for part in ("forget", "held_out")),
        )
        for part, style in _styles(looks[label][0]).items():
            if len(logits[part]):
                trace = _steps(logits[part], edges, _PARTS[part]).update(style)
                figure.add_trace(trace.update(meta=label, visible=label == shown))
    if not figure.data:
        return None
    figure.update_layout(
        height=280,
        showlegend=False,
        xaxis={"title": {"text": "D’s logit: further right seems more real"}, "zeroline": False},
        yaxis={"title": {"text": "share of the set (%)"}, "rangemode": "tozero"},
    )
    return figure


def _finite(values: Sequence[float] | None) -> np.ndarray:
    found = np.array([v for v in values or () if isinstance(v, int | float)], dtype=float)
    return found[np.isfinite(found)]


def _edges(values: np.ndarray, fewest: int) -> np.ndarray:
    """Of as many bins as the smallest set can fill: 2 n^⅓, the Rice rule."""
    low, high = np.percentile(values, (0.5, 99.5))
    bins = math.ceil(2 * fewest ** (1 / 3))
    return np.linspace(low, high, bins + 1) if low < high else low + np.array([-0.5, 0.5])


def _styles(colour: str) -> dict[str, dict[str, Any]]:
    """The forget set as an area, what D never saw as a line, what it knows as a dotted one."""
    return {
        "forget": {
            "line": {"color": colour, "width": 1, "shape": "hv"},
            "fill": "tozeroy",
            "fillcolor": faint(colour),
        },
        "retain": {
            "line": {"color": REFERENCE[ORIGINAL], "width": 2, "dash": "dot", "shape": "hv"}
        },
        "held_out": {"line": {"color": INK, "width": 2, "shape": "hv"}},
    }


def _steps(values: np.ndarray, edges: np.ndarray, name: str) -> go.Scatter:
    """A histogram as a line of steps, in percent."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    shares = 100 * counts / len(values)
    return go.Scatter(
        x=[round(float(edge), 4) for edge in edges],
        y=[round(float(share), 3) for share in (*shares, shares[-1])],
        mode="lines",
        name=name,
        hovertemplate="from %{x:.2f}: %{y:.1f} %<extra>%{fullData.name}</extra>",
    )
