"""Which latents make what is to be forgotten, and what they are to make instead.

z_f   latents to re-assign: G_o(z_f) shows what is to be forgotten
z_r   latents to leave alone
s     the substitute of z_f: an image that is retained, chosen once from the frozen G_o or from D_r

The paper's abstract names the substitution; how latents are found, and the four rules, are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from oblivio.catalogue import unknown
from oblivio.core import Data, Split, resting
from oblivio.generative import GAN, Images, Labels, Latents, generate, images_of
from oblivio.judge import Judge

Rule = Literal["near", "project", "random", "real"]
AT_ONCE = 512  # rows of a matrix of distances, and latents in a search
MOST_REAL = 10_000  # retained images among which a substitute is looked for
PACES = tuple(0.5 * step for step in range(1, 17))  # a of `project`, in standard deviations of z


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


def made(gan: GAN, z: Latents, labels: Labels | None = None) -> Made:
    """What the averaged generator makes of latents."""
    return Made(generate(gan, z, labels), z.cpu(), None if labels is None else labels.cpu())


def pool(gan: GAN, n: int, seed: int) -> Made:
    """What the generator makes of n latents from a seed."""
    return made(gan, gan.latents(n, seed), gan.labels(n, seed + 1))


# --- Locate -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Located:
    """What the frozen generator makes of what is to be forgotten, and of all else.

    Args:
        gone: Latents to re-assign.
        kept: Latents to leave alone.
        stays: Says of images whether they may be made: a substitute must.
    """

    gone: Made
    kept: Made
    stays: Callable[[Images], Bool[Tensor, " n"]]


def locate(
    gan: GAN, drawn: Made, split: Split, judge: Judge | None, search: Search, seed: int
) -> Located:
    """Latents that make what is to be forgotten: whole classes where any are gone, else items."""
    if len(split.gone):
        assert judge is not None
        return of_class(gan, drawn, split.gone, judge)
    return of_items(gan, drawn, split.forget, search, seed)


def of_class(gan: GAN, drawn: Made, gone: Labels, judge: Judge) -> Located:
    """Latents that make a class, and the others.

    A conditional pair is told the class; what an unconditional one makes is for a judge to say.

    Args:
        gan: The frozen pair.
        drawn: A pool.
        gone: The classes to forget.
        judge: The method's own.

    Returns:
        Those of the class, and those to leave alone.

    Raises:
        ValueError: If the pair never makes the class, or nothing else.
    """

    def stays(images: Images) -> Bool[Tensor, " n"]:
        return ~torch.isin(judge.classes_of(images), gone)

    ours = ~stays(drawn.images) if drawn.labels is None else torch.isin(drawn.labels, gone)
    names = ", ".join(map(str, gone.tolist()))
    if not bool(ours.any()):
        raise ValueError(
            f"The GAN makes no image of class {names} in {len(drawn)} tries, so there is nothing "
            "to forget: it never learned that class."
        )
    if bool(ours.all()):
        raise ValueError(
            f"All {len(drawn)} images that the GAN makes are of class {names}, so there is nothing "
            "to put in their place."
        )
    return Located(drawn.take(ours), drawn.take(~ours), stays)


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
    reached = _distances(found.images[: len(z)], images).diagonal().median()

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


# --- Substitute ---------------------------------------------------------------------------------


def substitutes(
    gan: GAN, here: Located, rule: Rule, split: Split, judge: Judge | None, seed: int
) -> Made:
    """What each latent is to make instead.

        near      G_o of the nearest latent that is kept: the latent space stays continuous
        project   G_o(z_f − a·u), u along mean(z_f) − mean(z_r), with the least a that leaves what
                  is to be forgotten (Moon, Cho and Kim 2024)
        random    G_o of any latent that is kept
        real      the image of D_r whose features are nearest to G_o(z_f)'s

    A conditional pair that forgets a class keeps z and takes another label: the one whose image is
    nearest (near), or any (random). One that forgets items stays with their labels.

    Args:
        gan: The frozen pair.
        here: What is to go and what may stay.
        rule: Which.
        split: Whose retained images and labels are taken.
        judge: The method's own, which the rule "real" asks.
        seed: Of what is random.

    Returns:
        As many as are to go.

    Raises:
        ValueError: If there is no such rule, or it does not suit a conditional pair.
    """
    if rule not in get_args(Rule):
        raise ValueError(unknown("substitute", rule, get_args(Rule)))
    if rule == "real":
        assert judge is not None
        return _real(here, split, judge)
    if gan.classes is not None and len(split.gone):
        return _relabelled(gan, here.gone, rule, split, seed)
    if rule == "project":
        return _projected(gan, here)
    return here.kept.take(_near(here) if rule == "near" else _any(here, seed))


def _near(here: Located) -> Int64[Tensor, " n"]:
    """Positions of the nearest latents that are kept."""
    gone, kept = here.gone, here.kept
    return nearest(gone.latents, kept.latents, gone.labels, kept.labels)


def _any(here: Located, seed: int) -> Int64[Tensor, " n"]:
    """Positions of any latents that are kept."""
    gone, kept, draw = here.gone, here.kept, torch.Generator().manual_seed(seed)
    place = torch.randint(len(kept), (len(gone),), generator=draw)
    if gone.labels is not None and kept.labels is not None:
        for label in gone.labels.unique():
            rows, own = gone.labels == label, torch.where(kept.labels == label)[0]
            place[rows] = own[place[rows] % len(own)] if len(own) else place[rows]
    return place


def _real(here: Located, split: Split, judge: Judge) -> Made:
    """The retained images that are nearest in the judge's features, of those that may be made."""
    some = split.retain.take(torch.arange(min(len(split.retain), MOST_REAL)))
    images = images_of(some)
    may = here.stays(images)
    images, labels = (images[may], some.labels[may]) if bool(may.any()) else (images, some.labels)
    wanted = None if len(split.gone) else here.gone.labels
    place = nearest(judge.features(here.gone.images), judge.features(images), wanted, labels)
    return Made(images[place])


def _relabelled(gan: GAN, gone: Made, rule: Rule, split: Split, seed: int) -> Made:
    """The same latents with a label that is retained."""
    if rule == "project":
        raise ValueError(
            'substitute = "project" moves latents away from a class, but a conditional GAN is told '
            'the class: take "near", "random" or "real".'
        )
    known = split.retain.labels.unique()
    if rule == "random":
        draw = torch.Generator().manual_seed(seed)
        return made(
            gan, gone.latents, known[torch.randint(len(known), (len(gone),), generator=draw)]
        )
    tries = [made(gan, gone.latents, label.expand(len(gone))) for label in known]
    away = [(one.images - gone.images).square().flatten(1).mean(1) for one in tries]
    best = torch.stack(away).argmin(0)
    return made(gan, gone.latents, known[best])


def _projected(gan: GAN, here: Located) -> Made:
    """Moved off along the mean difference until the image may be made; else the nearest kept."""
    gone = here.gone
    along = gone.latents.mean(0) - here.kept.latents.mean(0)
    u = along / along.norm()
    result = here.kept.take(_near(here))
    z, images, labels = result.latents.clone(), result.images.clone(), result.labels
    still = torch.ones(len(gone), dtype=torch.bool)
    for a in PACES:
        there = made(gan, gone.latents - a * u, gone.labels)
        out = still & here.stays(there.images)
        z[out], images[out] = there.latents[out], there.images[out]
        if labels is not None and gone.labels is not None:
            labels[out] = gone.labels[out]
        still &= ~out
    return Made(images, z, labels)
