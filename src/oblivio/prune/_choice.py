"""Which weights stay: the share that is asked for, the largest scores, and layers left empty."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from oblivio.mask import Mask, prunable

Scores = Mapping[str, Float[Tensor, "..."]]
"""How much each prunable weight matters, by parameter name."""


def check_sparsity(sparsity: float) -> None:
    """Refuse a share that cannot be pruned.

    Raises:
        ValueError: If it is not from 0 to below 1.
    """
    if not 0 <= sparsity < 1:
        hint = f"; {sparsity:g} % is {sparsity / 100:g}" if 1 < sparsity < 100 else ""
        raise ValueError(
            f"sparsity = {sparsity:g} must be a share of the weights, from 0 to below 1{hint}."
        )


def check_settings(sparsity: float, rewind: int) -> None:
    """Refuse a share that cannot be pruned, or an epoch that does not exist.

    Raises:
        ValueError: If the sparsity is not from 0 to below 1, or `rewind` is negative.
    """
    check_sparsity(sparsity)
    if rewind < 0:
        raise ValueError(f"rewind = {rewind} must be an epoch, 0 (before the first step) or later.")


def candidates(model: nn.Module) -> dict[str, nn.Parameter]:
    """What a pruner chooses from: the model's prunable weights, all of them finite.

    Returns:
        Parameters by name.

    Raises:
        ValueError: If there are none, or one is NaN or infinite.
    """
    weights = prunable(model)
    for name, weight in weights.items():
        if not bool(weight.isfinite().all()):
            raise ValueError(
                f"{name} holds weights that are not finite numbers: a model that diverged in "
                f"training cannot be pruned; train it again with a smaller learning rate."
            )
    return weights


def removed(sparsity: float, total: int) -> int:
    """How many of `total` weights a sparsity removes: rounded to one weight, never all of them."""
    check_sparsity(sparsity)
    return min(round(sparsity * total), total - 1)


def keep_largest(scores: Scores, sparsity: float) -> Mask:
    """Keep the weights with the largest scores, compared over all layers together.

    Args:
        scores: Of every prunable weight.
        sparsity: The share to remove; it is met to one weight.

    Returns:
        The mask.

    Raises:
        ValueError: If the sparsity is not from 0 to below 1, or a score is NaN.

    Example:
        >>> mask = keep_largest({"w": torch.tensor([3.0, 1.0, 2.0, 4.0])}, 0.5)
        >>> mask.keep["w"].tolist()
        [True, False, False, True]
    """
    flat = torch.cat([score.detach().flatten() for score in scores.values()])
    parts = largest(flat, len(flat) - removed(sparsity, len(flat))).split(
        [score.numel() for score in scores.values()]
    )
    return Mask({n: part.view(s.shape) for (n, s), part in zip(scores.items(), parts, strict=True)})


def keep_largest_weights(model: nn.Module, sparsity: float, among: Mask | None = None) -> Mask:
    """Keep the largest |θ|; what a mask has removed already stays removed."""
    sizes = {name: weight.detach().abs() for name, weight in candidates(model).items()}
    if among is not None:
        sizes = {n: torch.where(among.keep[n], size, -1.0) for n, size in sizes.items()}
    return keep_largest(sizes, sparsity)


def largest(values: Float[Tensor, " n"], count: int) -> Bool[Tensor, " n"]:
    """Which of the values are the `count` largest; of equal ones, the last.

    Returns:
        A truth value for each.

    Raises:
        ValueError: If one is NaN.
    """
    chosen = torch.ones_like(values, dtype=torch.bool)
    chosen[smallest(values, len(values) - count)] = False
    return chosen


def smallest(
    values: Float[Tensor, " n"], count: int, among: Bool[Tensor, " n"] | None = None
) -> Int64[Tensor, " count"]:
    """Where the `count` smallest values stand; of equal ones, the first.

    Args:
        values: In one row.
        count: At most as many as there are among those that take part.
        among: Which take part; None is all.

    Returns:
        Their positions, in rising order.

    Raises:
        ValueError: If a value is NaN.
    """
    if bool(values.amax().isnan()):
        raise ValueError("A score is NaN, which is neither larger nor smaller than another.")
    # A sample tells below which value they must lie, so that only a part of the values is searched.
    every = max(1, len(values) // 20_000)
    sample = values[::every] if among is None else values[::every][among[::every]]
    total = len(values) if among is None else int(among.count_nonzero())
    low = torch.ones_like(values, dtype=torch.bool) if among is None else among
    bound = math.inf
    if len(sample):
        rank = min(len(sample), len(sample) * count // total + 301)
        bound = float(sample.kthvalue(rank).values)
    places = torch.where((values <= bound).logical_and_(low))[0]
    if len(places) < count:
        places = torch.where(low)[0]
    if count == 0 or count == len(places):
        return places[:count]
    found = values[places]
    limit = found.kthvalue(count).values
    chosen = found < limit
    chosen[torch.where(found == limit)[0][: count - int(chosen.count_nonzero())]] = True
    return places[chosen]


class LayerCollapse(UserWarning):
    """A mask wipes a layer out: nothing passes through it any more."""


def warn_of_collapse(mask: Mask) -> Mask:
    """Say which layers a mask wipes out: a pruner's last word, said to whoever called it.

    Returns:
        The same mask.
    """
    if mask.collapsed:
        some = "layer" if len(mask.collapsed) == 1 else "layers"
        warnings.warn(
            f"Layer collapse: at a sparsity of {100 * mask.sparsity:.4g} % no weight stays in the "
            f"{some} {', '.join(mask.collapsed)}; prune less, or with another pruner.",
            LayerCollapse,
            stacklevel=3,
        )
    return mask
