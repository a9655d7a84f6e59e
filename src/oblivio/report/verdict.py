"""What a scenario's pruned models say, in sentences made from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from oblivio.bench.estimate import Estimate
from oblivio.bench.stats import ORIGINAL, RETRAIN, Results
from oblivio.bench.sweep import Disparity, Scene, Sweep, disparities, sparsity
from oblivio.report import words

USUAL = 95.0
"""The sparsity in percent at which papers compare: the nearest that was run stands for a pruner."""


def finding(scene: Scene, results: Results) -> str:
    """What was forgotten, and how much nearer to retrain pruned models come.

    Returns:
        A paragraph.
    """
    said = [words.task(scene.dense or scene.sparse[0])]
    found = disparities(scene, results)
    if not results.headline:
        said.append("No headline score was measured, so there is no average gap to compare.")
        said += [_moves(sweep, results) for sweep in scene.sweeps]
    elif not any(one.change for one in found):
        said.append(
            "Dense and pruned models cannot be compared: that takes retrain and another method, "
            "finished on both."
        )
    else:
        said += [
            _changes(usual(sweep, found), full=place == 0)
            for place, sweep in enumerate(scene.sweeps)
        ]
        said.append(_yardstick(scene, found))
    n = len({seed for comparison in scene.all for seed in comparison.seeds})
    if n < 3:
        said.append(f"This rests on {words.seeds(n)}: take it as a first impression.")
    return " ".join(filter(None, said))


def usual(sweep: Sweep, found: Sequence[Disparity]) -> tuple[Disparity, ...]:
    """The rows of a sweep at the sparsity that stands for it.

    Returns:
        Those nearest to 95 %; of two that are as near, the sparser.
    """
    best = min(sweep.sparse, key=lambda one: (abs(sparsity(one) - USUAL), -sparsity(one)))
    own = {id(row) for row in best.rows}
    return tuple(one for one in found if id(one.row) in own)


def verdict(change: Estimate) -> str:
    """Whether a change is settled, and which way.

    Returns:
        "simpler" where the interval lies below zero, "harder" where it lies above it, "open" where
        it holds zero; nothing without an interval.
    """
    if change.half is None:
        return ""
    if not change.excludes(0.0):
        return "open"
    return "simpler" if change.mean < 0 else "harder"


def _changes(rows: Sequence[Disparity], *, full: bool) -> str:
    """A pruner's effect on the average gaps: each of them, or only which way they went."""
    changes = {
        one.row.label: one
        for one in sorted(rows, key=lambda one: one.change.mean if one.change else 0.0)
        if one.change is not None and one.row.name != ORIGINAL
    }
    if not changes:
        return ""
    said = f"With models pruned by {rows[0].pruned}"
    if full:
        parts = [
            f"{label} from {words.number(one.dense.mean)} to {words.number(one.sparse.mean)} "
            f"({words.signed(one.change)})"
            for label, one in changes.items()
            if one.dense and one.sparse and one.change
        ]
        said += f", the average gap in percentage points goes for {words.listed(parts)};"
    ways: dict[str, list[str]] = {}
    for label, one in changes.items():
        ways.setdefault(verdict(one.change) if one.change else "", []).append(label)
    if "" in ways:
        return f"{said} one seed has no interval." if full else ""
    everyone = full and len(ways) == 1 and len(changes) > 1
    told = [
        f"{way} with {'all of them' if everyone else words.listed(ways[way])}"
        for way in ("simpler", "harder")
        if way in ways
    ]
    said += f" forgetting is {words.listed(told)}" if told else ""
    if "open" in ways:
        whom = "each" if everyone else words.listed(ways["open"])
        said += f"{' and' if told else ''} it is open for {whom}, whose 95 % interval holds zero"
    return f"{said}."


def _yardstick(scene: Scene, found: Sequence[Disparity]) -> str:
    """How far pruning alone moves the model that is aimed at."""
    shifts = [
        f"{words.spread(one.across)} ({one.pruned})"
        for sweep in scene.sweeps
        for one in usual(sweep, found)
        if one.row.name == RETRAIN and one.across is not None
    ]
    if not shifts:
        return ""
    return (
        "Part of a change can come from the yardstick, which pruning moves too: the average gap "
        f"of the sparse retrain to the dense one is {words.listed(shifts)}."
    )


def _moves(sweep: Sweep, results: Results) -> str:
    """Where there is no average gap: each score of the first method, dense and at its sparsest."""
    if sweep.dense is None or not sweep.dense.methods:
        return ""
    label = sweep.dense.methods[0].label
    first, *_, last = sweep.rows(label)
    moves = [
        f"{score.label} from {words.measured(first.values[name], score)} "
        f"to {words.measured(last.values[name], score)}"
        for name, score in results.scores.items()
        if first and last and name in first.values and name in last.values and name != "seconds"
    ]
    if not moves:
        return ""
    where = f"{sweep.name} {sweep.sparsities[-1]:g} %"
    return f"From dense models to those pruned by {where}, {label} goes in {words.listed(moves)}."
