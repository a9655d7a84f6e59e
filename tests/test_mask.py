"""A mask says which weights stay, and `fit` holds it whatever the optimiser does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import oracles
import worlds
from oblivio.core import Run, derive
from oblivio.mask import Mask, prunable, zeros
from oblivio.models import factory
from oblivio.train import Recipe, fit

DATA = worlds.pictures(40, 3, (1, 8, 8))
RUN = Run.on("cpu", seed=5)
SMALL = {
    "cnn": {"name": "cnn", "channels": [4], "hidden": 8},
    "mlp": {"name": "mlp", "hidden": [8, 6]},
}


def network(name: str = "cnn") -> nn.Module:
    torch.manual_seed(1)
    return factory(SMALL[name], (1, 8, 8), 3)()


def some_mask(model: nn.Module, share: float = 0.6, seed: int = 0) -> Mask:
    """A random mask; no pruner's."""
    draw = torch.Generator().manual_seed(seed)
    return Mask(
        {n: torch.rand(w.shape, generator=draw) > share for n, w in prunable(model).items()}
    )


def assert_held(mask: Mask, model: nn.Module, *, all_else: bool = True) -> None:
    """What the mask removes is zero, and what it keeps is not."""
    assert mask.held_by(model)
    for name, keep in mask.keep.items():
        weight = model.get_parameter(name)
        assert not bool(weight[~keep].any()), name
        assert not all_else or bool((weight[keep] != 0).all()), name


# --- What can be pruned -------------------------------------------------------------------------


