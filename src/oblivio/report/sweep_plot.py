"""Plots of pruned models: scores over sparsity, and average gaps from dense to sparse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from oblivio.bench.estimate import Estimate
from oblivio.bench.stats import ORIGINAL, RETRAIN, Row
from oblivio.bench.sweep import Disparity, Sweep
from oblivio.core import Score
from oblivio.report import words
from oblivio.report.plot import axis, bars, escape, logarithmic

GAP = Score("Avg gap", "pp", "down", "mean distance to retrain over the headline scores")
GLYPHS = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "triangle-up": "▲",
    "cross": "✚",
    "x": "✖",
    "star": "★",
    "diamond-tall": "♦",
    "circle-open": "○",
}
_DASHES = ("solid", "dash", "longdashdot")  # dots are for the dense models


def dashes(looks: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """A line's dash for each label, so that methods that share a colour differ in it."""
    seen: dict[str, int] = {}
    found = {}
    for label, (colour, _) in looks.items():
        place = seen.setdefault(colour, 0)
        seen[colour] += 1
        found[label] = _DASHES[place % len(_DASHES)]
    return found


def ticks(sweep: Sweep) -> list[str]:
    """The sparsities as a person writes them; the dense model is 0, unless pruning to 0 is too."""
    zero = "dense" if any(share == 0 for share in sweep.sparsities[1:]) else "0"
    shares = sweep.sparsities if sweep.dense is None else sweep.sparsities[1:]
    return [*([] if sweep.dense is None else [zero]), *(f"{share:g}" for share in shares)]


def sweep_plot(
    sweep: Sweep,
    pick: Callable[[Row], Estimate | None],
    score: Score,
    looks: Mapping[str, tuple[str, str]],
) -> go.Figure | None:
    """A number over sparsity: a line per method with its intervals, and dotted its dense value.

    Args:
        sweep: One pruner's comparisons.
        pick: The number of a row.
        score: What it means.
        looks: Each label's colour and symbol.

    Returns:
        The figure; None where no method has the number.
    """
    drawn: dict[str, list[Estimate | None]] = {}
    for label in sweep.labels:
        rows = sweep.rows(label)
        name = next(row.name for row in rows if row is not None)
        if name != ORIGINAL and not (name == RETRAIN and score is GAP):
            drawn[label] = [None if row is None else pick(row) for row in rows]
    drawn = {label: found for label, found in drawn.items() if any(found)}
    if not drawn:
        return None
    means = [one.mean for found in drawn.values() for one in found if one is not None]
    steep = score.unit in ("", "s") and min(means) > 0 and max(means) / min(means) >= 10
    figure = go.Figure()
    last = len(sweep.all) - 1
    for place, (label, found) in enumerate(drawn.items()):
        shift = (place - (len(drawn) - 1) / 2) * min(0.07, 0.4 / len(drawn))
        colour = looks[label][0]
        if sweep.dense is not None and found[0] is not None:
            figure.add_trace(_level(found[0].mean, last, colour))
        figure.add_trace(_line(label, found, shift, sweep, score, looks, steep=steep))
    yaxis: dict[str, Any] = {"title": {"text": axis(score)}}
    if steep:
        yaxis |= logarithmic(means)
    elif score is GAP:
        yaxis["rangemode"] = "tozero"
    figure.update_layout(
        height=270,
        showlegend=False,
        xaxis={
            "title": {"text": "sparsity (%)"},
            "tickvals": list(range(last + 1)),
            "ticktext": ticks(sweep),
            "range": [-0.4, last + 0.4],
            "zeroline": False,
        },
        yaxis=yaxis,
    )
    return figure


def _level(mean: float, last: int, colour: str) -> go.Scatter:
    """The dense value, dotted across all sparsities."""
    return go.Scatter(
        x=[-0.4, last + 0.4],
        y=[mean, mean],
        mode="lines",
        line={"color": colour, "width": 1.2, "dash": "dot"},
        opacity=0.8,
        hoverinfo="skip",
    )


