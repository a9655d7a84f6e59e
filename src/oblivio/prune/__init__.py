"""Which weights to remove, one pruner per file, and how a pruned model comes to be.

A pruner is `(model, data, run) -> Mask`. A sparse model comes to be as the dense one does, with two
steps more:

    θ_d = A(θ₀; D)            the dense training
    m   = pruner(θ_d, D)      which weights stay
    θ_s = A(m ⊙ θ_k; D, m)    the same training from the weights after k epochs, with the mask held

`sparse` makes an `Origin` of this, so that a sparse model is retrained as it was made: by all three
steps on what is retained, the mask included. `Pruned` runs a method on such a model.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from oblivio.core import Data, Method, Note, Origin, Part, Progress, Pruner, Run, Split, seeded
from oblivio.mask import Mask
from oblivio.prune._choice import LayerCollapse as LayerCollapse
from oblivio.prune._choice import removed


def needs_origin(run: Run) -> Origin:
    """How the dense model came to be.

    Returns:
        The run's origin.

    Raises:
        ValueError: If it has none.
    """
    return run.needed_origin("Pruning trains the model again and must know how it was made")


class _Reached(Exception):
    """A training has come as far as it should."""


def rewound(origin: Origin, data: Data, run: Run, epochs: int) -> nn.Module:
    """The network as it was after some epochs of its dense training on this data.

    The training is begun again and left there, so that nothing needs to be remembered; it gives the
    very weights that `origin.make` passed through.

    Returns:
        A model; with 0 epochs it has its first weights.

    Raises:
        ValueError: If the training is over before.
    """
    reached: list[nn.Module] = []
    if epochs == 0:
        return origin.fresh().to(run.device)

    def train(model: nn.Module, data: Data, own: Run) -> nn.Module:
        def listen(event: Progress | Note) -> None:
            if isinstance(event, Progress) and event.done == epochs:
                reached.append(copy.deepcopy(model))
                raise _Reached

        try:
            origin.train(model, data, replace(own, tell=listen))
        except _Reached:
            return reached[0]
        raise ValueError(
            f"The weights are to be rewound to epoch {epochs}, but the training is over before: "
            f"give the pruner a smaller `rewind`."
        )

    made = replace(origin, train=train).make(data, run)
    return made.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def resumed(origin: Origin, start: nn.Module, mask: Mask) -> Origin:
    """The same training, from these weights on, with the mask held."""

    def train(model: nn.Module, data: Data, run: Run) -> nn.Module:
        made = origin.train(model, data, replace(run, mask=mask))
        if not mask.held_by(made):
            raise ValueError(
                "The training fills in weights that were pruned: it must leave zero what run.mask "
                "removes, as `fit` does."
            )
        return made

    return replace(origin, build=lambda: copy.deepcopy(start), train=train)


def sparse(origin: Origin, pruner: Pruner, trained: nn.Module | None = None) -> Origin:
    """How a pruned model comes to be, from how the dense one does.

    Args:
        origin: Of the dense model.
        pruner: What chooses the weights that stay.
        trained: The dense model as `origin` makes it on the very data that the result is made on,
            if it is there already; it saves a training.

    Returns:
        An origin; what it makes is the dense training, the pruning and the sparse training.
    """

    def train(_: nn.Module, data: Data, run: Run) -> nn.Module:
        own = origin if run.origin is None else replace(origin, seed=run.origin.seed)
        if not pruner.trained:
            dense = own.fresh().to(run.device)
        elif trained is not None and own.seed == origin.seed:
            dense = copy.deepcopy(trained).to(run.device)
        else:
            dense = own.make(data, run)
        with seeded(run.seed):
            mask = pruner(dense, data, replace(run, origin=own))
        start = rewound(own, data, run, pruner.rewind)
        return resumed(own, start, mask).make(data, run)

    return replace(origin, train=train)


@dataclass(frozen=True)
class Pruned:
    """Prune first, then unlearn: a method on a sparse model, whose zeros stay zero.

    The model that comes in is the sparse original, made by `origin` or `prepare` before anyone asks
    to forget. Retraining repeats all that made it, on what is retained: neither mask nor weights
    then owe anything to the forgotten data.

    Args:
        pruner: What made the model sparse.
        method: What forgets.

    Source: Jia et al. 2023, section 4. Their code retrains with the original's mask, which
    has seen the forget set; here retraining finds its own.
    """

    pruner: Pruner
    method: Method

    @property
    def reads(self) -> frozenset[Part]:
        """What the inner method reads."""
        return cast(Any, self.method).reads

    def origin(self, dense: Origin, trained: nn.Module | None = None) -> Origin:
        """How the sparse original comes to be; see `sparse`."""
        return sparse(dense, self.pruner, trained)

    def prepare(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        """The sparse original of a trained dense model, on all of its training data.

        Returns:
            A new model.

        Raises:
            ValueError: If the run does not say how the dense model came to be.
        """
        return self.origin(needs_origin(run), model).make(data, run)

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Run the method with the model's zeros held.

        Returns:
            The unlearned model.

        Raises:
            ValueError: If the model is not as sparse as the pruner makes it, or the method fills
                weights in that were removed.
        """
        mask = Mask.of(model)
        least = removed(self.pruner.sparsity, mask.total)
        if mask.total - mask.kept < least:
            raise ValueError(
                f"{mask.total - mask.kept} of the model's {mask.total} prunable weights are zero, "
                f"but it should be pruned to {least}: make it with Pruned.prepare beforehand."
            )
        masks = [mask]
        origin = run.origin and _remembering(self.origin(run.origin), masks)
        result = self.method(model, split, replace(run, mask=mask, origin=origin))
        if not any(allowed.held_by(result) for allowed in masks):
            raise ValueError(
                f"{type(self.method).__name__} fills in weights that were pruned: it must leave "
                f"zero what run.mask removes."
            )
        return result


def _remembering(origin: Origin, masks: list[Mask]) -> Origin:
    """The same origin, which adds the masks of the models that it makes to a list."""

    def train(model: nn.Module, data: Data, run: Run) -> nn.Module:
        made = origin.train(model, data, run)
        masks.append(Mask.of(made))
        return made

    return replace(origin, train=train)
