"""The head is found and replaced, and what is trained is the head alone or all of the model."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import laws
import worlds
from oblivio.core import Run, derive, predict, seeded
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask
from oblivio.prune.magnitude import Magnitude
from oblivio.train import Recipe, fit
from oblivio.transfer import check_target, features, head, heads, probed, tuned, with_head

RUN = Run.on("cpu", seed=3)
RECIPE = Recipe(epochs=4, lr=0.1, batch_size=16)
TARGET = worlds.pictures(40, 5, seed=9)


class Odd(nn.Module):
    """Registers its head first and a layer that is never executed last."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.answer, self.flat = nn.Linear(6, 3), nn.Flatten()
        self.body, self.factor = nn.Linear(64, 6), factor
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.answer(self.body(self.flat(x)).relu())


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())


def cnn() -> nn.Module:
    return laws.standard().original


# --- The head -----------------------------------------------------------------------------------


def test_the_head_is_the_last_linear_layer_executed() -> None:
    assert head(Odd(), TARGET) == "answer"
    assert head(cnn(), TARGET) == "7"
    assert head(nn.Linear(64, 3), worlds.pictures(4, shape=(64,))) == ""


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (convolutional(), "executes no nn.Linear layer, so there is none to replace"),
        (Odd(2.0), "answer, does not give the model's answers, so it cannot be replaced"),
    ],
    ids=["none", "scaled"],
)
def test_a_head_that_cannot_be_replaced(model: nn.Module, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        head(model, TARGET)


def test_another_head_leaves_the_model_and_its_body_as_they_are() -> None:
    model = cnn()
    before = laws.snapshot(model)
    other = with_head(model, head(model, TARGET), nn.Linear(16, 5))
    laws.assert_same(before, laws.snapshot(model))
    assert predict(other, TARGET).logits.shape == (40, 5)
    own, new = model.state_dict(), other.state_dict()
    assert all(torch.equal(own[name], new[name]) for name in own if not name.startswith("7."))


def test_features_are_what_the_head_hears() -> None:
    model = Odd()
    (batch,) = TARGET.batches(99)
    expected = model.body(batch.inputs.flatten(1)).relu()
    assert torch.equal(features(model, TARGET).inputs, expected.detach())
    with torch.no_grad():
        model.body.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="the model is ruined"):
        features(model, TARGET)


# --- Training -----------------------------------------------------------------------------------


def test_many_heads_are_each_trained_on_standardised_features_alone() -> None:
    """Agrees with one training after another, in terms of z; a constant feature has no weight."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for k in range(9):
        h = 10**k * torch.randn(30, 4, generator=draw) + 3 * 10**k
        h[:, 2] = 7.0
        rows.append(Arrays(h, torch.arange(30) % 3))
    for own, layer in zip(rows, heads(rows, 3, RECIPE, RUN), strict=True):
        h = own.inputs.double()
        z = (h - h.mean(0)) / h.std(0, correction=0).clamp(min=1e-9)
        z[:, 2] = 0
        with seeded(derive(RUN.seed, "head")):
            expected = nn.Linear(4, 3)
        data = replace(own, inputs=z.float())
        fit(expected, data, RECIPE, replace(RUN, seed=derive(RUN.seed, "order")))
        torch.testing.assert_close(
            predict(layer, own).logits, predict(expected, data).logits, rtol=1e-3, atol=1e-3
        )
        assert not bool(layer.weight[:, 2].any())


def test_a_probe_trains_the_head_and_nothing_else() -> None:
    model = cnn()
    before = laws.snapshot(model)
    made = probed(model, TARGET, 5, RECIPE, RUN)
    laws.assert_same(before, laws.snapshot(model))
    own, new = model.state_dict(), made.state_dict()
    assert all(torch.equal(own[name], new[name]) for name in own if not name.startswith("7."))
    assert not made.training
    right = (predict(made, TARGET).logits.argmax(1) == TARGET.labels).double().mean()
    assert float(right) > 0.5


def test_full_fine_tuning_trains_all_and_keeps_zeros_where_asked() -> None:
    model = cnn()
    Magnitude(0.5)(model, TARGET, RUN).apply(model)
    zero = ~Mask.of(model).keep["0.weight"]
    before = laws.snapshot(model)
    sparse, dense = (tuned(model, TARGET, 5, RECIPE, RUN, sparse=s) for s in (True, False))
    laws.assert_same(before, laws.snapshot(model))
    assert not bool(sparse.get_parameter("0.weight")[zero].any())
    assert bool(dense.get_parameter("0.weight")[zero].all())
    for made in (sparse, dense):
        assert not torch.equal(made.get_parameter("0.weight"), model.get_parameter("0.weight"))
        assert predict(made, TARGET).logits.shape == (40, 5)


def test_it_is_the_same_for_the_same_seed_and_leaves_chance_alone() -> None:
    made = []
    for state, seed in ((1, 3), (2, 3), (1, 4)):
        run = replace(RUN, seed=seed)
        with laws.random_state(state), laws.untouched_randomness():
            made.append(tuned(copy.deepcopy(cnn()), TARGET, 5, RECIPE, run).state_dict())
    laws.assert_same_state(made[0], made[1])
    assert not torch.equal(made[0]["7.weight"], made[2]["7.weight"])


# --- Targets that do not fit --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (TARGET.take(torch.arange(0)), "The target has no training data"),
        (TARGET.take(torch.tensor([0, 5])), "All 2 training examples of the target are of class 0"),
        (
            worlds.pictures(9, shape=(3, 28, 28)),
            r"inputs are 3×28×28, those of the source 1×8×8.*size = 8, channels = 1\}",
        ),
        (worlds.pictures(9, shape=(64,)), "inputs are 64, those of the source 1×8×8.*give data of"),
    ],
    ids=["empty", "one class", "images", "vectors"],
)
def test_targets_that_do_not_fit(target: Arrays, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_target(worlds.pictures(9), target)
