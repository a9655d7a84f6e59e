"""Numbers and findings in words, the same on the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from oblivio.bench.estimate import Estimate
from oblivio.bench.significance import Pair, average_gaps, pairs
from oblivio.bench.stats import ORIGINAL, RETRAIN, Comparison, Results, Row
from oblivio.core import Score

ABSENT = "–"
_TIED = "\u00a0"
POWER, COIN = "mia_power", 52.0
"""The membership attack's own hit rate, and the percentage below which it may be a coin."""


def number(value: float, digits: int = 2) -> str:
    """A number with a true minus sign.

    Returns:
        Text.

    Example:
        >>> number(-1.234)
        '−1.23'
    """
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "−")


def plus(value: float, digits: int = 2) -> str:
    """As `number`, with a plus sign above zero.

    Returns:
        Text.
    """
    text = number(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Returns:
        Text with a unit.

    Example:
        >>> duration(0.0123), duration(4.56), duration(8000.0)
        ('12 ms', '4.6 s', '2.2 h')
    """
    if seconds < 0.0005:
        return "<1 ms"
    size, unit = _unit(seconds)
    return f"{_rounded(seconds / size, seconds / size)} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    """The unit that suits a time, and its seconds."""
    units = ((0.9995, 1e-3, "ms"), (99.5, 1.0, "s"), (5970.0, 60.0, "min"))
    return next(((size, unit) for most, size, unit in units if seconds < most), (3600.0, "h"))


def _rounded(value: float, like: float) -> str:
    return f"{value:.1f}" if like < 9.95 else f"{value:,.0f}"


def speed(rte: Estimate) -> str:
    """How a time compares with retrain's.

    Returns:
        Such as "8.1× faster".
    """
    if rte.mean <= 1:
        return f"{_factor(1 / rte.mean)}× faster"
    return f"{_factor(rte.mean)}× slower"


def spread(estimate: Estimate, digits: int = 2) -> str:
    """The mean and the interval's half-width, "97.13 ± 0.25", or the mean alone for one seed."""
    mean = number(estimate.mean, digits)
    return mean if estimate.half is None else f"{mean} ± {number(estimate.half, digits)}"


def signed(estimate: Estimate, digits: int = 2) -> str:
    """As `spread`, with a plus sign where the mean is above zero."""
    half = "" if estimate.half is None else f" ± {number(estimate.half, digits)}"
    return f"{plus(estimate.mean, digits)}{half}"


def digits(estimate: Estimate, score: Score, most: int = 2) -> int:
    """How many decimals a number deserves: fixed for percentages, three figures where no unit says.

    Returns:
        From 0 to 8.
    """
    if score.unit or not estimate.mean:
        return most
    return min(8, max(0, 2 - math.floor(math.log10(abs(estimate.mean)))))


def measured(estimate: Estimate, score: Score, most: int = 2) -> str:
    """An estimate as its unit asks: seconds are scaled, percentages have fixed decimals.

    Returns:
        Such as "97.13 ± 0.25" or "4.0 ± 0.4 s".
    """
    if score.unit != "s":
        return spread(estimate, digits(estimate, score, most))
    if estimate.half is None or abs(estimate.mean) < 0.0005:
        return duration(estimate.mean)
    size, unit = _unit(estimate.mean)
    mean, half = (_rounded(v / size, estimate.mean / size) for v in (estimate.mean, estimate.half))
    return f"{mean} ± {half} {unit}"


def probability(p: float) -> str:
    """A p as papers print it; no line breaks at its spaces.

    Returns:
        Text.

    Example:
        >>> [probability(p).replace(_TIED, " ") for p in (0.00002, 0.0123, 0.5)]
        ['p < 0.001', 'p = 0.012', 'p = 0.50']
    """
    text = "p < 0.001" if p < 0.001 else f"p = {p:.{3 if p < 0.0995 else 2}f}"
    return text.replace(" ", _TIED)


def direction(score: Score) -> str:
    """Which way is better, in words."""
    return {
        "up": "higher is better",
        "down": "lower is better",
        "retrain": "nearer to retrain is better",
    }[score.better]


def seeds(n: int) -> str:
    """How many seeds, and what that allows.

    Returns:
        Such as "3 seeds".
    """
    return f"{n} seed" if n == 1 else f"{n} seeds"


def listed(words: list[str], last: str = "and") -> str:
    """Words in a row.

    Returns:
        Text.

    Example:
        >>> listed(["UA", "RA", "TA"])
        'UA, RA and TA'
    """
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# --- Findings -----------------------------------------------------------------------------------


def summary(comparison: Comparison, results: Results) -> str:
    """What was forgotten, how well and how fast, beside what; made from the numbers.

    Returns:
        A paragraph.
    """
    said = [task(comparison)]
    ranked = sorted((r.gap.mean, r.label, r) for r in comparison.methods if r.gap is not None)
    if comparison.row(RETRAIN) is None:
        said.append("Retraining has no finished record here, so nothing can be compared.")
    elif not ranked:
        said.append("No other method has a finished record that can be compared with it yet.")
    else:
        best, *others = (row for _, _, row in ranked)
        tests = pairs(average_gaps(comparison))
        said += [_nearest(best), _lead(best, others, tests), _nothing(best, comparison, tests)]
        said.append(_apart(best, results))
    if len(comparison.seeds) < 3:
        said.append(f"This rests on {seeds(len(comparison.seeds))}: take it as a first impression.")
    return " ".join(filter(None, said))


def caution(*comparisons: Comparison) -> str:
    """A warning where the membership attack had next to nothing to learn from.

    Returns:
        A sentence, or nothing.
    """
    weak = {
        row.label: None
        for comparison in comparisons
        for row in comparison.rows
        if POWER in row.values and min(p.value for p in row.values[POWER].points) < COIN
    }
    if not weak:
        return ""
    return (
        f"Mind the MIA of {listed(list(weak))}: in a seed or more its attack told members from "
        f"test data right in less than {COIN:.0f} % (a coin: 50), and then its verdict can be "
        "anything."
    )


def task(comparison: Comparison) -> str:
    """What was to be forgotten, how often, and what it is measured by.

    Returns:
        A sentence or two.
    """
    splits = [r["split"] for row in comparison.rows for r in row.records if r.get("split")]
    if not splits:
        return "How many examples were to be forgotten is not on record."
    sizes = [split["forget"] for split in splits]
    total = max(split["forget"] + split["retain"] for split in splits)
    size = " to ".join(dict.fromkeys(f"{end:,}" for end in (min(sizes), max(sizes))))
    n = len(comparison.seeds)
    again = "once" if n == 1 else f"{n} times, each with another seed"
    return (
        f"A trained model was asked to forget {size} of its {total:,} training examples "
        f"({100 * max(sizes) / total:.2g} %), {again}. The yardstick is retrain: "
        "a model trained from scratch without them."
    )


def _nearest(best: Row) -> str:
    """Which method came nearest, and how fast."""
    pace = f", and {speed(best.rte)}," if best.rte is not None else ""
    return (
        f"Nearest to it{pace} came {best.label}: its average gap over the headline scores is "
        f"{_gap(best)} percentage points."
    )


def _lead(best: Row, others: list[Row], tests: Sequence[Pair]) -> str:
    """Whether the order of the first two is settled."""
    if not others:
        return ""
    second = others[0]
    test = _between(best, second, tests)
    if test is None:
        verdict = "with one seed, nothing says whether that order would hold"
    elif test.told:
        verdict = f"a paired test tells the two apart ({probability(test.p)})"
    else:
        p = probability(test.p)
        verdict = f"a paired test does not tell the two apart ({p}): the order is not settled"
    return f"Next is {second.label} with {_gap(second)}; {verdict}."


def _nothing(best: Row, comparison: Comparison, tests: Sequence[Pair]) -> str:
    """How much better that is than to do nothing."""
    original = comparison.row(ORIGINAL)
    if original is None or original.gap is None:
        return ""
    test = _between(best, original, tests)
    if test is None or not test.told:
        verdict = "which this method does not clearly beat"
    elif test.nearer == best.label:
        verdict = "which this method beats"
    else:
        verdict = "which is better than this method"
    return f"Doing nothing, the original model has a gap of {_gap(original)}, {verdict}."


def _between(first: Row, second: Row, tests: Sequence[Pair]) -> Pair | None:
    """The test of two methods; None where too few seeds are shared."""
    both = {first.label, second.label}
    return next((test for test in tests if {test.nearer, test.farther} == both), None)


def _apart(best: Row, results: Results) -> str:
    """In which headline scores the method can be told from retrain."""
    rows = {name: best.differences[name] for name in results.headline if name in best.differences}
    if any(difference.half is None for difference in rows.values()):
        return ""
    apart = [
        f"{results.scores[name].label} ({'+' if d.mean > 0 else ''}{spread(d)})"
        for name, d in rows.items()
        if d.excludes(0.0)
    ]
    if not apart:
        return (
            f"In none of the headline scores can {best.label} be told from retrain at this number "
            "of seeds, which is not yet a proof that they are the same."
        )
    return f"It still differs from retrain in {listed(apart)}."


def _gap(row: Row) -> str:
    return ABSENT if row.gap is None else spread(row.gap)


def _factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
