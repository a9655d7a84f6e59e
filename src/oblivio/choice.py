"""Some of a model's weights: those that may change, while all others stay bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from oblivio.mask import Mask

Chosen = Mapping[str, Bool[Tensor, "..."]]
"""Weights by parameter name; of a parameter that is not named, none."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def check(model: nn.Module, chosen: Chosen) -> None:
    """Whether a choice fits a model.

    Raises:
        ValueError: If a name is not that of a trainable parameter, a shape is not the model's, or
            no weight is chosen.
    """
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    wrong = [
        f"{name} is not a trainable parameter of the model"
        if name not in own
        else f"{name} is {tuple(own[name].shape)}, the choice {tuple(some.shape)}"
        for name, some in chosen.items()
        if name not in own or own[name].shape != some.shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"The choice does not fit the model: {'; '.join(wrong[:3])}{more}.")
    if not any(bool(some.any()) for some in chosen.values()):
        raise ValueError("No weight is chosen that may change: choose some, or do not train.")


@contextmanager
def frozen(model: nn.Module, only: Chosen | None) -> Generator[None]:
    """Meanwhile, a parameter of which no weight may change needs no gradient, which saves time.

    Args:
        model: Is as before afterwards.
        only: The weights that may change; None is all.

    Raises:
        ValueError: If the choice does not fit the model.
    """
    still: list[nn.Parameter] = []
    if only is not None:
        check(model, only)
        some = {name for name, chosen in only.items() if bool(chosen.any())}
        still = [p for n, p in model.named_parameters() if p.requires_grad and n not in some]
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def restorer(model: nn.Module, only: Chosen, mask: Mask | None = None) -> Callable[[], None]:
    """What gives the weights that may not change their values of now, as often as it is called.

    Everything is looked up once, so that a call costs one multiplication per weight. Parameters of
    which no weight may change are left to `frozen`.

    Args:
        model: Whose weights.
        only: Those that may change.
        mask: What it removes may not change either.

    Returns:
        A function without arguments.
    """
    kept = {} if mask is None else mask.keep
    keep = {id(model.get_parameter(name)): stays for name, stays in kept.items()}
    parts = []
    for name, chosen in only.items():
        weight = model.get_parameter(name)
        if not bool(chosen.any()):
            continue
        # As integers, so that every bit comes back: of numbers, 0 · w may be −0.0 or NaN.
        bits = weight.detach().view(_INTEGERS[weight.element_size()])  # shares the memory
        free = torch.empty_like(bits).copy_(chosen)
        if id(weight) in keep:
            free *= keep[id(weight)].to(free.device)
        if not bool(free.all()):
            parts.append((bits, free, bits * (1 - free)))

    def restore() -> None:
        for bits, free, rest in parts:
            torch.addcmul(rest, bits, free, out=bits)

    return restore
