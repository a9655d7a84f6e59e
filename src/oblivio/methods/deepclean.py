"""Resetting and relearning of the weights that the forgotten examples need above all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import nn

from oblivio.catalogue import unknown
from oblivio.choice import Chosen
from oblivio.core import Data, Part, Run, Split, derive
from oblivio.curvature.cache import diagonals, keep
from oblivio.curvature.fisher import Diagonal, LabelSource
from oblivio.curvature.gradients import trainable
from oblivio.curvature.selection import (
    check_extent,
    check_influence,
    choose,
    cut,
    explanation,
    ratio,
    share_of,
)
from oblivio.methods._samples import check_samples, some
from oblivio.train import Recipe, fit

Reset = Literal["zero", "initial", "none"]
Train = Literal["chosen", "all"]
By = Literal["ratio", "chance"]


@dataclass(frozen=True)
class DeepClean:
    """DeepClean: resets the weights that D_f needs more than D_r, and trains these alone on D_r.

    r(w) = F_f(w) / F_r(w),  for every trainable weight, with F the Fisher diagonals,
    W_f = {w : r(w) > γ},
    w ← 0 for w in W_f,
    w ← w − η ∂ℓ(θ; D_r)/∂w for w in W_f, over and over.

    All other weights stay bit for bit, and so do the statistics of normalisation layers. Of a
    pruned model only the weights that stay can be chosen. A weight whose F_f is zero never is; if
    all are zero, nothing changes and the notes say so. They also say which share of the weights was
    `changed`, at which ratio was cut (`threshold`), and explain the choice.

    For a class, few examples of D_r suffice (`samples`), so that with F kept beside the weights a
    request costs about a pass over D_f. For random examples, r tells weights hardly apart, and what
    helps is the fresh start: a larger share, `train` "all", and a control that chooses `by` chance
    (docs/results.md).

    Args:
        share: Instead of γ, how many of the weights W_f has, those with the largest ratios; 0.1
            unless a threshold is given.
        threshold: γ. It does not carry over from one request to another: of ratios on digits, the
            99 % quantile is several times as large for a class as for random examples.
        layerwise: Whether the share is met in each parameter instead of over all together.
        reset: What W_f is set to: "zero", the "initial" weights of the untrained network, or
            "none", which leaves the forgetting to the training.
        train: Which weights are trained afterwards: the "chosen", or "all" (statistics as well).
        by: What W_f is chosen by: the "ratio", or "chance", a control for what the ratio is worth.
        labels: Of the Fisher diagonals: the "data"'s own, or drawn from the "model".
        samples: How many examples of D_r, drawn at random, to train with; None is all.
        recipe: Of the training.

    Raises:
        ValueError: If a number is out of range, both share and threshold are given, or there is no
            such reset, way to choose or to train, or kind of labels.

    Source: Shi, Ghalyan, Gourgoulias, Buford and Moran 2023 (arXiv 2311.10448): one fixed γ, zero,
    and training of W_f alone. All other choices, and the defaults, are ours.
    """

    share: float | None = None
    threshold: float | None = None
    layerwise: bool = False
    reset: Reset = "zero"
    train: Train = "chosen"
    by: By = "ratio"
    labels: LabelSource = "data"
    samples: int | None = None
    recipe: Recipe = Recipe(epochs=5, lr=0.05, weight_decay=0.0, schedule="cosine")

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})
    search: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "share": (0.005, 0.5),
        "recipe.lr": (1e-3, 1.0),
        "recipe.epochs": (1, 20),
    }

    def __post_init__(self) -> None:
        if self.share is None and self.threshold is None:
            object.__setattr__(self, "share", 0.1)
        check_extent(self.share, self.threshold)
        if self.layerwise and self.share is None:
            raise ValueError("layerwise = true needs a share: a threshold is one for all layers.")
        if self.by == "chance" and self.share is None:
            raise ValueError('by = "chance" needs a share: a threshold is one of ratios.')
        check_samples(self.samples)
        for name, value, kind in (
            ("reset", self.reset, Reset),
            ("way to train", self.train, Train),
            ("way to choose", self.by, By),
            ("kind of labels", self.labels, LabelSource),
        ):
            if value not in get_args(kind):
                raise ValueError(unknown(name, value, get_args(kind)))

    def prepare(self, model: nn.Module, data: Data, run: Run) -> None:
        """Keep F over all of D beside the model's weights."""
        if run.beside is not None:
            keep(model, data, run, self.labels)

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Choose, reset, and train what was chosen on D_r."""
        chosen = self._choose(model, split, run)
        if not any(bool(some.any()) for some in chosen.values()):
            return model
        if self.reset != "none":
            set_to(model, chosen, initial(model, run) if self.reset == "initial" else None)
        data = some(split.retain, self.samples, derive(run.seed, "samples"))
        if self.train == "all":
            return fit(model, data, self.recipe, run)
        return fit(model, data, self.recipe, run, only=chosen, statistics=False)

    def _choose(self, model: nn.Module, split: Split, run: Run) -> Chosen:
        """W_f, and what there is to say of it."""
        forget, retain, whole = diagonals(model, split, run, self.labels)
        r = ratio(forget, retain)
        if any(bool(value.any()) for value in forget.values()):
            check_influence(whole)
        else:
            run.note(unchanged="the model is certain of what it is to forget: F_f is 0 everywhere")
        values = r if self.by == "ratio" else chances(r, derive(run.seed, "chance"))
        chosen = choose(
            values,
            share=self.share,
            threshold=self.threshold,
            layerwise=self.layerwise,
            mask=run.mask,
        )
        one = self.by == "ratio" and not self.layerwise
        at = (self.threshold or cut(r, chosen)) if one else None
        run.note(
            changed=share_of(chosen), threshold=at, explanation=explanation(model, r, chosen, at)
        )
        return chosen


def chances(like: Diagonal, seed: int) -> Diagonal:
    """A number from 0 to 1 for every weight, and 0 where the given one is 0."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=draw, dtype=torch.float64).to(value.device)
        * (value > 0)
        for name, value in like.items()
    }


@torch.no_grad()
def set_to(model: nn.Module, chosen: Chosen, values: dict[str, torch.Tensor] | None) -> None:
    """Set the chosen weights to these values, or to zero, in place."""
    for name, weight in trainable(model).items():
        value = torch.zeros_like(weight) if values is None else values[name]
        weight.copy_(torch.where(chosen[name], value, weight))


def initial(model: nn.Module, run: Run) -> dict[str, torch.Tensor]:
    """The weights of the network before its first step, on the model's device.

    Returns:
        Values by parameter name.

    Raises:
        ValueError: If the run does not say how the model came to be, or that builds another.
    """
    origin = run.needed_origin(
        'To set weights to their initial values (reset = "initial"), the untrained network must be '
        "known"
    )
    first = dict(origin.fresh().named_parameters())
    for name, weight in trainable(model).items():
        if name not in first or first[name].shape != weight.shape:
            raise ValueError(
                f"The run's origin builds another network than the model: its {name} differs."
            )
    return {name: first[name].detach().to(p.device) for name, p in trainable(model).items()}
