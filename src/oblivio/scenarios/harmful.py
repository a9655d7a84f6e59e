"""Forget the classes that harm another task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from oblivio.catalogue import settings_of, unknown
from oblivio.core import Data, Origin, Run, Split, derive
from oblivio.data.sets import written_out
from oblivio.data.source import load
from oblivio.fleet import make_many
from oblivio.models import factory, load_weights
from oblivio.scenarios._influence import (
    Harm,
    against_gradient,
    classes_of,
    leave_one_out,
    subsets,
)
from oblivio.train import Recipe
from oblivio.transfer import check_target

By = Literal["subsets", "leave_one_out", "gradient", "chance"]


@dataclass(frozen=True)
class Harmful:
    """Forget the classes of the source that most harm a target, before transfer to it.

    Classes are ranked with small models of the scenario's own, by the target's training data: its
    test data are not looked at. Which are chosen, and every class's harm, the split notes.

        subsets        small models are trained on random halves of the classes; a class is the
                       more harmful, the worse the target is learned by a linear probe of those that
                       have seen it than of the others, judged by cross-validation
        leave_one_out  likewise, but small models are trained without each class in turn
        gradient       the cosine between the mean gradients of a class and of the target, in all
                       layers but the last, of a model trained on all of the source; a class is the
                       more harmful, the lower it is
        chance         at random: what the others must be better than

    Args:
        target: The table of the target's data set.
        worst: How many classes to forget, the most harmful first.
        by: How to rank.
        model: The table of the small network; `weights` may name a file for by = "gradient", and
            nothing is trained.
        recipe: How it is trained.
        probe: How the probe's last layer is trained, on standardised features.
        repeats: How many small models there are for each class (for the gradient: in all), from
            seeds of their own. Few are too few: among ten classes, three left much to chance.
        folds: Of the cross-validation.

    Raises:
        ValueError: If a number is out of range or a table names nothing that there is; when called,
            if there are not more classes than are to be forgotten, the target has no training data
            or its inputs another shape, or the model suits neither.

    Source: Jia et al. 2023, section 6 ("Transfer learning"), who take the classes from Jain et al.
    2023, "A data-based perspective on transfer learning": by subsets, with thousands of models.
    """

    target: Mapping[str, Any] = field(default_factory=lambda: {"name": "digits"})
    worst: int = 1
    by: By = "subsets"
    model: Mapping[str, Any] = field(default_factory=lambda: {"name": "mlp", "hidden": [64]})
    recipe: Recipe = Recipe(epochs=10, lr=0.05, batch_size=64)
    probe: Recipe = Recipe(epochs=20, lr=0.1, batch_size=64, schedule="cosine")
    repeats: int = 8
    folds: int = 5

    def __post_init__(self) -> None:
        for name, least in (("worst", 1), ("repeats", 1), ("folds", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)} must be {least} or more.")
        if self.by not in get_args(By):
            raise ValueError(unknown("way to rank", self.by, get_args(By)))
        if "weights" in self.model and self.by != "gradient":
            raise ValueError(
                f'by = "{self.by}" trains its own models, so it has no use for weights: leave them '
                f'out, or rank by = "gradient".'
            )
        object.__setattr__(self, "target", written_out(self.target))

    def __call__(self, train: Data, seed: int) -> Split:
        """Rank the classes and split off the worst.

        Returns:
            The split, with notes of what was chosen and of all ranks.

        Raises:
            ValueError: If that cannot be done with these data.
        """
        classes = classes_of(train)
        if self.worst >= len(classes):
            raise ValueError(
                f"worst = {self.worst}, but the source has {len(classes)} classes: some must be "
                f"retained, so it can be {len(classes) - 1} at most."
            )
        harm = (
            self._chances(len(classes), seed) if self.by == "chance" else self._asked(train, seed)
        )
        worst = classes[harm.argsort(descending=True, stable=True)[: self.worst]]
        split = Split.of(train, train.ids[torch.isin(train.labels, worst)])
        notes: dict[str, object] = {"forgotten_classes": worst.sort().values.tolist()}
        if self.by != "chance":
            pairs = zip(classes.tolist(), harm.tolist(), strict=True)
            notes[f"harm_{self.by}"] = {str(c): float(f"{h:.3g}") for c, h in pairs}
        return Split(split.forget, split.retain, notes)

    def _chances(self, count: int, seed: int) -> Harm:
        draw = torch.Generator().manual_seed(seed)
        return torch.rand(count, generator=draw, dtype=torch.float64)

    def _asked(self, train: Data, seed: int) -> Harm:
        """The harm, measured once in each process for the same data and seed."""
        settings = {k: v for k, v in settings_of(self).items() if k != "worst"}
        key = (json.dumps(settings, sort_keys=True), fingerprint(train), seed)
        if key not in _KNOWN:
            _KNOWN[key] = self.harm(train, load(self.target).train, seed)
        return _KNOWN[key]

    def harm(self, train: Data, target: Data, seed: int) -> Harm:
        """Each class's harm, by small models.

        Args:
            train: The source's training data.
            target: The target's training data.
            seed: Of the models.

        Returns:
            One number per class, ascending by class; the larger, the more harmful.

        Raises:
            ValueError: If that cannot be done with these data.
        """
        check_target(train, target)
        run = Run.on("cpu", seed=derive(seed, "harmful"))
        shape = tuple(next(train.take(torch.arange(1)).batches(1)).inputs.shape[1:])
        table = {k: v for k, v in self.model.items() if k != "weights"}
        build = factory(table, shape, int(train.labels.max()) + 1)
        pairs = -(-self.repeats * len(classes_of(train)) // 2)
        count = 2 * pairs if self.by == "subsets" else self.repeats
        seeds = [derive(run.seed, "model", k) for k in range(count)]
        origins = [Origin(build, self.recipe, one) for one in seeds]
        if self.by != "gradient":
            way = subsets if self.by == "subsets" else leave_one_out
            return way(train, target, origins, self.probe, run, folds=self.folds)
        if "weights" in self.model:
            models = [load_weights(origins[0].fresh(), self.model["weights"]).eval()]
        else:
            models = make_many(origins, [train] * count, run)
        found = [against_gradient(m, train, target, self.probe, run) for m in models]
        return torch.stack(found).mean(0)


def fingerprint(data: Data) -> str:
    """What tells data apart: their ids, their labels, and their first inputs."""
    some = next(data.take(torch.arange(min(len(data), 64))).batches(64)).inputs
    tensors = (data.ids, data.labels, some)
    known = b"|".join(t.cpu().contiguous().numpy().tobytes() for t in tensors)
    return hashlib.sha256(known).hexdigest()


_KNOWN: dict[tuple[str, str, int], Harm] = {}
"""What was measured in this process, by settings, data and seed."""
