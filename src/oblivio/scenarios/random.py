"""Forget examples chosen at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from oblivio.core import Data, Split
from oblivio.scenarios._amount import amount, share_of


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
        object.__setattr__(self, "fraction", share_of(self.fraction, self.count))

    def __call__(self, train: Data, seed: int) -> Split:
        """Draw the forget set from this seed.

        Returns:
            The split.

        Raises:
            ValueError: If as many are to be forgotten as there are, or none.
        """
        n = len(train)
        count = amount(self.fraction, self.count, n)
        if not 0 < count < n:
            raise ValueError(
                f"{count} of {n} examples cannot be forgotten: some must be, some not."
            )
        draw = torch.Generator().manual_seed(seed)
        return Split.of(train, train.ids[torch.randperm(n, generator=draw)[:count]])
