"""How sparse a model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from oblivio.core import Run, Score, Trial
from oblivio.mask import zeros


@dataclass(frozen=True)
class Sparsity:
    """Share of the prunable weights that are exactly zero: s = 100 · |{w : w = 0}| / N."""

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "sparsity": Score(
            "Sparsity", "%", "up", "share of the prunable weights that are exactly zero"
        )
    }

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Count zeros in the unlearned model."""
        return {"sparsity": 100 * zeros(trial.unlearned)[0]}
