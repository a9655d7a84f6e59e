"""Dampening of the weights that matter to the forgotten examples above all (SSD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import nn

from oblivio.catalogue import unknown
from oblivio.core import Data, Part, Run, Split
from oblivio.curvature.cache import keep
from oblivio.curvature.fisher import LabelSource
from oblivio.methods._dampening import check, dampened


@dataclass(frozen=True)
class SSD:
    """Selective synaptic dampening (SSD): weights that matter to D_f above all become smaller.

    Where F_f(w) > α F(w):  w ← w · min(λ F(w) / F_f(w), 1),

    with F_f and F the Fisher diagonals over D_f and over all of D, D_f included. Nothing is
    trained, so that a request costs a pass over D_f where F is kept beside the weights. Of a pruned
    model, zeros stay zero. The notes say which share of the weights is `changed`, which is the
    `largest` ratio F_f / F, and explain the choice.

    With one squared gradient per example F ≥ F_f n_f / n, so that the ratio is at most n / n_f: an
    α of that or more changes nothing, and the paper's 10 forgets no class of ten. The authors' code
    squares the mean gradient of a batch, which knows no such bound and depends on the batch size;
    its α does not carry over.

    Args:
        alpha: α, above which ratio a weight is dampened.
        strength: λ; the smaller, the more is dampened.
        labels: Of the Fisher diagonal: the "data"'s own, or drawn from the "model".

    Raises:
        ValueError: If a number is out of range, or there is no such kind of labels.

    Source: Foster, Schoepf and Brintrup 2024 (AAAI).
    """

    alpha: float = 10.0
    strength: float = 1.0
    labels: LabelSource = "data"

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})
    search: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "alpha": (1.0, 100.0),
        "strength": (0.01, 10.0),
    }

    def __post_init__(self) -> None:
        check(self.alpha, self.strength)
        if self.labels not in get_args(LabelSource):
            raise ValueError(unknown("kind of labels", self.labels, get_args(LabelSource)))

    def prepare(self, model: nn.Module, data: Data, run: Run) -> None:
        """Keep F beside the model's weights."""
        if run.beside is not None:
            keep(model, data, run, self.labels)

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """Dampen."""
        return dampened(model, split, run, self.labels, self.alpha, self.strength)
