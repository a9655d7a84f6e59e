"""Many models at once against one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import laws
import worlds
from oblivio import fleet
from oblivio.core import Data, Note, Origin, Progress, Run, predict
from oblivio.data.arrays import Arrays, Augment
from oblivio.fleet import answers_many, fit_many, make_many, predict_many, together
from oblivio.models.cnn import CNN
from oblivio.models.mlp import MLP
from oblivio.prune.magnitude import Magnitude
from oblivio.shadow import answers
from oblivio.train import Recipe, fit

RUN = Run.on("cpu")
SHAPE = (2, 8, 8)
SGD = Recipe(epochs=3, lr=0.1, batch_size=8, weight_decay=0.01)
Build = Callable[[], nn.Module]


def mlp() -> nn.Module:
    return MLP((7, 5))(SHAPE, 3)


def cnn() -> nn.Module:
    return CNN((3, 4), 6)(SHAPE, 3)


class Residual(nn.Module):
    """A forward of its own: strides, dilation, a bias, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=(1, 2), dilation=(1, 2), bias=False)
        self.skip = nn.Conv2d(2, 4, 1, stride=2)
        self.norm = nn.BatchNorm2d(4, momentum=0.3, affine=False)
        self.rows = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.first(x)) + self.skip(x))
        return self.last(self.rows(x.mean((2, 3))))


BUILDS: dict[str, Build] = {"mlp": mlp, "cnn": cnn, "residual": Residual}


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many models were trained together, each time."""
    seen: list[int] = []

    def fit_together(jobs: Sequence[Any], recipe: Recipe) -> None:
        seen.append(len(jobs))
        together.fit_together(jobs, recipe)

    monkeypatch.setattr(fleet, "fit_together", fit_together)
    return seen


def fresh(build: Build, count: int = 3, dtype: torch.dtype = torch.float64) -> list[nn.Module]:
    torch.manual_seed(0)
    return [build().to(dtype) for _ in range(count)]


def subsets(
    sizes: Sequence[int] = (29, 29, 29), dtype: torch.dtype = torch.float64, **options: Any
) -> list[Data]:
    """Different parts of the same examples."""
    whole = replace(worlds.pictures(40, 3, SHAPE, dtype=dtype), **options)
    draw = torch.Generator().manual_seed(3)
    return [whole.take(torch.randperm(40, generator=draw)[:size]) for size in sizes]


def runs(count: int = 3, run: Run = RUN) -> list[Run]:
    return [replace(run, seed=10 + seed) for seed in range(count)]


def one_by_one(
    models: Sequence[nn.Module], data: Sequence[Data], recipe: Recipe, each: Sequence[Run]
) -> list[nn.Module]:
    triples = zip(models, data, each, strict=True)
    return [fit(copy.deepcopy(model), own, recipe, run) for model, own, run in triples]


def assert_close(
    found: Sequence[nn.Module], expected: Sequence[nn.Module], atol: float = 1e-10
) -> None:
    for one, other in zip(found, expected, strict=True):
        assert list(one.state_dict()) == list(other.state_dict())
        for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert a.is_contiguous()
            torch.testing.assert_close(a, b, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")  # pyright: ignore
        flags = [[p.requires_grad for p in model.parameters()] for model in (one, other)]
        assert flags[0] == flags[1]


# --- The same as one after another ---------------------------------------------------------------

RECIPES: dict[str, Recipe] = {
    "sgd": SGD,
    "nesterov": replace(SGD, nesterov=True, schedule="step"),
    "plain": replace(SGD, momentum=0.0, weight_decay=0.0, schedule="cosine"),
    "adam": replace(SGD, optimizer="adam", lr=0.01, schedule="one_cycle"),
    "adamw": replace(SGD, optimizer="adamw", lr=0.01),
    "nothing": replace(SGD, epochs=0),
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("build", BUILDS)
def test_together_is_one_after_another(build: str, recipe: str, packs: list[int]) -> None:
    models, data = fresh(BUILDS[build]), subsets()
    expected = one_by_one(models, data, RECIPES[recipe], runs())
    with laws.untouched_randomness():
        found = fit_many(models, data, RECIPES[recipe], runs())
    assert packs == [3]
    assert all(one is other for one, other in zip(found, models, strict=True))
    assert not any(module.training for model in found for module in model.modules())
    assert_close(found, expected)


@pytest.mark.parametrize("build", ["mlp", "cnn"])
def test_in_single_precision(build: str) -> None:
    """Rounding alone: a thousandth of how far training goes, over few steps."""
    models, data = fresh(BUILDS[build], dtype=torch.float32), subsets(dtype=torch.float32)
    recipe = replace(SGD, epochs=2, lr=0.02)
    expected = one_by_one(models, data, recipe, runs())
    assert_close(fit_many(models, data, recipe, runs()), expected, 1e-5)


@pytest.mark.parametrize("augment", [Augment(2, True), Augment(1), Augment(0, True), Augment()])
@pytest.mark.parametrize("memory", [1, 2**24])
def test_augmented_bytes(
    augment: Augment, memory: int, packs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image gets its own crop and flip, whether a pass is read at once or batch by batch."""
    monkeypatch.setattr(fleet, "memory", lambda device: 2**24)
    monkeypatch.setattr(together, "memory", lambda device: memory)
    pixels = (40 * worlds.pictures(40, 3, SHAPE).inputs + 100).clamp(0, 255).byte()
    options = {"augment": augment, "mean": (0.4, 0.5), "std": (0.2, 0.3)}
    data = subsets(inputs=pixels, **options)
    models = fresh(cnn, dtype=torch.float32)
    recipe = replace(SGD, epochs=2, lr=0.02)
    expected = one_by_one(models, data, recipe, runs())
    assert_close(fit_many(models, data, recipe, runs()), expected, 1e-5)
    assert packs == [3]


