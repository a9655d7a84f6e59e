"""What latents that are re-assigned are to make instead.

s     the substitute of z_f: an image that is retained, chosen once from the frozen G_o or from D_r

The paper's abstract names the substitution; the four rules are ours.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Int64
from torch import Tensor

from oblivio.catalogue import unknown
from oblivio.core import Split
from oblivio.gan._latents import Located, Made, few, made, nearest
from oblivio.generative import GAN, images_of
from oblivio.judge import Judge

Rule = Literal["near", "project", "random", "real"]
MOST_REAL = 10_000  # retained images among which a substitute is looked for
PACES = tuple(0.5 * step for step in range(1, 17))  # a of `project`, in standard deviations of z


def substitutes(
    gan: GAN, here: Located, rule: Rule, split: Split, judge: Judge | None, seed: int
) -> Made:
    """What each latent is to make instead.

        near      G_o of the nearest latent that is kept: the latent space stays continuous
        project   G_o(z_f − a·u), u along mean(z_f) − mean(z_r), with the least a that leaves what
                  is to be forgotten without a doubt (Moon, Cho and Kim 2024): one direction for
                  all, so that G learns it from few steps and it holds for latents not drawn
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
    if gan.classes is not None and len(here.classes):
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
    some = few(split.retain, MOST_REAL)
    images = images_of(some)
    may = here.stays(images)
    images, labels = (images[may], some.labels[may]) if bool(may.any()) else (images, some.labels)
    wanted = None if len(here.classes) else here.gone.labels
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
    left = torch.arange(len(gone))  # which have not left yet
    for a in PACES:
        if len(left) == 0:
            break
        some = gone.take(left)
        there = made(gan, some.latents - a * u, some.labels)
        out = here.stays(there.images)
        z[left[out]], images[left[out]] = there.latents[out], there.images[out]
        if labels is not None and some.labels is not None:
            labels[left[out]] = some.labels[out]
        left = left[~out]
    return Made(images, z, labels)


def told(gone: Made, instead: Made, most: int = 10) -> dict[str, object]:
    """Some of the latents that are re-assigned, for pictures."""

    def rounded(z: Tensor | None) -> list[list[float]] | None:
        return None if z is None else [[round(v, 4) for v in row] for row in z[:most].tolist()]

    def listed(labels: Tensor | None) -> list[int] | None:
        return None if labels is None else labels[:most].tolist()

    return {
        "latents": rounded(gone.z),
        "labels": listed(gone.labels),
        "substitute_latents": rounded(instead.z),
        "substitute_labels": listed(instead.labels),
    }
