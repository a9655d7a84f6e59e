"""FashionMNIST, from torchvision's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oblivio.data.source import Images


@dataclass(frozen=True)
class FashionMNIST(Images):
    """28×28 grey images of clothes: 60,000 + 10,000."""

    torchvision: ClassVar[str] = "FashionMNIST"
    folder: ClassVar[str] = "FashionMNIST/raw"
    mean: ClassVar[tuple[float, ...]] = (0.2860,)
    std: ClassVar[tuple[float, ...]] = (0.3530,)
