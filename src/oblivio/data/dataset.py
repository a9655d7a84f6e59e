"""Any map-style torch Dataset of (input, label), read through a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from oblivio.core import Batch
from oblivio.data.arrays import batch_positions


@dataclass(frozen=True, eq=False)
class Loaded:
    """Labelled examples that a Dataset yields one by one, with whatever transforms it has.

    The Dataset augments as it likes: `augment` has no say in it. For small data, tensors
    (`oblivio.Arrays`) are many times faster.

    Args:
        dataset: Gives `(input, label)` for every whole number below its length.
        labels: The classes.
        ids: Stable ids.
        workers: Processes that load; 0 loads in this one.
    """

    dataset: Dataset[Any]
    labels: Int64[Tensor, " n"]
    ids: Int64[Tensor, " n"]
    workers: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Int64[Tensor, " k"]) -> Loaded:
        """The examples at these positions, in this order."""
        subset = Subset(self.dataset, positions.tolist())
        return Loaded(subset, self.labels[positions], self.ids[positions], self.workers)

    def to(self, device: torch.device) -> Loaded:
        """Itself: its batches are made on the CPU, and `fit` moves each."""
        return self

    def batches(
        self,
        size: int,
        *,
        shuffle: int | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Go once through the examples; see `oblivio.core.Data.batches`."""
        draw = torch.Generator()
        order = torch.arange(len(self))
        if shuffle is not None:
            order = torch.randperm(len(self), generator=draw.manual_seed(shuffle))
        plan = list(batch_positions(len(self), size, part))
        loader = DataLoader(
            self.dataset,
            batch_sampler=[order[rows].tolist() for rows, _ in plan],
            num_workers=self.workers,
            generator=draw,
        )
        for (inputs, labels), (_, share) in zip(loader, plan, strict=True):
            yield Batch(inputs, torch.as_tensor(labels).to(torch.int64), share)


def loaded(dataset: Dataset[Any], workers: int = 0) -> Loaded:
    """Wrap a Dataset, and learn its labels by going through it once.

    Returns:
        The data, with ids from 0 on.

    Raises:
        TypeError: If an item is not a pair of a tensor and a whole number.
        ValueError: If there are no examples, a label is negative, or an input is not finite.
    """
    from oblivio.data.arrays import Arrays

    n = len(dataset)  # pyright: ignore[reportArgumentType]
    if n == 0:
        raise ValueError("The Dataset is empty.")
    item = dataset[0]
    if not (isinstance(item, (tuple, list)) and len(item) == 2):
        raise TypeError(f"The Dataset must give (input, label); it gives {type(item).__name__}.")
    if not isinstance(item[0], Tensor):
        raise TypeError(
            f"The Dataset must give tensors as inputs; it gives {type(item[0]).__name__}. "
            f"For images, give the Dataset transform=torchvision.transforms.ToTensor()."
        )
    ids, labels = torch.arange(n), []
    draw = torch.Generator()  # else the loader draws a seed from the global random state
    loader = DataLoader(dataset, 256, num_workers=workers, generator=draw)
    for start, (inputs, label) in enumerate(loader):
        own = ids[256 * start : 256 * start + len(inputs)]
        labels.append(Arrays.checked(inputs, torch.as_tensor(label), ids=own).labels)
    return Loaded(dataset, torch.cat(labels), ids, workers)
