"""How to train a pair: a dataclass whose call trains."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Literal, get_args

from torch import nn

from oblivio.adversarial.augment import AUGMENTS
from oblivio.adversarial.losses import LossName
from oblivio.catalogue import unknown
from oblivio.core import Data, Run

ScheduleName = Literal["constant", "cosine"]


@dataclass(frozen=True)
class Adversarial:
    """How to train a GAN: loss, Adam, length, average, augmentation.

    It can be called, `recipe(gan, data, run)`, which is `fit_gan`.

    Args:
        steps: Steps of the generator.
        batch_size: Images per step.
        lr: Adam's rate, of both players.
        lr_discriminator: That of the discriminator, where it differs.
        betas: Adam's.
        schedule: "constant", or "cosine": both rates fall to 0 over the steps.
        loss: "non_saturating" (Goodfellow et al. 2014), "hinge" (Lim and Ye 2017) or
            "least_squares" (Mao et al. 2017).
        d_steps: Steps of the discriminator before each of the generator.
        average: Decay of the generator's moving average; 0 keeps none. After t steps it is at most
            (1 + t) / (10 + t), as few steps are averaged over fewer: after the first, the average
            is 82 % the generator as it is, so that an average that was handed over is soon
            replaced, however good it was.
        augment: What differentiable augmentation does to all that the discriminator sees (Zhao et
            al. 2020): any of "brightness", "shift", "cutout".
        check_every: After how many steps the quality is judged, to keep the best; 0 keeps the last.
        save_every: After how many steps the training's state is written, so that it can go on after
            a kill.

    Raises:
        ValueError: If a number is out of range or not whole where it must be, or there is no such
            loss, schedule or augmentation.
    """

    steps: int = 5000
    batch_size: int = 64
    lr: float = 2e-4
    lr_discriminator: float | None = None
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: ScheduleName = "constant"
    loss: LossName = "non_saturating"
    d_steps: int = 1
    average: float = 0.999
    augment: tuple[str, ...] = ()
    check_every: int = 0
    save_every: int = 1000

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 0),
            ("batch_size", 2),
            ("d_steps", 1),
            ("check_every", 0),
            ("save_every", 1),
        ):
            value = getattr(self, name)
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            if not whole or value < least:
                kind = "" if whole else "a whole number, "
                raise ValueError(f"{name} = {value!r} must be {kind}{least} or more.")
        other, pair = self.lr_discriminator, "two numbers from 0 to below 1"
        for name, ok, range_ in (
            ("lr", self.lr > 0, "above 0"),
            ("lr_discriminator", (1 if other is None else other) > 0, "above 0"),
            ("betas", len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), pair),
            ("average", 0 <= self.average < 1, "from 0 to below 1"),
        ):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} must be {range_}.")
        for name, kind in (("loss", LossName), ("schedule", ScheduleName)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(unknown(name, getattr(self, name), get_args(kind)))
        if isinstance(self.augment, str):
            raise ValueError(f"augment = {self.augment!r} must be a list of names.")
        for name in self.augment:
            if name not in AUGMENTS:
                raise ValueError(unknown("augmentation", name, AUGMENTS))

    def __call__(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        """Train the pair on the data; see `fit_gan`."""
        from oblivio.adversarial.fit import fit_gan

        return fit_gan(model, data, self, run)
