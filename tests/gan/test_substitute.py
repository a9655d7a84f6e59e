"""What takes the place of latents that are re-assigned, against loops in a world that is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from gan_worlds import (
    CLASSES,
    WORLD_NAMES,
    WORLDS,
    Plane,
    class_split,
    found,
    gan_case,
    item_split,
)
from oblivio.core import Split
from oblivio.gan import _substitute
from oblivio.gan._latents import Located, Made, few, made, of_class, pool
from oblivio.gan._substitute import PACES, Rule, substitutes, told
from oblivio.judge import judge, whole
from oracles_gan import apart

GONE = torch.tensor([2])


def taken(world: Plane, split: Split, rule: Rule, seed: int = 0) -> tuple[Located, Made]:
    here = found(world, split)
    return here, substitutes(world.gan, here, rule, split, world.judge, seed)


@pytest.mark.parametrize("rule", ["near", "project", "random", "real"])
@pytest.mark.parametrize("make", [class_split, item_split], ids=["class", "items"])
@pytest.mark.parametrize("world", WORLDS, ids=WORLD_NAMES)
def test_a_substitute_may_be_made(world: Plane, make: Callable[[Plane], Split], rule: Rule) -> None:
    """One for each; of an allowed image; its latent, if it has one, makes it."""
    split = make(world)
    told = world.conditional and len(split.gone) > 0
    if told and rule == "project":
        return
    here, instead = taken(world, split, rule)
    assert len(instead) == len(here.gone)
    if told and rule != "real":
        assert instead.labels is not None
        assert not torch.isin(instead.labels, split.gone).any()
    else:
        assert here.stays(instead.images).all()
    assert (instead.z is None) == (rule == "real")
    if rule != "real":
        wanted = world.image(instead.latents, instead.labels)
        torch.testing.assert_close(instead.images.double(), wanted, atol=1e-6, rtol=0)
    if world.conditional and not told and rule != "real":
        assert torch.equal(instead.labels, here.gone.labels)  # pyright: ignore


def test_near_is_the_nearest_latent_that_is_kept() -> None:
    here, instead = taken(Plane(), class_split(Plane()), "near")
    for z, other in zip(here.gone.latents, instead.latents, strict=True):
        best = min(here.kept.latents, key=lambda kept: apart(z, kept))
        assert torch.equal(other, best)


def test_random_is_any_that_is_kept() -> None:
    here, instead = taken(Plane(), class_split(Plane()), "random", seed=3)
    rows = torch.randint(
        len(here.kept), (len(here.gone),), generator=torch.Generator().manual_seed(3)
    )
    assert torch.equal(instead.latents, here.kept.latents[rows])
    _, other = taken(Plane(), class_split(Plane()), "random", seed=4)
    assert not torch.equal(other.latents, instead.latents)


def test_projected_latents_move_until_they_leave() -> None:
    """z − a u for the least a that stays, u in the direction from what stays to what goes."""
    world = Plane()
    here, instead = taken(world, class_split(world), "project")
    gone, kept = here.gone.latents.double(), here.kept.latents.double()
    u = gone.mean(0) - kept.mean(0)
    u = u / math.sqrt(sum(value**2 for value in u.tolist()))
    for z, other in zip(gone, instead.latents, strict=True):
        tries = ((z - a * u)[None] for a in PACES)
        (moved,) = next(z for z in tries if here.stays(world.image(z).float()))
        torch.testing.assert_close(other.double(), moved, atol=1e-5, rtol=0)


def test_what_never_leaves_goes_to_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_substitute, "PACES", (1e-6,))
    here, projected = taken(Plane(), class_split(Plane()), "project")
    _, near = taken(Plane(), class_split(Plane()), "near")
    same = (projected.latents == near.latents).all(1)
    assert same.float().mean() > 0.9
    assert here.stays(projected.images).all()


@pytest.mark.parametrize("make", [class_split, item_split], ids=["class", "items"])
@pytest.mark.parametrize("world", WORLDS, ids=WORLD_NAMES)
def test_real_is_the_retained_image_with_the_nearest_features(
    world: Plane, make: Callable[[Plane], Split]
) -> None:
    """Of one's own label, where a conditional pair forgets items."""
    split = make(world)
    here, instead = taken(world, split, "real")
    retain: Any = split.retain
    may = here.stays(retain.inputs)
    own = world.conditional and not len(split.gone)
    for i, (image, other) in enumerate(zip(here.gone.images, instead.images, strict=True)):
        rows = [
            row
            for row in range(len(retain))
            if may[row] and (not own or retain.labels[row] == here.gone.labels[i])  # pyright: ignore
        ]
        best = min(rows, key=lambda row: apart(image, retain.inputs[row]))
        assert torch.equal(other, retain.inputs[best])


