"""Gradients of a model's loss: one per example, or their mean; the model is left as it is.

g_i = ∇_θ ℓ(f_θ(x_i), y_i), with θ all trainable parameters as one vector, in the order of
`named_parameters`. The network is always in eval mode, so that every example stands for itself.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional as F

from oblivio.core import Data
from oblivio.mask import Mask
from oblivio.train import Loss

Inputs = Shaped[Tensor, "b ..."]
Weight = Float[Tensor, "..."]
CHUNK_MEMORY = 2**26
"""How many bytes the gradients of one chunk should take; more at a time is not faster."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that gradients are taken of; one that several layers share stands once.

    Returns:
        Parameters by name.

    Raises:
        ValueError: If there are none.
    """
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError(
            "The model has no trainable parameters: there is nothing to take gradients of. Set "
            "requires_grad on those that may change."
        )
    return found


def flatten(named: Mapping[str, Weight]) -> Float[Tensor, " p"]:
    """One tensor per parameter as one vector."""
    return torch.cat([value.reshape(-1) for value in named.values()])


def unflatten(model: nn.Module, flat: Shaped[Tensor, " p"]) -> dict[str, Tensor]:
    """A vector over the trainable parameters as one tensor per parameter, by name."""
    own = trainable(model)
    parts = flat.split([p.numel() for p in own.values()])
    return {n: part.view(p.shape) for (n, p), part in zip(own.items(), parts, strict=True)}


def flat_mask(model: nn.Module, mask: Mask) -> Bool[Tensor, " p"]:
    """Which coordinates of a vector over the trainable parameters a mask keeps.

    Returns:
        True where a weight stays.

    Raises:
        ValueError: If the mask does not fit the model.
    """
    mask.check(model)
    parts = []
    for name, parameter in trainable(model).items():
        keep = mask.keep.get(name, torch.ones((), dtype=torch.bool))
        parts.append(keep.to(parameter.device).expand(parameter.shape).reshape(-1))
    return torch.cat(parts)


def at_rest(model: nn.Module) -> nn.Module:
    """The model in eval mode: new modules, and the very same parameters and buffers."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared).eval()


# --- One gradient per example -------------------------------------------------------------------


class Outer(NamedTuple):
    """One parameter's gradients, one per example, as outer products: g_i = left_i ⊗ right_i.

    A linear layer's then cost o + i numbers each instead of o · i. Where `left` is a column of
    ones, `right` is the gradient itself.
    """

    left: Float[Tensor, "b o"]
    right: Float[Tensor, "b i"]

    def full(self) -> Float[Tensor, "b p"]:
        """The gradients as rows."""
        if self.left.shape[1] == 1:
            return self.left * self.right
        return (self.left[:, :, None] * self.right[:, None, :]).flatten(1)


Rows = dict[str, Outer]
"""The gradients of some examples, by parameter name."""


def whole(each: Float[Tensor, "b ..."]) -> Outer:
    """Gradients that are stored in full."""
    return Outer(each.new_ones(len(each), 1), each.flatten(1))


def rows(
    model: nn.Module, inputs: Inputs, labels: Int64[Tensor, " b"], loss: Loss = F.cross_entropy
) -> Rows:
    """One gradient per example, parameter by parameter.

    The fast way takes every layer's input and the gradient at its output from one pass over all
    examples, and then goes back through each layer by itself (Goodfellow 2015). This needs each
    layer to be called once, on one tensor, and no parameter to be used elsewhere; that the rows
    add up to the gradient of the sum, which the same pass gives, proves it. Else the whole model is
    differentiated example by example.

    Args:
        model: Any module that gives one row of logits per example.
        inputs: The examples.
        labels: Their classes.
        loss: Of logits and labels, a mean over the examples; it is given one at a time.

    Returns:
        The gradients, in the parameters' type.

    Raises:
        ValueError: If the model has no trainable parameters.
    """
    rest = at_rest(model)
    own = trainable(rest)
    try:
        found = _by_layer(rest, own, inputs, labels, loss)
    except RuntimeError:  # a layer or a loss that cannot be vectorised
        found = None
    if found is not None:
        return found
    each = by_example(rest, own, inputs, labels, loss)
    return {name: whole(part) for name, part in each.items()}


def by_example(
    model: nn.Module, own: Mapping[str, Tensor], inputs: Tensor, labels: Tensor, loss: Loss
) -> dict[str, Tensor]:
    """One gradient per example, through the whole model at once, for any model in eval mode.

    Returns:
        The gradients of `own`, some of the model's parameters, with a dimension for the examples.
    """
    values = {name: p.detach() for name, p in own.items()}

    def of_one(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(model, parameters, (x[None],)), y[None])

    slope = grad(of_one)
    try:
        found = vmap(slope, in_dims=(None, 0, 0))(values, inputs, labels)
    except RuntimeError:  # what vmap cannot do, such as a branch on a value, one at a time can
        single = [slope(values, x, y) for x, y in zip(inputs, labels, strict=True)]
        found = {name: torch.stack([one[name] for one in single]) for name in values}
    return found


