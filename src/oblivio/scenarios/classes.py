"""Forget several classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from oblivio.core import Data, Split


@dataclass(frozen=True)
class Classes:
    """Forget several classes as a whole.

    Args:
        labels: The classes.

    Raises:
        ValueError: If none is named, one is named twice, or a number is out of range; when called,
            if a class has no examples, or all classes are named.
    """

    labels: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) < len(self.labels) or min(self.labels) < 0:
            raise ValueError(
                f"labels = {list(self.labels)} must name one class or more, each once, from 0 on."
            )

    def __call__(self, train: Data, seed: int) -> Split:
        """Choose the classes' examples; there is nothing random about it.

        Returns:
            The split.

        Raises:
            ValueError: If a class has no examples, or all classes are named.
        """
        there = train.labels.unique().tolist()
        for label in self.labels:
            if label not in there:
                known = ", ".join(map(str, there[:20]))
                raise ValueError(f"No training example has label {label}; there are: {known}.")
        if len(self.labels) == len(there):
            raise ValueError(
                f"labels = {list(self.labels)} are all {len(there)} classes: some must be retained."
            )
        own = torch.isin(train.labels, torch.tensor(self.labels))
        return Split.of(train, train.ids[own])
