"""How well scores tell positives from negatives: the ROC curve and its area, ties counted fairly.

All functions take one attack or many: the last dimension counts scores, those before it attacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

ROUNDING = 1e-9


def share_below(
    scores: Float[Tensor, "*attacks p"], negatives: Float[Tensor, "*attacks n"]
) -> Float64[Tensor, "*attacks p"]:
    """The share of negatives below each score; of those that equal it, half.

    Returns:
        From 0 to 1; the mean over positives is the area under the ROC curve (Mann and Whitney).

    Example:
        >>> negatives = torch.tensor([1.0, 2.0, 2.0, 3.0], dtype=torch.float64)
        >>> share_below(torch.tensor([2.0, 9.0], dtype=torch.float64), negatives).tolist()
        [0.5, 1.0]
    """
    order = negatives.sort(-1).values.contiguous()
    scores = scores.contiguous()
    below = torch.searchsorted(order, scores) + torch.searchsorted(order, scores, right=True)
    return below.double() / (2 * negatives.shape[-1])


class Area(NamedTuple):
    """An area under the ROC curve, from 0 to 1, and its standard error, if there is one."""

    value: float
    error: float | None


def auc(
    positives: Float[Tensor, " p"],
    negatives: Float[Tensor, " n"],
    weights: Float64[Tensor, " n"] | None = None,
) -> Area:
    """How often a positive is above a negative, equals counting half.

        V_i = Σ_j w_j ψ(p_i, n_j),  W_j = mean_i ψ(p_i, n_j),  ψ(a, b) = [a > b] + ½ [a = b]
        AUC = mean V = Σ_j w_j W_j,  error² = var(V)/p + Σ_j w_j² (W_j − AUC)² / (1 − Σ_j w_j²)

    Args:
        positives: Their scores.
        negatives: Theirs.
        weights: w of each negative, 1 in all; None is 1/n, whose second term is var(W)/n.

    Returns:
        Both numbers; no error of a single score.

    Example:
        >>> value, error = auc(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]))
        >>> value, round(error, 4)
        (0.625, 0.3953)

    Source: DeLong, DeLong & Clarke-Pearson 1988 for the error.
    """
    given = weights is not None
    w = weights if given else torch.full(negatives.shape, 1 / len(negatives), dtype=torch.float64)
    v = _weight_below(positives, negatives, w) if given else share_below(positives, negatives)
    above = 1 - share_below(negatives, positives)
    value, crowd = v.mean(), w.square().sum()
    error = None
    if len(v) > 1 and float(crowd) < 1:
        spread = (w * (above - value)).square().sum() / (1 - crowd)
        error = float((v.var() / len(v) + spread).sqrt())
    return Area(float(value), error)


def _weight_below(
    scores: Float[Tensor, " p"], others: Float[Tensor, " n"], weights: Float64[Tensor, " n"]
) -> Float64[Tensor, " p"]:
    """The weight of the others below each score; of those that equal it, half."""
    order = others.argsort()
    heights, total = others[order].contiguous(), nn.functional.pad(weights[order].cumsum(0), (1, 0))
    left, right = (torch.searchsorted(heights, scores.contiguous(), right=r) for r in (False, True))
    return (total[left] + total[right]) / (2 * total[-1])  # which is 1 but for rounding


def true_positives(
    positives: Float64[Tensor, "*attacks p"],
    negatives: Float64[Tensor, "*attacks n"],
    rates: Sequence[float],
) -> Float64[Tensor, "*attacks rates"]:
    """The largest share of positives that a threshold finds, at each false positive rate.

    The threshold is the (k+1)-th largest negative, k = ⌊FPR · n⌋, and what is above it is called
    positive: no more than k negatives are, and any lower threshold calls more of them positive.
    There is no interpolation, so that fewer than 1/FPR negatives allow no false positive at all.

    Returns:
        From 0 to 1.

    Example:
        >>> negatives = torch.arange(10.0, dtype=torch.float64)
        >>> true_positives(negatives + 1, negatives, (0.1, 1.0)).tolist()
        [0.2, 1.0]
    """
    n = negatives.shape[-1]
    lowest = torch.full_like(negatives[..., :1], -torch.inf)
    falling = torch.cat([lowest, negatives.sort(-1).values], -1).flip(-1)
    allowed = torch.tensor([int(rate * n + ROUNDING) for rate in rates], dtype=torch.int64)
    order = positives.sort(-1).values.contiguous()
    missed = torch.searchsorted(order, falling[..., allowed].contiguous(), right=True)
    return (positives.shape[-1] - missed).double() / positives.shape[-1]


def tails(
    positives: Float64[Tensor, " p"], negatives: Float64[Tensor, " n"], **rates: float
) -> dict[str, float]:
    """True positive rates, in percent, at the false positive rates that the negatives can show.

    Returns:
        Only those with at least 1/FPR negatives.

    Example:
        >>> negatives = torch.arange(10.0, dtype=torch.float64)
        >>> tails(negatives + 1, negatives, tenth=0.1, hundredth=0.01)
        {'tenth': 20.0}
    """
    shown = {name: rate for name, rate in rates.items() if len(negatives) * rate >= 1 - ROUNDING}
    found = true_positives(positives, negatives, list(shown.values()))
    return {name: 100 * float(share) for name, share in zip(shown, found, strict=True)}
