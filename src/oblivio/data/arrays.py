"""Examples as tensors on the device: a subset is one indexing operation, and so is a crop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor
from torch.nn import functional as F

from oblivio.core import Batch


@dataclass(frozen=True)
class Augment:
    """Random crop after padding with zeros, and random horizontal flip, each drawn per sample.

    Args:
        crop: Pixels of padding on every side; 0 crops nothing.
        flip: Whether to flip with probability ½.
    """

    crop: int = 0
    flip: bool = False


class Drawn(NamedTuple):
    """The random numbers of one pass, by position; None where nothing is drawn."""

    order: Int64[Tensor, " n"] | None
    shifts: Int64[Tensor, "n 2"] | None
    flips: Bool[Tensor, " n"] | None


@dataclass(frozen=True, eq=False)
class Arrays:
    """Labelled examples as tensors: raw inputs, made ready batch by batch.

    A batch is indexed, then augmented as raw pixels, then scaled and normalised: for bytes,
    (x / 255 − mean) / std per channel, as torchvision's transforms would do image by image.

    Args:
        inputs: Anything whose first dimension counts the examples; images are (n, c, h, w).
        labels: Classes, from 0 on.
        ids: Stable ids; None numbers the examples from 0 on.
        augment: What a training pass does to the inputs.
        mean: Per channel, taken off after scaling.
        std: Per channel, divided by.

    Raises:
        TypeError: If a type is wrong, such as labels that are not whole numbers.
        ValueError: If lengths differ, a label is negative, or an input is not a finite number.
    """

    inputs: Shaped[Tensor, "n ..."]
    labels: Int64[Tensor, " n"]
    ids: Int64[Tensor, " n"] = field(default=None)  # pyright: ignore[reportAssignmentType]
    augment: Augment = Augment()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.ids is None:
            object.__setattr__(self, "ids", torch.arange(len(self.inputs)))
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise TypeError(
                f"Labels must be one whole number (int64) per example; they are "
                f"{self.labels.dtype} of shape {tuple(self.labels.shape)}."
            )
        if not len(self.inputs) == len(self.labels) == len(self.ids):
            raise ValueError(
                f"There are {len(self.inputs)} inputs, {len(self.labels)} labels and "
                f"{len(self.ids)} ids; there must be as many of each."
            )

    @classmethod
    def checked(cls, inputs: Tensor, labels: Tensor, **options: object) -> Arrays:
        """Arrays of a user's own tensors, looked through once.

        Returns:
            The arrays; labels of any integer type become int64.

        Raises:
            TypeError: If the labels are not whole numbers.
            ValueError: If there are no examples, a label is negative, or an input is not finite.
        """
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"Labels must be whole numbers (classes), not {labels.dtype}.")
        arrays = cls(inputs, labels.to("cpu", torch.int64), **options)  # pyright: ignore[reportArgumentType]
        if len(labels) == 0:
            raise ValueError("There are no examples.")
        if int(arrays.labels.min()) < 0:
            raise ValueError(f"A label is {int(arrays.labels.min())}; classes count from 0.")
        if inputs.is_floating_point():
            finite = (
                torch.isfinite(inputs).flatten(1).all(1) if inputs.ndim > 1 else inputs.isfinite()
            )
            if not bool(finite.all()):
                first = int(arrays.ids[torch.where(~finite.cpu())[0][0]])
                raise ValueError(
                    f"{int((~finite).sum())} of {len(inputs)} inputs hold NaN or infinity; "
                    f"the first has id {first}."
                )
        return arrays

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.inputs.shape[1:]))
        return f"Arrays({len(self)} examples of {shape} {self.inputs.dtype}, {self.inputs.device})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.inputs.shape[1:])

    def take(self, positions: Int64[Tensor, " k"]) -> Arrays:
        """The examples at these positions, in this order."""
        own = positions.to(self.inputs.device)
        return replace(
            self,
            inputs=self.inputs[own],
            labels=self.labels[positions.cpu()],
            ids=self.ids[positions.cpu()],
        )

    def to(self, device: torch.device) -> Arrays:
        """The same examples with their inputs on a device; itself if they are there already."""
        if self.inputs.device == device:
            return self
        return replace(self, inputs=self.inputs.to(device))

    def batches(
        self,
        size: int,
        *,
        shuffle: int | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Go once through the examples; see `oblivio.core.Data.batches`.

        All of a pass's random numbers are drawn on the CPU before its first batch, so that they
        depend neither on the device, nor on the batch size, nor on the number of processes.
        """
        device, drawn = self.inputs.device, self.draw(shuffle, augment=augment)
        labels = self.labels.to(device)
        shifts, flips = (None if numbers is None else numbers.to(device) for numbers in drawn[1:])
        for rows, share in batch_positions(len(self), size, part):
            if drawn.order is not None:
                rows = drawn.order[rows]
            own = rows.to(device, non_blocking=True)
            x = self.made(
                self.inputs[own],
                None if shifts is None else shifts[own],
                None if flips is None else flips[own],
            )
            yield Batch(x, labels[own], share)

    def draw(self, shuffle: int | None, *, augment: bool) -> Drawn:
        """All random numbers of a pass with this seed, drawn on the CPU; None draws none."""
        n, crop = len(self), self.augment.crop if augment else 0
        order = shifts = flips = None
        if shuffle is not None:
            draw = torch.Generator().manual_seed(shuffle)
            order = torch.randperm(n, generator=draw)
            if crop:
                shifts = torch.randint(2 * crop + 1, (n, 2), generator=draw)
            if augment and self.augment.flip:
                flips = torch.rand(n, generator=draw) < 0.5
        return Drawn(order, shifts, flips)

    def made(
        self,
        x: Shaped[Tensor, "b ..."],
        shifts: Int64[Tensor, "b 2"] | None,
        flips: Bool[Tensor, " b"] | None,
    ) -> Shaped[Tensor, "b ..."]:
        """Raw inputs as a network takes them: augmented by these numbers, if any, then scaled."""
        if shifts is not None:
            x = shifted(x, shifts, self.augment.crop)
        if flips is not None:
            x = torch.where(flips.view(-1, 1, 1, 1), x.flip(-1), x)
        return self._ready(x)

    def _ready(self, x: Tensor) -> Tensor:
        """Scale bytes to [0, 1] and normalise: one multiplication and one addition per channel."""
        bytes_ = x.dtype == torch.uint8
        if not bytes_ and not self.mean:
            return x
        mean = torch.tensor(self.mean or (0.0,), device=x.device)
        std = torch.tensor(self.std or (1.0,), device=x.device)
        if x.ndim == 4:
            mean, std = mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)
        scale = 255.0 if bytes_ else 1.0
        return torch.addcmul(-mean / std, x.float(), 1 / (scale * std))


