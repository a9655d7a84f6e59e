"""CIFAR100, from torchvision's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oblivio.data.arrays import Augment
from oblivio.data.source import Images


@dataclass(frozen=True)
class CIFAR100(Images):
    """32×32 colour images, 100 classes: 50,000 + 10,000."""

    augment: Augment = Augment(crop=4, flip=True)

    torchvision: ClassVar[str] = "CIFAR100"
    folder: ClassVar[str] = "cifar-100-python"
    mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)
