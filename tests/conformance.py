"""Planted forgetters: methods of which we know what every measure of forgetting must say.

A measure conforms if it says of each what is true of it: that it has forgotten all, nothing, or
half, that it answers as if it had forgotten but keeps what it knew in its features, or that it has
forgotten all and everything else with it. All but the random model are used on models that were
made by `Run.origin`, with data that are `Arrays`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from oblivio.core import Data, Method, Origin, Part, Run, Split, derive
from oblivio.data.arrays import Arrays
from oblivio.train import Recipe, fit


@dataclass(frozen=True)
class DoesNothing:
    """Forgets nothing: the ceiling of every measure."""

    reads: ClassVar[frozenset[Part]] = frozenset()

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        return model


@dataclass(frozen=True)
class Retrains:
    """Forgets all: the model is made anew on D_r, from a seed of its own."""

    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})

    def anew(self, split: Split, run: Run) -> tuple[Origin, Data]:
        """What the model is made by, and of."""
        return _other(run, "retrains"), split.retain

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        origin, data = self.anew(split, run)
        return origin.make(data, run)


@dataclass(frozen=True)
class ForgetsHalf:
    """Forgets half of D_f: the model is made anew on D_r and the other half, from its own seed.

    Which examples it keeps is decided by their ids alone, so that they are the same in all shadow
    models: about half of the points are as exposed as before, the others not at all.
    """

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})

    def anew(self, split: Split, run: Run) -> tuple[Origin, Data]:
        """What the model is made by, and of."""
        kept = split.forget.take(torch.where(remembered(split.forget.ids))[0])
        return _other(run, "half"), _joined(split.retain, kept)

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        origin, data = self.anew(split, run)
        return origin.make(data, run)


def remembered(ids: Tensor) -> Tensor:
    """Whether `ForgetsHalf` keeps the example."""
    return torch.tensor([derive(0, "remembered", i) % 2 == 0 for i in ids.tolist()])


@dataclass(frozen=True)
class KeepsFeatures:
    """Forgets in the last layer alone; all that leads to it stays, bit by bit.

    If classes are forgotten as a whole, their rows of the last layer's weight become 0 and their
    biases very small, so that no answer is ever one of them. Otherwise the last layer is made anew
    and trained on D_r, on features that D_f has shaped; they may give D_f away all the same.

    Args:
        bias: Of a class that is gone.
        recipe: Trains the new last layer.
    """

    bias: float = -20.0
    recipe: Recipe = Recipe(epochs=20, lr=0.1, batch_size=64, weight_decay=0.0)

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        name, last = last_layer(model)
        if len(split.gone):
            with torch.no_grad():
                last.weight[split.gone] = 0
                last.bias[split.gone] = self.bias
            return model
        last.load_state_dict(last_layer(_other(run, "head").fresh())[1].state_dict())
        named = last.named_parameters(prefix=name)
        only = {n: torch.ones_like(p, dtype=torch.bool) for n, p in named}
        return fit(model, split.retain, self.recipe, run, only=only, statistics=False)


@dataclass(frozen=True)
class Random:
    """Forgets all, and everything else: a network before its first step."""

    reads: ClassVar[frozenset[Part]] = frozenset()

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        return _other(run, "random").fresh()


PLANTED: Mapping[str, Method] = {
    "does_nothing": DoesNothing(),
    "retrains": Retrains(),
    "forgets_half": ForgetsHalf(),
    "keeps_features": KeepsFeatures(),
    "random": Random(),
}
"""All of them, by name."""


def last_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer, and its name."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]


def _other(run: Run, what: str) -> Origin:
    """How the original was made, from another seed, which differs from shadow to shadow."""
    assert run.origin is not None
    return replace(run.origin, seed=derive(run.origin.seed, "planted", what))


def _joined(one: Data, two: Data) -> Arrays:
    assert isinstance(one, Arrays)
    assert isinstance(two, Arrays)
    parts = [(part.inputs, part.labels, part.ids) for part in (one, two)]
    inputs, labels, ids = (torch.cat(pair) for pair in zip(*parts, strict=True))
    return replace(one, inputs=inputs, labels=labels, ids=ids)
