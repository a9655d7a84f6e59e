"""A square of one brightness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from oblivio.catalogue import unknown
from oblivio.data.triggers import Images, level

Place = Literal["top left", "top right", "bottom left", "bottom right", "centre"]


@dataclass(frozen=True)
class Patch:
    """A square of one brightness in a corner or in the middle (BadNets).

    Args:
        size: Its side in pixels.
        place: Which corner, or the centre.
        margin: Pixels between the square and the edges of its corner.
        value: Its brightness in all channels: of bytes a share of 255, else the number itself.

    Raises:
        ValueError: If a number is out of range, there is no such place, or, when called, if the
            images are too small.

    Source: Gu, Dolan-Gavitt and Garg 2017 (arXiv 1708.06733).
    """

    size: int = 3
    place: Place = "bottom right"
    margin: int = 0
    value: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size = {self.size} must be 1 or more.")
        if self.margin < 0:
            raise ValueError(f"margin = {self.margin} must be 0 or more.")
        if not math.isfinite(self.value):
            raise ValueError(f"value = {self.value} must be a finite number.")
        if self.place not in get_args(Place):
            raise ValueError(unknown("place", self.place, get_args(Place)))

    def __call__(self, images: Images) -> Images:
        """The images with the square on them; those given stay as they are."""
        height, width = images.shape[-2:]
        if self.size + self.margin > min(height, width):
            raise ValueError(
                f"A patch of {self.size}×{self.size} pixels with a margin of {self.margin} does "
                f"not fit images of {height}×{width}: choose a smaller one."
            )
        stamped = images.clone()
        rows, columns = self._along(height, "top"), self._along(width, "left")
        stamped[..., rows, columns] = level(images, self.value)
        return stamped

    def _along(self, length: int, first: str) -> slice:
        """Where the square lies along one side of the images."""
        if self.place == "centre":
            start = (length - self.size) // 2
        else:
            start = self.margin if first in self.place else length - self.margin - self.size
        return slice(start, start + self.size)
