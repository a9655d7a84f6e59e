"""How long forgetting took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from oblivio.core import Run, Score, Trial


@dataclass(frozen=True)
class Time:
    """Run time of the method (s), and its ratio to retrain's.

    Loading, start-up and judging are left out.

    The ratio is known as run-time efficiency (RTE).
    """

    of: ClassVar[str] = "any"
    scores: ClassVar[Mapping[str, Score]] = {
        "seconds": Score("Time", "s", "down", "run time of the method"),
    }

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """The seconds, if the trial was timed."""
        return {} if trial.seconds is None else {"seconds": trial.seconds}
