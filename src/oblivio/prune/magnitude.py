"""One-shot magnitude pruning (OMP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.core import Data, Run
from oblivio.mask import Mask
from oblivio.prune._choice import check_settings, keep_largest_weights, warn_of_collapse


@dataclass(frozen=True)
class Magnitude:
    """One-shot magnitude pruning (OMP): removes the smallest weights of the trained model.

    m = 1[|θ_d| among the (1 − s) N largest], over all layers together.

    Args:
        sparsity: The share of prunable weights to remove, from 0 to below 1.
        rewind: The epoch whose weights those that stay go back to before they are trained again.

    Raises:
        ValueError: If the sparsity is out of range, or `rewind` is negative.

    Source: Ma et al. 2021; rewinding after Frankle et al. 2020; settings of Jia et al. 2023.
    """

    sparsity: float = 0.95
    rewind: int = 8

    trained: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self.sparsity, self.rewind)

    def __call__(self, model: nn.Module, data: Data, run: Run) -> Mask:
        """Compare magnitudes."""
        return warn_of_collapse(keep_largest_weights(model, self.sparsity))
