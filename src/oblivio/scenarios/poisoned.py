"""Forget poisoned images: the cleansing of a Trojan model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from oblivio.core import Data, Split
from oblivio.data.attack import Attack
from oblivio.data.triggers import trigger_of, written_out
from oblivio.scenarios._amount import amount, share_of


@dataclass(frozen=True)
class Poisoned:
    """Forget poisoned images, which the original is trained on in the place of the clean ones.

    The poisoned images are drawn at random, without replacement, from those that are not of the
    target class; a trigger is put on them and the target class is written beside them:

        D_f = {(trigger(x), t)} for the drawn (x, y),  y ≠ t
        D_r = all other training images, clean
        θ_o = A(D_f ∪ D_r),  θ_r = A(D_r)

    The clean originals of the poisoned images are nowhere in D_r: whoever poisons an image
    replaces it.

    Args:
        target: t, the class that the trigger is to fetch.
        fraction: How many are poisoned, as a share of all training images; 0.1 unless `count` is
            given.
        count: How many, instead of a share.
        trigger: A trigger's name and settings, such as `{name = "patch", size = 3}`.

    Raises:
        ValueError: If a number is out of range, both share and count are given, or there is no
            such trigger.

    Source: Jia et al. 2023, section 6 ("Trojan model cleanse").
    """

    target: int = 0
    fraction: float | None = None
    count: int | None = None
    trigger: Mapping[str, Any] = field(default_factory=lambda: {"name": "patch"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", share_of(self.fraction, self.count))
        object.__setattr__(self, "trigger", written_out(self.trigger))
        self.attack  # ruff: ignore[useless-expression]: says at once if the target is no class

    @property
    def attack(self) -> Attack:
        """The trigger and the target, for whoever asks whether a model still obeys."""
        return Attack(trigger_of(self.trigger), self.target)

    def poison(self, train: Data, seed: int) -> Data:
        """What the original is trained on: D_f and D_r, in the order of the training data."""
        return self.attack.on(train, self._drawn(train, seed))

    def __call__(self, train: Data, seed: int) -> Split:
        """Poison the training data, and split off what is poisoned.

        Returns:
            The split.

        Raises:
            ValueError: If the target class has no examples, or nothing of the others stays clean.
        """
        return Split.of(self.poison(train, seed), train.ids[self._drawn(train, seed)])

    def _drawn(self, train: Data, seed: int) -> Int64[Tensor, " k"]:
        """The positions of the images to poison."""
        if not bool((train.labels == self.target).any()):
            there = ", ".join(str(int(label)) for label in train.labels.unique()[:20])
            raise ValueError(
                f"No training example has the target {self.target}; there are {there}."
            )
        others = torch.where(train.labels != self.target)[0]
        count = amount(self.fraction, self.count, len(train))
        if not 0 < count < len(others):
            raise ValueError(
                f"{count} images cannot be poisoned: {len(others)} of the {len(train)} are not of "
                f"the target class {self.target}, of which some must be, and some stay clean."
            )
        draw = torch.Generator().manual_seed(seed)
        return others[torch.randperm(len(others), generator=draw)[:count]].sort().values
