"""Whether the discriminator still tells forgotten images from images it has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from oblivio.core import Data, Run, Score, Trial
from oblivio.generative import GAN, alike, as_gan, images_of, of_the_classes, scores
from oblivio.metrics._features import some
from oblivio.metrics._samples import check_counts
from oblivio.roc import auc


@dataclass(frozen=True)
class DScore:
    """Membership by D's logit: its AUC between D_f and held-out images, in percent.

        AUC = P(D(x_f) > D(x_h)) + ½ P(D(x_f) = D(x_h))

    for x_f from D_f and x_h from test images of the classes of D_f, weighed so that the classes are
    as frequent: else it would be told whether D prefers a class. At 50 the discriminator cannot
    tell members; above, it knows what it was trained on, as discriminators do that memorise; well
    below, it has learned to dislike what it was to forget, which tells just as much. Its standard
    error is DeLong's.

    The exhibit `d_scores` has logits of D_f, held-out images and D_r. Without numbers where the
    test data has none of the classes.

    Args:
        most: Of each set, at most so many images are drawn.
        shown: Of each set, at most so many logits are shown.

    Raises:
        ValueError: If there are none; when called, if the logits are not finite.

    Source: Hayes, Melis, Danezis & De Cristofaro 2019, "LOGAN", section 4.2, whose white-box attack
    ranks by D; DeLong, DeLong & Clarke-Pearson 1988 for the standard error.
    """

    most: int = 2000
    shown: int = 500

    of: ClassVar[str] = "gan"
    scores: ClassVar[Mapping[str, Score]] = {
        "d_auc": Score(
            "D AUC", "%", "retrain", "forgotten images told from unseen ones by D", True
        ),
        "d_error": Score("D AUC error", "%", "down", "standard error of D AUC"),
    }

    def __post_init__(self) -> None:
        check_counts(self, most=1, shown=1)

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, Any]:
        """Rank the two sets by the unlearned discriminator.

        Returns:
            The numbers that there are, and logits of three sets.

        Raises:
            ValueError: If the logits are not finite.
        """
        gan, forget = as_gan(trial.unlearned), trial.split.forget
        unseen = of_the_classes(trial.test, forget)
        sets = {"forget": forget, "held_out": unseen, "retain": trial.split.retain}
        parts = {name: some(data, self.most, 0) for name, data in sets.items()}
        logits = {name: self._scores(gan, part) for name, part in parts.items()}
        shown = {k: [round(v, 4) for v in x[: self.shown].tolist()] for k, x in logits.items()}
        if len(unseen) == 0:
            return {"d_scores": shown}
        weights = alike(parts["held_out"].labels, forget.labels)
        value, error = auc(logits["forget"], logits["held_out"], weights)
        found = {"d_auc": 100 * value, "d_scores": shown}
        return found if error is None else found | {"d_error": 100 * error}

    def _scores(self, gan: GAN, data: Data) -> Float[Tensor, " n"]:
        """Logits of the data."""
        if len(data) == 0:
            return torch.empty(0)
        found = scores(gan, images_of(data), data.labels)
        if not bool(found.isfinite().all()):
            raise ValueError("D's logits hold NaN or infinity: the discriminator is ruined.")
        return found
