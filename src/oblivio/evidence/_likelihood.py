"""The likelihood-ratio game: of two samples per point, which one does a value come from?"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from oblivio.evidence._sample import bounded
from oblivio.roc import share_below, tails, true_positives
from oblivio.shadow import RATES

Density = Literal["gaussian", "kde"]
Sample = Float64[Tensor, "m points"]

FLOOR = 1e-3
"""The smallest σ: margins of 32-bit logits agree to some 1e-6, and are no different below it."""

POOLED_BELOW = 64
"""With fewer models than this, points share one σ (Carlini et al. 2022)."""

CELLS = 2**21
"""How many kernels are looked at in one go."""


def told_apart(one: Sample, two: Sample, density: Density) -> dict[str, Any]:
    """How well the best attacker tells values of one sample from those of the other, in percent.

    Args:
        one: The positives; a column is a point, a row is left out together with `two`'s.
        two: The negatives.
        density: How the densities are fitted; see `log_ratios`.

    Returns:
        `accuracy`, the balanced accuracy at Λ = ½, a mean over points; `auc`, `tpr_1` and `tpr_01`,
        of all points' log Λ/(1−Λ) together, where there are 1/FPR negatives; and `roc` and
        `per_point`, the accuracies.
    """
    ones, twos = log_ratios(bounded(one), bounded(two), density)
    right = (1 + ones.sign().mean(0)) / 4 + (1 - twos.sign().mean(0)) / 4
    ones, twos = ones.flatten(), twos.flatten()
    found: dict[str, Any] = {
        "accuracy": 100 * float(right.mean()),
        "auc": 100 * float(share_below(ones, twos).mean()),
        "roc": true_positives(ones, twos, RATES).tolist(),
        "per_point": (100 * right).tolist(),
    }
    return found | tails(ones, twos, tpr_1=0.01, tpr_01=0.001)


def log_ratios(one: Sample, two: Sample, density: Density) -> tuple[Sample, Sample]:
    """Of every value φ the evidence for its sample: log N_1(φ) − log N_2(φ).

    With Λ = N_1(φ) / (N_1(φ) + N_2(φ)), this is log Λ/(1−Λ): above 0 where Λ is above ½, and finite
    where Λ rounds to 0 or 1. Row t of both samples is left out of both fits where row t's two
    values are judged. So if both samples come from one distribution, the accuracy at Λ = ½ is 50 %
    on average, no matter how well the densities fit.

        "gaussian"  N(φ; μ, σ²), μ the mean and σ² the unbiased variance of the m−1 other rows
        "kde"       mean over the m−1 other rows φ' of N(φ; φ', h²),  h = σ · (m−1)^(−1/5) (Scott)

    With fewer than 64 rows σ² is the mean over all points; σ is at least 0.001.

    Args:
        one: A column is a point.
        two: Likewise.
        density: How the densities are fitted.

    Returns:
        The ratios of the first sample's values, and of the second's.
    """
    of = _kernels if density == "kde" else _normal
    parts = [_without_own(sample) for sample in (one, two)]
    ones, twos = (of(phi, one, *parts[0]) - of(phi, two, *parts[1]) for phi in (one, two))
    return ones, twos


def _without_own(sample: Sample) -> tuple[Sample, Sample]:
    """μ and σ of all rows but the own."""
    m = len(sample)
    centre = sample.mean(0)
    off = sample - centre
    squares = off.square().sum(0) - off.square() * m / (m - 1)
    variance = squares.clamp(min=0) / (m - 2)
    if m < POOLED_BELOW:
        variance = variance.mean(1, keepdim=True).expand_as(variance)
    return centre - off / (m - 1), variance.sqrt().clamp(min=FLOOR)


def _normal(phi: Sample, _: Sample, mean: Sample, sigma: Sample) -> Sample:
    """The log of N(φ; μ, σ²), less a constant."""
    return -((phi - mean) / sigma).square() / 2 - sigma.log()


def _kernels(phi: Sample, sample: Sample, _: Sample, sigma: Sample) -> Sample:
    """The log of the mean of kernels at all rows of the sample but the own, less a constant."""
    m = len(sample)
    width = sigma * (m - 1) ** -0.2
    own = torch.eye(m, dtype=torch.bool)[:, :, None]
    found = torch.empty_like(phi)
    step = max(1, CELLS // m**2)
    for first in range(0, phi.shape[1], step):
        at = slice(first, first + step)
        away = (phi[:, None, at] - sample[None, :, at]) / width[:, None, at]
        logs = (-away.square() / 2).masked_fill(own, -torch.inf).logsumexp(1)
        found[:, at] = logs - math.log(m - 1) - width[:, at].log()
    return found
