"""Handwritten digits that ship with scikit-learn: no download."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from oblivio.data.arrays import Arrays
from oblivio.data.source import Source, assemble, stratified


@dataclass(frozen=True)
class Digits:
    """8×8 grey handwritten digits, in scikit-learn: 1,437 + 360.

    Args:
        validation: The share of each class held out of the training examples.
    """

    validation: float = 0.0

    def __call__(self) -> Source:
        """The data: 1,437 to train on and 360 to test on, grey levels in [0, 1]."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels = torch.as_tensor(bunch.images / 16, dtype=torch.float32).unsqueeze(1)  # pyright: ignore[reportAttributeAccessIssue]
        labels = torch.as_tensor(bunch.target)  # pyright: ignore[reportAttributeAccessIssue]
        data = Arrays.checked(pixels, labels)
        is_test = torch.zeros(len(data), dtype=torch.bool)
        is_test[stratified(labels, 360)] = True
        train, test = data.take(torch.where(~is_test)[0]), data.take(torch.where(is_test)[0])
        return assemble(train, test, validation=self.validation)
