"""The fake label: its losses against formulas in float64, its level, and what it leaves alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import laws
from gan_worlds import GanCase, Plane, gan_case
from oblivio.adversarial import Adversarial, Duel, LossName, endless
from oblivio.core import Run, Split
from oblivio.data.arrays import Arrays
from oblivio.gan import _label
from oblivio.gan._label import Label, LabelName, dislike, fake_label, mismatch

RECIPE = Adversarial(steps=10, batch_size=16, lr=1e-3)
LOSSES: tuple[LossName, ...] = ("non_saturating", "hinge", "least_squares")
Numbers = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=20)


def plane_split(world: Plane) -> Split:
    train = world.data(60, seed=5, off=0.02)
    return Split.of(train, train.ids[:20])


def plane_duel(*, conditional: bool = False, held_out: bool = True) -> tuple[Plane, Duel]:
    world = Plane(conditional)
    run = Run.on("cpu", seed=3, held_out=world.data(40, seed=6) if held_out else None)
    return world, Duel(world.gan, RECIPE, run)


def case_duel(**case: bool) -> tuple[GanCase, Duel]:
    here = gan_case(**case)
    return here, Duel(here.original, RECIPE, here.run)


def said(world: Plane, images: Tensor) -> Tensor:
    """D's logits in float64: x w + c."""
    return images.double().flatten(1) @ world.w.double() + world.c


def asked(name: LabelName, duel: Duel, split: Split) -> Label:
    label = fake_label(name, duel, split)
    assert label is not None
    return label


# --- Losses -------------------------------------------------------------------------------------


@given(Numbers, st.sampled_from(LOSSES))
def test_dislike_is_ds_loss_for_what_is_not_real(logits: list[float], loss: LossName) -> None:
    terms = {
        "non_saturating": [math.log1p(math.exp(-abs(v))) + max(v, 0) for v in logits],
        "hinge": [max(0, 1 + v) for v in logits],
        "least_squares": [v**2 / 2 for v in logits],
    }[loss]
    found = dislike(torch.tensor(logits), loss)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5, abs=1e-6)


@given(Numbers, Numbers)
def test_mismatch_is_the_distance_between_quantiles(
    logits: list[float], level: list[float]
) -> None:
    """Of sorted logits, the i-th stands at (i + ½) / n; NumPy says where the level is there."""
    n = len(logits)
    places = [(i + 0.5) / n for i in range(n)]
    wanted = np.quantile(np.array(level, np.float64), places, method="hazen")
    expected = float(np.mean((np.sort(np.array(logits, np.float64)) - wanted) ** 2))
    found = mismatch(torch.tensor(logits), torch.tensor(level))
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-4)


Weighted = st.tuples(st.floats(-8, 8, width=32), st.integers(0, 4))


@given(Numbers, st.lists(Weighted, min_size=1, unique_by=lambda one: one[0]))
def test_a_weighted_logit_stands_in_the_middle_of_its_weight(
    logits: list[float], level: list[tuple[float, int]]
) -> None:
    """Against NumPy's interpolation in float64 between the middles of weights."""
    total = sum(weight for _, weight in level)
    if total == 0:
        return
    known = sorted((value, weight / total) for value, weight in level if weight)
    values, weights = (np.array(column) for column in zip(*known, strict=True))
    n = len(logits)
    places = [(i + 0.5) / n for i in range(n)]
    wanted = np.interp(places, weights.cumsum() - weights / 2, values)
    expected = float(np.mean((np.sort(np.array(logits, np.float64)) - wanted) ** 2))
    given_ = torch.tensor([weight / total for _, weight in level], dtype=torch.float64)
    found = mismatch(torch.tensor(logits), torch.tensor([v for v, _ in level]), given_)
    assert float(found) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_mismatch_is_the_squared_wasserstein_distance() -> None:
    """Between normal distributions W₂² = (μ₁ − μ₂)² + (σ₁ − σ₂)², up to what samples vary."""
    draw = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 20_000, generator=draw)
    assert float(mismatch(3 * one + 1, 2 * two - 1)) == pytest.approx(4 + 1, rel=0.03)
    assert float(mismatch(one, two)) < 0.005
    assert float(mismatch(one, one)) < 1e-12
    assert float(mismatch(one[:5000] + 1, two)) == pytest.approx(1, rel=0.05)