def test_real_looks_at_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_substitute, "MOST_REAL", 2)
    split: Any = class_split(Plane())
    _, instead = taken(Plane(), split, "real")
    known = few(split.retain, 2)
    assert set(known.labels.tolist()) == {0, 1}  # whatever the order of the data
    shown: Any = known
    allowed = shown.inputs.flatten(1).tolist()
    assert all(image in allowed for image in instead.images.flatten(1).tolist())


def test_a_conditional_pair_takes_another_label() -> None:
    """The same latents; the label whose image is nearest, or any that is retained."""
    world, split = Plane(conditional=True), class_split(Plane(conditional=True))
    here, near = taken(world, split, "near")
    assert torch.equal(near.latents, here.gone.latents)
    assert near.labels is not None
    assert set(near.labels.tolist()) == {1}  # 0.4 is nearer to 0.1 than to 0
    _, any_ = taken(world, split, "random")
    assert any_.labels is not None
    assert torch.equal(any_.latents, here.gone.latents)
    assert set(any_.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("rule", ["near", "random", "project"])
def test_items_of_a_label_without_another_image_take_any(rule: Rule) -> None:
    world, split = Plane(conditional=True), item_split(Plane(conditional=True))
    here = found(world, split)
    assert here.kept.labels is not None
    here = replace(here, kept=here.kept.take(here.kept.labels != int(split.forget.labels[0])))
    instead = substitutes(world.gan, here, rule, split, world.judge, 0)
    assert len(instead) == len(here.gone)


def test_a_class_cannot_be_projected_away_where_it_is_told() -> None:
    world = Plane(conditional=True)
    with pytest.raises(ValueError, match='conditional GAN is told the class: take "near"'):
        taken(world, class_split(world), "project")


@pytest.mark.usefixtures("unchecked")
def test_there_are_four_rules() -> None:
    with pytest.raises(ValueError, match=r"no substitute 'nearby'. Did you mean near?"):
        taken(Plane(), class_split(Plane()), "nearby")  # pyright: ignore[reportArgumentType]


def test_in_a_trained_pair_substitutes_show_what_is_retained() -> None:
    here = gan_case()
    own = judge(whole(here.split.forget, here.split.retain), here.run, "method")
    at = of_class(here.original, pool(here.original, 400, 0), GONE, own)
    rules: tuple[Rule, ...] = ("near", "project", "random", "real")
    for rule in rules:
        instead = substitutes(here.original, at, rule, here.split, own, 0)
        assert not (own.classes_of(instead.images) == 2).any()
        if instead.z is not None:
            again = made(here.original, instead.latents, instead.labels)
            torch.testing.assert_close(again.images, instead.images, atol=1e-5, rtol=0)
    assert CLASSES == 3


def test_fewer_are_told_where_fewer_are_moved() -> None:
    found = made(Plane().gan, torch.tensor([[0.123456, 1.0]]))
    assert told(found, Made(found.images)) == {
        "latents": [[0.1235, 1.0]],
        "labels": None,
        "substitute_latents": None,
        "substitute_labels": None,
    }
