"""Of what a pair is put together: two players that share nothing, and an average like G."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel


def check_players(generator: nn.Module, discriminator: nn.Module) -> None:
    """See that these are two modules that are built and that share no weight which learns.

    Raises:
        TypeError: If one is no module.
        ValueError: If the size of a layer is open, or a weight is both players'.
    """
    for who, player in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(player, nn.Module):
            raise TypeError(f"The {who} must be an nn.Module that is built, not {player!r}.")
        if any(map(is_lazy, (*player.parameters(), *player.buffers()))):
            raise ValueError(
                f"The {who} has lazy layers whose size is still open: run a batch through it first."
            )
    name = _shared(generator, discriminator)
    if name is not None:
        raise ValueError(
            f"The generator's {name!r} is a weight of the discriminator too, so that no step could "
            "be one player's alone: give each a layer of its own, or freeze it."
        )


def own_average(average: nn.Module, generator: nn.Module, discriminator: nn.Module) -> nn.Module:
    """A moving average as a module like G.

    Args:
        average: The module, or PyTorch's AveragedModel around it.
        generator: What it is to follow.
        discriminator: The other player.

    Returns:
        The module.

    Raises:
        TypeError: If it is no module.
        ValueError: If its names or shapes are not G's, or it shares weights with a player.
    """
    if isinstance(average, AveragedModel):
        average = average.module
    if not isinstance(average, nn.Module):
        raise TypeError(f"The average must be an nn.Module that is built, not {average!r}.")
    mine, theirs = _shapes(average), _shapes(generator)
    for name in [*theirs, *mine]:
        if mine.get(name) != theirs.get(name):
            raise ValueError(
                f"The average must have the generator's names and shapes, but its {name!r} is "
                f"{mine.get(name, 'missing')} and the generator's {theirs.get(name, 'missing')}."
            )
    for who, player in (("generator", generator), ("discriminator", discriminator)):
        name = _shared(average, player, frozen=True)
        if name is not None:
            raise ValueError(
                f"The average must be a module of its own, but its {name!r} is a weight of the "
                f"{who} too: leave out average=…, or give copy.deepcopy(…)."
            )
    return average


def _shared(one: nn.Module, other: nn.Module, *, frozen: bool = False) -> str | None:
    """The name of a weight of one module that is also the other's; of frozen ones only if asked."""
    places = {p.data_ptr() for p in other.parameters() if frozen or p.requires_grad} - {0}
    named = one.named_parameters()
    return next((name for name, p in named if p.data_ptr() in places), None)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors(module)}


def tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's weights and buffers as they are, by their names in its state; a tied one often."""
    for name, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            yield name, value


def without_history(module: nn.Module, memo: dict[int, Any]) -> dict[int, Any]:
    """What lets `copy.deepcopy` copy a network that keeps what it computed.

    PyTorch copies no tensor that has a history, such as a feature map that a discriminator keeps,
    or the weight that the older `nn.utils.spectral_norm` computed in the last pass. The copy gets
    their numbers; the network itself stays as it is.

    Args:
        module: What is to be copied.
        memo: Of `copy.deepcopy`; it learns a copy of each such tensor.

    Returns:
        The memo.
    """
    for value in (value for part in module.modules() for value in vars(part).values()):
        held = value.values() if isinstance(value, dict) else value
        for one in held if isinstance(value, dict | list | tuple) else (held,):
            if isinstance(one, Tensor) and not one.is_leaf:
                memo[id(one)] = one.detach().clone()
    return memo
