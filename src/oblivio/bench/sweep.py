"""Dense against sparse: what a scenario's comparisons say together when some models are pruned.

With a_i the average gap of seed i, of the dense model to the dense retrain, and of the pruned model
to the retrain that is pruned likewise:

    change   c_i = a_i(sparse) − a_i(dense)

It is negative where sparsity makes forgetting simpler. But a pruned retrain may be a weaker model,
hence easier to be near to: `across` is the average gap of the pruned model to the *dense* retrain,
and for retrain itself how far pruning alone moves the yardstick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oblivio.bench import label
from oblivio.bench.estimate import Estimate, paired
from oblivio.bench.spec import canonical
from oblivio.bench.stats import RETRAIN, Comparison, Results, Row, average_gap, gaps_to


@dataclass(frozen=True)
class Sweep:
    """One pruner in one scenario, from the lowest sparsity to the highest.

    Args:
        name: The pruner's, with its settings where another of that name stands beside it.
        dense: The comparison of dense models, if any of its cells is done.
        sparse: The comparisons of pruned models.
    """

    name: str
    dense: Comparison | None
    sparse: tuple[Comparison, ...]

    @property
    def all(self) -> tuple[Comparison, ...]:
        """The dense comparison, if there is one, then the sparse ones."""
        return (*([] if self.dense is None else [self.dense]), *self.sparse)

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The share of weights that is removed, in percent, one for each of `all`."""
        return tuple(sparsity(comparison) for comparison in self.all)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every method's label, in the order of the comparisons."""
        return tuple(dict.fromkeys(row.label for found in self.all for row in found.rows))

    def rows(self, label: str) -> tuple[Row | None, ...]:
        """A method's row in each of `all`; None where it has no finished record."""
        return tuple(
            next((row for row in found.rows if row.label == label), None) for found in self.all
        )


@dataclass(frozen=True)
class Disparity:
    """A method on pruned models beside the same method on dense ones.

    Args:
        pruned: The pruner and the sparsity.
        row: The method on the pruned models.
        dense: Average gap of the dense model to the dense retrain.
        sparse: Average gap of the pruned model to the retrain that is pruned likewise.
        change: sparse − dense, paired by seed; negative where sparsity makes forgetting simpler.
        across: Average gap of the pruned model to the dense retrain.
    """

    pruned: str
    row: Row
    dense: Estimate | None
    sparse: Estimate | None
    change: Estimate | None
    across: Estimate | None


@dataclass(frozen=True)
class Scene:
    """A scenario: its dense models, and its pruned ones.

    Args:
        title: The scenario's.
        dense: The comparison of dense models, if any of its cells is done.
        sweeps: One for each pruner.
    """

    title: str
    dense: Comparison | None
    sweeps: tuple[Sweep, ...]

    @property
    def sparse(self) -> tuple[Comparison, ...]:
        """The comparisons of pruned models, sweep by sweep."""
        return tuple(comparison for sweep in self.sweeps for comparison in sweep.sparse)

    @property
    def all(self) -> tuple[Comparison, ...]:
        """The dense comparison, if there is one, then the sparse ones."""
        return (*([] if self.dense is None else [self.dense]), *self.sparse)


def sparsity(comparison: Comparison) -> float:
    """The share of weights that a comparison's pruner removes, in percent; 0 if none is known."""
    return 100 * float((comparison.pruner or {}).get("sparsity") or 0)


def scenes(results: Results) -> tuple[Scene, ...]:
    """Put together the comparisons that differ in nothing but the pruner.

    Returns:
        One for each scenario, in the order of the comparisons.
    """
    grouped: dict[str, list[Comparison]] = {}
    around: dict[str, Mapping[str, Any]] = {}
    for comparison in results.comparisons:
        shared = {k: v for k, v in comparison.surroundings.items() if k != "pruner"}
        around[canonical(shared)] = shared
        grouped.setdefault(canonical(shared), []).append(comparison)
    titles = label.titles(around.values())
    found = []
    for key, group in grouped.items():
        dense = next((one for one in group if one.pruner is None), None)
        title = titles[key] if dense is None else dense.title
        found.append(Scene(title, dense, _sweeps(group, dense)))
    return tuple(found)


def _sweeps(group: Sequence[Comparison], dense: Comparison | None) -> tuple[Sweep, ...]:
    """A sweep for each pruner's name, or for each of its settings where a sparsity comes twice."""
    by_name: dict[str, list[tuple[Mapping[str, Any], Comparison]]] = {}
    for one in group:
        if one.pruner is not None:
            by_name.setdefault(one.pruner["name"], []).append((one.pruner, one))
    found = []
    for pairs in by_name.values():
        settings = [{k: v for k, v in pruner.items() if k != "sparsity"} for pruner, _ in pairs]
        if len({sparsity(one) for _, one in pairs}) == len(pairs):
            settings = [{"name": pruner["name"]} for pruner, _ in pairs]
        for key, name in label.pruners(settings).items():
            own = [one for (_, one), s in zip(pairs, settings, strict=True) if canonical(s) == key]
            found.append(Sweep(name, dense, tuple(sorted(own, key=sparsity))))
    return tuple(found)


def disparities(scene: Scene, results: Results) -> tuple[Disparity, ...]:
    """Every method's average gap on dense and on pruned models, retrain's shift among them.

    Returns:
        For each pruner and sparsity a row per method; none where no headline score was measured.
    """
    if not results.headline:
        return ()
    names = label.pruners(comparison.pruner or {} for comparison in scene.sparse)
    rows = {row.label: row for row in scene.dense.rows} if scene.dense else {}
    yardstick = scene.dense.row(RETRAIN) if scene.dense else None
    found = []
    for comparison in scene.sparse:
        for row in comparison.rows:
            twin = rows.get(row.label)
            rival = {} if yardstick is None else yardstick.values
            across = average_gap(gaps_to(rival, row.values), results.headline)
            ours, theirs = (
                None if one is None or one.name == RETRAIN else one.gap for one in (row, twin)
            )
            pruned = names[canonical(comparison.pruner)]
            found.append(Disparity(pruned, row, theirs, ours, paired(ours, theirs), across))
    return tuple(found)
