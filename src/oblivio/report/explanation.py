"""What methods that choose weights say of their choice: which they changed, and by which ratio.

Such a method leaves a note `explanation`, as `oblivio.curvature.selection.explanation` makes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oblivio.bench.stats import Record, Row

NOTE = "explanation"

_ROWS = 32  # layers that can be told apart in a plot


@dataclass(frozen=True)
class Histogram:
    """How many weights have which ratio.

    Args:
        edges: Of the bins, in log10 of the ratio; what lies beyond is in the outermost.
        all: Weights in each bin.
        chosen: Those of them that the method changed.
        zero: Weights of ratio 0, which are never chosen.
        infinite: Weights of infinite ratio.
        taken: Those of them that the method changed.
    """

    edges: tuple[float, ...]
    all: tuple[int, ...]
    chosen: tuple[int, ...]
    zero: int
    infinite: int
    taken: int


@dataclass(frozen=True)
class Filter:
    """An output channel or neuron: its parameter, its place, and how it was changed."""

    layer: str
    index: int
    changed: int
    total: int
    ratio: float | None


@dataclass(frozen=True)
class Explanation:
    """Which weights a method changed in a seed.

    Args:
        seed: The seed.
        key: Its record.
        layers: Each parameter's changed weights and all of its weights, in the network's order.
        histogram: Of the ratios; None if none is noted.
        threshold: The ratio of the cut; None where there is not one for all.
        filters: Those of which the largest share was changed.
        of: What the ratio is of.
        against: What the forgotten examples were compared with: "retain", or "whole" for all data.
    """

    seed: int
    key: str
    layers: Mapping[str, tuple[int, int]]
    histogram: Histogram | None
    threshold: float | None
    filters: tuple[Filter, ...]
    of: str
    against: str

    @property
    def changed(self) -> int:
        """How many weights were changed."""
        return sum(changed for changed, _ in self.layers.values())

    @property
    def total(self) -> int:
        """How many weights there are."""
        return sum(total for _, total in self.layers.values())


def explanations(row: Row) -> list[Explanation]:
    """A method's explanations, one per seed that has one."""
    found = (explained(record) for record in row.records)
    return [one for one in found if one is not None]


def explained(record: Record) -> Explanation | None:
    """What a record's note explains.

    Returns:
        The explanation; None if there is no note, or it is something else of that name.
    """
    note: Any = (record.get("notes") or {}).get(NOTE)
    try:
        layers = {str(name): (int(some), int(every)) for name, some, every in note["layers"]}
        histogram = note.get("histogram") or {}
        changed = sum(some for some, _ in layers.values())
        return Explanation(
            record["cell"]["seed"],
            record["key"],
            layers,
            _histogram(histogram, changed) if histogram else None,
            _number(histogram.get("threshold")),
            tuple(
                Filter(str(layer), int(index), int(some), int(every), _number(ratio))
                for layer, index, some, every, ratio in note.get("filters") or ()
            ),
            str(note.get("of") or "Fisher information"),
            str(note.get("against") or "retain"),
        )
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        return None


def _histogram(note: Mapping[str, Any], changed: int) -> Histogram:
    edges = _closed([float(edge) for edge in note["edges"]])
    every, chosen = (tuple(int(n) for n in note["counts"][name]) for name in ("all", "chosen"))
    if not len(every) == len(chosen) == len(edges) - 1 > 0:
        raise ValueError(f"{len(edges)} edges do not bound {len(every)} and {len(chosen)} bins.")
    infinite = int(note["infinite"])
    taken = min(infinite, max(0, changed - sum(chosen)))
    return Histogram(edges, every, chosen, int(note["zero"]), infinite, taken)


def _closed(edges: list[float]) -> tuple[float, ...]:
    """Edges without infinities: an open bin at an end is drawn as wide as its neighbour."""
    low, *inner, high = edges
    if math.isinf(low):
        low = 2 * inner[0] - inner[1]
    if math.isinf(high):
        high = 2 * inner[-1] - inner[-2]
    if not all(map(math.isfinite, (low, *inner, high))):
        raise ValueError(f"These edges do not bound bins: {edges}.")
    return (low, *inner, high)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


# --- Over seeds ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A part of the network: in each seed its changed weights, and all of its weights."""

    name: str
    seeds: tuple[int, ...]
    changed: tuple[int, ...]
    totals: tuple[int, ...]

    @property
    def shares(self) -> list[float]:
        """The percentage that was changed, by seed."""
        pairs = zip(self.changed, self.totals, strict=True)
        return [100 * changed / max(1, total) for changed, total in pairs]

    @property
    def share(self) -> float:
        """The mean of `shares`."""
        return mean(self.shares)


def layers(found: Sequence[Explanation]) -> list[Layer]:
    """The parts of the network in its order, as finely as a plot can show them.

    Those are the parameters; where they are too many, parameters whose names begin alike
    (`layer1.0.conv1.weight`, `layer1.0.bn1.weight`) count as one (`layer1.0`).

    Returns:
        One or more parts.
    """
    names = found[0].layers
    depth = max(name.count(".") for name in names) + 1 if names else 1
    while depth > 1 and len({_start(name, depth) for name in names}) > _ROWS:
        depth -= 1
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(_start(name, depth), []).append(name)
    return [
        Layer(
            part,
            tuple(one.seed for one in found),
            tuple(sum(one.layers.get(name, (0, 0))[0] for name in own) for one in found),
            tuple(sum(one.layers.get(name, (0, 0))[1] for name in own) for one in found),
        )
        for part, own in parts.items()
    ]


def _start(name: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])


def together(found: Sequence[Explanation]) -> tuple[Histogram | None, list[int]]:
    """The seeds' histograms as one; where their bins differ, the first seed's alone.

    Returns:
        The sum, and the seeds that are in it.
    """
    there = [(one.seed, one.histogram) for one in found if one.histogram is not None]
    if not there:
        return None, []
    edges = there[0][1].edges
    if any(one.edges != edges for _, one in there):
        there = there[:1]
    parts = [one for _, one in there]
    summed = Histogram(
        edges,
        tuple(map(sum, zip(*(one.all for one in parts), strict=True))),
        tuple(map(sum, zip(*(one.chosen for one in parts), strict=True))),
        sum(one.zero for one in parts),
        sum(one.infinite for one in parts),
        sum(one.taken for one in parts),
    )
    return summed, [seed for seed, _ in there]


def thresholds(found: Sequence[Explanation]) -> list[float]:
    """The seeds' cuts, as far as they can stand on a logarithmic axis."""
    return [t for one in found if (t := one.threshold) is not None and 0 < t < math.inf]


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)
