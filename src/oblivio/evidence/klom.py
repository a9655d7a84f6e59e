"""KLoM: the divergence of margins between unlearned and retrained models, point by point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from oblivio.core import Score
from oblivio.evidence._sample import bounded, enough
from oblivio.shadow import Design, Part, Shadows

Sample = Float64[Tensor, "m points"]

BOUND = 100.0
SMALLEST = 1e-5
PARTS: tuple[Part, ...] = ("forget", "retain", "test")


@dataclass(frozen=True)
class Klom:
    """KLoM: KL divergence between the histograms of a point's margins, unlearned ‖ retrained.

        KLoM(x) = Σ_b p_b log(p_b / max(q_b, 10⁻⁵))

    with p_b and q_b the shares of the N unlearned and of the N retrained models whose φ(x), clipped
    to ±100, is in bin b of 20 equal ones from the least to the largest of the 2N values. The last
    bin holds its right edge too. The mean, the 95th and the 99th percentile over points of D_f, of
    D_r and of the test set: a method may harm any of them. Histograms of so few models differ by
    chance, so a perfect method does not give 0: with 100 models and normal margins, the mean is
    0.35, the percentiles 0.68 and 0.90, and a shift by ½ σ gives a mean of 0.57, by σ of 1.20. The
    ideal is the null's value.

    Args:
        bins: How many.

    Raises:
        ValueError: If there are to be fewer than 2 bins.
        TooFew: When called, if there are fewer than 8 shadow models, or a part has no points.

    Source: Georgiev et al. 2024, "Attribute-to-delete: machine unlearning via datamodel matching".
    Ours: the last bin's right edge, which a public implementation drops.
    """

    bins: int = 20

    design: ClassVar[Design] = "fixed"
    scores: ClassVar[Mapping[str, Score]] = {
        f"klom_{part}{suffix}": Score(
            f"KLoM {part}{label}", "nat", "down", f"{what} {of}; as low as the null's"
        )
        for part, of in (
            ("forget", "forget points"),
            ("retain", "retained points"),
            ("test", "test points"),
        )
        for suffix, label, what in (
            ("", "", "divergence of margins from retraining's, mean over"),
            ("_95", " 95th", "the same, 95th percentile of"),
            ("_99", " 99th", "the same, 99th percentile of"),
        )
    }

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"bins = {self.bins} must be 2 or more.")

    def __call__(self, shadows: Shadows) -> Mapping[str, Any]:
        """Nine numbers, and the divergence of each point of D_f."""
        samples = {
            part: (shadows.of("unlearned", part).margins, shadows.of("retrained", part).margins)
            for part in PARTS
        }
        samples["forget"] = shadows.versus()
        enough(len(samples["forget"][0]), 8, "shadow models that saw each point", "draw histograms")
        found: dict[str, Any] = {}
        for part, (unlearned, retrained) in samples.items():
            enough(unlearned.shape[1], 1, f"{part} points", "compare their margins")
            each = divergence(unlearned, retrained, self.bins)
            found[f"klom_{part}"] = float(each.mean())
            for percent in (95, 99):
                found[f"klom_{part}_{percent}"] = float(each.quantile(percent / 100))
            if part == "forget":
                found["per_point"] = each.tolist()
        return found


def divergence(one: Sample, two: Sample, bins: int = 20) -> Float64[Tensor, " points"]:
    """KL(one ‖ two) of the histograms of each point's values.

    Returns:
        One number per point; not below 0 by more than 10⁻⁵ for each empty bin.

    Example:
        >>> one = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        >>> two = torch.tensor([[0.0], [0.0]], dtype=torch.float64)
        >>> round(divergence(one, two).item(), 4)  # ½ log ½ + ½ log ½ / 10⁻⁵
        5.0633
    """
    one, two = (bounded(values).clamp(-BOUND, BOUND) for values in (one, two))
    both = torch.cat([one, two])
    low, high = both.amin(0), both.amax(0)
    width = (high - low).where(high > low, 1.0)  # all values equal: all in the first bin
    p, q = (_shares((values - low) / width, bins) for values in (one, two))
    return (p.xlogy(p) - p.xlogy(q.clamp(min=SMALLEST))).sum(0)


def _shares(places: Sample, bins: int) -> Float64[Tensor, "bins points"]:
    """The share of values in each bin of [0, 1], whose right end belongs to the last."""
    at = (places * bins).long().clamp(max=bins - 1)
    counts = torch.zeros(bins, places.shape[1], dtype=torch.float64)
    return counts.scatter_add_(0, at, torch.ones_like(places)) / len(places)