def test_as_many_at_a_time_as_fit_the_memory(
    packs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, data = fresh(mlp, 7), subsets([29] * 7)
    expected = one_by_one(models, data, SGD, runs(7))
    monkeypatch.setattr(fleet, "LEAST", 2)
    one = fleet._bytes(models[0], torch.zeros(8, *SHAPE, dtype=torch.float64), 8)
    monkeypatch.setattr(fleet, "memory", lambda device: 3 * one + one // 2)
    assert_close(fit_many(models, data, SGD, runs(7)), expected)
    assert packs == [2, 2, 3]


def test_equally_many_examples_go_together(packs: list[int]) -> None:
    models, sizes = fresh(mlp, 6), [29, 17, 29, 16, 17, 29]
    data = subsets(sizes)
    expected = one_by_one(models, data, SGD, runs(6))
    assert_close(fit_many(models, data, SGD, runs(6)), expected)
    assert packs == [3, 2]


def test_networks_that_are_alike_go_together(packs: list[int]) -> None:
    models = [build().double() for build in (mlp, cnn, mlp, cnn, Residual)]
    data = subsets([29] * 5)
    expected = one_by_one(models, data, SGD, runs(5))
    assert_close(fit_many(models, data, SGD, runs(5)), expected)
    assert packs == [2, 2]


def test_each_model_keeps_its_mask(packs: list[int]) -> None:
    models, data = fresh(cnn), subsets()
    each = [
        replace(run, mask=Magnitude(0.5)(model, own, run))
        for model, own, run in zip(models, data, runs(), strict=True)
    ]
    expected = one_by_one(models, data, SGD, each)
    assert_close(fit_many(models, data, SGD, each), expected)
    assert packs == [3]
    assert all(r.mask and r.mask.held_by(m) for r, m in zip(each, models, strict=True))


def test_frozen_parameters_stay(packs: list[int]) -> None:
    models, data = fresh(mlp), subsets()
    before = [next(model.parameters()).requires_grad_(False).clone() for model in models]
    expected = one_by_one(models, data, SGD, runs())
    assert_close(fit_many(models, data, SGD, runs()), expected)
    for weight, model in zip(before, models, strict=True):
        assert torch.equal(weight, next(model.parameters()))
    assert packs == [3]


def test_progress_is_told_to_each() -> None:
    heard: list[list[Progress]] = [[], [], []]
    listening = [
        replace(run, tell=own.append)  # pyright: ignore[reportArgumentType]
        for run, own in zip(runs(), heard, strict=True)
    ]
    models, data = fresh(mlp), subsets()
    expected: list[Progress | Note] = []
    one_by_one(models[1:2], data[1:2], SGD, [replace(runs()[1], tell=expected.append)])
    fit_many(models, data, SGD, listening)
    assert heard[1].pop() == Note("together", 3)  # pyright: ignore
    assert [event.done for event in heard[1]] == [1, 2, 3]
    for event, other in zip(heard[1], expected, strict=True):
        assert event == pytest.approx(other, abs=1e-10)


# --- One after another ---------------------------------------------------------------------------


class Dropping(nn.Module):
    """Dropout that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(128, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(F.dropout(x.flatten(1), 1e-6, self.training))


class Mixing(Dropping):
    """Its examples see each other."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer((x - x.mean(0)).flatten(1))


class Counting(Dropping):
    """It asks how many examples there are."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.view(min(len(x), 8), -1))


class Scaled(Dropping):
    """A weight that is in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) * self.scale


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(128, 128), nn.Linear(128, 128), nn.Linear(128, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x.flatten(1)).relu()).relu())


