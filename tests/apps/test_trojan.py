"""Cleansing a Trojan model: who is suspected, what is tried, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import laws
import worlds
from oblivio.apps.trojan import attempts, bearers, cleanse, judge, outliers, suspects
from oblivio.core import Data, Origin, Part, Run, Split
from oblivio.data.arrays import Arrays
from oblivio.data.attack import Attack
from oblivio.data.triggers.blend import Blend
from oblivio.data.triggers.patch import Patch
from oblivio.methods.l1_sparse import L1Sparse
from oblivio.methods.original import Original
from oblivio.methods.retrain import Retrain
from oblivio.models import factory
from oblivio.scenarios.poisoned import Poisoned
from oblivio.train import Recipe

SCENARIO = Poisoned(target=1, fraction=0.15, trigger={"name": "patch", "size": 3})
RECIPE = Recipe(epochs=15, lr=0.1, batch_size=32)


@dataclass(frozen=True)
class Victim:
    """A model that obeys a trigger, and all there is to know of it."""

    model: nn.Module
    train: Data
    split: Split
    test: Data
    run: Run


@cache
def victim() -> Victim:
    clean, test = (worlds.pictures(n, 6, noise=0.5, seed=n) for n in (360, 120))
    build = factory({"name": "cnn", "channels": [8], "hidden": 16}, (1, 8, 8), 6)
    run = Run.on("cpu", origin=Origin(build, RECIPE, 0))
    train = SCENARIO.poison(clean, 0)
    model = Origin(build, RECIPE, 0).make(train, run)
    return Victim(model, train, SCENARIO(clean, 0), test, run)


# --- Who is poisoned ----------------------------------------------------------------------------


def test_the_trigger_finds_those_that_bear_it() -> None:
    here = victim()
    found = bearers(SCENARIO.attack, here.train)
    assert sorted(found.tolist()) == sorted(here.split.forget.ids.tolist())


def test_an_image_of_another_class_that_bears_it_is_not_found() -> None:
    """Its label is its own: whoever put the trigger there has not poisoned it."""
    images = Patch(1)(torch.zeros(3, 1, 4, 4))
    data = Arrays(images, torch.tensor([0, 1, 1]), torch.tensor([7, 8, 9]))
    assert bearers(Attack(Patch(1), 1), data).tolist() == [8, 9]


def test_a_trigger_that_nobody_bears_is_said() -> None:
    for attack in (Attack(Patch(2), 1), Attack(Blend(0.5), 1)):
        with pytest.raises(ValueError, match="No training image of class 1 bears the trigger"):
            bearers(attack, worlds.pictures(30))


@given(n=st.integers(3, 30), d=st.integers(1, 8), seed=st.integers(0, 1000))
def test_outliers_lie_along_the_first_principal_component(n: int, d: int, seed: int) -> None:
    """Against the covariance's eigenvectors in float64; the component's sign is nobody's."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=torch.float64) + 3.0
    centred = x.numpy() - x.numpy().mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    if d > 1 and values[-1] - values[-2] < 1e-3 * values[-1]:
        return
    expected = (centred @ vectors[:, -1]) ** 2
    assert np.allclose(outliers(x).numpy(), expected, atol=1e-8)


class Told(nn.Module):
    """A linear layer that hears the input as it is: its penultimate features."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def test_the_few_that_lie_apart_are_suspected() -> None:
    """Of one class; images of others lie farther still, and are no business of its."""
    x = 0.1 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    x[[3, 8, 21], 1] += 2.0
    x[30:] += 50.0
    data = Arrays(x, (torch.arange(40) >= 30).long(), 100 + torch.arange(40))
    assert sorted(suspects(Told(), data, 0, share=0.1).tolist()) == [103, 108, 121]
    assert len(suspects(Told(), data, 0)) == 15
    assert len(suspects(Told(), data, 0, share=0.001)) == 1


def test_suspects_rejects() -> None:
    here = victim()
    with pytest.raises(ValueError, match=r"share 1\.0 must lie between"):
        suspects(here.model, here.train, 1, 1.0)
    with pytest.raises(ValueError, match="Class 9 has 0 training images"):
        suspects(here.model, here.train, 9)


# --- The cleansing ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explodes:
    """A method whose rate is too high."""

    reads: ClassVar[frozenset[Part]] = frozenset()

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        raise FloatingPointError("The loss is nan")


@dataclass(frozen=True)
class Ruins:
    """A method that forgets everything."""

    reads: ClassVar[frozenset[Part]] = frozenset()

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        with torch.no_grad():
            for weight in model.parameters():
                weight.zero_()
        return model


def test_the_trigger_is_forgotten_and_accuracy_is_not() -> None:
    here = victim()
    before = laws.snapshot(here.model)
    method = L1Sparse(replace(RECIPE, epochs=30, lr=0.3), gamma=2e-3)
    done = cleanse(here.model, here.split, here.test, here.run, [method], SCENARIO.attack)
    laws.assert_same(before, laws.snapshot(here.model))
    assert done.gone
    assert done.before["asr"] > 90
    assert done.after["asr"] < 10
    assert done.after["sa"] > done.before["sa"] - 3
    assert done.after == judge(done.model, here.split, here.test, SCENARIO.attack)


@pytest.mark.parametrize(
    ("methods", "taken", "gone"),
    [
        ([Original(), Retrain(), Ruins()], Retrain, True),  # the first that manages
        ([Explodes(), Retrain()], Retrain, True),
        ([Original(), Ruins()], Original, False),  # better obedient than useless
        ([Ruins()], Ruins, False),
    ],
)
def test_which_attempt_is_taken(methods: Sequence, taken: type, gone: bool) -> None:
    here = victim()
    done = cleanse(here.model, here.split, here.test, here.run, methods)
    assert type(done.method) is taken
    assert done.gone is gone
    assert "asr" not in done.after  # nobody told the trigger


def test_no_method_is_said() -> None:
    here = victim()
    for methods in ([], [Explodes()]):
        with pytest.raises(ValueError, match="No method came to an end"):
            cleanse(here.model, here.split, here.test, here.run, methods)


def test_attempts_rise() -> None:
    made = list(attempts(replace(RECIPE, schedule="step")))
    assert [one.recipe.lr for one in made] == [0.01, 0.1, 0.3, 0.3, 0.1, 0.1]  # pyright: ignore
    assert [one.recipe.schedule for one in made] == ["constant"] * 4 + ["cosine"] * 2  # pyright: ignore
    assert all(one.recipe.batch_size == 32 for one in made)  # pyright: ignore