def _by_layer(
    model: nn.Module, own: Mapping[str, Tensor], inputs: Tensor, labels: Tensor, loss: Loss
) -> Rows | None:
    """Through each layer by itself; None where a layer is not used as it must be."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    }
    if any(list(module.children()) for module in layers.values()):
        return None
    came: dict[str, list[Any]] = {name: [] for name in layers}
    slopes: dict[str, Tensor] = {}

    def watch(name: str, args: tuple[Any, ...], output: Any) -> None:
        came[name].extend(args)
        if isinstance(output, Tensor):
            # A hook on the tensor hears its gradient as it is now, before any change in place.
            output.register_hook(lambda slope: slopes.__setitem__(name, slope))

    hooks = [
        module.register_forward_hook(lambda _, args, out, name=name: watch(name, args, out))
        for name, module in layers.items()
    ]
    try:
        with torch.enable_grad():
            logits = model(inputs)
            total = vmap(lambda z, y: loss(z[None], y[None]))(logits, labels).sum()
        sums = torch.autograd.grad(total, list(own.values()))
    finally:
        for hook in hooks:
            hook.remove()

    found: Rows = {}
    for name, module in layers.items():
        match came[name], slopes.get(name):
            case [Tensor() as x], Tensor() as slope if len(x) == len(slope) == len(labels):
                parts = _of_layer(module, x.detach(), slope)
            case _:
                return None
        found |= {f"{name}.{part}" if name else part: outer for part, outer in parts.items()}
    if set(found) != set(own):
        return None
    ordered = {name: found[name] for name in own}
    right = all(_adds_up(o, s) for o, s in zip(ordered.values(), sums, strict=True))
    return ordered if right else None


def _of_layer(layer: nn.Module, inputs: Tensor, slopes: Tensor) -> Rows:
    own = {n: p.detach() for n, p in layer.named_parameters(recurse=False) if p.requires_grad}
    if type(layer) is nn.Linear and inputs.ndim == 2:
        parts = {"weight": Outer(slopes, inputs), "bias": whole(slopes)}
        return {name: parts[name] for name in own}

    def back(x: Tensor, slope: Tensor) -> dict[str, Tensor]:
        pull = vjp(lambda values: functional_call(layer, values, (x[None],)), own)[1]
        return pull(slope[None])[0]

    return {name: whole(part) for name, part in vmap(back)(inputs, slopes).items()}


def _adds_up(outer: Outer, total: Tensor) -> bool:
    """Whether rows sum to what they should, to half of the digits."""
    error = (outer.left.T @ outer.right).flatten() - total.flatten()
    scale = (outer.left.norm(dim=1) * outer.right.norm(dim=1)).sum()
    return bool(error.norm() <= torch.finfo(total.dtype).eps ** 0.5 * scale)


def flat_gradients(
    model: nn.Module, inputs: Inputs, labels: Int64[Tensor, " b"], loss: Loss = F.cross_entropy
) -> Float[Tensor, "b p"]:
    """One gradient per example as a matrix; see `rows`."""
    return torch.cat([outer.full() for outer in rows(model, inputs, labels, loss).values()], 1)


def chunk_size(model: nn.Module, memory: int = CHUNK_MEMORY) -> int:
    """How many examples' gradients fit into so many bytes; at least 8, at most 128."""
    own = trainable(model).values()
    return min(max(memory // sum(p.numel() * p.element_size() for p in own), 8), 128)


def mean_gradient(
    model: nn.Module, data: Data, loss: Loss = F.cross_entropy, *, batch_size: int = 256
) -> Float[Tensor, " p"]:
    """(1/n) Σ_i g_i, by one ordinary backward pass per batch.

    Args:
        model: Any module that gives one row of logits per example.
        data: The examples.
        loss: Of logits and labels, a mean over the examples.
        batch_size: Examples at a time.

    Returns:
        The mean, summed up in float64.

    Raises:
        ValueError: If the model has no trainable parameters.
    """
    rest = at_rest(model)
    own = list(trainable(rest).values())
    total = torch.zeros(sum(p.numel() for p in own), dtype=torch.float64, device=own[0].device)
    for batch in data.batches(batch_size):
        with torch.enable_grad():
            logits = rest(batch.inputs.to(total.device))
            value = loss(logits, batch.labels.to(total.device))
        slopes = torch.autograd.grad(value, own, allow_unused=True, materialize_grads=True)
        total += torch.cat([s.reshape(-1) for s in slopes]).double() * (len(logits) / len(data))
    return total
