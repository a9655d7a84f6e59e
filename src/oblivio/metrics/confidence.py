"""How sure the model is of the true class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from oblivio.core import Outputs, Run, Score, Trial


@dataclass(frozen=True)
class Confidence:
    """Histograms of the true class's probability.

    Of the softmax on D_f, D_r and the test set.

    The counts go to the report's plots. Memory of D_f shows as a pile at 1 where the retrained
    model has none.

    Args:
        bins: How many equal bins there are from 0 to 1.
    """

    bins: int = 20

    scores: ClassVar[Mapping[str, Score]] = {}

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, Any]:
        """The counts, by part of the data."""
        parts = {
            "forget": trial.on_forget,
            "retain": trial.on_retain,
            "test": trial.on_unseen,
        }
        return {"confidence": {name: self._counts(part) for name, part in parts.items()}}

    def _counts(self, outputs: Outputs) -> list[int]:
        true = outputs.logits.softmax(1).gather(1, outputs.labels[:, None]).flatten()
        return torch.histc(true, self.bins, 0, 1).long().tolist()
