"""Several data sets as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oblivio.core import Data
from oblivio.data.arrays import Arrays
from oblivio.data.sets import written_out
from oblivio.data.source import Source, load

USUAL: tuple[Mapping[str, Any], ...] = (
    {"name": "part", "classes": [0, 1, 2, 3, 4]},
    {"name": "part", "classes": [5, 6, 7, 8, 9]},
)
"""The two halves of the digits."""


@dataclass(frozen=True)
class Joined:
    """The classes of several data sets side by side, numbered on from one to the next.

    Inputs are normalised as each data set does it, and are not augmented. Ids are numbered anew.

    Args:
        of: The data sets' tables.

    Raises:
        ValueError: If none is given; when called, if their inputs differ in shape.

    Example:
        >>> Joined()().classes
        10
    """

    of: tuple[Mapping[str, Any], ...] = USUAL

    def __post_init__(self) -> None:
        if not self.of:
            raise ValueError("of is empty: name the data sets to join.")
        object.__setattr__(self, "of", tuple(written_out(table) for table in self.of))

    def __call__(self) -> Source:
        """The data; validation is what all hold out, if each of them does.

        Returns:
            The source.

        Raises:
            ValueError: If their inputs differ in shape.
        """
        sources = [load(table) for table in self.of]
        shapes = {source.shape for source in sources}
        if len(shapes) > 1:
            raise ValueError(
                f"Data sets of different shapes cannot be joined: {sorted(shapes)}; resize them, "
                f'as by {{name = "part", of = {{...}}, size = 28, channels = 1}}.'
            )
        firsts = [0]
        for source in sources:
            firsts.append(firsts[-1] + source.classes)
        train = joined([source.train for source in sources], firsts)
        test = joined([source.test for source in sources], firsts)
        held = [source.validation for source in sources if source.validation is not None]
        whole = joined(held, firsts, len(train)) if len(held) == len(sources) else None
        return Source(train, test, firsts[-1], shapes.pop(), whole)


def joined(parts: Sequence[Data], firsts: Sequence[int], first_id: int = 0) -> Arrays:
    """The examples of several data sets, ready for a network.

    Args:
        parts: The data sets.
        firsts: The number that each one's class 0 takes.
        first_id: The first example's id.

    Returns:
        The examples, part by part.
    """
    inputs = torch.cat([batch.inputs for part in parts for batch in part.batches(1024)])
    labels = torch.cat([part.labels + first for part, first in zip(parts, firsts, strict=False)])
    return Arrays(inputs, labels, first_id + torch.arange(len(labels)))
