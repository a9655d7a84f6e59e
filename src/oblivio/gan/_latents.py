"""Which latents make what is to be forgotten, and which are held where they are.

z_f   latents to re-assign: G_o(z_f) shows what is to be forgotten
z_r   latents to hold where they are

How they are found is ours; the paper's abstract does not say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from oblivio.core import Data, Split, resting
from oblivio.data.source import stratified
from oblivio.generative import GAN, Images, Labels, Latents, generate, images_of
from oblivio.judge import Judge

AT_ONCE = 512  # rows of a matrix of distances, and latents in a search


@dataclass(frozen=True)
class Made:
    """Images, and the latents (and labels) that the frozen generator made them of.

    Args:
        images: On the CPU, as all of it.
        z: None where the images are real.
        labels: Of a conditional pair.
    """

    images: Images
    z: Latents | None = None
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, chosen: Int64[Tensor, " k"] | Bool[Tensor, " n"]) -> Made:
        """Those at these positions, or those marked."""
        z, labels = (None if one is None else one[chosen] for one in (self.z, self.labels))
        return Made(self.images[chosen], z, labels)

    @property
    def latents(self) -> Latents:
        """The latents of generated images."""
        assert self.z is not None
        return self.z


def joined(parts: Sequence[Made]) -> Made:
    """All of these; latents and labels where all have them."""
    if len(parts) == 1:
        return parts[0]
    z, labels = (
        torch.cat(known) if len(known) == len(parts) else None
        for known in (
            [part.z for part in parts if part.z is not None],
            [part.labels for part in parts if part.labels is not None],
        )
    )
    return Made(torch.cat([part.images for part in parts]), z, labels)


def made(gan: GAN, z: Latents, labels: Labels | None = None) -> Made:
    """What the averaged generator of a pair that rests makes of latents."""
    images = generate(gan, z, labels, rests=True)
    return Made(images, z.cpu(), None if labels is None else labels.cpu())


def pool(gan: GAN, n: int, seed: int) -> Made:
    """What the generator makes of n latents from a seed."""
    return made(gan, gan.latents(n, seed), gan.labels(n, seed + 1))


# --- Locate -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Located:
    """What the frozen generator makes of what is to be forgotten, and of all else.

    Args:
        gone: Latents to re-assign.
        kept: Latents to hold where they are.
        stays: Says of images whether they may be made without a doubt: a substitute must.
        classes: Those that go as a whole; none where they are items.
    """

    gone: Made
    kept: Made
    stays: Callable[[Images], Bool[Tensor, " n"]]
    classes: Labels = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


def locate(
    gan: GAN, drawn: Made, split: Split, judge: Judge | None, search: Search, seed: int
) -> list[Located]:
    """Latents that make what is to be forgotten: of classes that go as a whole, and of items.

    Returns:
        For either, if there is any; what is kept, and may be made, is so for both.
    """
    found = []
    if len(split.gone):
        assert judge is not None
        found.append(of_class(gan, drawn, split.gone, judge))
    single = torch.where(~torch.isin(split.forget.labels, split.gone))[0]
    if len(single):
        found.append(of_items(gan, drawn, split.forget.take(single), search, seed))
    if len(found) < 2:
        return found
    classes, items = found

    def stays(images: Images) -> Bool[Tensor, " n"]:
        return classes.stays(images) & items.stays(images)

    far = items.stays(classes.kept.images)
    kept = classes.kept.take(far) if bool(far.any()) else classes.kept
    return [replace(here, kept=kept, stays=stays) for here in found]


def of_class(gan: GAN, drawn: Made, gone: Labels, judge: Judge) -> Located:
    """Latents that make a class, and those that surely do not.

    A conditional pair is told the class; what an unconditional one makes is for a judge to say. An
    image stays if it is as surely of another class as the median image of another class is, by the
    judge's probability p(gone | x): what only just leaves the class, another judge still calls so.
    Of an unconditional pair, latents in between are neither moved nor held.

    Args:
        gan: The frozen pair.
        drawn: A pool.
        gone: The classes to forget.
        judge: The method's own.

    Returns:
        Those of the class, and those to hold where they are.

    Raises:
        ValueError: If the pair never makes the class, or nothing else.
    """
    says, told = judge.probabilities(drawn.images), drawn.labels
    ours = torch.isin(says.argmax(1) if told is None else told, gone)
    names = ", ".join(map(str, gone.tolist()))
    if not bool(ours.any()):
        raise ValueError(
            f"The GAN makes no image of class {names} in {len(drawn)} tries, so there is nothing "
            "to forget: it never learned that class (or the judge, right on "
            f"{judge.accuracy:.1f} % of held-out images, does not know it)."
        )
    if bool(ours.all()):
        raise ValueError(
            f"All {len(drawn)} images that the GAN makes are of class {names}, so there is nothing "
            "to put in their place."
        )

    doubt = says[:, gone].sum(1)
    usual = doubt[~ours].median()

    def stays(images: Images) -> Bool[Tensor, " n"]:
        return judge.probabilities(images)[:, gone].sum(1) <= usual

    held = ~ours if told is not None else ~ours & (doubt <= usual)
    return Located(drawn.take(ours), drawn.take(held), stays, gone)


def of_items(gan: GAN, drawn: Made, forget: Data, search: Search, seed: int) -> Located:
    """Latents that come nearest to each image, one in a small ball around each, and those far away.

    An image stays if no forgotten one is as near to it as the median search came.

    Args:
        gan: The frozen pair.
        drawn: A pool, from which searches start, and which gives the others.
        forget: The images.
        search: How to search.
        seed: Of the balls.

    Returns:
        Two latents for each image, and the rest of the pool.
    """
    images, labels = images_of(forget), None if gan.classes is None else forget.labels
    start = nearest(images, drawn.images, labels, drawn.labels)
    z = search(gan, images, drawn.latents[start], labels)
    draw = torch.Generator().manual_seed(seed)
    around = torch.cat([z, z + search.ball * torch.randn(z.shape, generator=draw)])
    found = made(gan, around, None if labels is None else labels.repeat(2))
    reached = (found.images[: len(z)] - images).square().flatten(1).mean(1).sqrt().median()

    def stays(some: Images) -> Bool[Tensor, " n"]:
        return torch.cat(
            [_distances(part, images).min(1).values > reached for part in some.split(AT_ONCE)]
        )

    far = stays(drawn.images)
    return Located(found, drawn.take(far) if bool(far.any()) else drawn, stays)


@dataclass(frozen=True)
class Search:
    """min_z mean (G_o(z) − x)² + 10⁻³ mean z², by Adam.

    Args:
        steps: Of Adam.
        lr: Its rate.
        ball: The standard deviation of the noise around a latent that is found.

    Raises:
        ValueError: If a number is out of range.
    """

    steps: int = 50
    lr: float = 0.05
    ball: float = 0.1

    def __post_init__(self) -> None:
        if not (self.steps >= 0 and self.lr > 0 and self.ball >= 0):
            raise ValueError(f"{self}: steps and ball must be 0 or more, lr above 0.")

    def __call__(self, gan: GAN, images: Images, z: Latents, labels: Labels | None) -> Latents:
        """Latents that make images as near as possible to these, from these beginnings.

        Returns:
            One per image, on the CPU.
        """
        own = resting(gan).requires_grad_(False)
        found = []
        for at in range(0, len(z), AT_ONCE):
            target = images[at : at + AT_ONCE].to(gan.device)
            y = None if labels is None else labels[at : at + AT_ONCE].to(gan.device)
            free = z[at : at + AT_ONCE].clone().to(gan.device).requires_grad_()
            adam = torch.optim.Adam([free], self.lr)
            for _ in range(self.steps):
                adam.zero_grad()
                away = (own(free, y) - target).square().flatten(1).mean(1)
                (away.sum() + 1e-3 * free.square().mean(1).sum()).backward()
                adam.step()
            found.append(free.detach().cpu())
        return torch.cat(found)


def few(data: Data, count: int) -> Data:
    """This many of the examples, the same share of every class; all if there are not more."""
    return data if count >= len(data) else data.take(stratified(data.labels, count))


def _distances(some: Tensor, others: Tensor) -> Float[Tensor, "n m"]:
    """Root mean square over pixels, or over numbers, of every pair."""
    return torch.cdist(some.flatten(1), others.flatten(1)) / some[0].numel() ** 0.5


def nearest(
    these: Tensor,
    others: Tensor,
    labels: Labels | None = None,
    other_labels: Int64[Tensor, " m"] | None = None,
) -> Int64[Tensor, " n"]:
    """For each of these the position of the nearest of the others, of its own label if given."""
    found = []
    for at in range(0, len(these), AT_ONCE):
        distance = _distances(these[at : at + AT_ONCE], others)
        if labels is not None and other_labels is not None:
            foreign = labels[at : at + AT_ONCE, None] != other_labels[None]
            distance = distance.masked_fill(foreign, torch.inf)
        found.append(distance.argmin(1))
    return torch.cat(found)