def test_matched_quantiles_leave_no_narrow_peak() -> None:
    """A distribution with the level's mean, but narrower, is told off all the same."""
    level = torch.randn(400, generator=torch.Generator().manual_seed(1))
    peak = torch.full((100,), float(level.mean()))
    assert float(mismatch(peak, level)) > 0.8


def test_the_gradient_goes_to_what_is_forgotten_alone() -> None:
    """2 (D(F)_(q) − level_(q)) / n, each to the image whose logit stands there."""
    logits = torch.tensor([3.0, -1.0, 0.5], requires_grad=True)
    level = torch.tensor([1.0, 1.0, 1.0, 1.0], requires_grad=True)
    mismatch(logits, level).backward()
    torch.testing.assert_close(logits.grad, 2 * torch.tensor([2.0, -2.0, -0.5]) / 3)
    assert level.grad is None


# --- Levels -------------------------------------------------------------------------------------


def hazen(level: Tensor, n: int = 10) -> Any:
    """The quantiles at which n sorted logits stand."""
    return np.quantile(level.numpy(), [(i + 0.5) / n for i in range(n)], method="hazen")


@pytest.mark.parametrize("conditional", [False, True])
def test_the_level_is_what_d_says_of_images_never_seen(conditional: bool) -> None:
    world, duel = plane_duel(conditional=conditional)
    split = plane_split(world)
    held: Any = duel.run.held_out
    label = asked("unseen", duel, split)
    forget = next(endless(split.forget, 16, duel.run))[0]  # 20 images in batches of 10
    assert len(forget) == 10
    # Each counts for as much as makes its class as frequent as among the 20.
    shares = [(split.forget.labels == k).double().mean().item() for k in range(3)]
    counts = [int((held.labels == k).sum()) for k in range(3)]
    weights = np.array([shares[k] / counts[k] for k in held.labels.tolist()])
    level = said(world, held.inputs).numpy()
    order = level.argsort()
    middles = weights[order].cumsum() - weights[order] / 2
    wanted = np.interp([(i + 0.5) / 10 for i in range(10)], middles, level[order])
    expected = np.mean((np.sort(said(world, forget).numpy()) - wanted) ** 2)
    assert label().item() == pytest.approx(float(expected), rel=1e-4)
    assert not np.allclose(wanted, hazen(said(world, held.inputs)), rtol=1e-3)


def test_of_a_class_the_level_is_of_unseen_images_of_that_class() -> None:
    world, duel = plane_duel()
    train, held = world.data(60, seed=5, off=0.02), cast(Arrays, duel.run.held_out)
    split = Split.of(train, train.ids[train.labels == 2])
    label = asked("unseen", duel, split)
    forget = next(endless(split.forget, min(16, len(split.forget)), duel.run))[0]
    wanted = hazen(said(world, held.inputs[held.labels == 2]), len(forget))
    expected = np.mean((np.sort(said(world, forget).numpy()) - wanted) ** 2)
    assert label().item() == pytest.approx(float(expected), rel=1e-4)
    others = held.take(torch.where(held.labels != 2)[0])
    without = Duel(world.gan, RECIPE, replace(duel.run, held_out=others))
    with pytest.raises(ValueError, match=r"needs images of the classes to forget that the GAN was"):
        fake_label("unseen", without, split)
    assert asked("auto", without, split).name == "zero"


@pytest.mark.parametrize("conditional", [False, True])
def test_the_level_is_what_d_says_of_images_that_g_makes(conditional: bool) -> None:
    world, duel = plane_duel(conditional=conditional, held_out=False)
    split = plane_split(world)
    with torch.no_grad():
        duel.gan.generator.matrix.mul_(2)  # pyright: ignore: the level is of G, not of the average
    label = asked("generated", duel, split)
    z, labels = duel.draw(16, "level")
    made = world.image(2 * z, labels)
    wanted = hazen(said(world, made))
    forget = next(endless(split.forget, 16, duel.run))[0]
    expected = np.mean((np.sort(said(world, forget).numpy()) - wanted) ** 2)
    assert label().item() == pytest.approx(float(expected), rel=1e-4)


