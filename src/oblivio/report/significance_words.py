"""Who is told apart, in sentences made from the tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from oblivio.bench.estimate import Estimate
from oblivio.bench.power import CHANCE, detectable, needed
from oblivio.bench.rank import Ranking
from oblivio.bench.significance import Pair, average_gaps, level, pairs
from oblivio.bench.stats import Comparison
from oblivio.report import words

_FEW = 3  # methods up to which each is named
_MOST = 100.0  # percentage points: no gap is larger
_MANY = 1000  # seeds that nobody runs


def verdict(comparison: Comparison, *, short: bool = False) -> str:
    """Which methods are told apart by their average gap, and what would have been seen.

    Args:
        comparison: Of one scenario.
        short: Whether to leave out differences and how many seeds it would take.

    Returns:
        Sentences; nothing where there are no two methods with a gap.
    """
    gaps = average_gaps(comparison)
    if len(gaps) < 2:
        return ""
    family = pairs(gaps)
    if not family:
        return (
            "No two methods can be told apart yet: a paired test takes at least two seeds that "
            "both have done."
        )
    best = next(iter(gaps))
    own = [pair for pair in family if best in (pair.nearer, pair.farther)]
    rest = [pair for pair in family if pair not in own]
    said = [*_told(own, short), *_open(own, best, level(family), short), *_same(own)]
    tested = {best, *(pair.beside(best) for pair in own)}
    if left := [label for label in gaps if label not in tested]:
        share = "shares" if len(left) == 1 else "share"
        said.append(f"{_named(left)} {share} fewer than two seeds with {best}: no test.")
    return " ".join([*said, *_others(rest, short)])


def method(pairs: Sequence[Pair]) -> str:
    """What the tests are, for readers of their p.

    Returns:
        A sentence.
    """
    holm = f"after Holm's correction for {len(pairs)} tests" if len(pairs) > 1 else "of one test"
    return f"Paired t tests on the average gap, seed by seed; p {holm}."


def spread(difference: Estimate) -> float:
    """The standard deviation of paired differences, without rounding errors."""
    mean = difference.mean
    squares = math.fsum((point.value - mean) ** 2 for point in difference.points)
    return round(math.sqrt(squares / (difference.n - 1)), 9)


def shown(difference: Estimate, level: float) -> float:
    """The smallest difference that these seeds would have shown with a probability of 80 %."""
    return detectable(spread(difference), difference.n, level)


def _told(own: Iterable[Pair], short: bool) -> list[str]:
    """Who is nearer than whom."""
    by_nearer: dict[str, list[Pair]] = {}
    for pair in own:
        if pair.told:
            by_nearer.setdefault(pair.nearer, []).append(pair)
    return [
        f"{nearer} is nearer to retrain than {_list(found, [p.farther for p in found], short)}."
        for nearer, found in by_nearer.items()
    ]


def _open(own: Sequence[Pair], best: str, level: float, short: bool) -> list[str]:
    """Who is not told apart from the best, and how large a difference would have been seen."""
    found = [pair for pair in own if not pair.told and spread(pair.difference) > 0]
    if not found:
        return []
    subject = "It" if any(pair.told and pair.nearer == best for pair in own) else best
    who = f"{subject} is not told apart from {_list(found, [p.beside(best) for p in found], short)}"
    ns = sorted({pair.difference.n for pair in found})
    seeds = words.seeds(ns[0]) if len(ns) == 1 else f"{ns[0]} to {ns[-1]} seeds"
    sizes = [shown(pair.difference, level) for pair in found]
    if max(sizes) >= _MOST:
        return [f"{who}: {seeds} are too few to show even {_MOST:.0f} points."]
    ends = list(dict.fromkeys(figures(size) for size in (min(sizes), max(sizes))))
    seen = f"{seeds} would have shown {' to '.join(ends)} points"
    if short:
        return [f"{who}: {seen}."]
    most = max(needed(spread(pair.difference), 1.0, level) for pair in found)
    many = f"more than {_MANY}" if most > _MANY else f"about {most}"
    takes = f", and it takes {many} to show 1 point" if most > ns[-1] else ""
    return [f"{who}: {seen} with a probability of {100 * CHANCE:.0f} %{takes}."]


def _same(own: Iterable[Pair]) -> list[str]:
    """Who has the same gap in every seed."""
    return [
        f"{pair.nearer} and {pair.farther} have the same average gap in every seed."
        for pair in own
        if not pair.told and spread(pair.difference) == 0
    ]


def _others(rest: Sequence[Pair], short: bool) -> list[str]:
    """The pairs that the best is not part of."""
    if not rest:
        return []
    told = [pair for pair in rest if pair.told]
    if len(rest) > 1:
        count = {0: "none is", len(rest): "all are"}.get(len(told), f"{len(told)} are")
        return [f"Of the {len(rest)} other pairs, {count} told apart."]
    (pair,) = rest
    if not told:
        also = f"{pair.nearer} and {pair.farther} are not told apart"
        return [f"{also} ({words.probability(pair.p)})."]
    return [f"{pair.nearer} is nearer than {_list(rest, [pair.farther], short)}."]


def _list(found: Sequence[Pair], labels: Sequence[str], short: bool) -> str:
    """Methods, each with its difference and p; of many, the range of these."""
    if len(found) > _FEW:
        least, most = (f(pair.p for pair in found) for f in (min, max))
        p = words.probability(most if found[0].told else least)
        p = p.replace("=", "≤" if found[0].told else "≥")
        return f"{_named(labels)} (each {p})"
    parts = []
    for pair, label in zip(found, labels, strict=True):
        by = "" if short else f"{words.spread(pair.difference)} points, "
        parts.append(f"{label} ({by}{words.probability(pair.p)})")
    return words.listed(parts)


def _named(labels: Sequence[str]) -> str:
    """Some labels, and how many there are besides."""
    rest = len(labels) - _FEW
    return words.listed([*labels[:_FEW], *([f"{rest} more"] if rest > 0 else [])])


def figures(value: float) -> str:
    """A number to two figures.

    Returns:
        Text.

    Example:
        >>> figures(1.234), figures(0.0123), figures(56.7)
        ('1.2', '0.012', '57')
    """
    return words.number(value, max(0, 1 - math.floor(math.log10(value))) if value > 0 else 0)


# --- Ranks --------------------------------------------------------------------------------------


def ranks(found: Ranking) -> str:
    """What mean ranks say, and how they are tested.

    Returns:
        A paragraph.
    """
    where = (
        f"{found.cases} seeds of one scenario"
        if found.scenarios == 1
        else f"{found.cases} cases (each a seed of one of {found.scenarios} scenarios)"
    )
    p = f"Friedman's test, χ² = {found.statistic:.1f}, {words.probability(found.p)}"
    if not found.differ:
        return (
            f"Over {where} the methods' order is not settled ({p}): no two of them are told apart."
        )
    if found.blind:
        return (
            f"Over {where} the methods differ ({p}), but which of them cannot be told: corrected "
            f"for {len(found.ranks)} methods, signed ranks ask for more cases."
        )
    joined = (
        f"those that a bar joins are not told apart ({found.test} tests, Holm's correction)"
        if found.groups
        else f"each two are told apart ({found.test} tests, Holm's correction)"
    )
    return f"Over {where} the methods differ ({p}); {joined}."


def omitted(found: Ranking) -> str:
    """What the ranks leave out, and how far they speak.

    Returns:
        A paragraph.
    """
    said = ["In every case the methods are ranked by their average gap, 1 for the nearest."]
    if found.partial:
        said.append(
            f"Left out for having a gap in less than half of the cases: "
            f"{words.listed(list(found.partial))}."
        )
    if found.missing:
        said.append(
            f"{found.missing} case{'' if found.missing == 1 else 's'} in which another method has "
            f"no gap {'is' if found.missing == 1 else 'are'} left out."
        )
    if found.scenarios > 1:
        said.append(
            "Seeds of one scenario share its data: this speaks for these scenarios with other "
            "seeds, not for other scenarios."
        )
    return " ".join(said)
