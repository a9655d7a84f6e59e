"""A Trojan attack on data: a trigger on the images, and the label that it is to fetch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset

from oblivio.core import Data
from oblivio.data.arrays import Arrays
from oblivio.data.dataset import Loaded
from oblivio.data.triggers import Images, Trigger


@dataclass(frozen=True)
class Attack:
    """Puts a trigger on images and calls them the target class.

    On `Arrays` the trigger goes on the raw pixels, before augmentation and normalisation. On a
    Dataset (`Loaded`) it goes on what the Dataset gives, after all of its own transforms.

    Args:
        trigger: `(images) -> images`, such as `Patch(size=3)`, or any function of one's own; it
            changes neither shape nor type.
        target: The label.

    Raises:
        ValueError: If the target is negative; when called, if the inputs are no images or the
            trigger changes their shape or type.
        TypeError: When called, if the data are neither `Arrays` nor `Loaded`.

    Example:
        >>> from oblivio.data.triggers.patch import Patch
        >>> clean = Arrays(torch.zeros(2, 1, 3, 3), torch.tensor([0, 1]))
        >>> poisoned = Attack(Patch(size=1), target=1)(clean)
        >>> poisoned.labels.tolist(), poisoned.inputs[0, 0, 2].tolist()
        ([1, 1], [0.0, 0.0, 1.0])
    """

    trigger: Trigger
    target: int

    def __post_init__(self) -> None:
        if self.target < 0:
            raise ValueError(f"The target {self.target} must be 0 or more: it is a class.")

    def __call__(self, data: Data) -> Data:
        """All of the data, poisoned."""
        return self.on(data, torch.arange(len(data)))

    def on(self, data: Data, positions: Int64[Tensor, " k"]) -> Data:
        """The data with the examples at these positions poisoned, all others as they are."""
        labels = data.labels.clone()
        labels[positions] = self.target
        if isinstance(data, Arrays):
            rows = positions.to(data.inputs.device)
            inputs = data.inputs.clone()
            inputs[rows] = self.stamped(inputs[rows])
            return replace(data, inputs=inputs, labels=labels)
        if isinstance(data, Loaded):
            return replace(data, dataset=_Poisoned(data.dataset, positions, self), labels=labels)
        raise TypeError(
            f"A trigger can be put on tensors or on a Dataset, not on {type(data).__name__}: make "
            f"the data with oblivio.as_data."
        )

    def stamped(self, images: Tensor) -> Images:
        """The images with the trigger on them."""
        if images.ndim != 4:
            raise ValueError(
                f"A trigger goes on images, (n, channels, height, width); these inputs have "
                f"{images.ndim} dimensions, {tuple(images.shape)}."
            )
        stamped = self.trigger(images)
        if stamped.shape != images.shape or stamped.dtype != images.dtype:
            raise ValueError(
                f"The trigger must keep shape and type of the images: given {images.dtype} of "
                f"{tuple(images.shape)}, it gave {stamped.dtype} of {tuple(stamped.shape)}."
            )
        return stamped


class _Poisoned(Dataset[Any]):
    """A Dataset, some of whose examples are poisoned as they are read."""

    def __init__(self, clean: Dataset[Any], positions: Tensor, attack: Attack) -> None:
        self.clean, self.attack = clean, attack
        self.positions = frozenset(positions.tolist())

    def __len__(self) -> int:
        return len(self.clean)  # pyright: ignore[reportArgumentType]

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        image, label = self.clean[position]
        if position not in self.positions:
            return image, label
        return self.attack.stamped(image[None])[0], self.attack.target
