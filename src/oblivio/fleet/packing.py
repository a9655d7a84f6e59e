"""Many networks as one, and back: which can be packed, and what packs them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from oblivio.core import seeded
from oblivio.fleet.layer import PACKED, plain


def pack(models: Sequence[nn.Module]) -> nn.Module:
    """One network that does what all of them do, each on its own rows; see `layer`.

    Its parameters and buffers have the models' names, and a leading dimension that counts them.

    Args:
        models: Alike, and such as can be packed (`packable`); they stay as they are.

    Returns:
        The packed network.
    """
    one = models[0]
    # The weights need not be copied: all layers that hold any are replaced.
    memo: dict[int, Any] = {id(value): value for value in one.state_dict(keep_vars=True).values()}
    packed = copy.deepcopy(one, memo)
    made: dict[int, nn.Module] = {}
    for name, layer in one.named_modules(remove_duplicate=False):
        if type(layer) not in PACKED:
            continue
        if id(layer) not in made:
            layers = [model.get_submodule(name) for model in models]
            made[id(layer)] = PACKED[type(layer)](layers)
        if not name:
            return made[id(layer)]
        parent, _, own = name.rpartition(".")
        setattr(packed.get_submodule(parent), own, made[id(layer)])
    return packed


@torch.no_grad()
def unpack(packed: nn.Module, models: Sequence[nn.Module]) -> None:
    """Give the models what the packed network has learned."""
    learned = packed.state_dict()
    for k, model in enumerate(models):
        for name, value in model.state_dict(keep_vars=True).items():
            value.data = learned[name][k].clone(memory_format=torch.contiguous_format)


def packable(model: nn.Module) -> bool:
    """Whether all of a network's weights are in layers that can be packed, and it has no hooks."""
    held = 0
    for layer in model.modules():
        if any(name.endswith("_hooks") and found for name, found in vars(layer).items()):
            return False
        own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        if own and not (type(layer) in PACKED and plain(layer)):
            return False
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            return False
        held += len(list(layer.parameters(recurse=False)))
    parameters = list(model.parameters())
    # A weight that two layers share would become two.
    return 0 < held == len(parameters) and all(p.grad is None for p in parameters)


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks differ in nothing but the values of their weights."""
    pairs = zip_longest(one.named_modules(), other.named_modules(), fillvalue=("", nn.Module()))
    if not all(a == b and _settings_alike(x, y) for (a, x), (b, y) in pairs):
        return False
    states = (model.state_dict(keep_vars=True) for model in (one, other))
    return _kinds(next(states)) == _kinds(next(states))


def _kinds(state: dict[str, Tensor]) -> list[tuple[object, ...]]:
    return [(name, v.shape, v.dtype, v.requires_grad) for name, v in state.items()]


def _settings_alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two layers are of one type with equal settings; in doubt, they are not."""
    if type(one) is not type(other):
        return False
    own, others = (
        {
            k: v
            for k, v in vars(m).items()
            if k not in ("_parameters", "_buffers", "_modules", "training")
        }
        for m in (one, other)
    )
    try:
        return bool(own == others)
    except (RuntimeError, ValueError):  # tensors among them: their equality is no yes or no
        return False


@torch.no_grad()
def agrees(models: Sequence[nn.Module], inputs: Sequence[Tensor]) -> bool:
    """Whether the models, packed, say of these inputs what each says of its own, by trying.

    So whatever else a network does besides its layers is found out: drawing random numbers, or
    mixing the examples of a batch.

    Args:
        models: Two are enough.
        inputs: A few examples for each model, as many for each.

    Returns:
        Whether they do, to rounding, in train mode and in eval mode.
    """
    tolerance = 1e-8 if inputs[0].dtype == torch.float64 else 1e-3
    for mode in (True, False):
        copies = [copy.deepcopy(model).train(mode) for model in models]
        packed = pack(copies).train(mode)
        with seeded(0):
            before = _randomness(inputs[0].device)
            try:
                found = packed(torch.cat(list(inputs)))
            except (RuntimeError, ValueError, TypeError, IndexError):
                return False
            expected = torch.cat([m(x) for m, x in zip(copies, inputs, strict=True)])
            if not torch.equal(before, _randomness(inputs[0].device)):
                return False
        if found.shape != expected.shape:
            return False
        scale = float(expected.abs().max())
        if not torch.allclose(found, expected, tolerance, tolerance * scale, equal_nan=True):
            return False
    return True


def _randomness(device: torch.device) -> Tensor:
    """The random states of the CPU and of a device."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)
