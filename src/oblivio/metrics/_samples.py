"""What GANs generate and what the reporting judge says of it: once per trial, for all metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from oblivio.core import Run, Trial, derive
from oblivio.generative import GAN, Images, Labels, as_gan, generate
from oblivio.judge import Judge, judge, whole

Features = Float[Tensor, "n d"]
Made = TypeVar("Made")

_seen: WeakKeyDictionary[Trial, dict[tuple[object, ...], Any]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Samples:
    """Generated images, the labels that a conditional GAN was told, and what the judge says.

    The judge is asked when somebody wants to know; where all real images have the same label there
    is none, and pixels must do.
    """

    images: Images
    told: Labels | None
    judge: Judge | None

    @cached_property
    def features(self) -> Features:
        """The judge's."""
        return self._asked().features(self.images)

    @cached_property
    def called(self) -> Int64[Tensor, " n"]:
        """The classes that the judge calls them."""
        return self._asked().called(self.features)

    def _asked(self) -> Judge:
        if self.judge is None:
            raise ValueError(
                "All images have the same label, so there is nothing that a judge could learn to "
                "tell apart: only metrics of pixels and of D can be taken."
            )
        return self.judge

    def without(self, classes: Int64[Tensor, " c"]) -> Samples:
        """Those that the judge calls none of these classes."""
        if len(classes) == 0:
            return self
        rows = torch.where(~torch.isin(self.called, classes))[0]
        told = None if self.told is None else self.told[rows]
        fewer = Samples(self.images[rows], told, self.judge)
        # Already known; a frozen dataclass keeps what is cached in its dict.
        fewer.__dict__.update(features=self.features[rows], called=self.called[rows])
        return fewer


def samples(model: nn.Module, trial: Trial, run: Run, n: int, seed: int = 0) -> Samples:
    """So many images from a GAN, of latents that only metrics draw, and the judge's word.

    Args:
        model: One of the trial's; a conditional one is told all classes alike.
        trial: Whose training data the judge knows.
        run: Where to judge.
        n: How many.
        seed: Of the latents.

    Returns:
        The images on the CPU, drawn once for all metrics that look at the trial.

    Raises:
        TypeError: If the model is not a GAN.
        ValueError: If an image holds NaN or infinity.
    """
    gan = as_gan(model)
    return _once(trial, ("samples", id(gan), n, seed), lambda: _samples(gan, trial, run, n, seed))


def _samples(gan: GAN, trial: Trial, run: Run, n: int, seed: int) -> Samples:
    told = None if gan.classes is None else torch.arange(n) % gan.classes
    images = generate(gan, gan.latents(n, derive(seed, "report")), told)
    if not bool(images.isfinite().all()):
        raise ValueError("The generated images hold NaN or infinity: the generator is ruined.")
    labels = (part.labels for part in (trial.split.forget, trial.split.retain))
    several = len(torch.cat([some.unique().cpu() for some in labels]).unique()) > 1
    return Samples(images, told, reporter(trial, run) if several else None)


def reporter(trial: Trial, run: Run) -> Judge:
    """The judge that reports: it knows D_f and D_r, so all requests on the same data share it."""
    parts = trial.split.forget, trial.split.retain
    return _once(trial, ("judge", run.device), lambda: judge(whole(*parts), run, "report"))


def check_counts(metric: object, **least: int) -> None:
    """See that settings that count something are large enough.

    Raises:
        ValueError: If one is not.
    """
    for name, smallest in least.items():
        if getattr(metric, name) < smallest:
            raise ValueError(f"{name} = {getattr(metric, name)} must be {smallest} or more.")


def _once(trial: Trial, key: tuple[object, ...], make: Callable[[], Made]) -> Made:
    """What was made for this trial under this key, or is made now."""
    known = _seen.setdefault(trial, {})
    if key not in known:
        known[key] = make()
    return known[key]
