"""Slow truths of the measures over shadow models, one value at a time, and shadow models drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from oblivio.shadow import Answers, Design, Shadows

Rows = list[list[float]]

# --- Shadow models drawn at random --------------------------------------------------------------


def drawn(
    models: int = 16,
    counts: tuple[int, int, int] = (10, 12, 30),
    *,
    design: Design = "halves",
    seed: int = 0,
    original: float = 3.0,
    unlearned: float = 0.0,
    seen_retain: float = 0.0,
    places: float = 1.0,
) -> Shadows:
    """Shadows whose margins are normal with σ = 1 about each point's own place.

    Those of original and of unlearned models on points of D_f that they saw are shifted by so much;
    on points of D_r that they saw, by `seen_retain`. The others are all alike.
    """
    draw = torch.Generator().manual_seed(seed)
    points = sum(counts)
    known = counts[0] + counts[1]
    seen = torch.zeros(models, points, dtype=torch.bool)
    seen[:, :known] = True
    if design == "halves":
        for pair in range(0, models, 2):
            for first, size in ((0, counts[0]), (counts[0], counts[1])):
                chosen = torch.randperm(size, generator=draw)[: size // 2] + first
                seen[pair, first : first + size] = False
                seen[pair, chosen] = True
                seen[pair + 1, first : first + size] = ~seen[pair, first : first + size]
    place = places * torch.randn(points, generator=draw, dtype=torch.float64)
    forget = torch.arange(points) < counts[0]
    retain = ~forget & (torch.arange(points) < known)

    def answers(shift: float) -> Answers:
        noise = torch.randn(models, points, generator=draw, dtype=torch.float64)
        margins = place + noise + shift * (seen & forget) + seen_retain * (seen & retain)
        return Answers(margins, margins > 0)

    return Shadows(
        design,
        torch.arange(points),
        torch.arange(points) % 3,
        counts,
        seen,
        answers(original),
        answers(unlearned),
        answers(0.0),
        answers(0.0),
    )


# --- Curves -------------------------------------------------------------------------------------


def area(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """The share of pairs in which the positive is above, a tie being half."""
    won = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def true_positives(positives: Sequence[float], negatives: Sequence[float], rate: float) -> float:
    """The best share of positives over all thresholds that allow so many false ones."""
    best = 0.0
    for threshold in [*negatives, -math.inf]:
        false = sum(n > threshold for n in negatives) / len(negatives)
        if false <= rate + 1e-12:
            best = max(best, sum(p > threshold for p in positives) / len(positives))
    return best


# --- U-LiRA and RULI ----------------------------------------------------------------------------


def told_apart(one: Rows, two: Rows, density: str, pooled: bool) -> dict[str, Any]:
    """Leave each row out of both fits, fit, and judge its two values, point by point."""
    m, points = len(one), len(one[0])
    scores: list[Rows] = [[], []]
    for t in range(m):
        fits = [[_fit([row[x] for s, row in enumerate(sample) if s != t]) for x in range(points)]
                for sample in (one, two)]  # fmt: skip
        if pooled:
            fits = [
                [(others, mean, sum(f[2] for f in fit) / points) for others, mean, _ in fit]
                for fit in fits
            ]
        for which, sample in enumerate((one, two)):
            row = [
                _log_density(sample[t][x], fits[0][x], density)
                - _log_density(sample[t][x], fits[1][x], density)
                for x in range(points)
            ]
            scores[which].append(row)
    ones, twos = scores
    accuracies = []
    for x in range(points):
        hits = sum((row[x] > 0) + (row[x] == 0) / 2 for row in ones)
        hits += sum((row[x] < 0) + (row[x] == 0) / 2 for row in twos)
        accuracies.append(100 * hits / (2 * m))
    positives, negatives = ([v for row in sample for v in row] for sample in scores)
    return {
        "accuracy": sum(accuracies) / points,
        "auc": 100 * area(positives, negatives),
        "tpr_1": 100 * true_positives(positives, negatives, 0.01),
        "tpr_01": 100 * true_positives(positives, negatives, 0.001),
        "per_point": accuracies,
    }


def _fit(values: list[float]) -> tuple[list[float], float, float]:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return values, mean, variance


def _log_density(value: float, fit: tuple[list[float], float, float], density: str) -> float:
    others, mean, variance = fit
    sigma = max(math.sqrt(variance), 1e-3)
    if density == "gaussian":
        return -0.5 * ((value - mean) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))
    width = sigma * len(others) ** (-1 / 5)
    away = [-0.5 * ((value - other) / width) ** 2 for other in others]
    most = max(away)
    total = math.fsum(math.exp(a - most) for a in away) / len(others)
    return most + math.log(total) - math.log(width * math.sqrt(2 * math.pi))


def rows(margins: Tensor) -> Rows:
    """A matrix as lists."""
    return margins.tolist()


# --- RMIA and the population attack -------------------------------------------------------------


def rmia(shadows: Shadows, a: float, gamma: float) -> dict[str, Any]:
    """Every model, every point, and every member of the population, one after another."""
    forget, test = (shadows.points(part).tolist() for part in ("forget", "test"))
    unlearned, retrained = (k.margins.tolist() for k in (shadows.unlearned, shadows.retrained))
    positives, negatives, shares = [], [], {x: [] for x in forget}
    for t in range(len(shadows)):

        def relative(x: int, t: int = t) -> float:
            others = [_sigmoid(row[x]) for s, row in enumerate(retrained) if s != t]
            mean = sum(others) / len(others)
            return _sigmoid(unlearned[t][x]) / (0.5 * ((1 + a) * mean + (1 - a)))

        def score(x: int, t: int = t) -> float:
            ratio = {z: relative(x) / relative(z) for z in test if z != x}
            return sum(value > gamma for value in ratio.values()) / len(ratio)

        outside = [score(z) for z in test]
        negatives += outside
        for x in forget:
            if bool(shadows.seen[t, x]):
                own = score(x)
                positives.append(own)
                shares[x].append(area([own], outside))
    return {
        "auc": 100 * area(positives, negatives),
        "tpr_1": 100 * true_positives(positives, negatives, 0.01),
        "per_point": [100 * sum(s) / len(s) for s in shares.values()],
    }


def _sigmoid(phi: float) -> float:
    return 1 / (1 + math.exp(-phi))


def population(shadows: Shadows, per_class: int) -> dict[str, Any]:
    """Every model by itself: fit the test points of a class, the judged one left out."""
    forget, test = (shadows.points(part).tolist() for part in ("forget", "test"))
    labels = shadows.labels.tolist()
    areas, tails, shares = [], [], {x: [] for x in forget}
    for t, row in enumerate(shadows.unlearned.margins.tolist()):

        def score(x: int, row: list[float] = row) -> float:
            same = [z for z in test if labels[z] == labels[x]]
            around = same if len(same) >= per_class else test
            _, mean, variance = _fit([row[z] for z in around if z != x])
            return (row[x] - mean) / max(math.sqrt(variance), 1e-3)

        outside = [score(z) for z in test]
        inside = {x: score(x) for x in forget if bool(shadows.seen[t, x])}
        areas.append(area(list(inside.values()), outside))
        tails.append(true_positives(list(inside.values()), outside, 0.01))
        for x, own in inside.items():
            shares[x].append(area([own], outside))
    return {
        "auc": 100 * sum(areas) / len(areas),
        "tpr_1": 100 * sum(tails) / len(tails),
        "per_point": [100 * sum(s) / len(s) for s in shares.values()],
    }


# --- Forgetting quality and KLoM ----------------------------------------------------------------


def epsilon(unlearned: list[float], retrained: list[float], intervals: bool, delta: float) -> float:
    """The largest ε of one point over all thresholds and, if asked, all intervals."""
    ends = sorted({*unlearned, *retrained})
    sets = [(-math.inf, end) for end in ends]
    if intervals:
        sets += [(low, high) for i, low in enumerate(ends) for high in ends[i + 1 :]]
    best = 0.0
    for low, high in sets:
        u = sum(low < value <= high for value in unlearned) / len(unlearned)
        r = sum(low < value <= high for value in retrained) / len(retrained)
        for fpr, fnr in ((r, 1 - u), (1 - r, u)):
            best = max(best, _shown(fpr, fnr, delta))
    return best


def _shown(fpr: float, fnr: float, delta: float) -> float:
    if fpr == 0 and fnr == 0:
        return 50.0
    if fpr == 0 or fnr == 0:
        return 0.0
    bounds = [0.0]
    for one, other in ((fpr, fnr), (fnr, fpr)):
        if 1 - delta - one > 0:
            bounds.append(math.log(1 - delta - one) - math.log(other))
    return min(max(bounds), 50.0)


def forgetting(
    unlearned: Rows, retrained: Rows, intervals: bool, delta: float
) -> tuple[float, list[float]]:
    """F, and each point's ε."""
    n = len(unlearned)
    columns = zip(zip(*unlearned, strict=True), zip(*retrained, strict=True), strict=True)
    each = [epsilon(list(u), list(r), intervals, delta) for u, r in columns]
    cut = math.ceil(math.log(n - 1))
    values = [0.0 if e > cut else 2.0 ** -math.floor(e / 0.5) for e in each]
    return sum(values) / len(values), each


def klom(unlearned: Rows, retrained: Rows, bins: int = 20) -> list[float]:
    """Each point's divergence of NumPy's histograms."""
    import numpy as np

    found = []
    for u, r in zip(zip(*unlearned, strict=True), zip(*retrained, strict=True), strict=True):
        u, r = (np.clip(values, -100, 100) for values in (u, r))
        both = np.concatenate([u, r])
        edges = (both.min(), both.max())
        p, q = (np.histogram(values, bins, edges)[0] / len(values) for values in (u, r))
        found.append(
            float(sum(a * math.log(a / max(b, 1e-5)) for a, b in zip(p, q, strict=True) if a > 0))
        )
    return found
