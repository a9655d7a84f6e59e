"""Small worlds for GANs: pictures of three classes, and a case of forgetting that is made once."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import torch

from oblivio.adversarial import Adversarial
from oblivio.core import Data, Origin, Run, Split, Trial
from oblivio.data.arrays import Arrays
from oblivio.generative import GAN
from oblivio.models.dcgan import DCGAN

CLASSES, SHAPE = 3, (1, 8, 8)


def pictures(n: int, *, seed: int = 0, noise: float = 0.3) -> Arrays:
    """Images in [-1, 1]: a bright bar on a dark ground, upright, lying or askew, in some place.

    Every class from 0 on occurs. Ids are not positions.
    """
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    rows, columns = torch.arange(8)[None, :, None], torch.arange(8)[None, None]
    place = torch.randint(2, 6, (n, 1, 1), generator=draw)
    bars = torch.stack(
        [
            (columns - place).abs().expand(n, 8, 8),
            (rows - place).abs().expand(n, 8, 8),
            (rows + columns - 2 * place).abs().expand(n, 8, 8),
        ],
        1,
    )
    bright = (bars[torch.arange(n), labels] <= 1).float()[:, None]
    made = 1.4 * bright - 0.7 + noise * torch.randn(n, *SHAPE, generator=draw)
    return Arrays(made.clamp(-1, 1), labels, 3 * torch.arange(n).flip(0) + 7)


@dataclass(frozen=True)
class GanCase:
    """A GAN that has learned some pictures, a part of which it is to forget."""

    original: GAN
    split: Split
    test: Data
    run: Run

    @property
    def origin(self) -> Origin:
        """How the original came to be."""
        assert self.run.origin is not None
        return self.run.origin

    def trial(self, unlearned: GAN | None = None, **more: object) -> Trial:
        """What a metric sees of it; the original is judged unless another is given."""
        model = self.original if unlearned is None else unlearned
        return Trial(self.original, model, self.split, self.test, 1.5, **more)  # pyright: ignore[reportArgumentType]


def gan_case(*, class_wise: bool = True, conditional: bool = False) -> GanCase:
    """A case made once; the GAN is a copy of one's own.

    Args:
        class_wise: Whether class 2 is to be forgotten, or else 24 items of all classes.
        conditional: Whether the GAN is told the class.
    """
    made = _gan_case(class_wise, conditional)
    return replace(made, original=copy.deepcopy(made.original))


def gan_origin(*, conditional: bool = False, steps: int = 60) -> Origin:
    """An 8×8 DCGAN and a training of a second."""
    network = DCGAN(width=8, latent=8, conditional=conditional)
    recipe = Adversarial(steps=steps, batch_size=32, lr=2e-3, average=0.9)
    return Origin(lambda: network(SHAPE, CLASSES), recipe, seed=0)


def gan_retrained(*, class_wise: bool = True, conditional: bool = False) -> GAN:
    """What retraining of the case's original on D_r gives; a copy of one's own."""
    return copy.deepcopy(_retrained(class_wise, conditional))


@cache
def _retrained(class_wise: bool, conditional: bool) -> GAN:
    here = _gan_case(class_wise, conditional)
    return cast(GAN, here.origin.make(here.split.retain, here.run))


@cache
def _gan_case(class_wise: bool, conditional: bool) -> GanCase:
    train, origin = pictures(200, seed=1), gan_origin(conditional=conditional)
    chosen = train.labels == 2 if class_wise else torch.arange(len(train)) < 24
    run = Run.on("cpu", seed=0, origin=origin, held_out=pictures(60, seed=3))
    original = _original(conditional)
    return GanCase(original, Split.of(train, train.ids[chosen]), pictures(60, seed=2), run)


@cache
def _original(conditional: bool) -> GAN:
    origin = gan_origin(conditional=conditional)
    return cast(GAN, origin.make(pictures(200, seed=1), Run.on("cpu", origin=origin)))
