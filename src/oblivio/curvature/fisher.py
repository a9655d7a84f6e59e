"""The Fisher information's diagonal: how much each weight matters to a model's predictions."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from oblivio.catalogue import unknown
from oblivio.core import Data, derive
from oblivio.curvature.gradients import (
    Inputs,
    at_rest,
    chunk_size,
    flat_gradients,
    trainable,
    unflatten,
)
from oblivio.curvature.guard import check_deterministic

LabelSource = Literal["data", "model"]
Diagonal = dict[str, Float64[Tensor, "..."]]
"""One number per weight, by parameter name."""


def diagonal(
    model: nn.Module,
    data: Data,
    *,
    labels: LabelSource = "data",
    seed: int = 0,
    chunk: int | None = None,
) -> Diagonal:
    """The diagonal of the Fisher information of the trainable weights.

    F_S(w) = (1/|S|) Σ_{(x,y)∈S} (∂ log p_θ(y|x) / ∂w)²

    One gradient per example, squared, then averaged: the square of a batch's mean gradient is
    another quantity, which shrinks as the batch grows. In eval mode, without augmentation.

    Args:
        model: Any module that gives one row of logits per example; it is left as it is.
        data: S.
        labels: Where y comes from. "data": the empirical Fisher. "model": y is drawn from
            p_θ(· | x), once per example, which in expectation is the Fisher information itself.
        seed: Of the labels that are drawn; what an example draws depends on its id alone.
        chunk: Gradients that are held at a time, on which the result does not depend; None is as
            many as fit into the caches.

    Returns:
        The diagonal by parameter name, in float64, on the model's device.

    Raises:
        ValueError: If there are no examples, no trainable weights or no such kind of labels, or if
            the model or the data draw random numbers.

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
    if len(data) == 0:
        raise ValueError("There are no examples to take the Fisher information over.")
    check_deterministic(model, data)
    device = next(iter(trainable(model).values())).device
    chances = _chances(data.ids, seed) if labels == "model" else None
    total, done = torch.zeros((), dtype=torch.float64, device=device), 0
    for inputs, targets, _ in data.batches(chunk or chunk_size(model)):
        x, y = inputs.to(device), targets.to(device)
        if chances is not None:
            y = _drawn(model, x, chances[done : done + len(y)])
        total = total + flat_gradients(model, x, y).double().square_().sum(0)
        done += len(y)
    return unflatten(model, total / len(data))


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
