"""How near the model is to knowing nothing at all of the forget set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import ClassVar

from oblivio.core import Run, Score, Trial, derive, predict
from oblivio.metrics.closeness import divergence


@dataclass(frozen=True)
class ZRF:
    """Zero retrain forgetting: nearness to networks before their first step, on D_f.

    ZRF = 1 − 1/|D_f| Σ_x JS(θ_u(x), θ_0(x)),  JS as in Closeness, log to base 2, so from 0 to 1

    The mean over several untrained networks θ_0 of the original's kind, in eval mode, each from a
    seed of its own: the original's own first weights would favour models that have not gone far.
    Highest is not best: a model that generalises is sure of what it never saw, as retraining is,
    whose value is the target. Two models of one ZRF may answer quite differently.

    Args:
        networks: How many untrained networks there are.

    Raises:
        ValueError: If there are none; when called, if the run does not say how the original came
            to be.

    Source: Chundawat, Tarun, Mandal & Kankanhalli 2023, "Can bad teaching induce forgetting?".
    They take one network and do not name the logarithm's base.
    """

    networks: int = 3

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "zrf": Score("ZRF", "", "retrain", "nearness on the forget set to untrained networks")
    }

    def __post_init__(self) -> None:
        if self.networks < 1:
            raise ValueError(f"networks = {self.networks} must be 1 or more.")

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Compare with untrained networks.

        Returns:
            The score.

        Raises:
            ValueError: If the run does not say how the original came to be.
        """
        origin = run.needed_origin(
            "ZRF compares with untrained networks, so it must know how the original was built"
        )
        seeds = (derive(origin.seed, "zrf", k) for k in range(self.networks))
        fresh = (replace(origin, seed=seed).fresh().to(run.device) for seed in seeds)
        ignorant = (predict(network, trial.split.forget) for network in fresh)
        return {"zrf": 1 - fmean(divergence(trial.on_forget, one) for one in ignorant) / 100}