def shifted(
    images: Shaped[Tensor, "b c h w"], shifts: Int64[Tensor, "b 2"], padding: int
) -> Shaped[Tensor, "b c h w"]:
    """Pad with zeros and cut a window of the old size out of every image, each at its own place.

    Args:
        images: A batch.
        shifts: Down and right, from 0 to 2·padding; `padding` itself leaves an image as it is.
        padding: Zeros on every side, in pixels.

    Returns:
        The windows, gathered by one indexing operation from a view that copies nothing.

    Example:
        >>> image = torch.arange(4.0).view(1, 1, 2, 2)
        >>> shifted(image, torch.tensor([[0, 1]]), 1).tolist()
        [[[[0.0, 0.0], [0.0, 1.0]]]]
    """
    height, width = images.shape[-2:]
    windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    rows = torch.arange(len(images), device=images.device)
    return windows[rows, :, shifts[:, 0], shifts[:, 1]]


def batch_starts(n: int, size: int) -> list[int]:
    """Where each batch of a pass over n examples begins: ⌈n / size⌉ batches, as equal as can be.

    A small last batch would spoil BatchNorm's running statistics just before the model is judged,
    and by an amount that depends on n, so that an original and a model retrained on fewer examples
    would differ by it. 5,000 examples by 128 are 40 batches of 125, not 39 of 128 and one of 8.

    Returns:
        Positions, the first of each batch.

    Example:
        >>> batch_starts(9, 4), batch_starts(8, 4)
        ([0, 3, 6], [0, 4])
    """
    count = -(-n // size)
    return [i * n // count for i in range(count)]


def batch_positions(n: int, size: int, part: tuple[int, int]) -> Iterator[tuple[Tensor, float]]:
    """The positions of each batch that one of several processes takes, with their share."""
    rank, world = part
    starts = batch_starts(n, size)
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        rows = torch.arange(start, stop)
        if world == 1:
            yield rows, 1.0
            continue
        own = rows[rank::world]
        # A process without examples takes one with no weight: all must join in the averaging.
        yield (own, world * len(own) / len(rows)) if len(own) else (rows[:1], 0.0)
