"""MNIST, from torchvision's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oblivio.data.source import Images


@dataclass(frozen=True)
class MNIST(Images):
    """28×28 grey handwritten digits: 60,000 + 10,000."""

    torchvision: ClassVar[str] = "MNIST"
    folder: ClassVar[str] = "MNIST/raw"
    mean: ClassVar[tuple[float, ...]] = (0.1307,)
    std: ClassVar[tuple[float, ...]] = (0.3081,)
