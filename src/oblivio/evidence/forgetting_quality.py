"""Forgetting quality of the NeurIPS 2023 unlearning competition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from oblivio.core import Score
from oblivio.evidence._sample import bounded, enough
from oblivio.shadow import Design, Part, Shadows, TooFew

Sample = Float64[Tensor, "m points"]

INFINITE = 50.0
"""What an infinite ε is clipped to."""

WIDTH = 0.5
"""Of a bin of ε."""


@dataclass(frozen=True)
class ForgettingQuality:
    """Forgetting quality F, and the score of the NeurIPS 2023 competition on unlearning.

    On each point s of D_f an attacker tells N unlearned from N retrained models by φ(s): by every
    single threshold, from either side, and, if asked, by every interval, from inside or outside. An
    attack with these shares of retrained models called unlearned (FPR) and of unlearned ones missed
    (FNR) shows at least

        ε = max{ log(1 − δ − FPR) − log FNR,  log(1 − δ − FNR) − log FPR }

    and ε_s is the largest, not below 0. An attack of which exactly one rate is 0 shows nothing;
    one with neither error shows an infinite ε, clipped to 50. Then

        H(ε) = 2^(−⌊ε / 0.5⌋),  0 for ε > ⌈ln(N − 1)⌉,     F = mean_s H(ε_s)
        score = F · RA_u / RA_r · TA_u / TA_r

    with the mean accuracies on points of D_r and on test points. The best of many attacks finds a
    difference by chance, so a perfect method gives not 1 but 0.23 to 0.22 with single thresholds,
    and 0.09, 0.07, 0.06, 0.05, 0.04 with intervals, for N = 32, 64, … 512 (normal margins, measured
    on 300 points or more). The ideal is the null's value.

    Args:
        intervals: Whether the attacker tries intervals as well as thresholds.
        delta: δ.

    Raises:
        ValueError: If delta is not from 0 to below 1.
        TooFew: When called, if there are fewer than 8 shadow models, a part has no points, or
            retrained models are right on none of D_r or of the test points.

    Source: Triantafillou et al. 2024, "Are we making progress in unlearning? Findings from the
    first NeurIPS unlearning competition". The larger of the two ε, as differential privacy bounds
    both; a public implementation takes the smaller.
    """

    intervals: bool = False
    delta: float = 1e-5

    design: ClassVar[Design] = "fixed"
    scores: ClassVar[Mapping[str, Score]] = {
        "forgetting_quality": Score(
            "Forgetting quality", "", "up", "F over forget points; as high as the null's"
        ),
        "forgetting_score": Score(
            "F score", "", "up", "F times the accuracies' ratios to retraining's; as the null's"
        ),
    }

    def __post_init__(self) -> None:
        if not 0 <= self.delta < 1:
            raise ValueError(f"delta = {self.delta} must be from 0 to below 1.")

    def __call__(self, shadows: Shadows) -> Mapping[str, Any]:
        """F, the score, and each point's ε."""
        unlearned, retrained = shadows.versus()
        n, points = unlearned.shape
        enough(n, 8, "shadow models that saw each point", "attack it")
        enough(points, 1, "forget points", "attack")
        epsilon = largest_epsilon(unlearned, retrained, intervals=self.intervals, delta=self.delta)
        bins = torch.exp2(-(epsilon / WIDTH).floor())
        quality = float(bins.where(epsilon <= math.ceil(math.log(n - 1)), 0.0).mean())
        utility = _ratio(shadows, "retain") * _ratio(shadows, "test")
        return {
            "forgetting_quality": quality,
            "forgetting_score": quality * utility,
            "per_point": epsilon.tolist(),
        }


def largest_epsilon(
    unlearned: Sample, retrained: Sample, *, intervals: bool = True, delta: float = 1e-5
) -> Float64[Tensor, " points"]:
    """ε_s of each point: the largest that any threshold, or interval, shows.

    An interval (v_i, v_j] of the 2N sorted values is known by how many models of either kind it
    holds; a threshold is the interval (−∞, v_j].

    Returns:
        From 0 to 50.

    Example:
        >>> one = torch.arange(8.0, dtype=torch.float64)[:, None]
        >>> largest_epsilon(one + 100, one).item(), largest_epsilon(one, one).item()
        (50.0, 0.0)
    """
    n = len(unlearned)
    table = _table(n, delta).flatten()
    samples = [bounded(x).T.sort(1).values.contiguous() for x in (unlearned, retrained)]
    values = torch.cat(samples, 1).sort(1).values
    # of equal values the last alone is a cut: they all count as below it
    below = [torch.searchsorted(x, values, right=True) for x in samples]
    # one number for both counts: their differences are unique, as each is at most n
    held = torch.nn.functional.pad((n + 1) * below[0] + below[1], (1, 0)).T.contiguous()
    best = table[held[1:]].amax(0)
    for length in range(1, 2 * n if intervals else 1):
        best = torch.maximum(best, table[held[length:] - held[:-length]].amax(0))
    return best


def _table(n: int, delta: float) -> Float64[Tensor, "u r"]:
    """ε of telling by a set that holds u of n unlearned and r of n retrained models, or the rest.

    Returns:
        Entry (u, r); 0 where nothing is shown.
    """
    share = torch.arange(n + 1, dtype=torch.float64) / n
    u, r = share[:, None], share[None, :]
    inside, outside = _epsilon(r, 1 - u, delta), _epsilon(1 - r, u, delta)
    return torch.maximum(inside, outside).clamp(0, INFINITE)


def _epsilon(fpr: Tensor, fnr: Tensor, delta: float) -> Tensor:
    """ε of an attack; −∞ where it shows nothing."""
    fpr, fnr = torch.broadcast_tensors(fpr, fnr)
    bounds = torch.maximum(
        (1 - delta - fpr).clamp(min=0).log() - fnr.log(),
        (1 - delta - fnr).clamp(min=0).log() - fpr.log(),
    )
    return bounds.where((fpr > 0) == (fnr > 0), -torch.inf)


def _ratio(shadows: Shadows, part: Part) -> float:
    """The mean accuracy of unlearned models over that of retrained ones."""
    enough(shadows.counts[("forget", "retain", "test").index(part)], 1, f"{part} points", "judge")
    unlearned, retrained = (
        float(shadows.of(kind, part).right.double().mean()) for kind in ("unlearned", "retrained")
    )
    if retrained == 0:
        raise TooFew(
            f"The retrained models are right on none of the {part} points, so the unlearned "
            "models' accuracy cannot be divided by theirs."
        )
    return unlearned / retrained
