"""MNIST, from torchvision's files."""

from __future__ import annotations

from dataclasses import dataclass

from oblivio.data.arrays import Augment
from oblivio.data.source import Source, assemble, from_torchvision


@dataclass(frozen=True)
class MNIST:
    """28×28 grey handwritten digits: 60,000 + 10,000.

    Args:
        train: How many training images to use, as many of every class; None uses all.
        test: How many test images to use, likewise.
        validation: The share of each class held out of the training images.
        augment: What a training pass does to the images.
    """

    train: int | None = None
    test: int | None = None
    validation: float = 0.0
    augment: Augment = Augment()

    def __call__(self) -> Source:
        """The data, normalised by its own mean and standard deviation."""
        from torchvision.datasets import MNIST as Images

        return assemble(
            *from_torchvision(Images, "MNIST/raw"),
            sizes=(self.train, self.test),
            validation=self.validation,
            augment=self.augment,
            mean=(0.1307,),
            std=(0.3081,),
        )
