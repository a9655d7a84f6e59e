"""The Fisher information's diagonal: how much each weight matters to a model's predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.catalogue import unknown
from oblivio.core import Batch, Data, Run, derive
from oblivio.curvature.gradients import Inputs, at_rest, trainable
from oblivio.curvature.guard import check_deterministic
from oblivio.curvature.moment import MEMORY, Sums, moments
from oblivio.curvature.rule import Measure
from oblivio.train import Loss

LabelSource = Literal["data", "model"]
Diagonal = dict[str, Float64[Tensor, "..."]]
"""One number per weight, by parameter name."""

CHUNK = 128
"""Examples in one pass through the model."""


def diagonal(
    model: nn.Module,
    data: Data,
    *,
    loss: Loss = F.cross_entropy,
    labels: LabelSource = "data",
    seed: int = 0,
    chunk: int | None = None,
    memory: int = MEMORY,
    run: Run | None = None,
) -> Diagonal:
    """The diagonal of the Fisher information of the trainable weights.

    F_S(w) = (1/|S|) Σ_{(x,y)∈S} (∂ log p_θ(y|x) / ∂w)²

    One gradient per example, squared, then averaged: the square of a batch's mean gradient is
    another quantity, which shrinks as the batch grows. In eval mode, without augmentation. Costs
    about one forward and backward pass; see `moment`.

    Args:
        model: Any module that gives one row of logits per example; it is left as it is.
        data: S.
        loss: −log p, of logits and labels, a mean over examples; it is given one at a time.
        labels: Where y comes from. "data": the empirical Fisher. "model": y is drawn from
            p_θ(· | x), once per example, which in expectation is the Fisher information itself.
        seed: Of the labels that are drawn; what an example draws depends on its id alone.
        chunk: Examples in one pass, on which the result does not depend; None is 128.
        memory: Bytes that gradients of single examples may take at a time.
        run: Where several processes share the work; None is this one alone.

    Returns:
        The diagonal by parameter name, in float64, on the model's device.

    Raises:
        ValueError: If there are no examples, no trainable weights or no such kind of labels, if the
            model or the data draw random numbers, if the loss is not one number per example, or if
            a layer does not fit into the memory.

    Example:
        >>> from oblivio.data.arrays import Arrays
        >>> line = nn.Linear(1, 2, bias=False)
        >>> _ = nn.init.zeros_(line.weight)
        >>> points = Arrays(torch.tensor([[2.0], [-2.0]]), torch.tensor([0, 0]))
        >>> diagonal(line, points)["weight"].tolist()  # the mean gradient is 0; 2² · ½² is not
        [[1.0], [1.0]]

    Source: Kunstner, Balles and Hennig 2019, on how the two kinds of labels differ.
    """
    if labels not in get_args(LabelSource):
        raise ValueError(unknown("kind of labels", labels, get_args(LabelSource)))
    batches = _batches(model, chunk or CHUNK, seed if labels == "model" else None)
    return _mean(model, data, batches, loss, "square", memory, run)


def sensitivity(
    model: nn.Module,
    data: Data,
    *,
    chunk: int | None = None,
    memory: int = MEMORY,
    run: Run | None = None,
) -> Diagonal:
    """How strongly the outputs react to each weight, for which no labels are needed.

    Ω_S(w) = (1/|S|) Σ_{x∈S} |∂ ‖f_θ(x)‖²₂ / ∂w|

    Args:
        model: Any module that gives one row of outputs per example; it is left as it is.
        data: S.
        chunk: Examples in one pass, on which the result does not depend; None is 128.
        memory: Bytes that gradients of single examples may take at a time.
        run: Where several processes share the work; None is this one alone.

    Returns:
        The sensitivity by parameter name, in float64, on the model's device.

    Raises:
        ValueError: As for `diagonal`.

    Source: Aljundi et al. 2018, equation 3; Foster et al. 2024 for forgetting.
    """
    batches = _batches(model, chunk or CHUNK, None)
    return _mean(model, data, batches, squared_length, "absolute", memory, run)


def squared_length(
    outputs: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"]
) -> Float[Tensor, ""]:
    """The mean of ‖f(x)‖²₂; labels play no part."""
    return outputs.square().sum(1).mean()


def _mean(
    model: nn.Module,
    data: Data,
    batches: Callable[[Data], Iterator[Batch]],
    loss: Loss,
    measure: Measure,
    memory: int,
    run: Run | None,
) -> Diagonal:
    """The mean over all examples, of which each process takes its share."""
    if len(data) == 0:
        raise ValueError("There are no examples to take the Fisher information over.")
    check_deterministic(model, data, loss)
    own = data
    if run is not None and run.fabric.world_size > 1:
        own = data.take(torch.arange(run.fabric.global_rank, len(data), run.fabric.world_size))
    total: Sums = moments(model, batches(own), loss, measure, memory)
    if own is not data:
        total = {name: run.fabric.all_reduce(part, reduce_op="sum") for name, part in total.items()}  # pyright: ignore
    return {name: part / len(data) for name, part in total.items()}


def _batches(model: nn.Module, size: int, seed: int | None) -> Callable[[Data], Iterator[Batch]]:
    """A pass over data; with a seed, labels are drawn from the model."""
    device = next(iter(trainable(model).values())).device

    def drawn(data: Data) -> Iterator[Batch]:
        done = 0
        for batch in data.batches(size) if len(data) else ():  # a process may have no share
            if seed is None:
                yield batch
                continue
            ids = data.ids[done : done + len(batch.labels)]
            done += len(ids)
            labels = _drawn(model, batch.inputs.to(device), _chances(ids, seed))
            yield batch._replace(labels=labels)

    return drawn


# --- Labels from the model ----------------------------------------------------------------------


def _chances(ids: Int64[Tensor, " n"], seed: int) -> Float64[Tensor, " n"]:
    """A number in [0, 1) for every id, whatever the order and the company."""
    numbers = [derive(seed, "label", id_) for id_ in ids.tolist()]
    return torch.tensor([n >> 10 for n in numbers], dtype=torch.float64) / 2**53


@torch.no_grad()
def _drawn(model: nn.Module, inputs: Inputs, chances: Float64[Tensor, " b"]) -> Int64[Tensor, " b"]:
    """A label for each example: the class in whose stretch of the probabilities' sum u falls."""
    edges = at_rest(model)(inputs).double().softmax(1).cumsum(1)[:, :-1]
    return (edges <= chances.to(edges.device)[:, None]).sum(1)
