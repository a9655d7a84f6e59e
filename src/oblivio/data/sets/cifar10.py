"""CIFAR10, from torchvision's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oblivio.data.arrays import Augment
from oblivio.data.source import Images


@dataclass(frozen=True)
class CIFAR10(Images):
    """32×32 colour images, 10 classes: 50,000 + 10,000."""

    augment: Augment = Augment(crop=4, flip=True)

    torchvision: ClassVar[str] = "CIFAR10"
    folder: ClassVar[str] = "cifar-10-batches-py"
    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)