class Shared(nn.Module):
    """A weight that two layers share, and one that the classifier shares with an earlier layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.early, self.last = nn.Linear(4, 3), nn.Linear(4, 3)
        self.two.weight, self.early.weight = self.one.weight, self.last.weight


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (network("cnn"), ["0.weight", "5.weight"]),
        (network("mlp"), ["1.weight", "3.weight"]),
        (nn.Conv2d(1, 2, 3), ["weight"]),
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.ConvTranspose2d(1, 2, 3)), ["0.weight", "1.weight"]),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)), ["0.weight"]),
        (Shared(), ["one.weight"]),
    ],
)
def test_prunable_are_all_layers_but_the_classifier(model: nn.Module, expected: list[str]) -> None:
    assert list(prunable(model)) == expected
    for name, weight in prunable(model).items():
        assert model.get_parameter(name) is weight


@pytest.mark.parametrize("name", ["resnet18", "vgg16_bn"])
def test_of_the_papers_networks_the_convolutions_are_prunable(name: str) -> None:
    with torch.device("meta"):
        model = factory({"name": name}, (3, 32, 32), 10)()
    found = {id(weight) for weight in prunable(model).values()}
    assert found == {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d)}


def test_nothing_to_prune() -> None:
    for model, made_of in ((nn.Linear(2, 2), "Linear"), (nn.Sequential(), "Sequential")):
        with pytest.raises(ValueError, match=f"nothing to prune.*made of {made_of}"):
            prunable(model)
        with pytest.raises(ValueError, match="nothing to prune"):
            Mask.of(model)


def test_zeros_are_counted_among_the_prunable_and_among_all() -> None:
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 2))
    with torch.no_grad():
        model[0].weight.view(-1)[:7] = 0
        model[1].weight.view(-1)[:3] = -0.0
        model[1].bias.fill_(1)
    assert zeros(model) == (7 / 20, 10 / 32)
    assert zeros(nn.Linear(1, 1).requires_grad_(False))[0] == 0


# --- What a mask is -----------------------------------------------------------------------------


def test_a_mask_is_read_off_the_zeros_again() -> None:
    model = network()
    mask = some_mask(model)
    assert not mask.held_by(model)
    assert mask.apply(model) is model
    assert mask.held_by(model)
    found = Mask.of(model)
    assert all(torch.equal(found.keep[name], keep) for name, keep in mask.keep.items())
    assert (found.kept, found.total) == (mask.kept, mask.total)
    assert Mask.of(network()).sparsity == 0


def test_a_mask_counts() -> None:
    mask = Mask({"a": torch.tensor([True, False, False, False]), "b": torch.zeros(2, 2).bool()})
    assert (mask.kept, mask.total, mask.sparsity, mask.collapsed) == (1, 8, 0.875, ["b"])
    assert repr(mask) == "Mask(1 of 8 weights stay, 87.50 % zero)"
    assert Mask({}).sparsity == 0


def test_a_mask_holds_weights_of_any_type_and_layout() -> None:
    model = network().double().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    mask = some_mask(model)
    weight = model.get_parameter("0.weight")
    before, layout = weight.detach().clone(), weight.stride()
    mask.apply(model)
    assert weight.dtype == torch.float64
    assert weight.stride() == layout
    assert torch.equal(weight, before * mask.keep["0.weight"].double())


def test_applying_a_mask_leaves_all_else() -> None:
    model, mask = network(), some_mask(network())
    before = laws.snapshot(model)
    mask.apply(model)
    for name, value in model.state_dict().items():
        expected = before["state"][name]
        if name in mask.keep:
            expected = torch.where(mask.keep[name], expected, 0.0)
        assert torch.equal(value, expected), name
    assert before["trainable"] == laws.snapshot(model)["trainable"]


@pytest.mark.parametrize(
    ("keep", "match"),
    [
        ({"9.weight": torch.ones(2).bool()}, r"9\.weight is not a parameter of the model"),
        ({"0.weight": torch.ones(2).bool()}, r"0\.weight is \(4, 1, 3, 3\), the mask \(2,\)"),
        ({f"{i}.x": torch.ones(1).bool() for i in range(5)}, "and 2 more"),
        ({"1.running_mean": torch.ones(4).bool()}, "is not a parameter"),
    ],
)
def test_a_mask_that_does_not_fit(keep: dict[str, Tensor], match: str) -> None:
    mask, model = Mask(keep), network()
    before = laws.snapshot(model)
    for use in (mask.check, mask.apply, mask.holder, mask.held_by):
        with pytest.raises(ValueError, match=f"The mask does not fit the model: .*{match}"):
            use(model)
    with pytest.raises(ValueError, match=f"The mask does not fit the model: .*{match}"):
        fit(model, DATA, Recipe(epochs=1), replace(RUN, mask=mask))
    laws.assert_same_state(before["state"], model.state_dict())


def test_a_mask_may_name_a_shared_weight_either_way() -> None:
    for name in ("one.weight", "two.weight"):
        model = Shared()
        Mask({name: torch.eye(4).bool()}).apply(model)
        assert int((model.two.weight != 0).sum()) == 4


# --- Training with a mask -----------------------------------------------------------------------


OPTIMISERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.1},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one_cycle"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_fit_holds_the_mask(name: str, schedule: str, precision: str) -> None:
    """Also after every single step, and for a model that was dense when it came."""
    model = network()
    mask = some_mask(model)
    seen: list[bool] = []
    # What is called before a step's loss is taken sees the weights as the last step left them.
    model.register_forward_pre_hook(
        lambda *_: seen.append(all(not m[~mask.keep[n]].any() for n, m in prunable(model).items()))
    )
    settings = {"epochs": 3, "lr": 0.05, "batch_size": 16, **OPTIMISERS[name]}
    run = Run.on("cpu", precision=precision, mask=mask)
    dtype = torch.float64 if precision == "64-true" else torch.float32
    data = replace(DATA, inputs=DATA.inputs.to(dtype))
    trained = fit(model, data, Recipe(schedule=schedule, **settings), run)  # pyright: ignore
    assert len(seen) == 9
    assert all(seen)
    assert_held(mask, trained)
    assert float((worlds.weights(trained) - worlds.weights(network())).norm()) > 0.1


def test_fit_without_a_step_applies_the_mask_all_the_same() -> None:
    model, mask = network(), some_mask(network())
    assert_held(mask, fit(model, DATA, Recipe(epochs=0), replace(RUN, mask=mask)))
    stopped = fit(network(), DATA, Recipe(), replace(RUN, mask=mask), stop=lambda _: True)
    for one, two in zip(model.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(one, two)


def test_fit_keeps_the_best_epoch_with_its_zeros() -> None:
    model, mask = network(), some_mask(network())
    held = worlds.pictures(20, 3, (1, 8, 8), seed=3)
    recipe = Recipe(epochs=5, lr=0.3, batch_size=16)
    assert_held(mask, fit(model, DATA, recipe, replace(RUN, mask=mask), validation=held))


def test_what_is_called_after_a_step_cannot_fill_the_zeros() -> None:
    model, mask = network(), some_mask(network())

    def fill(_: int, __: float) -> None:
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.01)

    fit(model, DATA, Recipe(epochs=2), replace(RUN, mask=mask), after_step=fill)
    assert_held(mask, model, all_else=False)


def test_a_mask_that_keeps_all_changes_nothing() -> None:
    every = Mask({name: torch.ones_like(w).bool() for name, w in prunable(network()).items()})
    recipe = Recipe(epochs=3, lr=0.05, batch_size=16)
    with_mask = fit(network(), DATA, recipe, replace(RUN, mask=every))
    laws.assert_same_state(with_mask.state_dict(), fit(network(), DATA, recipe, RUN).state_dict())


class Held:
    """An update of weights by hand, after which the removed ones are set to zero."""

    def __init__(self, update: oracles.SGD | oracles.Adam, factors: list[Tensor]) -> None:
        self.update, self.factors = update, factors

    def __call__(self, index: int, weight: Tensor, slope: Tensor, rate: float) -> Tensor:
        return self.update(index, weight, slope, rate) * self.factors[index]


UPDATES: dict[str, Callable[[], oracles.SGD | oracles.Adam]] = {
    "sgd": lambda: oracles.SGD(0.9, 0.1, nesterov=False),
    "nesterov": lambda: oracles.SGD(0.9, 0.1, nesterov=True),
    "adam": lambda: oracles.Adam(0.1, decoupled=False),
    "adamw": lambda: oracles.Adam(0.1, decoupled=True),
}


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_masked_fit_is_the_plain_loop(name: str, kind: str, schedule: str) -> None:
    data = replace(DATA, inputs=DATA.inputs.double())
    start = network(kind).double()
    mask = some_mask(start)
    recipe = Recipe(**{"epochs": 4, "lr": 0.05, "batch_size": 16, **OPTIMISERS[name]})
    found = fit(
        copy.deepcopy(start),
        data,
        replace(recipe, schedule=schedule),
        replace(RUN, mask=mask),  # pyright: ignore
    )
    factors = [
        mask.keep[n].double() if n in mask.keep else torch.ones_like(p)
        for n, p in start.named_parameters()
    ]
    passes = [data.batches(16, shuffle=derive(RUN.seed, "epoch", e)) for e in range(4)]
    rates = oracles.rates(schedule, recipe.lr, 4, 3)
    held: Any = Held(UPDATES[name](), factors)
    expected = oracles.train(mask.apply(start), passes, held, rates)
    for key, weight in found.state_dict().items():
        torch.testing.assert_close(weight, expected.state_dict()[key], rtol=1e-8, atol=1e-10)
    assert_held(mask, found)
