"""What generated images are still good for: training a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from oblivio.core import Run, Score, Trial, predict, seeded
from oblivio.data.arrays import Arrays
from oblivio.judge import TRAINING
from oblivio.metrics._samples import check_counts, reporter, samples
from oblivio.models.cnn import CNN
from oblivio.train import Recipe, fit

NETWORK = CNN(channels=(16, 32), hidden=64)
SEED = 3  # one for all GANs, so that they differ by their images alone


@dataclass(frozen=True)
class Downstream:
    """Accuracy on test images of a classifier that learned from generated ones, in percent.

    Both are of retained classes alone: images of classes that are forgotten as a whole are left
    out. A conditional GAN's images have the labels that it was told, another's those that the
    reporting judge gives. The classifier is a small CNN, from the same first weights for every GAN.
    It is 0 where no image is left to learn from; there is none where the test data has no retained
    class.

    Args:
        samples: How many images are generated.
        recipe: How the classifier is trained.

    Raises:
        ValueError: If there are no samples; when called, if the images are ruined.

    Source: the idea is the classification accuracy score of Ravuri & Vinyals 2019.
    """

    samples: int = 2000
    recipe: Recipe = replace(TRAINING, epochs=8)

    of: ClassVar[str] = "gan"
    scores: ClassVar[Mapping[str, Score]] = {
        "downstream": Score(
            "Downstream", "%", "retrain", "accuracy of a classifier of generated images", True
        )
    }

    def __post_init__(self) -> None:
        check_counts(self, samples=1)

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Train a classifier on what the GAN makes, and test it on real images."""
        if len(trial.unseen) == 0:
            return {}
        made = samples(trial.unlearned, trial, run, self.samples)
        labels = made.called if made.told is None else made.told
        rows = torch.where(~torch.isin(labels, trial.split.gone))[0]
        if len(rows) == 0:
            return {"downstream": 0.0}
        data = Arrays(made.images[rows], labels[rows])
        with seeded(SEED):
            classes = max(reporter(trial, run).classes, int(labels.max()) + 1)
            network = NETWORK(data.shape, classes)
            fit(network, data.to(run.device), self.recipe, Run(run.fabric, SEED))
        logits, truth = predict(network, trial.unseen)
        return {"downstream": 100 * float((logits.argmax(1) == truth).double().mean())}
