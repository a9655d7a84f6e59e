"""Which weights may differ from zero: the `Mask` of a pruned model, held while it trains.

A pruned model is an ordinary model in which weights are exactly zero. Its mask need not be stored:
it is read off the zeros again (`Mask.of`), so that a file of weights says it all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Keep = Bool[Tensor, "..."]


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that pruning may remove: of all convolutions and all linear layers but the last.

    The last linear layer in the order of registration is taken for the classifier; it stays whole,
    as do biases and normalisation. For ResNet and VGG that leaves the convolutions, as in Jia et
    al. 2023.

    Returns:
        Parameters by name; a parameter that several layers share stands once.

    Raises:
        ValueError: If there are none.
    """
    found = _prunable(model)
    if not found:
        kinds = sorted({type(m).__name__ for m in model.modules() if not list(m.children())})
        raise ValueError(
            "The model has nothing to prune: pruning removes weights of convolutions and of linear "
            f"layers before the last; this model is made of {', '.join(kinds) or 'nothing'}."
        )
    return found


def _prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Linear, _ConvNd))]
    last = classifier(model)
    spared = set() if last is None else {id(last.weight)}
    found: dict[str, nn.Parameter] = {}
    for name, module in layers:
        weight = module.weight
        if isinstance(weight, nn.Parameter) and id(weight) not in spared:
            spared.add(id(weight))
            found[f"{name}.weight" if name else "weight"] = weight
    return found


def classifier(model: nn.Module) -> nn.Linear | None:
    """The last linear layer in the order of registration; None if there is none."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def zeros(model: nn.Module) -> tuple[float, float]:
    """The shares of weights that are exactly zero: of the prunable ones, and of all parameters.

    Returns:
        Two numbers from 0 to 1; the first is 0 where nothing is prunable.
    """
    shares = []
    for weights in (_prunable(model).values(), list(model.parameters())):
        total = sum(weight.numel() for weight in weights)
        gone = sum(int((weight == 0).sum()) for weight in weights)
        shares.append(gone / total if total else 0.0)
    return shares[0], shares[1]


@dataclass(frozen=True, eq=False)
class Mask:
    """Which weights stay, by parameter name: False is zero for good.

    Parameters that are not named are left alone.
    """

    keep: Mapping[str, Keep]

    @classmethod
    def of(cls, model: nn.Module) -> Mask:
        """The mask of a pruned model: its prunable weights that are not exactly zero.

        Returns:
            The mask; of a dense model, everything stays.

        Raises:
            ValueError: If the model has no prunable layers.
        """
        return cls({name: weight.detach() != 0 for name, weight in prunable(model).items()})

    @property
    def kept(self) -> int:
        """How many weights stay."""
        return sum(int(keep.sum()) for keep in self.keep.values())

    @property
    def total(self) -> int:
        """How many weights the mask decides about."""
        return sum(keep.numel() for keep in self.keep.values())

    @property
    def sparsity(self) -> float:
        """The share of weights that are zero, from 0 to 1."""
        return 1 - self.kept / self.total if self.total else 0.0

    @property
    def collapsed(self) -> list[str]:
        """The parameters of which no weight stays: nothing passes through such a layer."""
        return [name for name, keep in self.keep.items() if not bool(keep.any())]

    def __repr__(self) -> str:
        return f"Mask({self.kept} of {self.total} weights stay, {100 * self.sparsity:.2f} % zero)"

    def check(self, model: nn.Module) -> None:
        """Whether the mask fits a model.

        Raises:
            ValueError: If a name or a shape is not the model's.
        """
        own = dict(model.named_parameters(remove_duplicate=False))
        wrong = [
            f"{name} is not a parameter of the model"
            if name not in own
            else f"{name} is {tuple(own[name].shape)}, the mask {tuple(keep.shape)}"
            for name, keep in self.keep.items()
            if name not in own or own[name].shape != keep.shape
        ]
        if wrong:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ValueError(f"The mask does not fit the model: {'; '.join(wrong[:3])}{more}.")

    def held_by(self, model: nn.Module) -> bool:
        """Whether the model's masked weights are zero.

        Returns:
            The answer.

        Raises:
            ValueError: If the mask does not fit the model.
        """
        self.check(model)
        own = dict(model.named_parameters(remove_duplicate=False))
        return not any(
            bool(own[name][~keep.to(own[name].device)].any()) for name, keep in self.keep.items()
        )

    def holder(self, model: nn.Module) -> Callable[[], None]:
        """What sets the model's masked weights to zero, as often as it is called.

        Everything is looked up once, so that a call costs one multiplication per weight.

        Returns:
            A function without arguments.

        Raises:
            ValueError: If the mask does not fit the model.
        """
        self.check(model)
        own = dict(model.named_parameters(remove_duplicate=False))
        # Detached, they share the parameters' memory, and a call need not switch gradients off.
        weights = [own[name].detach() for name in self.keep]
        factors = [
            torch.empty_like(w, requires_grad=False).copy_(self.keep[name])
            for name, w in zip(self.keep, weights, strict=True)
        ]

        def hold() -> None:
            torch._foreach_mul_(weights, factors)  # pyright: ignore[reportPrivateImportUsage]

        return hold

    def apply(self, model: nn.Module) -> nn.Module:
        """Set the model's masked weights to zero, in place.

        Returns:
            The same model.

        Raises:
            ValueError: If the mask does not fit the model.
        """
        self.holder(model)()
        return model
