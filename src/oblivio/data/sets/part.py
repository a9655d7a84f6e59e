"""Part of another data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor
from torchvision.transforms.functional import resize

from oblivio.core import Data
from oblivio.data.arrays import Arrays
from oblivio.data.sets import written_out
from oblivio.data.source import Source, load, stratified

Images = Shaped[Tensor, "n c h w"]


@dataclass(frozen=True)
class Part:
    """Some classes of another data set, fewer examples, smaller images, or shuffled labels.

    Args:
        of: The other data set's table, such as `{name = "mnist"}`.
        classes: Which to take, numbered anew from 0 on, in this order; all if none is named.
        train: How many training examples to take, with the same share of every class; None is all.
        test: How many test examples, likewise.
        size: The height and width to resize images to; None leaves them as they are.
        channels: 3 makes colours of grey, 1 grey of colours.
        shuffled: Classes, by their new numbers, whose training and validation labels are shuffled
            among each other: about 1/k of those of k classes stay right. Test labels are as they
            were.

    Raises:
        ValueError: If a number is out of range; when called, if there is no such class, or the
            other data set is not of tensors or, for `size` and `channels`, not of images.

    Example:
        >>> odd = Part({"name": "digits"}, classes=(1, 3, 5, 7, 9), train=50)()
        >>> len(odd.train), odd.classes, odd.shape
        (50, 5, (1, 8, 8))
    """

    of: Mapping[str, Any] = field(default_factory=lambda: {"name": "digits"})
    classes: tuple[int, ...] = ()
    train: int | None = None
    test: int | None = None
    size: int | None = None
    channels: int | None = None
    shuffled: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", written_out(self.of))
        for name in ("classes", "shuffled"):
            labels = getattr(self, name)
            if len(set(labels)) < len(labels):
                raise ValueError(f"{name} = {list(labels)} names a class twice.")
        if len(self.shuffled) == 1:
            raise ValueError(
                f"shuffled = {list(self.shuffled)}: it takes two classes or more to shuffle labels."
            )
        if self.size is not None and self.size < 1:
            raise ValueError(f"size = {self.size} must be 1 or more.")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels = {self.channels} must be 1 or 3.")

    def __call__(self) -> Source:
        """The part.

        Returns:
            The source; ids are those of the other data set.

        Raises:
            ValueError: If there is no such class, or the data cannot be changed so.
        """
        whole = load(self.of)
        classes = self.classes or tuple(range(whole.classes))
        self._check(classes, whole.classes, "classes")
        self._check(self.shuffled, len(classes), "shuffled")
        train, test = (self._taken(part, classes) for part in (whole.train, whole.test))
        held = None if whole.validation is None else self._taken(whole.validation, classes)
        if self.train is not None:
            train = train.take(stratified(train.labels, self.train))
        if self.test is not None:
            test = test.take(stratified(test.labels, self.test))
        if self.shuffled:
            train = self._mixed(train)
            held = None if held is None else self._mixed(held)
        return Source(train, test, len(classes), train.shape, held)

    def _check(self, labels: tuple[int, ...], count: int, what: str) -> None:
        for label in labels:
            if not 0 <= label < count:
                raise ValueError(
                    f"{what} = {list(labels)}: there is no class {label} among the {count} of "
                    f"{self.of['name']}{' that are taken' if what == 'shuffled' else ''} "
                    f"(from 0 on)."
                )

    def _taken(self, data: Data, classes: tuple[int, ...]) -> Arrays:
        """The examples of these classes, numbered anew, as images of the size asked for."""
        if not isinstance(data, Arrays):
            raise ValueError(
                f"{self.of['name']} gives {type(data).__name__}, of which no part can be made: give"
                f" a data set of tensors, or take the part in your own function."
            )
        if self.classes:
            wanted = torch.tensor(classes)
            data = data.take(torch.where(torch.isin(data.labels, wanted))[0])
            data = replace(data, labels=renumbered(data.labels, wanted))
        if self.size is None and self.channels is None:
            return data
        if len(data.shape) != 3:
            raise ValueError(f"size and channels are of images, not of inputs of {data.shape}.")
        if self.size is not None and data.shape[1:] != (self.size, self.size):
            small = resize(data.inputs, [self.size, self.size], antialias=True)
            data = replace(data, inputs=small)
        return data if self.channels is None else coloured(data, self.channels)

    def _mixed(self, data: Arrays) -> Arrays:
        """The same with the labels of some classes shuffled among each other."""
        labels = data.labels.clone()
        rows = torch.where(torch.isin(labels, torch.tensor(self.shuffled)))[0]
        draw = torch.Generator().manual_seed(0)
        labels[rows] = labels[rows[torch.randperm(len(rows), generator=draw)]]
        return replace(data, labels=labels)


def renumbered(labels: Int64[Tensor, " n"], classes: Int64[Tensor, " c"]) -> Int64[Tensor, " n"]:
    """The place of each label among classes that hold it.

    Returns:
        Numbers from 0 on.

    Example:
        >>> renumbered(torch.tensor([7, 3, 7]), torch.tensor([7, 3])).tolist()
        [0, 1, 0]
    """
    return (labels[:, None] == classes).int().argmax(1)


def coloured(data: Arrays, channels: int) -> Arrays:
    """Grey images thrice, or the mean of three colours; the normalisation likewise.

    Returns:
        The images; themselves if they have so many channels.

    Raises:
        ValueError: If the images have neither one nor three channels.
    """
    own = data.shape[0]
    if own == channels:
        return data
    if own not in (1, 3):
        raise ValueError(f"Images of {own} channels cannot be made to have {channels}.")
    if channels == 3:
        images = data.inputs.expand(-1, 3, -1, -1).contiguous()
        return replace(data, inputs=images, mean=3 * data.mean, std=3 * data.std)
    images = data.inputs.float().mean(1, keepdim=True)
    images = images.round().to(data.inputs.dtype) if data.inputs.dtype == torch.uint8 else images
    mean, std = ((sum(m) / len(m),) if m else () for m in (data.mean, data.std))
    return replace(data, inputs=images, mean=mean, std=std)
