"""Real data sets by name: where they are found, and how they become tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from oblivio.catalogue import choose, imported
from oblivio.core import Data
from oblivio.data import as_data
from oblivio.data.arrays import Arrays, Augment


@dataclass(frozen=True)
class Source:
    """A data set, ready to be learned: training, test and, perhaps, validation examples.

    Args:
        train: What a model is trained on, and what can be forgotten.
        test: What it is never trained on.
        classes: How many classes there are.
        shape: The shape of one input.
        validation: Examples held out of the training data to choose the best epoch by.
    """

    train: Data
    test: Data
    classes: int
    shape: tuple[int, ...]
    validation: Data | None = None


def load(spec: Mapping[str, Any]) -> Source:
    """The data set that a table such as `{name = "mnist", train = 6000}` asks for.

    `package.module:function` names a function of the user's own that gives a `Source`, or a pair
    (training data, test data) of anything that `as_data` takes.

    Returns:
        The data.

    Raises:
        ValueError: If there is no such data set or setting, or labels are out of range.
    """
    if ":" not in spec["name"]:
        return choose("data", spec)()
    made = imported(spec["name"])(**{k: v for k, v in spec.items() if k != "name"})
    if not isinstance(made, Source):
        train, test = (as_data(part) for part in made)
        shape = tuple(next(train.take(torch.arange(1)).batches(1)).inputs.shape[1:])
        made = Source(train, test, int(train.labels.max()) + 1, shape)
    most = int(max(made.train.labels.max(), made.test.labels.max()))
    if most >= made.classes:
        raise ValueError(f"The data has label {most}, but {made.classes} classes (from 0 on).")
    return made


def root() -> Path:
    """The folder of the data sets: `$OBLIVIO_DATA`, else a per-user cache."""
    given = os.environ.get("OBLIVIO_DATA")
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(given or f"{cache}/oblivio/data").expanduser()


def from_torchvision(make: Callable[..., Any], looked_for: str) -> tuple[Arrays, Arrays]:
    """Training and test images of a torchvision data set, as bytes, downloaded if they are missing.

    Args:
        make: The data set's class, `(root, train, download) -> Dataset`.
        looked_for: The folder, below the root, that torchvision looks for.

    Returns:
        Training and test images, (n, c, h, w), not yet normalised.

    Raises:
        FileNotFoundError: If the files are missing and cannot be downloaded.
    """
    folder = root()

    def images(train: bool) -> Arrays:
        try:
            found = make(folder, train=train, download=False)
        except RuntimeError:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                found = make(folder, train=train, download=True)
            except (OSError, RuntimeError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0][:120]
                raise FileNotFoundError(
                    f"The data set is not at {folder / looked_for}, and it could not be downloaded "
                    f"({reason}). Put torchvision's files there, or name "
                    f"the folder that holds {looked_for} with --data or OBLIVIO_DATA."
                ) from error
        pixels = torch.as_tensor(found.data)
        pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        return Arrays.checked(pixels.contiguous(), torch.as_tensor(found.targets))

    return images(True), images(False)


@dataclass(frozen=True)
class Images:
    """Images from torchvision's files; a data set says in its class where and which.

    Args:
        train: How many training images to use, with the same share of every class; None
            uses all.
        test: How many test images to use, likewise.
        validation: The share of each class held out of the training images.
        augment: What a training pass does to the images.
    """

    train: int | None = None
    test: int | None = None
    validation: float = 0.0
    augment: Augment = Augment()

    torchvision: ClassVar[str]
    folder: ClassVar[str]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]

    def __call__(self) -> Source:
        """The data, normalised by the training images' mean and standard deviation."""
        import torchvision

        return assemble(
            *from_torchvision(getattr(torchvision.datasets, self.torchvision), self.folder),
            sizes=(self.train, self.test),
            validation=self.validation,
            augment=self.augment,
            mean=self.mean,
            std=self.std,
        )


def assemble(
    train: Arrays,
    test: Arrays,
    *,
    sizes: tuple[int | None, int | None] = (None, None),
    validation: float = 0.0,
    augment: Augment = Augment(),
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
) -> Source:
    """Cut to size, hold out, and normalise.

    Args:
        train: All training examples.
        test: All test examples.
        sizes: How many of each to use, with the same share of every class; None uses all.
        validation: The share of each class to hold out of the training examples.
        augment: What a training pass does to the images.
        mean: Per channel.
        std: Per channel.

    Returns:
        The source. Ids are positions in the full training set, whatever is used of it.
    """
    parts = []
    for data, size in zip((train, test), sizes, strict=True):
        data = replace(data, mean=mean, std=std, augment=augment)
        parts.append(data if size is None else data.take(stratified(data.labels, size)))
    train, test = parts
    held = None
    if validation:
        rows = stratified(train.labels, round(validation * len(train)))
        rest = torch.ones(len(train), dtype=torch.bool)
        rest[rows] = False
        held, train = train.take(rows), train.take(torch.where(rest)[0])
    return Source(train, test, int(train.labels.max()) + 1, train.shape, held)


def stratified(labels: Tensor, count: int) -> Tensor:
    """Positions of `count` examples, the same share of every class, always the same ones.

    Returns:
        Positions in ascending order.

    Raises:
        ValueError: If there are not so many examples.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1, 1, 1])
        >>> labels[stratified(labels, 3)].tolist()
        [0, 1, 1]
    """
    if not 0 < count <= len(labels):
        raise ValueError(f"{count} examples are asked for, but there are {len(labels)}.")
    labels = labels.cpu()
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(len(labels), generator=draw)
    rank = torch.empty_like(order)  # of each example within its class
    for label in labels.unique():
        own = order[labels[order] == label]
        # A class's examples are spread evenly over [0, n), so that any prefix has its share.
        rank[own] = torch.arange(len(own)) * len(labels) // len(own)
    chosen = torch.argsort(rank, stable=True)[:count]
    return chosen.sort().values
