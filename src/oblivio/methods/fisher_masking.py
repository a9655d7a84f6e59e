"""Removal of the kernels that the forgotten examples need above all, then fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from oblivio.catalogue import unknown
from oblivio.choice import Chosen
from oblivio.core import Data, Part, Run, Split
from oblivio.curvature.cache import diagonals, keep
from oblivio.curvature.fisher import Diagonal, LabelSource
from oblivio.curvature.gradients import trainable
from oblivio.curvature.selection import check_extent, choose, explanation, ratio, share_of
from oblivio.mask import Mask
from oblivio.train import Recipe, fit


@dataclass(frozen=True)
class FisherMasking:
    """Fisher masking: zeroes the weights with the largest difference F_f − F_r, then fine-tunes.

    d(k) = mean over w in k of F_f(w) − F_r(w),
    w ← 0 for w in the share of all k with the largest d,
    θ ← θ − η ∇ℓ(θ; D_r), for the whole network,

    where k is a kernel, the weights between one channel and another, or a single weight of a linear
    layer. Biases and normalisation are not masked; the fine-tuning may fill what was. Of a pruned
    model, only kernels with weights that stay count. The notes say which share of the weights was
    `changed`, and explain the choice.

    Args:
        share: Of the kernels; 0.02 for CIFAR-10 in the authors' code.
        labels: Of the Fisher diagonals: the "data"'s own, or drawn from the "model". The authors'
            code has every label, weighted by the model; a single draw for each example costs a CNN
            on digits 10 % of its accuracy on D_r for a class, the data's own labels nothing.
        recipe: Of the fine-tuning.

    Raises:
        ValueError: If the share is not between 0 and 1, or there is no such kind of labels.

    Source: Liu, Sun, Wu and Zhou 2023 (arXiv 2310.05331), and what their public code does, which
    squares the gradients of a batch's mean; here there is one gradient per example.
    """

    share: float = 0.02
    labels: LabelSource = "data"
    recipe: Recipe = Recipe(epochs=10, lr=0.05)

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})
    search: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "share": (0.005, 0.5),
        "recipe.lr": (1e-3, 1.0),
        "recipe.epochs": (1, 20),
    }

    def __post_init__(self) -> None:
        check_extent(self.share, None)
        if self.labels not in get_args(LabelSource):
            raise ValueError(unknown("kind of labels", self.labels, get_args(LabelSource)))

    def prepare(self, model: nn.Module, data: Data, run: Run) -> None:
        """Keep F over all of D beside the model's weights."""
        if run.beside is not None:
            keep(model, data, run, self.labels)

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Mask, then fine-tune on D_r."""
        forget, retain, _ = diagonals(model, split, run, self.labels)
        r = ratio(forget, retain)
        difference = {n: forget[n] - retain[n] for n in _maskable(model)}
        chosen = _kernels(model, difference, self.share, run.mask)
        with torch.no_grad():
            for name, weight in trainable(model).items():
                weight.masked_fill_(chosen[name], 0)
        about = explanation(model, r, chosen, None)
        run.note(changed=share_of(chosen), explanation={**about, "by": "difference"})
        return fit(model, split.retain, self.recipe, run)


def _maskable(model: nn.Module) -> list[str]:
    """The trainable weights of convolutions and linear layers.

    Returns:
        Their names.

    Raises:
        ValueError: If there are none.
    """
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Linear, _ConvNd))]
    own = trainable(model)
    found = [name for n, _ in layers if (name := f"{n}.weight" if n else "weight") in own]
    if not found:
        raise ValueError("The model has no trainable convolution or linear layer to be masked.")
    return found


def _kernels(model: nn.Module, values: Diagonal, share: float, mask: Mask | None) -> Chosen:
    """The kernels of the largest mean values, as a choice among all trainable weights."""
    kept = {} if mask is None else mask.keep
    stays, means, there = {}, {}, {}
    for name, value in values.items():
        stays[name] = kept.get(name, torch.ones(value.shape, dtype=torch.bool)).to(value.device)
        each, some = (part.reshape(*part.shape[:2], -1) for part in (value, stays[name]))
        means[name] = (each * some).sum(2) / some.sum(2).clamp(min=1)
        there[name] = some.any(2)
    found = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in trainable(model).items()}
    for name, kernels in choose(means, share=share, mask=Mask(there)).items():
        inner = [1] * (stays[name].ndim - 2)
        found[name] = kernels.reshape(*kernels.shape, *inner) & stays[name]
    return found
