"""Random pruning: the control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from oblivio.core import Data, Run, derive
from oblivio.mask import Mask
from oblivio.prune._choice import candidates, check_settings, keep_largest, warn_of_collapse


@dataclass(frozen=True)
class Random:
    """Random pruning, before training: the control.

    m is uniform among the masks of this sparsity, and owes nothing to weights or data.

    Args:
        sparsity: The share of prunable weights to remove, from 0 to below 1.
        rewind: The epoch from which those that stay are trained; 0 is from the first step on.

    Raises:
        ValueError: If the sparsity is out of range, or `rewind` is negative.
    """

    sparsity: float = 0.95
    rewind: int = 0

    trained: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self.sparsity, self.rewind)

    def __call__(self, model: nn.Module, data: Data, run: Run) -> Mask:
        """Draw a number for each weight, and keep the largest."""
        draw = torch.Generator().manual_seed(derive(run.seed, "mask"))
        numbers = {
            name: torch.rand(weight.shape, generator=draw, dtype=torch.float64).to(weight.device)
            for name, weight in candidates(model).items()
        }
        return warn_of_collapse(keep_largest(numbers, self.sparsity))
