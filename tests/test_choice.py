"""Training some weights only: those learn as by hand, and of all others no bit changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import oracles
import worlds
from oblivio.choice import Chosen, check, frozen, restorer
from oblivio.core import Run, derive
from oblivio.mask import Mask
from oblivio.train import Recipe, fit

RUN = Run.on("cpu", seed=5)
DATA = worlds.pictures(26, 3, (4,), dtype=torch.float64)

OPTIMISERS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "momentum": ({"weight_decay": 0.1}, lambda: oracles.SGD(0.9, 0.1, False)),
    "nesterov": ({"weight_decay": 0.1, "nesterov": True}, lambda: oracles.SGD(0.9, 0.1, True)),
    "adam": (
        {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
        lambda: oracles.Adam(0.1, decoupled=False),
    ),
    "adamw": (
        {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
        lambda: oracles.Adam(0.1, decoupled=True),
    ),
}


def start() -> nn.Module:
    torch.manual_seed(0)
    return worlds.tiny_network(3, (4,)).double()


def drawn(model: nn.Module, share: float = 0.3, seed: int = 1) -> dict[str, Tensor]:
    """Some weights of every parameter."""
    draw = torch.Generator().manual_seed(seed)
    return {n: torch.rand(p.shape, generator=draw) < share for n, p in model.named_parameters()}


def bits(value: Tensor) -> Tensor:
    value = value.detach().contiguous()
    return value.view({4: torch.int32, 8: torch.int64}[value.element_size()])


def assert_still(before: nn.Module, after: nn.Module, chosen: Chosen) -> None:
    """Every weight but the chosen ones has the same bits; of the chosen ones, some have others."""
    moved = False
    for name, weight in before.named_parameters():
        some = chosen.get(name, torch.zeros(weight.shape, dtype=torch.bool))
        same = bits(weight) == bits(after.get_parameter(name))
        assert bool(same[~some].all()), name
        moved |= not bool(same.all())
    assert moved


class Some:
    """An update by hand, of some weights only."""

    def __init__(self, update: Any, chosen: list[Tensor]) -> None:
        self.update, self.chosen = update, chosen

    def __call__(self, index: int, weight: Tensor, slope: Tensor, rate: float) -> Tensor:
        return torch.where(self.chosen[index], self.update(index, weight, slope, rate), weight)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_chosen_weights_learn_as_by_hand_and_others_stay(name: str, pruned: bool) -> None:
    settings, update = OPTIMISERS[name]
    recipe = Recipe(**{"epochs": 4, "lr": 0.1, "batch_size": 8, **settings})
    model, run = start(), RUN
    chosen = drawn(model)
    free = dict(chosen)
    if pruned:
        mask = Mask({"1.weight": drawn(model, 0.5, seed=2)["1.weight"]})
        mask.apply(model)
        run = Run.on("cpu", seed=5, mask=mask)
        free["1.weight"] = chosen["1.weight"] & mask.keep["1.weight"]
        assert not torch.equal(free["1.weight"], chosen["1.weight"])
    before = copy.deepcopy(model)
    batches = [list(DATA.batches(8, shuffle=derive(5, "epoch", i), augment=True)) for i in range(4)]
    expected = oracles.train(
        copy.deepcopy(model),
        batches,
        Some(update(), list(free.values())),  # pyright: ignore
        oracles.rates("constant", recipe.lr, 4, 4),
    )
    found = fit(model, DATA, recipe, run, only=chosen)
    for (key, a), (_, b) in zip(found.named_parameters(), expected.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=key)
    if pruned:  # what is pruned and chosen may end as −0.0, as in any masked training
        assert run.mask is not None
        assert run.mask.held_by(found)
        chosen = {
            **chosen,
            "1.weight": chosen["1.weight"] & ~(before.get_parameter("1.weight") == 0),
        }
        with torch.no_grad():
            before.get_parameter("1.weight").add_(0.0)
            found.get_parameter("1.weight").add_(0.0)
    assert_still(before, found, chosen)


def test_even_the_sign_of_zero_stays_and_what_is_not_finite() -> None:
    """0 · w + w₀ in numbers would lose both."""
    model = nn.Linear(4, 3, dtype=torch.float32)
    odd = torch.tensor([-0.0, 0.0, torch.inf, torch.nan, -0.0, 1e-45])
    with torch.no_grad():
        model.weight.view(-1)[:6] = odd
    chosen = {"weight": torch.arange(12).view(3, 4) >= 6}
    before = copy.deepcopy(model)
    restore = restorer(model, chosen)
    with torch.no_grad():
        model.weight.fill_(torch.nan)
        model.weight.view(-1)[6:] = 7
    restore()
    assert torch.equal(bits(model.weight).view(-1)[:6], bits(before.weight).view(-1)[:6])
    assert model.weight.view(-1)[6:].tolist() == [7] * 6


def test_parameters_that_are_not_named_stay_as_a_whole_and_are_trainable_again() -> None:
    model = start()
    names = [name for name, _ in model.named_parameters()]
    last = {names[-1]: torch.ones(3, dtype=torch.bool)}
    seen: list[bool] = []

    def look(loss: float) -> bool:
        seen.extend(p.requires_grad for p in model.parameters())
        return False

    before = copy.deepcopy(model)
    fit(model, DATA, Recipe(epochs=2, batch_size=8), RUN, only=last, stop=look)
    assert set(seen[:4]) == {False, True}
    assert_still(before, model, last)
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_training_that_fails_leaves_all_trainable() -> None:
    model = start()
    only = {"1.bias": torch.ones(5, dtype=torch.bool)}
    with pytest.raises(FloatingPointError, match="learning rate"):
        fit(model, DATA, Recipe(epochs=2, lr=1e300, batch_size=8), RUN, only=only)
    assert all(p.requires_grad for p in model.parameters())


def test_what_was_frozen_before_stays_frozen() -> None:
    model = start()
    model.get_parameter("1.weight").requires_grad_(False)
    with frozen(model, {"1.bias": torch.ones(5, dtype=torch.bool)}):
        assert [p.requires_grad for p in model.parameters()] == [False, True, False, False]
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]


def test_all_weights_chosen_is_a_plain_training() -> None:
    recipe = Recipe(epochs=2, batch_size=8)
    model = start()
    every = {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    one, two = fit(start(), DATA, recipe, RUN), fit(model, DATA, recipe, RUN, only=every)
    laws.assert_same_state(one.state_dict(), two.state_dict())


@pytest.mark.parametrize("channels_last", [False, True])
def test_convolutions_in_any_layout(channels_last: bool) -> None:
    here = laws.standard()
    run = Run.on("cpu", seed=5, channels_last=channels_last)
    chosen = drawn(here.original)
    before = copy.deepcopy(here.original)
    fit(here.original, here.split.retain, Recipe(epochs=2, batch_size=8), run, only=chosen)
    assert_still(before, here.original, chosen)


def test_statistics_move_unless_told_otherwise() -> None:
    here = laws.standard()
    only = {"7.bias": torch.ones(3, dtype=torch.bool)}
    for statistics in (True, False):
        model = copy.deepcopy(here.original)
        fit(
            model,
            here.split.retain,
            Recipe(epochs=1, batch_size=8),
            RUN,
            only=only,
            statistics=statistics,
        )
        same = [
            torch.equal(a, b) for a, b in zip(model.buffers(), here.original.buffers(), strict=True)
        ]
        assert set(same) == {not statistics}


def test_without_statistics_normalisation_is_a_fixed_affine_map() -> None:
    """The step's gradient is then that of the model in eval mode, and dropout still draws."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    model.get_buffer("0.running_var").fill_(4.0)
    slopes = oracles.gradient(copy.deepcopy(model).eval(), DATA.inputs, DATA.labels)
    before = copy.deepcopy(model)
    recipe = Recipe(epochs=1, lr=0.3, batch_size=100, weight_decay=0)
    fit(model, DATA, recipe, RUN, statistics=False)
    for name, weight in before.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), weight - 0.3 * slopes[name])
    heard: list[float] = []
    drops = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9)).double()
    fit(drops, DATA, recipe, RUN, statistics=False, stop=lambda loss: bool(heard.append(loss)))
    assert heard[0] != pytest.approx(
        oracles.cross_entropy(drops[0](DATA.inputs), DATA.labels), abs=1e-3
    )


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        ({"nothing": torch.ones(3, dtype=torch.bool)}, "nothing is not a trainable parameter"),
        ({"1.bias": torch.ones(4, dtype=torch.bool)}, r"1.bias is \(5,\), the choice \(4,\)"),
        ({"1.bias": torch.zeros(5, dtype=torch.bool)}, "No weight is chosen"),
        ({}, "No weight is chosen"),
        ({"1.weight": torch.ones(5, 4, dtype=torch.bool)}, "1.weight is not a trainable"),
        (
            {name: torch.ones(1, dtype=torch.bool) for name in "abcde"},
            "a is not .* c is not .*; and 2 more",
        ),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(chosen: Chosen, match: str) -> None:
    model = start()
    model.get_parameter("1.weight").requires_grad_(False)
    with pytest.raises(ValueError, match=match):
        check(model, chosen)
    with pytest.raises(ValueError, match=match):
        fit(model, DATA, Recipe(epochs=1), RUN, only=chosen)
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
