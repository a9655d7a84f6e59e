"""The Fisher diagonal agrees with a loop over single examples, whatever the batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import laws
import oracles
import oracles_fisher
import worlds
from oblivio.curvature.fisher import diagonal
from oblivio.data.arrays import Arrays


def small(seed: int = 0) -> tuple[nn.Module, Arrays]:
    """A network with convolution, BatchNorm and dropout, in float64, and data."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(48, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    )
    data = worlds.pictures(20, 3, (1, 6, 6), dtype=torch.float64)
    model.double()(data.inputs)  # gives BatchNorm statistics of its own
    return model.eval(), data


def assert_near(one: dict[str, Tensor], two: dict[str, Tensor], error: float) -> None:
    """Relative to the largest number of each parameter."""
    assert list(one) == list(two)
    for name in one:
        assert one[name].shape == two[name].shape
        assert one[name].dtype == torch.float64
        worst = float((one[name] - two[name]).abs().max())
        assert worst <= error * float(two[name].abs().max()), name


class Restless(nn.Module):
    """Draws random numbers in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_batch_of_one_loop(seed: int) -> None:
    model, data = small(seed)
    expected = oracles_fisher.fisher(model, data, data.labels)
    for size in (1, 7, 100):
        assert_near(diagonal(model, data, chunk=size), expected, 1e-12)


def test_squaring_the_mean_gradient_is_something_else() -> None:
    """It shrinks with the batch: at 20 examples to a small part of the truth."""
    model, data = small()
    found = diagonal(model, data)
    mean = oracles.gradient(model, data.inputs, data.labels)
    wrong = sum(float(slope.square().sum()) for slope in mean.values())
    right = sum(float(value.sum()) for value in found.values())
    assert wrong < 0.4 * right
    with pytest.raises(AssertionError):
        assert_near(found, {name: slope.square() for name, slope in mean.items()}, 0.5)


def test_neither_batch_size_nor_order_nor_company_matters() -> None:
    model, data = small()
    turned = data.take(torch.arange(20).flip(0))
    halves = [data.take(torch.arange(8)), data.take(torch.arange(8, 20))]
    for kind in ("data", "model"):
        whole = diagonal(model, data, labels=kind)
        assert_near(diagonal(model, data, labels=kind, chunk=3), whole, 1e-12)
        assert_near(diagonal(model, turned, labels=kind), whole, 1e-12)
        one, two = (diagonal(model, half, labels=kind) for half in halves)
        joined = {name: (8 * one[name] + 12 * two[name]) / 20 for name in one}
        assert_near(joined, whole, 1e-12)


def test_float32_is_near_to_float64() -> None:
    model, data = small()
    exact = diagonal(model, data)
    single = replace(data, inputs=data.inputs.float())
    assert_near(diagonal(model.float(), single), exact, 1e-5)


def test_labels_from_the_model_give_the_fisher_information_in_expectation() -> None:
    model, data = small()
    few = data.take(torch.arange(2))
    exact = oracles_fisher.expected_fisher(model, few)
    copies = few.take(torch.arange(2).repeat(500))
    assert_near(
        diagonal(model, replace(copies, ids=torch.arange(1000)), labels="model"), exact, 0.15
    )
    with pytest.raises(AssertionError):
        assert_near(diagonal(model, few), exact, 0.15)


def test_drawn_labels_depend_on_the_seed_and_are_probable() -> None:
    """A model that is sure draws what it is sure of."""
    model, data = small()
    one, two = (diagonal(model, data, labels="model", seed=seed) for seed in (1, 2))
    assert any(not torch.equal(one[name], two[name]) for name in one)
    with torch.no_grad():
        model.get_parameter("7.weight").mul_(0)
        model.get_parameter("7.bias").copy_(torch.tensor([0.0, 60.0, 0.0]))
    ones = torch.ones(20, dtype=torch.int64)
    assert_near(
        diagonal(model, data, labels="model"), oracles_fisher.fisher(model, data, ones), 1e-12
    )


def test_the_model_the_data_and_the_random_state_stay() -> None:
    here = laws.standard()
    model = here.original.train()
    next(model.children()).training = False
    before = laws.snapshot(model)
    for kind in ("data", "model"):
        with laws.untouched_randomness():
            diagonal(model, here.split.retain, labels=kind)
    laws.assert_same(before, laws.snapshot(model))


def test_only_trainable_weights_have_an_entry() -> None:
    model, data = small()
    model.get_parameter("0.weight").requires_grad_(False)
    found = diagonal(model, data)
    assert "0.weight" not in found
    assert_near(found, oracles_fisher.fisher(model, data, data.labels), 1e-12)


def test_what_cannot_be_done_is_said(unchecked: None) -> None:
    model, data = small()
    with pytest.raises(ValueError, match="data, model"):
        diagonal(model, data, labels="true")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="no examples"):
        diagonal(model, data.take(torch.arange(0)))
    with pytest.raises(ValueError, match="differs from one pass to the next"):
        diagonal(nn.Sequential(Restless(), model), data)
    with pytest.raises(ValueError, match="no trainable parameters"):
        diagonal(model.requires_grad_(False), data)
