"""What a measure works on: enough models and points, and margins that are finite."""

from __future__ import annotations

from jaxtyping import Float64
from torch import Tensor

from oblivio.shadow import Kind, Part, Shadows, TooFew

Margins = Float64[Tensor, "..."]

LIMIT = 1e3
"""Margins are taken to lie between ∓1000: a model that is surer says no more."""


def bounded(margins: Margins) -> Margins:
    """Margins within ∓1000; what is not a number, from a model that has come apart, is the lowest.

    Returns:
        Margins in the same places.

    Example:
        >>> import torch
        >>> bounded(torch.tensor([2.0, torch.inf, torch.nan], dtype=torch.float64)).tolist()
        [2.0, 1000.0, -1000.0]
    """
    return margins.nan_to_num(nan=-LIMIT).clamp(-LIMIT, LIMIT)


def enough(count: int, needed: int, of: str, to: str) -> None:
    """See that a measure has what it needs.

    Args:
        count: How many there are.
        needed: How many there must be.
        of: Of what.
        to: What for.

    Raises:
        TooFew: If there are fewer.
    """
    if count < needed:
        raise TooFew(f"There are {count} {of}, but {needed} are needed to {to}.")


def parted(shadows: Shadows, kind: Kind, part: Part) -> tuple[Margins, Margins]:
    """The margins of models whose H_t held the point, and of those whose H_t did not.

    A point is in one of two complementary halves, so row i of both is of the same pair.

    Returns:
        As many of either for every point.

    Raises:
        TooFew: If there are fewer than 8.
    """
    seen = shadows.seen[:, shadows.points(part)]
    margins = shadows.of(kind, part).margins
    enough(margins.shape[1], 1, f"{part} points", "attack")
    samples = []
    for held, what in ((seen, "that saw each point"), (~seen, "that did not see each point")):
        least = int(held.sum(0).min())
        enough(least, 8, f"shadow models {what}", "fit a density")
        samples.append(held.int().argsort(dim=0, descending=True, stable=True)[:least])
    each = min(map(len, samples))
    held, other = (margins.gather(0, rows[:each]) for rows in samples)
    return held, other
