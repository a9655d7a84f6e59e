"""Σ_i g_i² and Σ_i |g_i| over examples, exactly, for about the price of one pass over them.

One gradient per example, squared or made positive, then summed; none need be stored. Parameters
whose uses `watch` knows are taken from one ordinary forward and backward pass, by the rules of
`rule`. All others are differentiated example by example, vectorised. Which way a parameter goes is
decided on two examples, in float64, by comparison with gradients that are taken one at a time: a
use that is misread shows there, and the parameter then takes the slow way.

In float32 the sums keep six digits, unless rounding turns the sign of a ReLU's input: of ResNet-18
and VGG-16 with eight examples, that moved some by up to 7e-3, in a plain loop as often as here.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F

from oblivio.core import Batch, convolves
from oblivio.curvature.gradients import at_rest, by_example, trainable
from oblivio.curvature.guard import check_loss
from oblivio.curvature.rule import Direct, Measure, Rule, add_measured, spans
from oblivio.curvature.watch import Use, Watch
from oblivio.train import Loss

Inputs = Shaped[Tensor, "b ..."]
Labels = Int64[Tensor, " b"]
Sums = dict[str, Float64[Tensor, "..."]]
"""One number per weight, by parameter name."""

MEMORY = 2**30
"""How many bytes gradients of single examples may take at a time, unless the user says."""
CACHE = {"cpu": 2**22, "cuda": 2**28}
"""How many they do take: what stays in the caches, or what keeps a GPU busy."""


@torch.no_grad()
def moments(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    measure: Measure = "square",
    memory: int = MEMORY,
) -> Sums:
    """Sum g² or |g| over examples, weight by weight, in eval mode.

    Args:
        model: Any module that gives one row of outputs per example; it is left as it is.
        batches: The examples; the result does not depend on how they are cut.
        loss: Of outputs and labels, a mean over the examples; it is given one at a time.
        measure: What to sum.
        memory: Bytes that gradients of single examples may take at a time.

    Returns:
        The sums by parameter name, in float64, on the model's device.

    Raises:
        ValueError: If there are no trainable weights, the loss is not one number per example, or a
            layer's gradients do not fit into the memory.
    """
    rest = at_rest(model)
    own = trainable(rest)
    total: Sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in own.items()}
    route: Route | None = None
    for batch in batches:
        x, y = (part.to(next(iter(own.values())).device) for part in batch[:2])
        if route is None:
            check_loss(rest, x[:1], y[:1], loss)
            route = _route(rest, x, y, loss)
        found = _sums(rest, own, route, x, y, loss, measure, memory)
        for name, part in found.items():
            total[name] += part
    return total


# --- Which way ----------------------------------------------------------------------------------


Route = dict[str, tuple[Use, ...]]
"""Parameters that are taken from a single pass, with all their uses in it."""


class _Departure(Exception):
    """A model uses its parameters in another way than it did at first."""


REFUSALS = (RuntimeError, TypeError, _Departure)
"""How a model that cannot be watched makes itself heard."""


def _route(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Route:
    """The parameters of which one pass gives the same as gradients one at a time."""
    others = (x != x[:1]).reshape(len(x), -1).any(1).nonzero()
    if not len(others):
        return {}
    pair = [0, int(others[0])]  # two alike would not show whether they are mixed
    x, y = x[pair], y[pair]
    try:
        exact = copy.deepcopy(model).double()
        doubled = x.double() if x.is_floating_point() else x
        return _agreeing(exact, doubled, y, loss)
    except (RuntimeError, TypeError):  # a model that insists on its type
        return _agreeing(model, x, y, loss)


def _agreeing(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Route:
    own = trainable(model)
    single = _one_by_one(model, own, x, y, loss)
    try:
        found, uses = _watched(model, own, None, x, y, loss, "square", sys.maxsize)
    except REFUSALS:
        return {}
    tolerance = torch.finfo(next(iter(own.values())).dtype).eps ** 0.5

    def agrees(name: str) -> bool:
        if name not in single:  # the loss does not depend on it
            return True
        error, length = (found[name] - single[name]).norm(), single[name].norm()
        return bool(error <= tolerance * length) and bool(length > 0)  # zeros prove nothing

    return {name: uses[name] for name in found if agrees(name)}


def _one_by_one(
    model: nn.Module, own: Mapping[str, Tensor], x: Inputs, y: Labels, loss: Loss
) -> dict[str, Tensor]:
    """Σ g² without any cleverness, of those parameters that the loss depends on."""
    total: dict[str, Tensor] = {}
    for one, label in zip(x.split(1), y.split(1), strict=True):
        with torch.enable_grad():
            value = loss(model(one), label)
        if not value.requires_grad:
            continue
        slopes = torch.autograd.grad(value, list(own.values()), allow_unused=True)
        for name, slope in zip(own, slopes, strict=True):
            if slope is not None:
                total[name] = total.get(name, 0) + slope.square()
    return total


def _sums(
    model: nn.Module,
    own: Mapping[str, Tensor],
    route: Route,
    x: Inputs,
    y: Labels,
    loss: Loss,
    measure: Measure,
    memory: int,
) -> dict[str, Tensor]:
    """The sums over one batch."""
    found: dict[str, Tensor] = {}
    if route:
        try:
            known = {name: own[name] for name in route}
            found, _ = _watched(model, known, route, x, y, loss, measure, memory)
        except REFUSALS:
            route.clear()  # for good: it would not be faster to try again
    others = {name: weight for name, weight in own.items() if name not in found}
    if others:
        found |= _apart(model, others, x, y, loss, measure, memory)
    return found


# --- One pass -----------------------------------------------------------------------------------


def _watched(
    model: nn.Module,
    own: Mapping[str, Tensor],
    route: Route | None,
    x: Inputs,
    y: Labels,
    loss: Loss,
    measure: Measure,
    memory: int,
) -> tuple[dict[str, Tensor], Route]:
    """The sums of those parameters whose every use has a rule, and their uses."""
    found: dict[str, Tensor] = {}
    waiting: dict[str, list[Rule]] = {}

    def hear(name: str, rule: Rule) -> None:
        if len(watch.uses[name]) == 1 and hasattr(rule, "total"):
            found[name] = _total(name, own[name], cast("Direct", rule), measure, memory)
        else:
            waiting.setdefault(name, []).append(rule)

    wide = convolves(model)
    start = torch.zeros((), dtype=next(iter(own.values())).dtype, device=x.device)
    with torch.enable_grad():
        watch = Watch(own, len(x), start.requires_grad_(), hear, channels_last=wide)
        laid = wide and x.ndim == 4
        with watch:
            outputs = model(x.contiguous(memory_format=torch.channels_last) if laid else x)
        total = _each_loss(outputs, y, loss).sum()
    unseen: set[str] = set()
    if total.requires_grad:
        slopes = torch.autograd.grad(total, [start, *own.values()], allow_unused=True)
        # What reaches a parameter itself comes from a use that was not noted.
        unseen = {name for name, s in zip(own, slopes[1:], strict=True) if s is not None}
    uses = {name: tuple(used) for name, used in watch.uses.items() if name not in unseen}
    if route is not None and uses != route:
        raise _Departure
    for name in uses:
        if name in waiting:
            found[name] = _joined(name, own[name], waiting[name], len(x), measure, memory)
        elif name not in found:  # the loss does not depend on it
            found[name] = torch.zeros_like(own[name])
    return {name: found[name] for name in uses}, uses


def _total(name: str, weight: Tensor, rule: Direct, measure: Measure, memory: int) -> Tensor:
    step = _step(name, rule.size, weight.device, memory)
    return rule.total(measure, step).reshape(weight.shape)


def _joined(
    name: str, weight: Tensor, rules: list[Rule], count: int, measure: Measure, memory: int
) -> Tensor:
    """A parameter that is used several times: its gradients add up before they are squared."""
    step = _step(name, sum(rule.size for rule in rules), weight.device, memory)
    total = torch.zeros_like(weight)
    for span in spans(count, step):
        each = rules[0].each(span)
        for rule in rules[1:]:
            each = each + rule.each(span)
        add_measured(total, each.reshape(-1, *weight.shape), measure)
    return total


def _step(name: str, size: int, device: torch.device, memory: int) -> int:
    """How many examples at a time."""
    if size > memory:
        raise ValueError(
            f"One example's gradient of {name} takes {size / 2**20:.1f} MiB, and "
            f"{memory / 2**20:.1f} MiB are allowed: allow more memory, or set requires_grad to "
            f"False for what need not change."
        )
    return max(min(CACHE.get(device.type, memory), memory) // max(size, 1), 1)


def _each_loss(outputs: Float[Tensor, "b ..."], y: Labels, loss: Loss) -> Float[Tensor, " b"]:
    """The loss of every example by itself."""
    if loss is F.cross_entropy:
        return F.cross_entropy(outputs, y, reduction="none")
    try:
        return vmap(lambda z, label: loss(z[None], label[None]))(outputs, y)
    except RuntimeError:  # what cannot be vectorised
        pairs = zip(outputs, y, strict=True)
        return torch.stack([loss(z[None], label[None]) for z, label in pairs])


# --- One example after another ------------------------------------------------------------------


def _apart(
    model: nn.Module,
    own: Mapping[str, Tensor],
    x: Inputs,
    y: Labels,
    loss: Loss,
    measure: Measure,
    memory: int,
) -> dict[str, Tensor]:
    """For any model: every example's gradient through all of it."""
    size = sum(weight.numel() * weight.element_size() for weight in own.values())
    name = max(own, key=lambda name: own[name].numel())
    if len(own) > 1:
        name = f"{name} and {len(own) - 1} others"
    step = min(_step(name, size, x.device, memory), 128)
    total = {name: torch.zeros_like(weight) for name, weight in own.items()}
    for span in spans(len(x), max(step, min(memory // max(size, 1), 8))):
        for name, part in by_example(model, own, x[span], y[span], loss).items():
            add_measured(total[name], part.clone(), measure)  # they may share their memory
    return total
