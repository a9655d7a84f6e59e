"""Collateral: what forgetting does to those who did not ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from oblivio.core import Score
from oblivio.evidence._likelihood import Density, told_apart
from oblivio.evidence._sample import enough, parted
from oblivio.shadow import Design, Kind, Shadows


@dataclass(frozen=True)
class Collateral:
    """Collateral: how exposed retained points are, and which class has lost, against retraining.

    A retained point x is in H_t for half of the shadows. Its exposure under models of a kind is how
    well its likelihood-ratio attack tells those that saw it from those that did not, the balanced
    accuracy of Carlini et al. 2022; 50 % is none. Forgetting may expose whom it leaves in the
    training data: the change is the mean over retained points of

        exposure under unlearned − exposure under retrained models

    A class's loss is its accuracy on test points under retrained less that under unlearned models,
    and the number is the largest of all classes'. `classes` lists each class's accuracy, in
    percent: its label, and that of original, unlearned and retrained models.

    Args:
        density: "gaussian", or "kde".

    Raises:
        TooFew: When called, if there are fewer than 8 shadow models that saw each retained point,
            fewer than 8 that did not, or no test points.

    Source: Hayes et al. 2024, "Inexact unlearning needs more careful evaluations to avoid a false
    sense of privacy", find that retained examples may become more exposed; the numbers are ours.
    """

    density: Density = "gaussian"

    design: ClassVar[Design] = "halves"
    scores: ClassVar[Mapping[str, Score]] = {
        "collateral_exposure": Score(
            "Retained exposure", "%", "retrain", "membership of retained points, told per point"
        ),
        "collateral_change": Score(
            "Exposure change", "points", "down", "the same less that under retrained models; 0"
        ),
        "collateral_class": Score(
            "Worst class loss", "points", "down", "largest loss of test accuracy of a class; null's"
        ),
    }

    def __call__(self, shadows: Shadows) -> Mapping[str, Any]:
        """Exposure, its change, the worst class's loss, and all classes' accuracies."""
        unlearned, retrained = (
            told_apart(*parted(shadows, kind, "retain"), self.density)["accuracy"]
            for kind in ("unlearned", "retrained")
        )
        enough(shadows.counts[2], 1, "test points", "compare accuracies by class")
        labels = shadows.labels[shadows.points("test")]
        rates = {
            kind: _by_class(shadows, kind, labels)
            for kind in ("original", "unlearned", "retrained")
        }
        return {
            "collateral_exposure": unlearned,
            "collateral_change": unlearned - retrained,
            "collateral_class": float((rates["retrained"] - rates["unlearned"]).max()),
            "classes": [
                {"label": int(label), **{kind: float(rate[i]) for kind, rate in rates.items()}}
                for i, label in enumerate(labels.unique())
            ],
        }


def _by_class(shadows: Shadows, kind: Kind, labels: Tensor) -> Tensor:
    """The mean accuracy of models of a kind on each class's test points, in percent."""
    right = shadows.of(kind, "test").right.double().mean(0)
    return 100 * torch.stack([right[labels == label].mean() for label in labels.unique()])
