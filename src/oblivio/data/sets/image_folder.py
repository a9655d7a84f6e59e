"""Folders of images, one per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from oblivio.data.dataset import Loaded
from oblivio.data.source import Source, root

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, by which torchvision's pretrained networks expect images normalised."""


@dataclass(frozen=True)
class ImageFolder:
    """Colour images in folders, one per class, such as ImageNet: `train/cat/1.jpg`.

    Read while they are needed, resized and cut to a square in the middle, never augmented. Classes
    are numbered in the alphabetical order of their folders.

    Args:
        path: The folder that holds those of training and test; relative to the folder of the data
            sets, `$OBLIVIO_DATA`.
        train: The folder of training images in it.
        test: The folder of test images in it.
        size: The height and width to cut images to.
        workers: Processes that read images; 0 reads in this one.

    Raises:
        ValueError: If a number is out of range; when called, if training and test folders differ in
            their classes.
        FileNotFoundError: When called, if there are no such folders.
    """

    path: str = "imagenet"
    train: str = "train"
    test: str = "val"
    size: int = 224
    workers: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.workers < 0:
            raise ValueError(
                f"size = {self.size} must be 1 or more, workers = {self.workers} 0 or more."
            )

    def __call__(self) -> Source:
        """The data.

        Returns:
            The source.

        Raises:
            ValueError: If training and test folders differ in their classes.
            FileNotFoundError: If there are no such folders.
        """
        (train, classes), (test, others) = self._read(self.train), self._read(self.test)
        if classes != others:
            apart = ", ".join(sorted(set(classes) ^ set(others))[:5])
            raise ValueError(
                f"The folders {self.train} and {self.test} in {root() / self.path} must hold the "
                f"same classes, but only one of them has {apart}."
            )
        return Source(train, test, len(classes), (3, self.size, self.size))

    def _read(self, name: str) -> tuple[Loaded, list[str]]:
        """The images of one folder, and the names of its classes."""
        from torchvision import datasets, transforms

        folder: Path = root() / self.path / name
        ready = transforms.Compose(
            [
                transforms.Resize(round(self.size * 256 / 224)),
                transforms.CenterCrop(self.size),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
        try:
            images = datasets.ImageFolder(str(folder), ready)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"There are no folders of images, one per class, in {folder}: put them there, or "
                f"name the folder that holds {self.path} with --data or OBLIVIO_DATA."
            ) from error
        labels = torch.tensor(images.targets)
        return Loaded(images, labels, torch.arange(len(labels)), self.workers), images.classes
