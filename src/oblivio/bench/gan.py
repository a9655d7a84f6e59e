"""What is different where the model is a GAN: the pixels' range, and training that keeps the best.

A GAN's images are in [-1, 1], as its generator makes them, so that what the data set says of mean
and standard deviation does not count. And its loss does not say how good it is; the Fréchet
distance between real and generated images does, in the features of a judge that knows no more than
the images that the GAN is trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from oblivio.adversarial import Adversarial, as_gan, fit_gan
from oblivio.core import Data, Run, derive
from oblivio.data.arrays import Arrays
from oblivio.data.source import Source
from oblivio.generative import GAN, generate
from oblivio.judge import frechet_distance, judge

SAMPLES = 2000
"""How many generated images the quality is judged by."""

REAL = 10_000
"""How many real images they are compared with, at most."""

SEED = derive(0, "quality")
"""Of the latents, and of the choice of real images."""


def in_generators_range(source: Source) -> Source:
    """The same data with images in [-1, 1], where they are tensors of bytes or of [0, 1].

    Other data of a user's own are taken as they are; whether they fit is measured later.

    Returns:
        The data.
    """
    if not isinstance(source.train, Arrays) or not _is_unit(source.train):
        return source
    half = (0.5,) * source.shape[0]

    def centred(data: Data) -> Data:
        return replace(data, mean=half, std=half) if isinstance(data, Arrays) else data

    return replace(
        source,
        train=centred(source.train),
        test=centred(source.test),
        validation=None if source.validation is None else centred(source.validation),
    )


def _is_unit(data: Arrays) -> bool:
    """Whether the raw inputs are bytes, or numbers from 0 to 1."""
    raw = data.inputs
    return raw.dtype == torch.uint8 or (float(raw.min()) >= 0 and float(raw.max()) <= 1)


@dataclass(frozen=True, eq=False)
class BestOf:
    """How an experiment trains a GAN of which the best is kept: by its recipe, judged now and then.

    Args:
        recipe: How, and how often to judge (`check_every`).
    """

    recipe: Adversarial

    def __call__(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        """Train the pair."""
        return fit_gan(as_gan(model), data, self.recipe, run, quality=quality(data, run))


def quality(data: Data, run: Run) -> Callable[[GAN], float]:
    """What tells how far a GAN's images are from these; less is better.

    Args:
        data: What the GAN is trained on, and nothing else: a judge that knew more would tell a
            retrained GAN of what it is never to have seen.
        run: Where.

    Returns:
        A function of the GAN: the Fréchet distance between real images and generated ones, the
        same latents each time, in the features of the judge that methods use.
    """
    own = judge(data, run, "method")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))[:REAL]
    real = torch.cat([own.features(batch.inputs) for batch in data.take(order).batches(1024)])

    def distance(gan: GAN) -> float:
        made = generate(gan, gan.latents(SAMPLES, SEED), gan.labels(SAMPLES, SEED))
        return frechet_distance(real, own.features(made))

    return distance
