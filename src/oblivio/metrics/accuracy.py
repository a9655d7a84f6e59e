"""Accuracies on what was forgotten, what was retained, and what was never seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from oblivio.core import Outputs, Run, Score, Trial


@dataclass(frozen=True)
class Accuracy:
    """Unlearning, retain and test accuracy: UA, RA, TA (%).

    UA = 100 − acc(D_f), RA = acc(D_r), TA = acc(test). When a class is forgotten as a whole, TA
    leaves its test examples out. UA near 0 means "not forgotten" or "the retrained model
    generalises": only its distance to the retrained model's tells which.

    Source: Jia et al. 2023, section 3.
    """

    scores: ClassVar[Mapping[str, Score]] = {
        "ua": Score("UA", "%", "retrain", "errors on the forget set", headline=True),
        "ra": Score("RA", "%", "retrain", "accuracy on the retain set", headline=True),
        "ta": Score("TA", "%", "retrain", "accuracy on the test set", headline=True),
    }

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """The three percentages."""
        return {
            "ua": 100 - accuracy(trial.on_forget),
            "ra": accuracy(trial.on_retain),
            "ta": accuracy(trial.on_unseen),
        }


def accuracy(outputs: Outputs) -> float:
    """The share of examples whose largest logit is the true class's, in percent."""
    right = outputs.logits.argmax(1) == outputs.labels
    return 100 * int(right.sum()) / len(right)
