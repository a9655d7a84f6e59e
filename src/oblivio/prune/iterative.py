"""Iterative magnitude pruning (IMP)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from oblivio.core import Data, Run
from oblivio.mask import Mask, prunable
from oblivio.prune import check_rewind, check_sparsity, keep_largest, needs_origin, rewound


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
        check_sparsity(self.sparsity)
        check_rewind(self.rewind)
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
        found = []
        while 1 - (kept := (1 - self.rate) ** (len(found) + 1)) < self.sparsity:
            found.append(1 - kept)
        return [*found, self.sparsity]

    def __call__(self, model: nn.Module, data: Data, run: Run) -> Mask:
        """Prune, rewind, train; and again.

        Returns:
            The mask.

        Raises:
            ValueError: If the run does not say how the model came to be.
        """
        origin = needs_origin(run)
        rounds = self.sparsities()
        start = rewound(origin, data, run, self.rewind) if len(rounds) > 1 else model
        trained, mask = model, Mask.of(model)
        for place, sparsity in enumerate(rounds):
            sizes = {name: weight.detach().abs() for name, weight in prunable(trained).items()}
            mask = keep_largest(sizes, sparsity)
            if place + 1 < len(rounds):
                trained = mask.apply(copy.deepcopy(start))
                trained = origin.train(trained, data, replace(run, mask=mask))
        return mask
