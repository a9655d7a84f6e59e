"""Before curvature is measured: whether model, data and loss are what curvature can be taken of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.core import Data
from oblivio.curvature.gradients import at_rest, trainable
from oblivio.train import Loss


def check_deterministic(
    model: nn.Module,
    data: Data,
    loss: Loss = F.cross_entropy,
    *,
    examples: int = 64,
    tolerance: float = 1e-3,
) -> None:
    """Read the first examples twice, pass them through the model twice, and compare.

    Curvature belongs to one function of the weights. Where inputs are drawn anew at every pass, or
    a layer draws random numbers in eval mode, there is no such function.

    Args:
        model: Any module that gives one row of logits per example; it is left as it is.
        data: What the curvature is to be taken over.
        loss: Of logits and labels, a mean over the examples.
        examples: How many to look at.
        tolerance: How far two results may be apart, relative to their length: a GPU may sum up in
            another order.

    Raises:
        ValueError: If two passes differ, with what they differ by; if there are no trainable
            parameters; or if the loss is not one number that depends on the model's outputs.
    """
    few = data.take(torch.arange(min(examples, len(data))))
    rest = at_rest(model)
    device = next(iter(trainable(rest).values())).device
    first, second = (next(iter(few.batches(examples))) for _ in range(2))
    if (apart := _distance(first[:2], second[:2])) > tolerance:
        _refuse("What the data give for", len(few), apart, "there are random transforms in them.")

    x, y = first.inputs.to(device), first.labels.to(device)
    check_loss(rest, x, y, loss)
    with torch.no_grad():
        one, two = rest(x), rest(x)
        if (apart := _distance(one, two)) > tolerance:
            why = _restless(rest, x, tolerance)
            _refuse("The model's output for", len(few), apart, why)
        if (apart := _distance(loss(one, y), loss(one, y))) > tolerance:
            _refuse("The loss of", len(few), apart, "it is random.")


def check_loss(model: nn.Module, inputs: Tensor, labels: Tensor, loss: Loss) -> None:
    """Take a loss once.

    Args:
        model: In eval mode.
        inputs: Some examples.
        labels: Their classes.
        loss: Of outputs and labels.

    Raises:
        ValueError: If it is not one number, or does not depend on what the model gives.
    """
    with torch.enable_grad():
        outputs = model(inputs)
        value = loss(outputs, labels)
    if value.shape != ():
        raise ValueError(
            f"The loss must be one number, a mean over the examples; for {len(inputs)} it is of "
            f'shape {tuple(value.shape)}: take its mean (reduction="mean").'
        )
    if outputs.requires_grad and not value.requires_grad:
        raise ValueError(
            "The loss cannot be differentiated by the model's outputs: it does not depend on them, "
            "or they are detached (.detach(), .item(), argmax) on the way."
        )


def _refuse(what: str, count: int, apart: float, why: str) -> None:
    raise ValueError(
        f"{what} the first {count} examples differs from one pass to the next, by "
        f"{100 * apart:.2g} % of its length: curvature needs a model and data without chance; {why}"
    )


# --- Which part it is ---------------------------------------------------------------------------


class _Call(NamedTuple):
    """A module that was called."""

    name: str
    came: list[Tensor]
    went: list[Tensor]


def _restless(model: nn.Module, inputs: Tensor, tolerance: float) -> str:
    """The first and smallest module that gives another output for the same input."""
    calls, again = (_calls(model, inputs) for _ in range(2))
    for one, two in zip(calls, again, strict=False):
        same = _distance(one.came, two.came) <= tolerance
        if same and _distance(one.went, two.went) > tolerance:
            return (
                f"{one.name} gives another output for the same input, in eval mode too, as does "
                f"F.dropout without training=self.training."
            )
    return "some layer draws random numbers in eval mode."


def _calls(model: nn.Module, inputs: Tensor) -> list[_Call]:
    """What came into every module and what went out, in the order in which they were done."""
    calls: list[_Call] = []
    entered: list[list[Tensor]] = []  # of modules that are not done yet; they lie in each other

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        entered.append([value.clone() for value in _tensors((args, kwargs))])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        name = f"the layer {names[module]}" if names[module] else "the model itself"
        went = [value.clone() for value in _tensors(output)]
        calls.append(_Call(f"{name} ({type(module).__name__})", entered.pop(), went))

    names = {module: name for name, module in model.named_modules()}
    hooks = [
        hook
        for module in names
        for hook in (
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave),
        )
    ]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _distance(one: Any, two: Any) -> float:
    """‖one − two‖ / ‖one‖ over all tensors; infinite if their shapes differ."""
    pairs = [(a.double(), b.double()) for a, b in zip(_tensors(one), _tensors(two), strict=False)]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    apart = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
    length = sum(float(a.square().sum()) for a, _ in pairs) ** 0.5
    return apart / length if apart and length else apart
