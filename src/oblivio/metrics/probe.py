"""What the features still tell of the forget set, whatever the model answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn

from oblivio.core import Data, Run, Score, Trial, derive, predict
from oblivio.metrics._features import ROUNDING, Penultimate, some

Features = Float64[Tensor, "n features"]
New = Float64[Tensor, "m features"]


@dataclass(frozen=True)
class Probe:
    """A linear probe that tells D_f from unseen data by the penultimate features, in percent.

    The features h(x) are what goes into the model's last linear layer. The probe is the sign of
    w·z + b, fitted to y = 1 on examples of D_f and y = −1 on as many test examples without classes
    that are forgotten as a whole:

        argmin_{w, b} Σ_i (w·z_i + b − y_i)² + λ n ‖w‖²,  z = (h − mean) / standard deviation,

    all of it on what is fitted to alone. The score is its balanced accuracy on the examples that
    it was not fitted to, over folds of both sides alike: 50 is a coin. For a class that is gone it
    says how well the features still single that class out, which a method that works on the last
    layer leaves as it was; for samples, whether the features betray that they were trained on.

    A class may be told by features that never saw it: the same probe on the retrained model is the
    null, on the original the ceiling. Without numbers where either side has but one example.
    Costly: it trains a model.

    Args:
        penalty: λ, of standardised features; n is how many examples the probe is fitted to.
        folds: In how many parts each side is divided.
        most: Of each side, at most so many examples are drawn.

    Raises:
        ValueError: If a number is out of range; when called, if the run does not say how the
            original came to be, a model has no linear layer, or no test data are left.

    Source: linear probes are Alain & Bengio's, 2017, "Understanding intermediate layers using
    linear classifier probes"; the question, the folds and what it stands beside are ours.
    """

    penalty: float = 0.1
    folds: int = 5
    most: int = 1000

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "probe": Score("Probe", "%", "retrain", "forget set told from test data by the features"),
        "probe_retrain": Score(
            "Probe retrain", "%", "retrain", "the same on the retrained model: what anyone can tell"
        ),
        "probe_original": Score(
            "Probe original", "%", "retrain", "the same on the original: what there was to tell"
        ),
    }

    def __post_init__(self) -> None:
        for name, ok, range_ in (
            ("penalty", self.penalty > 0, "above 0"),
            ("folds", self.folds >= 2, "2 or more"),
            ("most", self.most >= 2, "2 or more"),
        ):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} must be {range_}.")

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Probe the three models, on the same examples.

        Returns:
            The three percentages; none where D_f or the test data is a single example.

        Raises:
            ValueError: If the run does not say how the original came to be, a model has no linear
                layer, or no test data are left.
        """
        if len(trial.unseen) == 0:
            raise ValueError(
                f"All {len(trial.test)} test examples belong to classes that are forgotten as a "
                "whole, so the probe has nothing to tell D_f from; give test data of other classes."
            )
        size = min(len(trial.split.forget), len(trial.unseen), self.most)
        if size < 2:
            return {}
        seed = derive(run.seed, "probe")
        forget = some(trial.split.forget, size, derive(seed, "forget"))
        unseen = some(trial.unseen, size, derive(seed, "unseen"))
        models = {
            "probe": trial.unlearned,
            "probe_retrain": trial.retrained(run, "Probe"),
            "probe_original": trial.original,
        }
        return {name: self._told(model, forget, unseen) for name, model in models.items()}

    def _told(self, model: nn.Module, forget: Data, unseen: Data) -> float:
        """The share of both sides that the probe tells right; they are in random order."""
        sides = (predict(Penultimate(model), side).logits.double() for side in (forget, unseen))
        x, half = torch.cat([*sides]), len(forget)
        if not bool(x.isfinite().all()):
            raise ValueError("The features hold NaN or infinity: the model is ruined.")
        y = torch.ones(2 * half, dtype=torch.int64)
        y[half:] = -1
        fold = torch.arange(half).remainder(min(self.folds, half)).repeat(2)
        right = 0
        for k in fold.unique():
            own = fold == k
            right += int((self._fitted(x[~own], y[~own], x[own]) == y[own]).sum())
        return 100 * right / len(y)

    def _fitted(self, x: Features, y: Int64[Tensor, " n"], new: New) -> Int64[Tensor, " m"]:
        """What the probe, fitted to x and y, says of new examples."""
        mean, deviation = x.mean(0), x.std(0, correction=0)
        varies = deviation > ROUNDING * x.abs().amax(0)
        scale = torch.where(varies, 1 / deviation, 0)
        ridge = RidgeClassifier(alpha=self.penalty * len(x))
        ridge.fit(((x - mean) * scale).numpy(), y.numpy())
        return torch.from_numpy(ridge.predict(((new - mean) * scale).numpy()))
