"""How many steps of training forgetting took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from oblivio.core import Run, Score, Trial


@dataclass(frozen=True)
class Steps:
    """Steps of the generator and of the discriminator that the method took.

    They do not depend on the machine, as seconds do. Without numbers where the method says nothing
    of steps, as one that takes none.
    """

    of: ClassVar[str] = "gan"
    scores: ClassVar[Mapping[str, Score]] = {
        "generator_steps": Score("G steps", "", "down", "steps of the generator's training"),
        "discriminator_steps": Score(
            "D steps", "", "down", "steps of the discriminator's training"
        ),
    }

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """What the method noted."""
        noted = {name: trial.notes.get(name) for name in self.scores}
        return {name: n for name, n in noted.items() if isinstance(n, (int, float))}
