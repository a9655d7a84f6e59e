"""Iterative magnitude pruning (IMP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.core import Data, Run
from oblivio.mask import Mask
from oblivio.prune import needs_origin, resumed, rewound
from oblivio.prune._choice import check_settings, keep_largest_weights, warn_of_collapse


@dataclass(frozen=True)
class Iterative:
    """Iterative magnitude pruning (IMP): removes the smallest weights in rounds, training between.

    m_0 = 1;  m_{i+1} keeps the largest |θ_i| among m_i;  θ_{i+1} = A(m_{i+1} ⊙ θ_k; D, m_{i+1})

    with θ_0 the dense model. A round keeps (1 − rate) of what the last one kept, and the last round
    what is asked for: sparsity 1 − (1 − rate)^i after i rounds, so that 95 % takes 14 rounds of a
    fifth each. Each round but the last trains the model once.

    Args:
        sparsity: The share of prunable weights to remove, from 0 to below 1.
        rewind: k, the epoch whose weights those that stay go back to before every training.
        rate: The share of the remaining weights that a round removes, from 0 to 1, both excluded.

    Raises:
        ValueError: If a number is out of range.

    Source: Frankle and Carbin 2019; rewinding after Frankle et al. 2020.
    """

    sparsity: float = 0.95
    rewind: int = 8
    rate: float = 0.2

    trained: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self.sparsity, self.rewind)
        if not 0 < self.rate < 1:
            raise ValueError(
                f"rate = {self.rate} must be between 0 and 1: a share of what remains."
            )

    def sparsities(self) -> list[float]:
        """The sparsity after each round.

        Returns:
            Rising numbers, the last of which is what was asked for.

        Example:
            >>> [round(s, 4) for s in Iterative(sparsity=0.5).sparsities()]
            [0.2, 0.36, 0.488, 0.5]
        """
        found: list[float] = []
        # To rounding: a sparsity that whole rounds reach takes no round more.
        while (gone := 1 - (1 - self.rate) ** (len(found) + 1)) < self.sparsity - 1e-12:
            found.append(gone)
        return [*found, self.sparsity]

    def __call__(self, model: nn.Module, data: Data, run: Run) -> Mask:
        """Prune, rewind, train; and again.

        Returns:
            The mask.

        Raises:
            ValueError: If the run does not say how the model came to be.
        """
        origin = needs_origin(run)
        first, *rounds = self.sparsities()
        mask = keep_largest_weights(model, first)
        start = rewound(origin, data, run, self.rewind) if rounds else model
        for sparsity in rounds:
            trained = resumed(origin, start, mask).make(data, run)
            mask = keep_largest_weights(trained, sparsity, among=mask)
        return warn_of_collapse(mask)
