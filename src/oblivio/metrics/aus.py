"""What forgetting cost on test data, and how much was forgotten, as one number without retrain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from oblivio.core import Run, Score, Trial, predict
from oblivio.metrics.accuracy import accuracy


@dataclass(frozen=True)
class AUS:
    """Adaptive unlearning score: high where test accuracy stays and D_f is answered as it should.

    AUS = (1 − (TA_o − TA_u)) / (1 + Δ),  Δ = |TA_u − acc_u(D_f)|,
                                          Δ = acc_u(D_f) if all of D_f's classes are gone

    with accuracies as shares from 0 to 1, o the original and u the unlearned model. It needs no
    retrained model, and takes for granted what one would do: answer D_f as it does test data, or
    never, if nothing is retained of its classes. Where D_f is harder than the test data, or is
    mislabelled, retraining itself falls short of 1; its row is the target. Above 1, the unlearned
    model is better on test data than the original was.

    Raises:
        ValueError: When called, if no test data are left once the forgotten classes are taken out.

    Source: Cotogni, Bonato, Sabetta, Pelosin & Nicolosi 2023, "DUCK: distance-based unlearning via
    centroid kinematics". Theirs are the two Δ, for removing classes and for removing samples of
    all classes; where some of D_f's classes are gone and others not, ours is the second.
    """

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "aus": Score("AUS", "", "retrain", "test accuracy kept, over accuracy on D_f out of place")
    }

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """The score."""
        ta = accuracy(trial.on_unseen) / 100
        before = accuracy(predict(trial.original, trial.unseen)) / 100
        of_forget = accuracy(trial.on_forget) / 100
        gone = set(trial.split.forget.labels.tolist()) == set(trial.split.gone.tolist())
        delta = of_forget if gone else abs(ta - of_forget)
        return {"aus": (1 - (before - ta)) / (1 + delta)}
