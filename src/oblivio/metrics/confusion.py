"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from oblivio.core import Run, Score, Trial


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix on the test set: true classes × predicted.

    It holds forgotten classes too, so that one sees where their examples go.
    """

    scores: ClassVar[Mapping[str, Score]] = {}

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, Any]:
        """The counts, as a list of rows."""
        logits, labels = trial.on_test
        classes = logits.shape[1]
        pairs = labels * classes + logits.argmax(1)
        counts = torch.bincount(pairs, minlength=classes * classes)
        return {"confusion": counts.view(classes, classes).tolist()}
