"""When enough is unlearned: by what the method itself may look at, never by the yardstick."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from oblivio.adversarial import Duel
from oblivio.core import Data, Split, derive
from oblivio.gan._latents import few
from oblivio.generative import GAN, Images, alike, generate, images_of, scores, unseen
from oblivio.judge import Judge, frechet_distance, judge, whole
from oblivio.roc import auc


@dataclass(frozen=True)
class Stop:
    """When unlearning ends before its turns are over; the closing turns follow in any case.

    Args:
        share: For a class: as soon as the method's own judge calls at most this percentage of
            generated images so; None does not look.
        auc: For items: as soon as D tells them from held-out images by an AUC (in percent) that is
            at most this far from 50; None does not look.
        worse: As soon as the Fréchet distance between retained and generated images of retained
            classes, in the judge's features, has grown by this share; None does not look.
        every: After how many rounds it is looked.
        samples: How many generated images are looked at.

    Raises:
        ValueError: If a number is out of range.
    """

    share: float | None = None
    auc: float | None = None
    worse: float | None = None
    every: int = 10
    samples: int = 1000

    def __post_init__(self) -> None:
        for name in ("share", "auc", "worse"):
            value = getattr(self, name)
            if value is not None and not value >= 0:  # so that NaN is refused
                raise ValueError(f"stop.{name} = {value} must be 0 or more.")
        if self.every < 1 or self.samples < 2:
            raise ValueError("stop.every must be 1 or more, stop.samples 2 or more.")

    @property
    def of_discriminator(self) -> Stop:
        """Those rules alone that look at D: what G makes does not change while it rests."""
        return replace(self, share=None, worse=None)

    def watch(self, duel: Duel, split: Split) -> Callable[[int], bool]:
        """What says after each round, by its number, whether to stop; it notes why.

        Returns:
            The function.

        Raises:
            ValueError: If `auc` is asked for and the run has no held-out images.
        """
        looks: list[Callable[[], str | None]] = []
        if self.share is not None and len(split.gone):
            looks.append(self._share(duel, split))
        if self.auc is not None and not len(split.gone):
            looks.append(self._auc(duel, split))
        if self.worse is not None:
            looks.append(self._quality(duel, split))

        def enough(number: int) -> bool:
            if not looks or number % self.every:
                return False
            why = next((said for look in looks if (said := look())), None)
            if why is not None:
                duel.run.note(stopped=f"after round {number}: {why}")
            return why is not None

        return enough

    def _share(self, duel: Duel, split: Split) -> Callable[[], str | None]:
        own, most = _judge(duel, split), self.share or 0.0

        def look() -> str | None:
            shown = own.classes_of(self._made(duel))
            share = 100 * float(torch.isin(shown, split.gone).double().mean())
            return f"{share:.1f} % are called so" if share <= most else None

        return look

    def _auc(self, duel: Duel, split: Split) -> Callable[[], str | None]:
        most, held = self.auc or 0.0, unseen(duel.gan, split, duel.run.held_out)
        if held is None:
            raise ValueError(
                "stop.auc compares with images of the same classes that the GAN was never trained "
                "on: give the run held_out images (in an experiment: a validation share of the "
                "data)."
            )
        weights = alike(held.labels, split.forget.labels)

        def look() -> str | None:
            forgotten, others = (_scored(duel.gan, data) for data in (split.forget, held))
            found = 100 * auc(forgotten, others, weights).value
            return f"the AUC is {found:.1f}" if abs(found - 50) <= most else None

        return look

    def _quality(self, duel: Duel, split: Split) -> Callable[[], str | None]:
        own, worse = _judge(duel, split), self.worse or 0.0
        real = own.features(images_of(few(split.retain, 10 * self.samples)))

        def distance() -> float:
            images = self._made(duel)
            features = own.features(images)
            kept = features[~torch.isin(own.called(features), split.gone)]
            return frechet_distance(real, kept) if len(kept) > 1 else math.inf

        most = (1 + worse) * distance()

        def look() -> str | None:
            now = distance()
            return f"the distance of {now:.3g} exceeds {most:.3g}" if now > most else None

        return look

    def _made(self, duel: Duel) -> Images:
        seed = derive(duel.run.seed, "stop")
        z, labels = (draw(self.samples, seed) for draw in (duel.gan.latents, duel.gan.labels))
        return generate(duel.gan, z, labels)  # pyright: ignore[reportArgumentType]


def _judge(duel: Duel, split: Split) -> Judge:
    return judge(whole(split.forget, split.retain), duel.run, "method")


def _scored(gan: GAN, data: Data) -> Float[Tensor, " n"]:
    return scores(gan, images_of(data), data.labels)
