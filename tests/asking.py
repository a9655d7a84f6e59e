"""A user's own method that asks for Fisher diagonals, and has the dear one prepared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from oblivio.core import Data, Part, Run, Split
from oblivio.curvature.cache import diagonals, keep


@dataclass(frozen=True)
class Asking:
    """Halves the weights that D_f needs more than D_r does."""

    threshold: float = 3.0

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})

    def prepare(self, model: nn.Module, data: Data, run: Run) -> None:
        keep(model, data, run)

    @torch.no_grad()
    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        forget, retain, _ = diagonals(model, split, run)
        for name, weight in model.named_parameters():
            weight[forget[name] > self.threshold * retain[name]] /= 2
        return model
