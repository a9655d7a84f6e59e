"""CIFAR100, from torchvision's files."""

from __future__ import annotations

from dataclasses import dataclass

from oblivio.data.arrays import Augment
from oblivio.data.source import Source, assemble, from_torchvision


@dataclass(frozen=True)
class CIFAR100:
    """32×32 colour images, 100 classes: 50,000 + 10,000.

    Args:
        train: How many training images to use, as many of every class; None uses all.
        test: How many test images to use, likewise.
        validation: The share of each class held out of the training images.
        augment: What a training pass does to the images.
    """

    train: int | None = None
    test: int | None = None
    validation: float = 0.0
    augment: Augment = Augment(crop=4, flip=True)

    def __call__(self) -> Source:
        """The data, normalised by its own mean and standard deviation."""
        from torchvision.datasets import CIFAR100 as Images

        return assemble(
            *from_torchvision(Images, "cifar-100-python"),
            sizes=(self.train, self.test),
            validation=self.validation,
            augment=self.augment,
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
        )
