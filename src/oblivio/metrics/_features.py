"""What a model makes of its inputs before it answers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from oblivio.core import Data, predict

# Below this share of their size, features differ by no more than rounding in float32.
ROUNDING = 1e-6


class Penultimate(nn.Module):
    """A model that answers with its penultimate features.

    They are what goes into the last linear layer that is executed, one row per example, whatever
    the order in which the layers were made.

    Raises:
        ValueError: When called, if no linear layer is executed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Float[Tensor, "n features"]:
        """Run the model, and remember what its last linear layer hears."""
        heard: list[Tensor] = []

        def listen(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            heard[:] = inputs[:1]

        linear = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        hooks = [layer.register_forward_pre_hook(listen) for layer in linear]
        try:
            self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        if not heard:
            raise ValueError(
                f"{type(self.model).__name__} executes no nn.Linear layer, whose input would be "
                "its penultimate features; judge it by metrics that look at outputs."
            )
        return heard[0].flatten(1)


class Layer(nn.Module):
    """A model that answers with what one of its layers says, flattened to a row per example."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: Tensor) -> Float[Tensor, "n features"]:
        """Run the model, and remember the layer's last output."""
        said: list[Tensor] = []

        def listen(_: nn.Module, inputs: Any, output: Tensor) -> None:
            said[:] = [output]

        hook = self.model.get_submodule(self.name).register_forward_hook(listen)
        try:
            self.model(x)
        finally:
            hook.remove()
        return said[0].flatten(1)


def layers(model: nn.Module, data: Data) -> list[str]:
    """The names of a model's linear and convolutional layers, in the order of their execution."""
    copied = copy.deepcopy(model).eval()
    found: dict[str, None] = {}
    for name, module in copied.named_modules():
        if isinstance(module, (nn.Linear, _ConvNd)):
            module.register_forward_pre_hook(lambda *_, name=name: found.setdefault(name))
    predict(copied, data.take(torch.arange(1)))
    return list(found)


def some(data: Data, most: int, seed: int) -> Data:
    """So many examples at random, or all if there are no more: drawn by id, whatever the order."""
    draw = torch.Generator().manual_seed(seed)
    return data.take(data.ids.argsort()[torch.randperm(len(data), generator=draw)[:most]])