def _line(
    label: str,
    found: Sequence[Estimate | None],
    shift: float,
    sweep: Sweep,
    score: Score,
    looks: Mapping[str, tuple[str, str]],
    *,
    steep: bool,
) -> go.Scatter:
    """A method's means over sparsity; where one is missing, the line is broken."""
    colour, symbol = looks[label]
    unit = f" {score.unit}" if score.unit not in ("", "s") else ""
    up = [0.0 if one is None or one.high is None else one.high - one.mean for one in found]
    down = [0.0 if one is None or one.low is None else one.mean - one.low for one in found]
    if steep:  # a logarithmic axis has no room for 0
        down = [
            min(end, 0.99 * one.mean) if one else 0.0 for end, one in zip(down, found, strict=True)
        ]
    return go.Scatter(
        x=[_brief(place + shift) for place in range(len(found))],
        y=[None if one is None else _brief(one.mean) for one in found],
        name=escape(label),
        mode="lines+markers",
        connectgaps=False,
        line={"color": colour, "width": 2, "dash": dashes(looks)[label]},
        marker={"color": colour, "size": 8, "symbol": symbol},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [_brief(end) for end in up],
            "arrayminus": [_brief(end) for end in down],
            "color": colour,
            "thickness": 1.5,
            "width": 3,
        },
        customdata=[
            ""
            if one is None
            else f"{_named(tick)}: {words.measured(one, score)}{unit} (n = {one.n})"
            for tick, one in zip(ticks(sweep), found, strict=True)
        ],
        hovertemplate="%{customdata}<extra>%{fullData.name}</extra>",
    )


def _brief(value: float) -> float:
    """Six figures: enough to see, and a page with many plots stays small."""
    return float(f"{value:.6g}")


def _named(tick: str) -> str:
    return "dense" if tick in ("0", "dense") else f"{tick} %"


def disparity_plot(
    disparities: Sequence[Disparity], looks: Mapping[str, tuple[str, str]], chosen: str
) -> go.Figure | None:
    """Each method's average gap on dense models, tied to that on pruned ones.

    A trace's `meta` is its pruner and sparsity, so that a reader can choose.

    Args:
        disparities: A scenario's.
        looks: Each label's colour and symbol.
        chosen: The pruner and sparsity that are shown at first.

    Returns:
        The figure; None where no method has both gaps.
    """
    kept = [d for d in disparities if d.change is not None and d.row.name != ORIGINAL]
    labels = list(dict.fromkeys(d.row.label for d in kept))
    if not kept:
        return None
    figure = go.Figure()
    for found in kept:
        for trace in _dumbbell(found, labels.index(found.row.label), looks[found.row.label]):
            figure.add_trace(trace.update(meta=found.pruned, visible=found.pruned == chosen))
    figure.update_layout(
        height=90 + 44 * max(2, len(labels)),
        showlegend=False,
        xaxis={"title": {"text": "average gap (pp)"}, "rangemode": "tozero"},
        yaxis={
            "tickvals": list(range(len(labels))),
            "ticktext": [escape(label).replace(" ", "<br>") for label in labels],
            "range": [len(labels) - 0.4, -0.6],
            "showgrid": False,
            "zeroline": False,
        },
    )
    return figure


def _dumbbell(found: Disparity, place: int, look: tuple[str, str]) -> list[go.Scatter]:
    """The dense gap, tied to the sparse one below it, and a tick at that to the dense retrain."""
    colour, symbol = look
    ends = (
        ("dense", found.dense, place - 0.16, "circle-open"),
        ("sparse", found.sparse, place + 0.16, symbol),
        ("sparse to dense retrain", found.across, place + 0.16, "line-ns"),
    )
    there = [(what, value, y, sign) for what, value, y, sign in ends if value is not None]
    tie = go.Scatter(
        x=[value.mean for _, value, *_ in there[:2]],
        y=[y for *_, y, _ in there[:2]],
        mode="lines",
        line={"color": colour, "width": 1.5},
        opacity=0.5,
        hoverinfo="skip",
    )
    marks = [
        go.Scatter(
            x=[value.mean],
            y=[y],
            name=escape(found.row.label),
            mode="markers",
            marker={
                "color": colour,
                "symbol": sign,
                "size": 14 if sign == "line-ns" else 10,
                "line": {"color": colour, "width": 2},
            },
            error_x=None if sign == "line-ns" else bars(value, colour),
            hovertemplate=f"{what}: {words.spread(value)} pp (n = {value.n})"
            "<extra>%{fullData.name}</extra>",
        )
        for what, value, y, sign in there
    ]
    return [tie, *marks]
