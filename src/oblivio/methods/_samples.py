"""Some of the examples, where all would take too long."""

from __future__ import annotations

import torch

from oblivio.core import Data


def check_samples(count: int | None) -> None:
    """Refuse a number of examples that cannot be drawn.

    Raises:
        ValueError: If it is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"samples = {count} must be 1 or more; None is all of D_r.")


def some(data: Data, count: int | None, seed: int) -> Data:
    """So many examples, drawn at random without replacement; all if there are no more."""
    if count is None or count >= len(data):
        return data
    draw = torch.Generator().manual_seed(seed)
    return data.take(torch.randperm(len(data), generator=draw)[:count].sort().values)
