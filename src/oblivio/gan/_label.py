"""The fake label: what the discriminator is to say of images that it should not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from oblivio.adversarial import Duel, LossName, endless, loss_towards
from oblivio.core import Data, Split
from oblivio.generative import Images, Labels, check_pair

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
        unseen: Batches of images that were never trained on.
    """

    name: LabelName
    duel: Duel
    forget: Iterator[tuple[Images, Labels]]
    unseen: Iterator[tuple[Images, Labels]] | None

    def __call__(self) -> Float[Tensor, ""]:
        """The loss that D is to follow, with the running statistics by which it is judged."""
        discriminator = self.duel.gan.discriminator.eval()
        logits = self._scored(*next(self.forget))
        if self.name == "zero":
            loss = dislike(logits, self.duel.recipe.loss)
        else:
            loss = mismatch(logits, self._level(len(logits)))
        discriminator.train()
        return loss

    @torch.no_grad()
    def _level(self, n: int) -> Logits:
        """What D says of images that are unseen, or generated."""
        if self.unseen is not None:
            return self._scored(*next(self.unseen))
        z, labels = self.duel.draw(max(n, self.duel.recipe.batch_size), "level")
        return self.duel.score(self.duel.seen(self.duel.make(z, labels), "level"), labels)

    def _scored(self, images: Images, labels: Labels) -> Logits:
        return self.duel.score(self.duel.seen(images, "label"), labels)


def fake_label(name: LabelName, duel: Duel, split: Split) -> Label | None:
    """The fake label of this name; None for "none".

    Args:
        name: Which. "auto" is "zero" for classes that are gone, and for items "unseen" where the
            run has held-out images, else "generated".
        duel: The players.
        split: What is to be forgotten.

    Returns:
        The label.

    Raises:
        ValueError: If images never seen are to give the level and the run has none.
    """
    if name == "none":
        return None
    if name == "auto":
        unseen = "generated" if duel.run.held_out is None else "unseen"
        name = "zero" if len(split.gone) else unseen
    never: Data | None = None
    if name == "unseen":
        never = never_seen(duel, split)
        if never is None:
            of = " of the classes to forget" if len(split.gone) else ""
            raise ValueError(
                f'fake_label = "unseen" needs images{of} that the GAN was never trained on: give '
                "the run held_out images (in an experiment: a validation share of the data), or "
                'take "generated".'
            )
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
    unseen = never_seen(duel, split) if name == "auto" else None
    return label, None if unseen is None else labelled("unseen", duel, split, unseen)


def never_seen(duel: Duel, split: Split) -> Data | None:
    """Held-out images: of the classes that are gone, where any are; None if there are none."""
    held = duel.run.held_out
    if held is not None:
        check_pair(duel.gan, {"held-out": held})
        if len(split.gone):
            held = held.take(torch.where(torch.isin(held.labels, split.gone))[0])
    return held if held is not None and len(held) else None


def labelled(name: LabelName, duel: Duel, split: Split, never: Data | None) -> Label:
    """The label of this name, with batches of forgotten images and of those never seen."""
    run, size = duel.run, duel.recipe.batch_size
    return Label(
        name,
        duel,
        endless(split.forget, min(size, len(split.forget)), run),
        None if never is None else endless(never, min(MOST_UNSEEN, len(never)), run),
    )


def dislike(logits: Logits, loss: LossName) -> Float[Tensor, ""]:
    """ℓ_fake of "zero": D's own loss for what is not real.

    With it D comes to know single forgotten images by disliking them.

    Returns:
        The loss.
    """
    return loss_towards(logits, loss, real=False)


def mismatch(logits: Logits, level: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """ℓ_fake of a level: W₂² = mean over quantiles q of (D(F)_(q) − level_(q))².

    What D says of images that it never saw is a distribution. Its quantiles are matched rather than
    its mean, so that no narrow peak tells forgotten images from those. Of n sorted logits the i-th
    stands at (i − ½)/n on both sides, after Hazen, so that equal sets are at distance 0.

    Args:
        logits: D's, of forgotten images.
        level: D's, of the others; no gradient goes there.

    Returns:
        The squared distance.
    """
    known, m = level.detach().sort().values, len(level)
    places = (torch.arange(len(logits), device=logits.device) + 0.5) / len(logits)
    at = (places * m - 0.5).clamp(0, m - 1)
    below, above = known[at.floor().long()], known[at.ceil().long()]
    wanted = torch.lerp(below, above, at.frac())
    return (logits.sort().values - wanted).square().mean()
