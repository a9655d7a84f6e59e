"""The training loop against a bare loop written by hand, in float64."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import laws
import oracles
import worlds
from oblivio.core import Progress, Run, derive, predict
from oblivio.data.arrays import Arrays, Augment
from oblivio.train import Recipe, count_steps, fit

N, SIZE = 26, 8  # four batches, the last of them of two
RUN = Run.on("cpu", seed=5)
DATA = worlds.pictures(N, 3, (4,), dtype=torch.float64)


def start(features: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return worlds.tiny_network(3, (features,)).double()


def passes(data: Arrays, epochs: int, size: int = SIZE, *, augment: bool = True) -> list[Any]:
    """The batches of every epoch, in the order that the run's seed gives."""
    return [
        list(data.batches(size, shuffle=derive(RUN.seed, "epoch", epoch), augment=augment))
        for epoch in range(epochs)
    ]


def assert_close(one: nn.Module, two: nn.Module, rtol: float = 1e-10) -> None:
    for (name, a), (_, b) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-12, msg=name)


# --- Optimisers and schedules -------------------------------------------------------------------

OPTIMISERS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({"momentum": 0.0, "weight_decay": 0.0}, lambda: oracles.SGD(0, 0, False)),
    "decay": ({"momentum": 0.0, "weight_decay": 0.1}, lambda: oracles.SGD(0, 0.1, False)),
    "momentum": ({"momentum": 0.8, "weight_decay": 0.0}, lambda: oracles.SGD(0.8, 0, False)),
    "both": ({"momentum": 0.8, "weight_decay": 0.1}, lambda: oracles.SGD(0.8, 0.1, False)),
    "nesterov": (
        {"momentum": 0.8, "weight_decay": 0.1, "nesterov": True},
        lambda: oracles.SGD(0.8, 0.1, True),
    ),
    "nesterov without momentum": (
        {"momentum": 0.0, "weight_decay": 0.1, "nesterov": True},
        lambda: oracles.SGD(0, 0.1, False),
    ),
    "adam": (
        {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
        lambda: oracles.Adam(0.1, decoupled=False),
    ),
    "adamw": (
        {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
        lambda: oracles.Adam(0.1, decoupled=True),
    ),
}


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_fit_is_the_bare_loop(name: str, schedule: str) -> None:
    settings, update = OPTIMISERS[name]
    recipe = Recipe(**{"epochs": 4, "batch_size": SIZE, "schedule": schedule, **settings})
    found = fit(start(), DATA, recipe, RUN)
    rates = oracles.rates(schedule, recipe.lr, 4, 4)
    expected = oracles.train(start(), passes(DATA, 4), update(), rates)
    assert_close(found, expected)
    assert float((worlds.weights(found) - worlds.weights(start())).norm()) > 0.05


class Level(nn.Module):
    """One weight; its loss is the weight, so every step is the learning rate itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), 1)


def steps_of(recipe: Recipe, n: int = N) -> list[float]:
    """How far each step goes, seen from outside."""
    seen: list[float] = []

    def look(loss: float) -> bool:
        seen.append(loss)
        return False

    data = worlds.pictures(n, 1, (1,), dtype=torch.float64)
    model = fit(Level(), data, recipe, RUN, loss=lambda logits, _: logits.mean(), stop=look)
    seen.append(float(worlds.weights(model)))
    return [a - b for a, b in itertools.pairwise(seen)]


@pytest.mark.parametrize("n", [24, 25, 26])
@pytest.mark.parametrize("epochs", [1, 3, 8])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_learning_rates_by_their_formulas(schedule: str, epochs: int, n: int) -> None:
    recipe = Recipe(
        epochs=epochs, lr=0.5, batch_size=8, momentum=0, weight_decay=0, schedule=schedule
    )
    expected = oracles.rates(schedule, 0.5, epochs, math.ceil(n / 8))
    assert steps_of(recipe, n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [25, 26])
def test_one_cycle_is_torchs(n: int) -> None:
    epochs, steps = 5, math.ceil(n / 8)
    recipe = Recipe(
        epochs=epochs, lr=0.5, batch_size=8, momentum=0, weight_decay=0, schedule="one_cycle"
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.5, total_steps=epochs * steps + 1, cycle_momentum=False
    )
    expected = []
    for _ in range(epochs * steps):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    found = steps_of(recipe, n)
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0.49 < max(found) <= 0.5
    assert 0.2 < found.index(max(found)) / len(found) < 0.4
    assert found[-1] < 0.02


def test_one_cycle_leaves_the_momentum_alone() -> None:
    """A constant gradient of one: v_t = μ v_{t−1} + 1, whatever the rate does."""
    plain = Recipe(epochs=5, lr=0.5, batch_size=8, momentum=0, weight_decay=0, schedule="one_cycle")
    heavy = Recipe(
        epochs=5, lr=0.5, batch_size=8, momentum=0.6, weight_decay=0, schedule="one_cycle"
    )
    velocity, expected = 0.0, []
    for rate in steps_of(plain):
        velocity = 0.6 * velocity + 1
        expected.append(rate * velocity)
    assert steps_of(heavy) == pytest.approx(expected, abs=1e-12)


def test_milestones_and_gamma_are_the_recipes_own() -> None:
    recipe = Recipe(
        epochs=4,
        lr=1.0,
        batch_size=N,
        momentum=0,
        weight_decay=0,
        schedule="step",
        milestones=(0.25, 1.0),
        gamma=0.5,
    )
    assert steps_of(recipe) == pytest.approx([1.0, 0.5, 0.5, 0.5])


# --- What a step is -----------------------------------------------------------------------------


@given(seed=st.integers(0, 99), n=st.integers(1, 12))
def test_one_step_is_the_mean_of_one_gradient_per_example(seed: int, n: int) -> None:
    """Whatever the order of the examples is."""
    data = worlds.pictures(n, 3, (4,), seed=seed, dtype=torch.float64)
    recipe = Recipe(epochs=1, lr=0.3, batch_size=100, weight_decay=0)
    model = start()
    slopes = oracles.gradient(model, data.inputs, data.labels)
    found = fit(copy.deepcopy(model), data.take(torch.randperm(n)), recipe, RUN)
    for name, weight in model.named_parameters():
        expected = weight - 0.3 * slopes[name]
        torch.testing.assert_close(found.get_parameter(name), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n", [1, 8, 9, 26])
@pytest.mark.parametrize("epochs", [0, 3])
def test_the_steps_are_counted_beforehand(n: int, epochs: int) -> None:
    taken = steps_of(Recipe(epochs=epochs, momentum=0, weight_decay=0, batch_size=8), n)
    assert count_steps(n, Recipe(epochs=epochs, batch_size=8)) == len(taken)


def test_frozen_parameters_stay() -> None:
    model = start()
    frozen = next(model.parameters()).requires_grad_(False)
    before = frozen.clone()
    fit(model, DATA, Recipe(epochs=2, batch_size=SIZE), RUN)
    assert torch.equal(frozen, before)
    assert not frozen.requires_grad
    assert laws.differs(model, start())


def test_own_loss() -> None:
    def twice(logits: Tensor, labels: Tensor) -> Tensor:
        return 2 * nn.functional.cross_entropy(logits, labels)

    slow = Recipe(epochs=2, lr=0.1, batch_size=SIZE, weight_decay=0)
    fast = Recipe(epochs=2, lr=0.2, batch_size=SIZE, weight_decay=0)
    assert_close(fit(start(), DATA, slow, RUN, loss=twice), fit(start(), DATA, fast, RUN))


def test_augmentation_is_used_unless_the_recipe_says_no() -> None:
    images = worlds.pictures(N, 3, (1, 4, 4), dtype=torch.float64)
    data = Arrays(images.inputs, images.labels, images.ids, Augment(1, True))
    found = []
    for augment in (True, False):
        recipe = Recipe(epochs=2, batch_size=SIZE, momentum=0, weight_decay=0, augment=augment)
        found.append(fit(start(16), data, recipe, RUN))
        batches = passes(data, 2, augment=augment)
        rates = oracles.rates("constant", 0.1, 2, 4)
        assert_close(found[-1], oracles.train(start(16), batches, oracles.SGD(0, 0, False), rates))
    assert laws.differs(*found)


def test_recipe_is_fit_with_cross_entropy() -> None:
    recipe = Recipe(epochs=2, batch_size=SIZE)
    laws.assert_same_state(
        recipe(start(), DATA, RUN).state_dict(), fit(start(), DATA, recipe, RUN).state_dict()
    )


def test_fit_trains_in_place_and_gives_eval_mode() -> None:
    model = start().eval()
    assert fit(model, DATA, Recipe(epochs=1), RUN) is model
    assert not any(module.training for module in model.modules())
    untrained = fit(start(), DATA, Recipe(epochs=0), RUN)
    laws.assert_same_state(untrained.state_dict(), start().state_dict())
    assert not untrained.training


def test_fit_trains_in_train_mode() -> None:
    """BatchNorm's statistics move, and dropout draws."""
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()
    fit(model.eval(), DATA, Recipe(epochs=1, batch_size=SIZE), RUN)
    assert int(model.get_buffer("0.num_batches_tracked")) == 4


# --- Validation, stopping, failing --------------------------------------------------------------


def test_validation_keeps_the_first_of_the_best_epochs() -> None:
    recipe = Recipe(epochs=12, lr=0.5, batch_size=SIZE, weight_decay=0)
    held = worlds.pictures(40, 3, (4,), noise=2.0, seed=9, dtype=torch.float64)
    states: list[dict[str, Tensor]] = []
    scores: list[float] = []

    def judge(model: nn.Module) -> None:
        states.append(copy.deepcopy(model.state_dict()))
        scores.append(oracles.percent_right(model(held.inputs), held.labels))

    oracles.train(
        start(),
        passes(DATA, 12),
        oracles.SGD(0.9, 0, False),
        oracles.rates("constant", 0.5, 12, 4),
        judge,
    )
    best = scores.index(max(scores))
    assert 0 < best < 11  # else this would show nothing
    assert len(set(scores)) > 3
    found = fit(start(), DATA, recipe, RUN, validation=held)
    for name, weight in found.named_parameters():
        torch.testing.assert_close(weight.detach(), states[best][name], rtol=1e-8, atol=1e-10)
    assert not found.training


def test_validation_keeps_statistics_too_and_judges_without_augmentation() -> None:
    here = laws.standard()
    train = here.split.retain
    assert isinstance(train, Arrays)
    held = Arrays(here.test.inputs, here.test.labels, here.test.ids, Augment(4, True))  # pyright: ignore
    recipe = Recipe(epochs=6, lr=0.2, batch_size=8)
    scores: list[float] = []

    def watch(event: object) -> None:
        assert isinstance(event, Progress)

    run = Run.on("cpu", seed=1, tell=watch)
    for epochs in range(1, 7):  # a constant rate: a shorter training is a prefix of a longer one
        model = fit(here.origin.fresh(), train, Recipe(epochs=epochs, lr=0.2, batch_size=8), run)
        logits, labels = predict(model, here.test)
        scores.append(oracles.percent_right(logits, labels))
    best = scores.index(max(scores)) + 1
    expected = fit(here.origin.fresh(), train, Recipe(epochs=best, lr=0.2, batch_size=8), run)
    found = fit(here.origin.fresh(), train, recipe, run, validation=held)
    laws.assert_same_state(found.state_dict(), expected.state_dict())


def test_stop_ends_the_training_before_the_step() -> None:
    heard: list[float] = []

    def stop(loss: float) -> bool:
        heard.append(loss)
        return len(heard) == 6

    recipe = Recipe(epochs=9, batch_size=SIZE, weight_decay=0)
    found = fit(start(), DATA, recipe, RUN, stop=stop)
    assert len(heard) == 6
    assert not found.training
    first = passes(DATA, 2)
    expected = oracles.train(
        start(), [first[0], first[1][:1]], oracles.SGD(0.9, 0, False), [0.1] * 5
    )
    assert_close(found, expected)
    # What it hears is the loss of the batch at hand.
    batch = first[0][0]
    assert heard[0] == pytest.approx(oracles.cross_entropy(start()(batch.inputs), batch.labels))


def test_progress_is_told_after_every_epoch() -> None:
    heard: list[Any] = []
    fit(start(), DATA, Recipe(epochs=3, batch_size=SIZE), Run.on("cpu", seed=5, tell=heard.append))
    assert [(event.done, event.total) for event in heard] == [(1, 3), (2, 3), (3, 3)]
    assert all(math.isfinite(event.loss) for event in heard)


@pytest.mark.parametrize("lr", [1e30, 1e200])
def test_a_training_that_blows_up_says_so(lr: float) -> None:
    with pytest.raises(FloatingPointError, match=r"after epoch 1 of 5: the learning rate 1e\+"):
        fit(nn.Linear(4, 3).double(), DATA, Recipe(epochs=5, lr=lr, batch_size=2), RUN)


# --- Layout, precision, compilation -------------------------------------------------------------


def pictures_and_network(dtype: torch.dtype) -> tuple[Arrays, nn.Module]:
    return worlds.pictures(26, 3, (2, 8, 8), dtype=dtype), laws_cnn().to(dtype)


def laws_cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def trained(dtype: torch.dtype = torch.float64, **options: Any) -> nn.Module:
    data, model = pictures_and_network(dtype)
    return fit(model, data, Recipe(epochs=3, batch_size=8), Run.on("cpu", seed=5, **options))


def test_the_layout_changes_nothing_but_rounding() -> None:
    plain = trained(channels_last=False)
    for channels_last in (True, None):
        wide = trained(channels_last=channels_last)
        assert_close(wide, plain, rtol=1e-9)


def test_mixed_precision_trains_in_float32() -> None:
    full = trained(torch.float32)
    mixed = trained(torch.float32, precision="bf16-mixed")
    assert all(p.dtype == torch.float32 for p in mixed.parameters())
    start_, a, b = (worlds.weights(m) for m in (laws_cnn(), full, mixed))
    assert 0 < float((a - b).norm()) < 0.3 * float((a - start_).norm())


@pytest.mark.slow
def test_compilation_changes_nothing_but_rounding() -> None:
    plain, compiled = trained(), trained(compile=True)
    assert type(compiled) is type(plain)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert_close(compiled, plain, rtol=1e-9)


@pytest.mark.gpu
def test_the_gpu_trains_as_the_cpu_does() -> None:
    data, model = pictures_and_network(torch.float64)
    recipe = Recipe(epochs=3, batch_size=8)
    there = fit(model, data, recipe, Run.on("cuda", seed=5, precision="32-true"))
    assert_close(there.cpu(), trained(), rtol=1e-8)


# --- Recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epochs": -1}, "epochs = -1 must be 0 or more"),
        ({"lr": 0.0}, "lr = 0.0 must be above 0"),
        ({"lr": -1.0}, "lr = -1.0 must be above 0"),
        ({"lr": math.nan}, "lr = nan must be above 0"),
        ({"batch_size": 0}, "batch_size = 0 must be 1 or more"),
        ({"momentum": 1.0}, "momentum = 1.0 must be from 0 to below 1"),
        ({"momentum": -0.1}, "momentum = -0.1 must be"),
        ({"weight_decay": -1e-4}, "weight_decay = -0.0001 must be 0 or more"),
        ({"milestones": (0.5, 1.5)}, "milestones = .* must be shares"),
        ({"milestones": (0.0,)}, "milestones = .* must be shares"),
        ({"gamma": 0.0}, "gamma = 0.0 must be above 0"),
    ],
)
def test_recipe_rejects_bad_numbers(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Recipe(**settings)


@pytest.mark.usefixtures("unchecked")
def test_recipe_rejects_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"no optimizer 'adamax'\. Did you mean adam"):
        Recipe(optimizer="adamax")  # pyright: ignore
    with pytest.raises(ValueError, match=r"no schedule 'linear'.* There are: constant, step"):
        Recipe(schedule="linear")  # pyright: ignore
