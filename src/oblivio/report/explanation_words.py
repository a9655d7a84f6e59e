"""What methods that choose weights did to a network, in sentences made from their explanations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from oblivio.report import words
from oblivio.report.explanation import Explanation, Layer, layers, mean, thresholds, together

_MEASURES = {
    "Fisher information": "its Fisher information",
    "sensitivity": "how sensitive the network's outputs are to it",
}
_RIVALS = {"retain": "an average retained one", "whole": "an average training example"}


def said(label: str, found: Sequence[Explanation]) -> list[str]:
    """What a method changed, and how it chose, for a reader who knows neither.

    Returns:
        Paragraphs of HTML.
    """
    if not any(one.changed for one in found):
        every = whole(mean([one.total for one in found]))
        return [Markup("{} changed none of the {} weights.").format(label, every)]
    told = " ".join([_meaning(found[0]), *_cut(found), *_beyond(found)])
    return [_changes(label, found), Markup.escape(told)]


def _changes(label: str, found: Sequence[Explanation]) -> Markup:
    """How much was changed, and where most of it."""
    some, every = mean([one.changed for one in found]), mean([one.total for one in found])
    again = "" if len(found) == 1 else f", the mean over {words.seeds(len(found))}"
    parts = layers(found)
    most = max(parts, key=lambda one: mean(one.changed))
    # A bias of ten with one changed has a large share and says little: it is left to the plot.
    weighty = [one for one in parts if mean(one.changed) >= some / 100]
    hardest = max(weighty, key=lambda one: one.share)
    told = Markup("{} changed {} of {} weights ({}{}), {} of them in <code>{}</code>").format(
        label,
        whole(some),
        whole(every),
        _share(100 * some / every),
        again,
        "most" if mean(most.changed) > some / 2 else "the largest part",
        most.name,
    )
    told += f": {whole(mean(most.changed))}, which is {_share(most.share)} of it."
    if hardest is not most:
        told += Markup(" For its size, <code>{}</code> changed most: {} ({}).").format(
            hardest.name, count(hardest), _share(hardest.share)
        )
    return told


def _meaning(one: Explanation) -> str:
    """What a ratio says."""
    return (
        "It chose them by a ratio: a weight with ratio 10 mattered ten times as much to an average "
        f"forgotten example as to {_RIVALS.get(one.against, one.against)}, measured by "
        f"{_MEASURES.get(one.of, one.of)}."
    )


def _cut(found: Sequence[Explanation]) -> list[str]:
    """Where the cut was."""
    cuts = thresholds(found)
    return [f"The cut was at a ratio of {span(cuts)}."] if cuts else []


def _beyond(found: Sequence[Explanation]) -> list[str]:
    """How many weights have no place on a logarithmic axis."""
    histogram, seeds = together(found)
    if histogram is None:
        return []
    zero, infinite = (n / len(seeds) for n in (histogram.zero, histogram.infinite))
    every = zero + infinite + sum(histogram.all) / len(seeds)
    parts = []
    if zero:
        parts.append(
            f"{_rounded(zero)} ({_share(100 * zero / every)}) have ratio\u00a00, for they do not "
            "matter to the forgotten examples"
        )
    if infinite:
        parts.append(
            f"{_rounded(infinite)} have an infinite one, for they matter to the forgotten "
            "examples alone"
        )
    return [f"Of all weights, {words.listed(parts)}."] if parts else []


def span(cuts: Sequence[float]) -> str:
    """The seeds' cuts: the least and the greatest, which may be one."""
    return " to ".join(dict.fromkeys(ratio(end) for end in (min(cuts), max(cuts))))


def _rounded(number: float) -> str:
    return whole(round(number) if number >= 1 else number)


def _share(share: float) -> str:
    return f"{percent(share)}\u00a0%"


def beside(found: Sequence[Explanation]) -> str:
    """How to read the plot of the layers.

    Returns:
        A few sentences.
    """
    told = ["Beside a bar stands how many weights it is."]
    if len(found) > 1:
        told.append("Bars are means over seeds, dots the seeds.")
    if len(layers(found)) < len(found[0].layers):
        told.append("Layers whose names begin alike share a bar.")
    return " ".join(told)


def summed(found: Sequence[Explanation]) -> str:
    """How the seeds' histograms became one.

    Returns:
        A sentence, or nothing.
    """
    _, seeds = together(found)
    if len(seeds) > 1:
        return f"Counts are summed over {words.seeds(len(seeds))}; each has a line for its cut."
    if len(found) > 1 and seeds:
        return f"Counts are those of seed {seeds[0]}, for the seeds' bins differ."
    return ""


def filter_rows(one: Explanation) -> list[tuple[str, str, str, str, str]]:
    """The table of what was changed most: layer, index, count, percentage, median ratio.

    Returns:
        A row each.
    """
    return [
        (
            row.layer,
            str(row.index),
            f"{row.changed:,} of {row.total:,}",
            percent(100 * row.changed / max(1, row.total)),
            ratio(row.ratio),
        )
        for row in one.filters
    ]


def count(layer: Layer) -> str:
    """How many of how many weights were changed, on average over seeds."""
    return f"{whole(mean(layer.changed))} of {whole(mean(layer.totals))}"


def whole(number: float) -> str:
    """A number of weights; a small mean keeps a decimal."""
    return f"{number:,.0f}" if number >= 10 or number == round(number) else f"{number:.1f}"


def percent(share: float) -> str:
    """A percentage with two figures.

    Returns:
        Text without the sign.

    Example:
        >>> percent(0.0), percent(0.034), percent(1.0), percent(99.99), percent(100.0)
        ('0', '0.034', '1.0', '>99.9', '100')
    """
    if share in (0.0, 100.0):
        return f"{share:.0f}"
    if share < 0.001:
        return "<0.001"
    if share > 99.9:
        return ">99.9"
    if share > 99:
        return f"{share:.1f}"
    return f"{share:.0f}" if share >= 9.95 else f"{float(f'{share:.2g}'):.{_places(share)}f}"


def _places(share: float) -> int:
    return 1 - math.floor(math.log10(float(f"{share:.2g}")))


def ratio(value: float | None) -> str:
    """A ratio with three figures.

    Returns:
        Text; a dash where there is none.

    Example:
        >>> ratio(None), ratio(0.01234), ratio(11.2), ratio(12345.0), ratio(math.inf)
        ('–', '0.0123', '11.2', '12,300', '∞')
    """
    if value is None or math.isnan(value):
        return words.ABSENT
    if math.isinf(value):
        return "∞"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"
