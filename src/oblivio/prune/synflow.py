"""Pruning by synaptic flow (SynFlow)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from oblivio.core import Data, Run
from oblivio.mask import Mask, prunable
from oblivio.prune import check_rewind, check_sparsity, largest, removed


@dataclass(frozen=True)
class SynFlow:
    """Synaptic flow (SynFlow): keeps the weights that most signal passes through, without data.

    R = Σ_c f(𝟙; |θ|)_c,  score = |θ ⊙ ∂R/∂|θ||,  keep ratio (1 − s)^{i/n} after round i of n

    before training, in eval mode, with the absolute values of all weights and of BatchNorm's
    statistics, for an input of ones. A layer is never emptied while another has weights to give, as
    what flows into it flows out. In float64: R grows with every layer.

    Of the data only the shape of an input is read.

    Args:
        sparsity: The share of prunable weights to remove, from 0 to below 1.
        rounds: n. One round at a high sparsity empties layers.
        rewind: The epoch from which those that stay are trained; 0 is from the first step on.

    Raises:
        ValueError: If a number is out of range.

    Source: Tanaka et al. 2020, algorithm 1.
    """

    sparsity: float = 0.95
    rounds: int = 100
    rewind: int = 0

    trained: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        check_rewind(self.rewind)
        if self.rounds < 1:
            raise ValueError(f"rounds = {self.rounds} must be 1 or more.")

    def __call__(self, model: nn.Module, data: Data, run: Run) -> Mask:
        """Prune a positive copy of the model, round by round."""
        positive = copy.deepcopy(model).double().eval().requires_grad_(False)
        for value in positive.state_dict().values():
            value.abs_()
        batch = next(data.take(torch.arange(1)).batches(1))
        ones = torch.ones_like(batch.inputs, dtype=torch.float64, device=run.device)
        weights = prunable(positive)
        flat = [weight.requires_grad_(True).detach().view(-1) for weight in weights.values()]
        stays = [torch.arange(len(values), device=values.device) for values in flat]
        total = sum(map(len, flat))
        for i in range(1, self.rounds + 1):
            slopes = torch.autograd.grad(positive(ones).sum(), list(weights.values()))
            scores = [
                w[at] * g.reshape(-1)[at] for w, g, at in zip(flat, slopes, stays, strict=True)
            ]
            ratio = (1 - self.sparsity) ** (i / self.rounds)
            chosen = largest(torch.cat(scores), total - removed(1 - ratio, total))
            for place, own in enumerate(chosen.split([len(at) for at in stays])):
                flat[place][stays[place][~own]] = 0
                stays[place] = stays[place][own]
        keep = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in weights.items()}
        for mask, at in zip(keep.values(), stays, strict=True):
            mask.view(-1)[at] = True
        return Mask(keep)
