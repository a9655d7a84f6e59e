"""Training models together: one packed network, one optimiser, and `fit`'s own loop.

SGD, Adam and AdamW work weight by weight. So one of them on stacked weights is one on each model's,
once the loss is the sum of the models' losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.core import Batch, Note, Progress, Run, derive
from oblivio.data.arrays import Arrays, batch_starts
from oblivio.fleet.packing import pack, unpack
from oblivio.mask import Mask
from oblivio.train import Recipe, fit

MEMORY = {"cpu": 32 * 2**20, "cuda": 8 * 2**30}
"""Bytes that models trained together may take: weights, gradients, momentum, and what a step keeps.

On a CPU it is about what the caches hold. As much again may be taken by the examples of a pass.
"""


def memory(device: torch.device) -> int:
    """Bytes on a device that models trained together may take."""
    return MEMORY.get(device.type, MEMORY["cuda"])


class Job(NamedTuple):
    """A model to be trained: its place in the list that a user gave, its data, and its run."""

    place: int
    model: nn.Module
    data: Arrays
    run: Run


def fit_together(jobs: Sequence[Job], recipe: Recipe) -> None:
    """Train models in place that can be packed, on equally many examples each.

    Raises:
        FloatingPointError: If a model's loss is no longer a finite number at the end of an epoch;
            all models are then left as they were.
        ValueError: If a model's mask does not fit.
    """
    runs, models = [job.run for job in jobs], [job.model for job in jobs]
    losses = Losses(len(jobs))

    def tell(event: Progress | Note) -> None:
        for run, loss in zip(runs, losses.last.tolist(), strict=True):
            run.tell(event._replace(loss=loss) if isinstance(event, Progress) else event)

    passes = [[derive(run.seed, "epoch", epoch) for run in runs] for epoch in range(recipe.epochs)]
    data = Together([job.data for job in jobs], {seeds[0]: seeds for seeds in passes})
    together = replace(runs[0], mask=_stacked_masks(jobs), tell=tell)
    packed = pack(models)
    try:
        fit(packed, data, recipe, together, loss=losses)
    except FloatingPointError as error:
        wrong = int(losses.last.isfinite().int().argmin())
        raise FloatingPointError(f"Model {jobs[wrong].place}: {error}") from None
    unpack(packed, [model.to(runs[0].device).eval() for model in models])
    for run in runs:
        run.note(together=len(jobs))


def _stacked_masks(jobs: Sequence[Job]) -> Mask | None:
    masks = [job.run.mask for job in jobs]
    for job, mask in zip(jobs, masks, strict=True):
        if mask is not None:
            mask.check(job.model)
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    return Mask({name: torch.stack([mask.keep[name] for mask in given]) for name in given[0].keep})


class Losses:
    """The sum of the models' losses, each the mean over its own batch; remembers the last ones."""

    def __init__(self, count: int) -> None:
        self.last = torch.zeros(count)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy; with the classes second, it takes half the time."""
        z, y = (values.unflatten(0, (len(self.last), -1)) for values in (logits, labels))
        each = F.cross_entropy(z.transpose(1, 2), y, reduction="none").mean(1)
        self.last = each.detach()
        return each.sum()


@dataclass(frozen=True, eq=False)
class Together:
    """As many data sets as models, of equally many examples each, read batch by batch.

    A batch holds each model's batch, one below another.

    Args:
        data: Each model's.
        seeds: Each model's seed of a pass, by the first model's.
    """

    data: Sequence[Arrays]
    seeds: dict[int, list[int]]

    @property
    def ids(self) -> Int64[Tensor, " n"]:
        """The first model's."""
        return self.data[0].ids

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The first model's."""
        return self.data[0].labels

    def __len__(self) -> int:
        return len(self.data[0])

    def take(self, positions: Int64[Tensor, " k"]) -> Together:
        """Of each."""
        return replace(self, data=[own.take(positions) for own in self.data])

    def to(self, device: torch.device) -> Together:
        """Of each."""
        return replace(self, data=[own.to(device) for own in self.data])

    def batches(
        self,
        size: int,
        *,
        shuffle: int | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Go once through all of them, in one process; see `oblivio.core.Data.batches`.

        The examples of several batches are looked up at once, as many as fit `MEMORY`: batch by
        batch, looking them up model by model would take as long as a step.
        """
        seeds = [None] * len(self.data) if shuffle is None else self.seeds[shuffle]
        pairs = zip(self.data, seeds, strict=True)
        drawn = [own.draw(seed, augment=augment) for own, seed in pairs]
        one, n = self.data[0].inputs, len(self)
        stops = [*batch_starts(n, size), n]
        bytes_per_batch = len(self.data) * one.nbytes * size // n
        most = max(1, memory(one.device) // max(1, bytes_per_batch))
        for first in range(0, len(stops) - 1, most):
            ends = stops[first : first + most + 1]
            everything = torch.arange(ends[0], ends[-1])
            rows = [everything if d.order is None else d.order[everything] for d in drawn]
            columns = [
                _looked_up(values, rows, one.device)
                for values in (
                    [own.inputs for own in self.data],
                    [own.labels for own in self.data],
                    [d.shifts for d in drawn],
                    [d.flips for d in drawn],
                )
            ]
            for start, stop in pairwise(ends):
                cut = slice(start - ends[0], stop - ends[0])
                x, labels, shifts, flips = (_rows(column, cut) for column in columns)
                yield Batch(self.data[0].made(x, shifts, flips), labels, 1.0)


def _looked_up(values: Sequence[Any], rows: Sequence[Tensor], device: torch.device) -> Any:
    """Each model's values at its rows, the models counted first; None if there are no values."""
    if values[0] is None:
        return None
    found = [v[r.to(v.device)] for v, r in zip(values, rows, strict=True)]
    return torch.stack(found).to(device)


def _rows(column: Any, cut: slice) -> Any:
    """Each model's part of a column, one below another."""
    return None if column is None else column[:, cut].flatten(0, 1)