def test_zero_looks_at_forgotten_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world, duel = plane_duel()
    split = plane_split(world)
    label = asked("zero", duel, split)
    monkeypatch.setattr(Label, "_level", None)
    forget = next(endless(split.forget, 16, duel.run))[0]
    expected = said(world, forget).exp().log1p().mean()
    assert label().item() == pytest.approx(float(expected), rel=1e-5)


def test_every_forgotten_image_has_its_turn() -> None:
    world, duel = plane_duel()
    split: Any = plane_split(world)
    label, seen = asked("zero", duel, split), []
    scored = label._scored
    label._scored = lambda images, labels: (seen.append(images), scored(images, labels))[1]  # pyright: ignore[reportAttributeAccessIssue]
    label()
    label()
    both = torch.cat(seen).flatten(1)
    assert sorted(both.tolist()) == sorted(split.forget.inputs.flatten(1).tolist())


def test_a_level_is_known_by_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_label, "MOST_UNSEEN", 8)
    world, duel = plane_duel()
    label = asked("unseen", duel, plane_split(world))
    level, weights = label._level(10)
    assert weights is not None
    assert len(level) == len(weights) == 8


@pytest.mark.parametrize(
    ("class_wise", "held_out", "name"),
    [
        (True, True, "zero"),
        (True, False, "zero"),
        (False, True, "unseen"),
        (False, False, "generated"),
    ],
)
def test_which_label_is_usual(class_wise: bool, held_out: bool, name: LabelName) -> None:
    here, duel = case_duel(class_wise=class_wise)
    if not held_out:
        duel.run = replace(duel.run, held_out=None)
    label = asked("auto", duel, here.split)
    assert label.name == name
    assert (label.unseen is not None) == (name == "unseen")
    assert fake_label("none", duel, here.split) is None


def test_what_was_never_seen_must_be_given() -> None:
    world, duel = plane_duel(held_out=False)
    with pytest.raises(ValueError, match=r"that the GAN was never trained on: give the run"):
        fake_label("unseen", duel, plane_split(world))


@pytest.mark.parametrize("name", ["zero", "unseen", "generated"])
@pytest.mark.parametrize("network", ["normalise", "spectral_norm"])
def test_d_is_asked_as_it_is_judged_and_does_not_change(name: LabelName, network: str) -> None:
    """With running statistics, which no batch of forgotten images moves; then it learns on."""
    here, duel = case_duel(class_wise=False, **{network: True})
    before = laws.snapshot(duel.gan.discriminator)
    asked(name, duel, here.split)()
    laws.assert_same(before, laws.snapshot(duel.gan.discriminator))
    assert all(module.training for module in duel.gan.discriminator.modules())


def test_the_loss_is_that_of_eval_mode() -> None:
    here, duel = case_duel(class_wise=False)
    label = asked("zero", duel, here.split)
    found = label().item()
    duel.gan.discriminator.eval()
    images, _ = next(endless(here.split.forget, 16, duel.run))
    expected = duel.score(images).double().exp().log1p().mean()
    assert found == pytest.approx(expected.item(), rel=1e-5)
    duel.gan.discriminator.train()
    other = duel.score(images).double().exp().log1p().mean()
    assert other.item() != pytest.approx(expected.item(), rel=1e-2)


@pytest.mark.parametrize("name", ["zero", "unseen", "generated"])
def test_the_gradient_is_ds_alone(name: LabelName) -> None:
    here, duel = case_duel(class_wise=False)
    asked(name, duel, here.split)().backward()
    assert all(weight.grad is not None for weight in duel.gan.discriminator.parameters())
    assert all(weight.grad is None for weight in duel.gan.generator.parameters())


@pytest.mark.parametrize("name", ["unseen", "generated"])
def test_following_it_closes_the_gap(name: LabelName) -> None:
    """After some steps D says of forgotten images what it says of the others."""
    world, duel = plane_duel()
    duel = Duel(world.gan, replace(RECIPE, lr=0.02), duel.run)
    split = plane_split(world)
    brighter = replace(split.forget, inputs=split.forget.inputs + 0.3)  # pyright: ignore
    label = asked(name, duel, Split(brighter, split.retain))
    first = label().item()
    for _ in range(80):
        duel.step_discriminator(label())
    assert first > 0.5
    assert label().item() < 0.1 * first
