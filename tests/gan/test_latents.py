"""Which latents are found, against loops in a world that is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import laws
from gan_worlds import WORLD_NAMES, WORLDS, Plane, class_split, found, gan_case, item_split
from oblivio.data.arrays import Arrays
from oblivio.gan import _latents
from oblivio.gan._latents import Search, nearest, of_class, of_items, pool
from oblivio.generative import generate
from oracles_gan import apart

GONE = torch.tensor([2])

# --- A pool -------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_a_pool_is_drawn_from_the_average(conditional: bool) -> None:
    gan = gan_case(conditional=conditional).original
    with torch.no_grad():
        for weight in gan.generator.parameters():
            weight.zero_()
    drawn = pool(gan, 30, 4)
    assert torch.equal(drawn.latents, gan.latents(30, 4))
    labels = gan.labels(30, 5)
    assert (drawn.labels is None) == (labels is None)
    if labels is not None:
        assert torch.equal(drawn.labels, labels)  # pyright: ignore[reportArgumentType]
    assert torch.equal(drawn.images, generate(gan, drawn.latents, drawn.labels))
    assert float(drawn.images.std()) > 0.01
    some = drawn.take(torch.tensor([4, 2]))
    assert torch.equal(some.images, drawn.images[[4, 2]])
    assert torch.equal(some.latents, drawn.latents[[4, 2]])
    assert len(some) == 2


# --- Classes ------------------------------------------------------------------------------------


def doubts(world: Plane, z: Tensor) -> list[float]:
    """p(2 | G(z)) by the judge, in float64."""
    rows = [world.judged.double() @ image.flatten() for image in world.image(z)]
    return [float(row.exp()[2] / row.exp().sum()) for row in rows]


def test_a_class_is_what_the_judge_says() -> None:
    """What stays is at least as surely of another class as the median of those that are."""
    world, split = Plane(), class_split(Plane())
    here, z = found(world, split), world.gan.latents(200, 3)
    ours = torch.tensor(world.shows(z)) == 2
    assert 20 < int(ours.sum()) < 180
    assert torch.equal(here.gone.latents, z[ours])
    torch.testing.assert_close(here.gone.images.double(), world.image(z[ours]))
    doubt = torch.tensor(doubts(world, z))
    others = sorted(doubt[~ours].tolist())
    usual = others[(len(others) - 1) // 2]
    sure = doubt <= usual + 1e-6
    assert torch.equal(here.kept.latents, z[sure])
    assert here.stays(world.image(z).float()).tolist() == sure.tolist()


def test_a_conditional_pair_is_told_the_class() -> None:
    """Whatever the judge says of what it makes."""
    world = Plane(conditional=True)
    here, labels = found(world, class_split(world)), world.gan.labels(200, 4)
    assert labels is not None
    assert here.gone.labels is not None
    assert set(here.gone.labels.tolist()) == {2}
    z = world.gan.latents(200, 3)
    assert torch.equal(here.gone.latents, z[labels == 2])
    assert torch.equal(here.kept.latents, z[labels != 2])
    assert set(world.shows(here.gone.latents)) == {0, 1, 2}


def test_several_classes_go_together() -> None:
    world = Plane()
    here = of_class(world.gan, pool(world.gan, 100, 0), torch.tensor([0, 2]), world.judge)
    assert set(world.shows(here.gone.latents)) == {0, 2}
    assert set(world.shows(here.kept.latents)) == {1}


def test_a_class_that_was_never_learned_cannot_be_forgotten() -> None:
    world = Plane()
    drawn = pool(world.gan, 100, 0)
    here = of_class(world.gan, drawn, GONE, world.judge)
    with pytest.raises(ValueError, match=r"makes no image of class 2 in \d+ tries.*never learned"):
        of_class(world.gan, here.kept, GONE, world.judge)
    with pytest.raises(ValueError, match=r"All \d+ images that the GAN makes are of class 2"):
        of_class(world.gan, here.gone, GONE, world.judge)


# --- Items --------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", WORLDS, ids=WORLD_NAMES)
def test_the_search_arrives_where_ridge_regression_does(world: Plane) -> None:
    """min_z ¼ ‖z M + b − x‖² + ½ 10⁻³ ‖z‖² solves z (M Mᵀ/4 + ½ 10⁻³) = (x − b) Mᵀ/4."""
    data, gan = world.data(20, seed=1, off=0.05), world.gan
    labels = data.labels if world.conditional else None
    m, x = world.matrix.double(), data.inputs.double().flatten(1)
    if labels is not None:
        x[:, 3] -= world.brightness.double()[labels]
    normal = m @ m.T / 4 + 0.5e-3 * torch.eye(2)
    wanted = torch.linalg.solve(normal, m @ x.T / 4).T
    before = laws.snapshot(gan)
    z = Search(steps=400, lr=0.05)(gan, data.inputs, torch.zeros(20, 2), labels)
    torch.testing.assert_close(z.double(), wanted, atol=2e-3, rtol=0)
    laws.assert_same(before, laws.snapshot(gan))


def test_every_image_is_searched_for_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's steps by hand, one image at a time, in float64."""
    world, steps, lr = Plane(), 25, 0.05
    data, start = world.data(8, seed=1, off=0.05), torch.randn(8, 2)
    monkeypatch.setattr(_latents, "AT_ONCE", 3)
    z = Search(steps, lr)(world.gan, data.inputs, start, None)
    m = world.matrix.double()
    for row in range(8):
        x, own = data.inputs[row].double().flatten(), start[row].double()
        mean, square = torch.zeros(2), torch.zeros(2)
        for step in range(1, steps + 1):
            slope = 2 * (own @ m - x) @ m.T / 4 + 1e-3 * 2 * own / 2
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
            size = (square / (1 - 0.999**step)).sqrt() + 1e-8
            own = own - lr * mean / (1 - 0.9**step) / size
        torch.testing.assert_close(z[row].double(), own, atol=1e-4, rtol=1e-4)


