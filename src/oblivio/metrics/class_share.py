"""How much of what a GAN generates still shows a class that is to be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from oblivio.core import Run, Score, Trial
from oblivio.metrics._samples import check_counts, reporter, samples


@dataclass(frozen=True)
class ClassShare:
    """Share of generated images that the reporting judge calls a forgotten class, in percent.

        class share = 100 n_u / n        PUL = 100 (n_o − n_u) / n_o

    where n_u of the n images of the unlearned generator, and n_o of the original's from the same
    latents, are called a class of which nothing is retained. PUL, the percentage of unlearning, is
    100 where the class is never generated, 0 where it is as often as before and below 0 where more
    often; there is none where the original never generates the class. A share of 0 is not the aim:
    a GAN retrained without the class also makes images that look like it. A conditional GAN is told
    all classes alike, forgotten ones too.

    The exhibit `class_shares` has the share of every class. Where no class is forgotten as a whole
    it is all there is.

    Args:
        samples: n.
        seed: Of the latents.

    Raises:
        ValueError: If there are no samples; when called, if the images are ruined.

    Source: Tiwary et al. 2023, "Adapt then unlearn" (PUL); the judge stands beside the retrained
    model's share by our choice.
    """

    samples: int = 2000
    seed: int = 0

    of: ClassVar[str] = "gan"
    scores: ClassVar[Mapping[str, Score]] = {
        "class_share": Score(
            "Class share", "%", "retrain", "generated images that show a forgotten class", True
        ),
        "pul": Score("PUL", "%", "up", "how many fewer of them than the original generates"),
    }

    def __post_init__(self) -> None:
        check_counts(self, samples=1)

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, Any]:
        """Count the classes of both GANs' images.

        Returns:
            The numbers that there are, and the share of every class.
        """
        classes, gone = reporter(trial, run).classes, trial.split.gone
        after, before = (
            samples(gan, trial, run, self.samples, self.seed).called.bincount(minlength=classes)
            for gan in (trial.unlearned, trial.original)
        )
        found: dict[str, Any] = {"class_shares": _percent(after)}
        if len(gone):
            n_u, n_o = int(after[gone].sum()), int(before[gone].sum())
            found["class_share"] = 100 * n_u / self.samples
            if n_o:
                found["pul"] = 100 * (n_o - n_u) / n_o
        return found


def _percent(counts: Tensor) -> list[float]:
    return [100 * count / int(counts.sum()) for count in counts.tolist()]
