"""Pruning by synaptic flow (SynFlow)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

from oblivio.core import Data, Run
from oblivio.mask import Mask
from oblivio.prune._choice import candidates, check_settings, removed, smallest, warn_of_collapse


@dataclass(frozen=True)
class SynFlow:
    """Synaptic flow (SynFlow): keeps the weights that most signal passes through, without data.

    R = Σ_c f(𝟙; |θ|)_c,  score = |θ ⊙ ∂R/∂|θ||,  keep ratio (1 − s)^{i/n} after round i of n

    before training, in eval mode, with the absolute values of all weights and of BatchNorm's
    statistics, for an input of ones. In a chain no layer is emptied while another has weights to
    give, as what flows into it flows out. A branch may be: at 95 % ResNet-18 loses its 1×1
    shortcuts, beside which nearly all flows through the 3×3 convolutions. In float64: R grows with
    every layer.

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
        check_settings(self.sparsity, self.rewind)
        if self.rounds < 1:
            raise ValueError(f"rounds = {self.rounds} must be 1 or more.")

    def sparsities(self) -> list[float]:
        """The sparsity after each round.

        Returns:
            Rising numbers, the last of which is what was asked for.

        Example:
            >>> [round(s, 4) for s in SynFlow(sparsity=0.75, rounds=2).sparsities()]
            [0.5, 0.75]
        """
        n = self.rounds
        return [*(1 - (1 - self.sparsity) ** (i / n) for i in range(1, n)), self.sparsity]

    def __call__(self, model: nn.Module, data: Data, run: Run) -> Mask:
        """Prune a positive copy of the model, round by round.

        Returns:
            The mask.

        Raises:
            ValueError: If the signal is too large for float64.
        """
        positive = copy.deepcopy(model).double().eval().requires_grad_(False)
        for value in positive.state_dict().values():
            value.abs_()
        weights = candidates(positive)
        # All weights lie in one row, of which the parameters are views: θ changes in place.
        theta = torch.cat([weight.flatten() for weight in weights.values()])
        vector_to_parameters(theta, weights.values())
        sizes = [weight.requires_grad_(True).numel() for weight in weights.values()]
        batch = next(data.take(torch.arange(1)).batches(1))
        ones = torch.ones_like(batch.inputs, dtype=theta.dtype, device=theta.device)
        stays, scores = torch.ones_like(theta, dtype=torch.bool), torch.empty_like(theta)
        gone = 0
        for sparsity in self.sparsities():
            flow = positive(ones).sum()
            if not bool(flow.isfinite()):
                raise ValueError(
                    f"SynFlow's signal is {float(flow.detach())} where the model's last layer "
                    f"gives it: it must be a finite number; initialise the weights smaller."
                )
            slopes = torch.autograd.grad(flow, list(weights.values()))
            for score, weight, slope in zip(
                scores.split(sizes), theta.split(sizes), slopes, strict=True
            ):
                torch.mul(weight, slope.reshape(-1), out=score).abs_()
            more = removed(sparsity, len(theta)) - gone
            out = smallest(scores, more, stays)
            theta[out], stays[out] = 0, False
            gone += more
        keep = zip(weights.items(), stays.split(sizes), strict=True)
        return warn_of_collapse(Mask({name: part.view_as(w) for (name, w), part in keep}))