class Own(nn.Linear):
    """A user's own linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def hooked() -> nn.Module:
    model = mlp()
    model.register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers)


ALONE: dict[str, Build] = {
    "dropout": lambda: flat(nn.Linear(128, 8), nn.Dropout(0.5), nn.Linear(8, 3)),
    "dropout in forward": Dropping,
    "mixes examples": Mixing,
    "a weight in no layer": Scaled,
    "tied weights": Tied,
    "own layer": lambda: flat(Own(128, 3)),
    "hooks": hooked,
    "groups": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(144, 3)),
    "LayerNorm": lambda: flat(nn.LayerNorm(128), nn.Linear(128, 3)),
    "cumulative": lambda: flat(nn.BatchNorm1d(128, momentum=None), nn.Linear(128, 3)),
    "statistics": lambda: flat(nn.BatchNorm1d(128, track_running_stats=False), nn.Linear(128, 3)),
}


@pytest.mark.parametrize("build", ALONE)
def test_what_cannot_be_packed_is_the_same_bit_by_bit(build: str, packs: list[int]) -> None:
    origins = [Origin(lambda: ALONE[build]().double(), SGD, seed) for seed in range(2)]
    data = subsets([29, 29])
    expected = [o.make(own, RUN) for o, own in zip(origins, data, strict=True)]
    with laws.untouched_randomness():
        found = make_many(origins, data, RUN)
    assert packs == []
    for one, other in zip(found, expected, strict=True):
        laws.assert_same_state(one.state_dict(), other.state_dict())
    models = [origin.fresh() for origin in origins]
    expected, states = [], torch.get_rng_state()
    expected = one_by_one(models, data, SGD, runs(2))
    torch.set_rng_state(states)
    for one, other in zip(fit_many(models, data, SGD, runs(2)), expected, strict=True):
        laws.assert_same_state(one.state_dict(), other.state_dict())


def test_settings_that_differ_are_not_alike(packs: list[int]) -> None:
    def build(kind: int) -> nn.Module:
        settings: Any = {"eps": 1e-3} if kind else {}
        model = flat(nn.BatchNorm1d(128, **settings), nn.Linear(128, 3)).double()
        model.told = torch.ones(2) if kind == 2 else None  # pyright: ignore
        return model

    models, data = [build(kind) for kind in (0, 1, 2, 2)], subsets([29] * 4)
    models[3].told = models[2].told + 1  # pyright: ignore
    expected = one_by_one(models, data, SGD, runs(4))
    fit_many(models, data, SGD, runs(4))
    for one, other in zip(models, expected, strict=True):
        laws.assert_same_state(one.state_dict(), other.state_dict())
    assert packs == []


class Mine(Arrays):
    """A user's own data."""


def test_data_that_are_no_arrays_go_alone(packs: list[int]) -> None:
    models, data = fresh(mlp), [Mine(own.inputs, own.labels) for own in subsets()]  # pyright: ignore
    expected = one_by_one(models, data, SGD, runs())
    for one, other in zip(fit_many(models, data, SGD, runs()), expected, strict=True):
        laws.assert_same_state(one.state_dict(), other.state_dict())
    assert packs == []


# --- Origins -------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
def test_making_many_is_making_each(build: str, packs: list[int]) -> None:
    origins = [Origin(lambda: BUILDS[build]().double(), SGD, seed) for seed in (4, 5, 5)]
    data = subsets()
    expected = [o.make(own, RUN) for o, own in zip(origins, data, strict=True)]
    run = replace(RUN, seed=99, mask=Magnitude(0.5)(expected[0], data[0], RUN))
    with laws.untouched_randomness():
        found = make_many(origins, data, run)
    assert_close(found, expected)
    assert packs == [3]


def test_other_ways_to_train_go_one_after_another(packs: list[int]) -> None:
    def train(model: nn.Module, data: Data, run: Run) -> nn.Module:
        return fit(model, data, SGD, run)

    ways = ((train, train), (SGD, replace(SGD, lr=0.2)))
    for way in ways:
        origins = [Origin(lambda: mlp().double(), own, 1) for own in way]
        data = subsets([29, 29])
        expected = [o.make(own, RUN) for o, own in zip(origins, data, strict=True)]
        for one, other in zip(make_many(origins, data, RUN), expected, strict=True):
            laws.assert_same_state(one.state_dict(), other.state_dict())
    assert packs == []


