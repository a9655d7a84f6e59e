"""Linear CKA: both forms, a loop, what it is blind to, and the layers of real models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import laws
import worlds
from oblivio.core import Split, Trial
from oblivio.metrics._features import Layer, layers
from oblivio.metrics.cka import CKA, PARTS, SIDES, cka


def slow(x: Tensor, y: Tensor) -> float:
    """By the definition of HSIC with linear kernels, with the centring matrix written out."""
    n = len(x)
    centre = torch.eye(n).double() - 1 / n
    grams = [
        torch.tensor([[float(a @ b) for b in z] for a in z], dtype=torch.float64)
        for z in (x.double().detach(), y.double().detach())
    ]
    k, l = (centre @ gram @ centre for gram in grams)
    return float(torch.trace(k @ l) / (torch.trace(k @ k) * torch.trace(l @ l)).sqrt())


@given(st.integers(2, 12), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_agrees_with_the_definition(n: int, p: int, q: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=draw) + 3
    y = torch.randn(n, q, generator=draw) + x[:, :1]
    assert cka(x, y) == pytest.approx(slow(x, y), abs=1e-5)


@given(st.integers(3, 30), st.integers(0, 99))
def test_is_blind_to_rotation_scale_and_offset_and_to_nothing_else(n: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, n, 8, generator=draw, dtype=torch.float64).unbind()
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=draw, dtype=torch.float64)).Q
    same = cka(x, 0.1 * x @ rotation - 7)
    assert same == pytest.approx(1)
    assert same is not None
    assert same <= 1
    stretched = x * torch.tensor([10.0] + [1.0] * 7)
    for other in (stretched, x + noise):
        found = cka(x, other)
        assert found is not None
        assert 0 <= found < 0.999
        assert found == pytest.approx(cka(other, x))


def test_what_does_not_vary_has_no_number() -> None:
    x = torch.randn(6, 3)
    flat = torch.full((6, 4), 0.3)
    assert cka(x, flat) is None
    assert cka(flat * (1 + 1e-7 * torch.arange(6))[:, None], x) is None
    assert cka(x[:1], x[:1]) is None
    assert cka(x * torch.nan, x) is None


def test_the_sides_are_those_of_the_trial() -> None:
    here = laws.standard()
    retrained = CKA()(laws.trial(), here.run)
    original = CKA()(laws.trial(here.original), here.run)
    assert set(retrained) == {f"cka_{side}_{part}" for side in SIDES for part in PARTS}
    for part in PARTS:
        assert retrained[f"cka_retrain_{part}"] == pytest.approx(1)
        assert original[f"cka_original_{part}"] == pytest.approx(1)
        assert retrained[f"cka_original_{part}"] == pytest.approx(original[f"cka_ceiling_{part}"])
        assert original[f"cka_retrain_{part}"] == original[f"cka_ceiling_{part}"] < 1
        assert retrained[f"cka_null_{part}"] == original[f"cka_null_{part}"] < 1
    again = here.origin.another().make(here.split.retain, here.run)
    found = CKA()(laws.trial(again), here.run)
    assert found["cka_retrain_test"] == found["cka_null_test"]


def test_all_layers_are_an_exhibit() -> None:
    here = laws.standard()
    found = CKA(layers="all")(laws.trial(), here.run)
    names = layers(here.original, here.test)
    assert list(found["cka_layers"]) == names == ["0", "5", "7"]
    assert all(set(one) == set(CKA.scores) for one in found["cka_layers"].values())
    first, batch = found["cka_layers"]["0"], here.split.forget.inputs  # pyright: ignore
    models = [here.original, here.origin.make(here.split.retain, here.run)]
    one, two = (model[0](batch).flatten(1) for model in models)  # pyright: ignore
    assert first["cka_ceiling_forget"] == pytest.approx(slow(one, two), abs=1e-5)
    numbers = {k: v for k, v in found.items() if k != "cka_layers"}
    assert numbers == CKA()(laws.trial(), here.run)


def test_layers_come_in_the_order_of_execution_and_leave_the_model_alone() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first, self.idle = nn.Linear(5, 3), nn.Linear(64, 5), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(self.first(x.flatten(1)).repeat(1, 13)[:, :64]))

    model, data = Backwards(), worlds.pictures(4)
    before = laws.snapshot(model)
    assert layers(model, data) == ["first", "last"]
    assert Layer(model, "first")(data.inputs).shape == (4, 5)
    laws.assert_same(before, laws.snapshot(model))
    # Layers that not all models have are left out.
    here = laws.standard("mlp")
    names = layers(here.original, here.test)
    found = CKA(layers="all")(Trial(here.original, model, here.split, here.test), here.run)
    assert found["cka_layers"] == {}
    assert len(names) == 2


def test_one_example_has_numbers_on_test_data_only() -> None:
    here = laws.standard()
    split = Split.of(here.split.retain, here.split.retain.ids[:1])
    trial = Trial(here.original, here.original, split, here.test)
    assert set(CKA()(trial, here.run)) == {f"cka_{side}_test" for side in SIDES}
    only = worlds.pictures(6).take(torch.tensor([2, 5]))
    gone = replace(laws.trial(class_wise=True), test=only)
    assert set(CKA()(gone, here.run)) == {f"cka_{side}_forget" for side in SIDES}


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(ValueError, match="Did you mean last"):
        CKA(layers="lest")  # pyright: ignore
    with pytest.raises(ValueError, match="2 or more"):
        CKA(most=1)
    with pytest.raises(ValueError, match="CKA compares with a retrained model"):
        CKA()(laws.trial(), replace(laws.standard().run, origin=None))
    convolution = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    with pytest.raises(ValueError, match=r"executes no nn\.Linear"):
        CKA()(laws.trial(convolution), laws.standard().run)
