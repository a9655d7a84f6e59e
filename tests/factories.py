"""A user's own networks, as an experiment's file names them: `factories:pair`."""

from __future__ import annotations

from torch import nn

from oblivio.generative import GAN
from oblivio.models.dcgan import DCGAN


def pair(shape: tuple[int, ...], classes: int) -> GAN:
    """A GAN."""
    return DCGAN(width=2, latent=4)(shape, classes)


def knowing(shape: tuple[int, ...], known: int) -> GAN:
    """A conditional GAN that knows so many classes."""
    return DCGAN(width=2, latent=4, conditional=True)(shape, known)


def classifier(shape: tuple[int, ...], classes: int) -> nn.Module:
    """No GAN."""
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))