# --- Predicting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [*BUILDS, "dropout"])
def test_predicting_many_is_predicting_each(build: str) -> None:
    models = fresh({**BUILDS, **ALONE}[build], dtype=torch.float32)
    (data,) = subsets([29], torch.float32)
    before = [laws.snapshot(model.train()) for model in models]
    outputs = [predict(model, data) for model in models]
    with laws.untouched_randomness():
        found = predict_many(models, data)
    assert found.shape == (3, 29, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack([o.logits for o in outputs]))
    for state, model in zip(before, models, strict=True):
        laws.assert_same(state, laws.snapshot(model))
    for k, (one, two) in enumerate(zip(*answers_many(models, data), strict=True)):
        row = answers(outputs[k])
        torch.testing.assert_close(one, row.margins[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(two, row.right[0])


# --- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [False, True])
def test_a_model_that_blows_up_is_named(alone: bool) -> None:
    models = fresh(mlp)
    data = subsets([29, 28, 27]) if alone else subsets()
    own = data[1]
    assert isinstance(own, Arrays)
    data[1] = replace(own, inputs=1e200 * own.inputs)
    before = [copy.deepcopy(model) for model in models]
    with pytest.raises(FloatingPointError, match=r"Model 1: The loss is .* after epoch 1 of 3: "):
        fit_many(models, data, SGD, runs())
    if not alone:
        for one, other in zip(models, before, strict=True):
            laws.assert_same_state(one.state_dict(), other.state_dict())


def test_one_example_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than one value per channel"):
        fit_many(fresh(Residual), subsets(), replace(SGD, batch_size=1), runs())


def test_nothing_to_do() -> None:
    assert fit_many([], [], SGD, []) == []
    assert make_many([], [], RUN) == []


def test_lengths_must_be_equal() -> None:
    with pytest.raises(ValueError, match="There are 3 models and 2 data and 3 runs; there must be"):
        fit_many(fresh(mlp), subsets([29, 29]), SGD, runs())
    with pytest.raises(ValueError, match="There are 1 origins and 2 data"):
        make_many([Origin(mlp, SGD)], subsets([29, 29]), RUN)


def test_a_model_given_twice() -> None:
    (model,) = fresh(mlp, 1)
    with pytest.raises(ValueError, match="A model is given twice"):
        fit_many([model, model], subsets([29, 29]), SGD, runs(2))


@pytest.mark.parametrize("sizes", [(29, 29, 29), (29, 28, 27)])
def test_a_mask_that_does_not_fit(sizes: tuple[int, ...]) -> None:
    models, data = fresh(mlp), subsets(sizes)
    mask = Magnitude(0.5)(cnn(), data[0], RUN)
    with pytest.raises(ValueError, match="The mask does not fit the model"):
        fit_many(models, data, SGD, runs(run=replace(RUN, mask=mask)))


# --- Precision and devices -----------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
def test_mixed_precision(build: str, packs: list[int]) -> None:
    run = Run.on("cpu", precision="bf16-mixed")
    models, data = fresh(BUILDS[build], dtype=torch.float32), subsets(dtype=torch.float32)
    start = [copy.deepcopy(model) for model in models]
    recipe = replace(SGD, epochs=2, lr=0.02)
    expected = one_by_one(models, data, recipe, runs(run=run))
    fit_many(models, data, recipe, runs(run=run))
    assert packs == [3]
    full = one_by_one(start, data, recipe, runs())
    for group in zip(models, expected, full, start, strict=True):
        one, other, exact, first = (worlds.weights(model) for model in group)
        assert one.dtype == torch.float32
        assert float((one - other).norm()) < 0.1 * float((other - first).norm())
        assert float((one - exact).norm()) > 1e-5 * float((other - first).norm())


def test_double_precision_by_the_run(packs: list[int]) -> None:
    run = Run.on("cpu", precision="64-true")
    models, data = fresh(cnn, dtype=torch.float32), subsets()
    expected = one_by_one(models, data, SGD, runs(run=run))
    # Such a run gives its logits in single precision.
    assert_close(fit_many(models, data, SGD, runs(run=run)), expected, 1e-6)
    assert all(p.dtype == torch.float64 for model in models for p in model.parameters())
    assert packs == [3]


@pytest.mark.gpu
@pytest.mark.parametrize("build", BUILDS)
def test_on_a_gpu(build: str, packs: list[int]) -> None:
    models, data = fresh(BUILDS[build]), subsets()
    expected = one_by_one(models, data, SGD, runs())
    run = Run.on("cuda", precision="32-true")
    found = fit_many(models, data, SGD, runs(run=run))
    assert packs == [3]
    assert_close([model.cpu() for model in found], expected, 1e-8)
