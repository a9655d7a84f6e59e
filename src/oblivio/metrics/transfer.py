"""How well a model serves another task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar

from torch import nn

from oblivio.core import Run, Score, Trial, derive, predict
from oblivio.data.sets import written_out
from oblivio.data.source import Source, load
from oblivio.metrics.accuracy import accuracy
from oblivio.prune import Pruned
from oblivio.train import Recipe
from oblivio.transfer import check_target, probed, tuned


@dataclass(frozen=True)
class Transfer:
    """Accuracy on the test data of another task, the target, after transfer to it, in percent.

        transfer_probe    only a new last layer is trained on the target
        transfer_full     a new last layer, and then all of the model
        transfer_scratch  the same training of the network before its first step: what there is to
                          gain from the source

    Of a pruned model, what is zero stays zero, but for the new layer; it starts from scratch dense.
    All models of a seed get the same new layer and see the target's data in the same order.
    The target stays the same from seed to seed. Costly: it trains a model three times over.

    Args:
        target: The table of the target's data set; its inputs must have the source's shape, which
            `{name = "part", size = ..., channels = ...}` can give them.
        probe: How the new last layer alone is trained, on standardised features; its weight decay
            is of the layer in these terms.
        full: How all of the model is trained.

    Raises:
        ValueError: If there is no such data set; when called, if the target has no training data
            or its inputs another shape, if the model has no last linear layer that could be
            replaced, or if the run does not say how the original came to be.

    Source: Jia et al. 2023, section 6 ("Transfer learning"), after Jain et al. 2023, "A data-based
    perspective on transfer learning": a linear probe and full fine-tuning. The recipes are ours.
    """

    target: Mapping[str, Any] = field(default_factory=lambda: {"name": "digits"})
    probe: Recipe = Recipe(epochs=30, lr=0.1, batch_size=64, schedule="cosine")
    full: Recipe = Recipe(epochs=30, lr=0.02, batch_size=64, schedule="cosine")

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "transfer_probe": Score(
            "Transfer, probe", "%", "up", "target's accuracy, last layer trained", headline=True
        ),
        "transfer_full": Score(
            "Transfer, full",
            "%",
            "up",
            "target's accuracy, all of the model trained",
            headline=True,
        ),
        "transfer_scratch": Score(
            "Scratch", "%", "up", "target's accuracy without the source: the network trained anew"
        ),
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", written_out(self.target))

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Transfer, twice, and once from scratch.

        Returns:
            The three percentages.

        Raises:
            ValueError: If the target or the model does not suit, or the run has no origin.
        """
        origin = run.needed_origin(
            "Transfer compares with a network that is trained on the target alone, so it must know "
            "how the original was made"
        )
        target = loaded(json.dumps(self.target, sort_keys=True))
        check_target(trial.split.retain, target.train)
        own = replace(run, seed=derive(run.seed, "transfer"), mask=None)
        given = (target.train, target.classes)
        sparse = isinstance(trial.method, Pruned)
        models: dict[str, nn.Module] = {
            "transfer_probe": probed(trial.unlearned, *given, self.probe, own),
            "transfer_full": tuned(trial.unlearned, *given, self.full, own, sparse=sparse),
            "transfer_scratch": tuned(origin.fresh(), *given, self.full, own),
        }
        return {name: accuracy(predict(m, target.test)) for name, m in models.items()}


@lru_cache(maxsize=8)
def loaded(table: str) -> Source:
    """A data set, read once in each process."""
    return load(json.loads(table))
