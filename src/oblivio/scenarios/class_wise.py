"""Forget a class."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from oblivio.core import Data, Split


@dataclass(frozen=True)
class ClassWise:
    """Forget a class, or a random share of it.

    Args:
        label: The class.
        fraction: The share of its examples; 1 forgets the class as a whole.

    Raises:
        ValueError: If a number is out of range.
    """

    label: int = 0
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.label < 0:
            raise ValueError(f"The label {self.label} must be 0 or more.")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"The fraction {self.fraction} must lie above 0 and be at most 1.")

    def __call__(self, train: Data, seed: int) -> Split:
        """Choose the class's examples; the seed matters only to a share of them.

        Returns:
            The split.

        Raises:
            ValueError: If the class has no examples.
        """
        own = train.ids[train.labels == self.label]
        if len(own) == 0:
            there = ", ".join(str(int(label)) for label in train.labels.unique()[:20])
            raise ValueError(f"No training example has label {self.label}; there are: {there}.")
        if self.fraction < 1:
            draw = torch.Generator().manual_seed(seed)
            own = own[torch.randperm(len(own), generator=draw)[: round(self.fraction * len(own))]]
        return Split.of(train, own)
