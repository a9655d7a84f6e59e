"""Forget examples chosen at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from oblivio.core import Data, Split


@dataclass(frozen=True)
class Random:
    """Forget a random fraction, or a random count.

    Args:
        fraction: The share of the training data; 0.1 unless `count` is given.
        count: How many, instead of a share.

    Raises:
        ValueError: If both are given, or a number is out of range.
    """

    fraction: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and self.count is not None:
            raise ValueError("Give a fraction or a count, not both.")
        if self.fraction is None and self.count is None:
            object.__setattr__(self, "fraction", 0.1)
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise ValueError(f"The fraction {self.fraction} must lie between 0 and 1.")
        if self.count is not None and self.count < 1:
            raise ValueError(f"The count {self.count} must be 1 or more.")

    def __call__(self, train: Data, seed: int) -> Split:
        """Draw the forget set from this seed.

        Returns:
            The split.

        Raises:
            ValueError: If as many are to be forgotten as there are, or none.
        """
        n = len(train)
        count = round(self.fraction * n) if self.fraction else (self.count or 0)
        if not 0 < count < n:
            raise ValueError(
                f"{count} of {n} examples cannot be forgotten: some must be, some not."
            )
        draw = torch.Generator().manual_seed(seed)
        return Split.of(train, train.ids[torch.randperm(n, generator=draw)[:count]])
