"""How near all three accuracies are to retrain's, as one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from oblivio.core import Run, Score, Trial, predict
from oblivio.metrics.accuracy import accuracy


@dataclass(frozen=True)
class ToW:
    """Tug of war: 1 where the accuracies on D_f, D_r and the test set are all retrain's.

    ToW = Π_S (1 − |acc_u(S) − acc_r(S)|),  S ∈ {D_f, D_r, test}

    with accuracies as shares from 0 to 1, u the unlearned model, and r the one retrained from the
    original's own seed, which scores 1 by definition: what chance leaves of it, RetrainAgain's row
    says. When a class is forgotten as a whole, its test examples are left out. Two models of equal
    accuracy may know very different examples: see Closeness. Costly: it trains a model.

    Raises:
        ValueError: When called, if the run does not say how the original came to be, or no test
            data are left.

    Source: Zhao, Kurmanji, Bărbulescu, Triantafillou & Triantafillou 2024, "What makes unlearning
    hard and what to do about it".
    """

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "tow": Score("ToW", "", "up", "nearness of all three accuracies to retrain's; 1 is equal")
    }

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Retrain, and compare."""
        unlearned = trial.on_forget, trial.on_retain, trial.on_unseen
        retrained = trial.retrained(run, "ToW")
        parts = trial.split.forget, trial.split.retain, trial.unseen
        apart = (
            abs(accuracy(u) - accuracy(predict(retrained, part))) / 100
            for u, part in zip(unlearned, parts, strict=True)
        )
        return {"tow": prod(1 - d for d in apart)}