def test_no_step_leaves_the_beginning() -> None:
    world, start = Plane(), torch.randn(4, 2)
    z = Search(steps=0)(world.gan, world.data(4, seed=1).inputs, start, None)
    assert torch.equal(z, start)


@pytest.mark.parametrize("world", WORLDS, ids=WORLD_NAMES)
def test_items_are_found_and_a_ball_around_each(world: Plane) -> None:
    split, search, n = item_split(world), Search(steps=40, ball=0.3), 7
    here, drawn = found(world, split, search=search), pool(world.gan, 200, 3)
    images = split.forget.inputs  # pyright: ignore[reportAttributeAccessIssue]
    labels = split.forget.labels if world.conditional else None
    start = [
        min(
            (
                row
                for row in range(200)
                if drawn.labels is None or drawn.labels[row] == split.forget.labels[i]
            ),
            key=lambda row: apart(drawn.images[row], images[i]),
        )
        for i in range(n)
    ]
    z = search(world.gan, images, drawn.latents[start], labels)
    noise = 0.3 * torch.randn(z.shape, generator=torch.Generator().manual_seed(11))
    assert torch.equal(here.gone.latents, torch.cat([z, z + noise]))
    wanted = world.image(here.gone.latents, None if labels is None else labels.repeat(2))
    torch.testing.assert_close(here.gone.images.double(), wanted, atol=1e-5, rtol=0)
    if labels is not None:
        assert torch.equal(here.gone.labels, labels.repeat(2))  # pyright: ignore
    near = [
        apart(world.image(z[i : i + 1], None if labels is None else labels[i : i + 1]), x)
        for i, x in enumerate(images)
    ]
    assert max(near) < 0.1


@pytest.mark.parametrize("world", WORLDS, ids=WORLD_NAMES)
def test_what_is_as_near_to_an_item_as_the_search_came_may_not_be_made(
    world: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, drawn = item_split(world, off=0.05), pool(world.gan, 200, 3)
    here = found(world, split)
    images = split.forget.inputs  # pyright: ignore[reportAttributeAccessIssue]
    came = sorted(apart(one, x) for one, x in zip(here.gone.images[:7], images, strict=True))
    least = [min(apart(one, x) for x in images) for one in drawn.images]
    wanted = [value > came[3] for value in least]  # of seven, the middle one
    assert 0 < sum(wanted) < 200
    assert here.stays(drawn.images).tolist() == wanted
    assert torch.equal(here.kept.latents, drawn.latents[torch.tensor(wanted)])
    assert here.stays(images).tolist() == [False] * 7
    monkeypatch.setattr(_latents, "AT_ONCE", 9)
    assert here.stays(drawn.images).tolist() == wanted


def test_where_all_is_near_all_is_kept() -> None:
    """A pool of one, which is what comes nearest, would leave nothing to go to."""
    world, item = Plane(), Arrays(torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]))
    alone = pool(world.gan, 1, 0)
    here = of_items(world.gan, alone, item, Search(steps=0), 0)
    assert not here.stays(alone.images).any()
    assert torch.equal(here.kept.latents, alone.latents)


@pytest.mark.parametrize("values", [{"steps": -1}, {"lr": 0.0}, {"ball": -0.1}, {"lr": math.nan}])
def test_a_search_refuses_what_makes_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="steps and ball must be 0 or more, lr above 0"):
        Search(**values)


# --- The nearest --------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 12), st.booleans(), st.integers(0, 1000))
def test_the_nearest_is_what_loops_find(n: int, m: int, labelled: bool, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    these, others = (torch.randn(k, 1, 2, 3, generator=draw) for k in (n, m))
    labels, known = None, None
    if labelled:
        labels = torch.randint(3, (n,), generator=draw)
        known = torch.cat([torch.arange(3), torch.randint(3, (m,), generator=draw)])[:m]
        labels = labels % min(m, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_latents, "AT_ONCE", 4)
        place = nearest(these, others, labels, known)
    for i in range(n):
        rows = [j for j in range(m) if labels is None or known is None or known[j] == labels[i]]
        assert int(place[i]) == min(rows, key=lambda j: apart(these[i], others[j]))
