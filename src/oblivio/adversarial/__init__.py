"""The training loop for two players: `fit_gan`, its recipe, and the `Duel` it is made of."""

from oblivio.adversarial.augment import AUGMENTS
from oblivio.adversarial.duel import Duel, endless
from oblivio.adversarial.fit import fit_gan
from oblivio.adversarial.losses import (
    LossName,
    discriminator_loss,
    generator_loss,
    loss_towards,
)
from oblivio.adversarial.recipe import Adversarial
from oblivio.generative import as_gan

__all__ = [
    "AUGMENTS",
    "Adversarial",
    "Duel",
    "LossName",
    "as_gan",
    "discriminator_loss",
    "endless",
    "fit_gan",
    "generator_loss",
    "loss_towards",
]
