"""The fake label: what the discriminator is to say of images that it should not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from oblivio.adversarial import Duel, LossName, endless, loss_towards
from oblivio.core import Data, Split
from oblivio.generative import Images, Labels, alike, unseen

LabelName = Literal["auto", "unseen", "generated", "zero", "none"]
Logits = Float[Tensor, " n"]
MOST_UNSEEN = 256  # held-out images by whose logits a level is known


@dataclass
class Label:
    """A fake label, ready to be asked for the loss of the next batch of forgotten images.

    Args:
        name: Which, "zero", "generated" or "unseen".
        duel: The players.
        forget: Batches of forgotten images.
        classes: Of all forgotten images.
        unseen: Batches of images of these classes that were never trained on.
    """

    name: LabelName
    duel: Duel
    forget: Iterator[tuple[Images, Labels]]
    classes: Labels
    unseen: Iterator[tuple[Images, Labels]] | None

    def __call__(self) -> Float[Tensor, ""]:
        """The loss that D is to follow, with the running statistics by which it is judged."""
        discriminator = self.duel.gan.discriminator.eval()
        logits = self._scored(*next(self.forget))
        if self.name == "zero":
            loss = dislike(logits, self.duel.recipe.loss)
        else:
            loss = mismatch(logits, *self._level(len(logits)))
        discriminator.train()
        return loss

    @torch.no_grad()
    def _level(self, n: int) -> tuple[Logits, Float64[Tensor, " m"] | None]:
        """What D says of images that are unseen, or generated, and what each counts for."""
        if self.unseen is not None:
            images, labels = next(self.unseen)
            return self._scored(images, labels), alike(labels, self.classes)
        z, labels = self.duel.draw(max(n, self.duel.recipe.batch_size), "level")
        made = self.duel.seen(self.duel.make(z, labels), "level")
        return self.duel.score(made, labels), None

    def _scored(self, images: Images, labels: Labels) -> Logits:
        return self.duel.score(self.duel.seen(images, "label"), labels)


def fake_label(name: LabelName, duel: Duel, split: Split) -> Label | None:
    """The fake label of this name; None for "none".

    Args:
        name: Which. "auto" is "zero" where classes are gone, and for items "unseen" where the run
            has held-out images of their classes, else "generated".
        duel: The players.
        split: What is to be forgotten.

    Returns:
        The label.

    Raises:
        ValueError: If images never seen are to give the level and the run has none.
    """
    if name == "none":
        return None
    asked, never = name, None
    if asked == "unseen" or (asked == "auto" and not len(split.gone)):
        never = unseen(duel.gan, split, duel.run.held_out)
        if never is None and asked == "unseen":
            raise ValueError(
                'fake_label = "unseen" needs images of the classes to forget that the GAN was '
                "never trained on: give the run held_out images (in an experiment: a validation "
                'share of the data), or take "generated".'
            )
    if asked == "auto":
        name = "zero" if len(split.gone) else "generated" if never is None else "unseen"
    return labelled(name, duel, split, never)


def fake_labels(
    name: LabelName, settle: int | None, duel: Duel, split: Split
) -> tuple[Label | None, Label | None]:
    """The label that D follows while G learns, and the one that it settles at in the end.

    Args:
        name: Which; see `fake_label`. "auto" settles a class at the level of unseen images of it.
        settle: For how many steps; None is the usual.
        duel: The players.
        split: What is to be forgotten.

    Returns:
        Both; None where there is none.
    """
    label = fake_label(name, duel, split)
    if label is None or settle == 0:
        return label, None
    if label.name != "zero" or (settle and name == "zero"):
        return None, label
    never = unseen(duel.gan, split, duel.run.held_out) if name == "auto" else None
    return label, None if never is None else labelled("unseen", duel, split, never)


def labelled(name: LabelName, duel: Duel, split: Split, never: Data | None) -> Label:
    """The label of this name, with batches of forgotten images and of those never seen."""
    run, size = duel.run, duel.recipe.batch_size
    return Label(
        name,
        duel,
        endless(split.forget, min(size, len(split.forget)), run),
        split.forget.labels,
        None if never is None else endless(never, min(MOST_UNSEEN, len(never)), run),
    )


def dislike(logits: Logits, loss: LossName) -> Float[Tensor, ""]:
    """ℓ_fake of "zero": D's own loss for what is not real.

    With it D comes to know single forgotten images by disliking them.

    Returns:
        The loss.
    """
    return loss_towards(logits, loss, real=False)


def mismatch(
    logits: Logits,
    level: Float[Tensor, " m"],
    weights: Float64[Tensor, " m"] | None = None,
) -> Float[Tensor, ""]:
    """ℓ_fake of a level: W₂² = mean over quantiles q of (D(F)_(q) − level_(q))².

    What D says of images that it never saw is a distribution. Its quantiles are matched rather than
    its mean, so that no narrow peak tells forgotten images from those. Of n sorted logits the i-th
    stands at (i − ½)/n on both sides, after Hazen, so that equal sets are at distance 0; of
    weighted ones it stands in the middle of its weight.

    Args:
        logits: D's, of forgotten images.
        level: D's, of the others; no gradient goes there.
        weights: What each of the others counts for, 1 in all; None is the same.

    Returns:
        The squared distance.
    """
    if weights is None:
        weights = torch.full(level.shape, 1 / len(level), dtype=torch.float64)
    weights = weights.to(level.device, torch.float32)
    counts = weights > 0
    known, order = level.detach()[counts].sort()
    share = weights[counts][order]
    stands = share.cumsum(0) - share / 2
    places = (torch.arange(len(logits), device=logits.device) + 0.5) / len(logits)
    above = torch.searchsorted(stands, places).clamp(max=len(known) - 1)
    below = (above - 1).clamp(min=0)
    way = (places - stands[below]) / (stands[above] - stands[below]).clamp(min=1e-12)
    wanted = torch.lerp(known[below], known[above], way.clamp(0, 1))
    return (logits.sort().values - wanted).square().mean()
