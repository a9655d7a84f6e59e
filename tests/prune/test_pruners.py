"""Every pruner obeys the laws, agrees with its slow truth, and refuses what it cannot prune."""

from __future__ import annotations

import copy
import itertools
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import laws
import oracles_pruning
from oblivio.catalogue import build, find, names, settings_of
from oblivio.core import Origin, Pruner, Run, derive
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask, prunable
from oblivio.models import factory
from oblivio.prune import sparse
from oblivio.prune._choice import LayerCollapse, keep_largest, largest, removed, smallest
from oblivio.prune.iterative import Iterative
from oblivio.prune.magnitude import Magnitude
from oblivio.prune.random import Random
from oblivio.prune.synflow import SynFlow
from oblivio.train import Recipe, fit
from worlds import Case, pictures

SPARSITIES = (0.0, 0.5, 0.9, 0.37)


def made(name: str, sparsity: float = 0.5, **settings: Any) -> Any:
    """A pruner by name, with few rounds and an early rewind."""
    quick = {"synflow": {"rounds": 5}, "iterative": {"rate": 0.6}}.get(name, {})
    return find("pruners", name)(sparsity=sparsity, rewind=1, **{**quick, **settings})


@cache
def _model(network: str) -> nn.Module:
    here = laws.standard(network)
    return here.origin.make(here.split.retain, here.run)


def setting(network: str = "cnn") -> tuple[nn.Module, Arrays, Run]:
    """A trained model, its data, and a run that knows a short way to it."""
    here: Case = laws.standard(network)
    origin = replace(here.origin, train=Recipe(epochs=2, lr=0.05, batch_size=16))
    assert isinstance(here.split.retain, Arrays)
    return copy.deepcopy(_model(network)), here.split.retain, replace(here.run, origin=origin)


def assert_same_mask(one: Mask, keep: Any) -> None:
    other = keep.keep if isinstance(keep, Mask) else keep
    assert list(one.keep) == list(other)
    for name, kept in one.keep.items():
        assert torch.equal(kept.cpu(), other[name]), name


# --- Laws ---------------------------------------------------------------------------------------


def leaves_the_model_as_it_is(name: str) -> None:
    """Weights, buffers, flags and hooks, in eval mode and in a mixed one; the data too."""
    for mixed in (False, True):
        model, data, run = setting()
        model.train(mixed)
        next(model.children()).training = False
        next(model.parameters()).requires_grad_(not mixed)
        before, inputs = laws.snapshot(model), data.inputs.clone()
        mask = made(name)(model, data, run)
        laws.assert_same(before, laws.snapshot(model))
        for keep in mask.keep.values():
            keep.zero_()
        laws.assert_same(before, laws.snapshot(model))
        assert torch.equal(inputs, data.inputs)


def is_deterministic(name: str) -> None:
    """The same seed gives the same mask whatever the global random state is, which stays."""
    model, data, run = setting()
    masks = []
    for seed in (1, 2):
        with laws.random_state(seed), laws.untouched_randomness():
            masks.append(made(name)(model, data, run))
    assert_same_mask(*masks)


def is_as_sparse_as_asked(name: str) -> None:
    """To one weight, counted over all prunable weights, and none beside them."""
    for network, sparsity in itertools.product(("cnn", "mlp"), SPARSITIES):
        model, data, run = setting(network)
        mask = made(name, sparsity)(model, data, run)
        total = sum(w.numel() for w in prunable(model).values())
        assert mask.total == total
        assert total - mask.kept == round(sparsity * total)
        assert mask.sparsity == pytest.approx(sparsity, abs=0.5 / total + 1e-12)


def fits_the_model(name: str) -> None:
    """Names and shapes are those of the prunable weights; applied, the zeros say the mask."""
    model, data, run = setting()
    mask = made(name, 0.9)(model, data, run)
    assert list(mask.keep) == list(prunable(model))
    mask.check(model)
    others = {k: v.clone() for k, v in model.state_dict().items() if k not in mask.keep}
    mask.apply(model)
    assert_same_mask(Mask.of(model), mask)
    for key, value in others.items():
        assert torch.equal(value, model.state_dict()[key])


def survives_its_settings(name: str) -> None:
    """`settings_of` is plain data, and `build` makes the same pruner of it."""
    for pruner in (find("pruners", name)(), made(name, 0.37)):
        assert build(type(pruner), json.loads(json.dumps(settings_of(pruner)))) == pruner
        assert isinstance(pruner, Pruner)


def does_not_mind_how_weights_are_stored(name: str) -> None:
    """Channels last, as `fit` stores them while it trains, or in a row."""
    model, data, run = setting()
    wide = copy.deepcopy(model).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    assert_same_mask(made(name)(wide, data, run), made(name)(model, data, run))


def warns_once_of_layers_without_weights(name: str) -> None:
    """One weight for two layers: whichever pruner it is, a layer goes; it says so at once."""
    model, data, run = setting()
    total = sum(w.numel() for w in prunable(model).values())
    with pytest.warns(LayerCollapse, match=r"no weight stays in the layer.*; prune less") as caught:
        mask = made(name, 1 - 0.6 / total)(model, data, run)
    assert mask.kept == 1
    assert len(caught) == 1
    for layer in prunable(model):
        assert (layer in str(caught[0].message)) == (layer in mask.collapsed)


def refuses_what_cannot_be_pruned(name: str) -> None:
    """Each with one sentence that says what is wrong."""
    model, data, run = setting()
    for bad in (1.0, -0.1, 2.0, 95, math.nan):
        with pytest.raises(ValueError, match="must be a share of the weights"):
            made(name, bad)
    with pytest.raises(ValueError, match=r"95 % is 0\.95"):
        made(name, 95)
    with pytest.raises(ValueError, match=r"rewind = -1 must be an epoch"):
        replace(made(name), rewind=-1)
    with pytest.raises(ValueError, match="has nothing to prune"):
        made(name)(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), data, run)
    for value in (math.nan, math.inf):
        with torch.no_grad():
            next(iter(prunable(model).values())).view(-1)[3] = value
        with pytest.raises(ValueError, match="not finite numbers"):
            made(name)(model, data, run)


LAWS: list[Callable[[str], None]] = [
    leaves_the_model_as_it_is,
    is_deterministic,
    is_as_sparse_as_asked,
    fits_the_model,
    survives_its_settings,
    does_not_mind_how_weights_are_stored,
    warns_once_of_layers_without_weights,
    refuses_what_cannot_be_pruned,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", names("pruners"))
def test_law(name: str, law: Callable[[str], None]) -> None:
    law(name)


# --- The slow truths ----------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [*SPARSITIES, 0.999])
@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_magnitude_is_a_plain_sort(network: str, sparsity: float) -> None:
    model, data, run = setting(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapse)
        found = Magnitude(sparsity)(model, data, run)
    assert_same_mask(found, oracles_pruning.magnitude(model, list(prunable(model)), sparsity))


class Branches(nn.Module):
    """A shortcut, BatchNorm with statistics of both signs, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.two, self.short = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(1, 6, 1)
        self.last = nn.Linear(6, 3)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.running_mean, std=0.1)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.two(torch.relu(self.norm(self.one(x)))))
        return self.last(torch.relu(self.two(inner) + self.short(x)).mean((2, 3)))


@pytest.mark.parametrize(("sparsity", "rounds"), [(0.9, 10), (0.37, 3), (0.5, 1), (0.95, 25)])
@pytest.mark.parametrize("network", ["cnn", "mlp", "branches"])
def test_synflow_is_the_naive_algorithm(network: str, sparsity: float, rounds: int) -> None:
    torch.manual_seed(3)
    model = Branches() if network == "branches" else laws.standard(network).origin.fresh()
    data = pictures(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapse)
        found = SynFlow(sparsity, rounds=rounds)(model, data, Run.on("cpu"))
    expected = oracles_pruning.synflow(model, list(prunable(model)), (1, 8, 8), sparsity, rounds)
    assert_same_mask(found, expected)


def test_synflow_looks_at_neither_inputs_nor_signs() -> None:
    model, run = laws.standard().origin.fresh(), Run.on("cpu")
    one, two = pictures(2, seed=1), pictures(9, seed=2)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.neg_()
    mask = SynFlow(0.8, rounds=4)(model, one, run)
    assert_same_mask(mask, SynFlow(0.8, rounds=4)(other, two, run))


def test_synflow_in_one_round_empties_a_layer_and_in_many_does_not() -> None:
    """A chain of layers of very different width: Tanaka et al. 2020, figure 1."""
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(200, 20), nn.ReLU(), nn.Linear(20, 3))
    data, run = pictures(2), Run.on("cpu")
    with pytest.warns(LayerCollapse):
        assert SynFlow(0.999, rounds=1)(model, data, run).collapsed
    assert not SynFlow(0.999, rounds=100)(model, data, run).collapsed


def test_synflow_refuses_a_signal_that_is_no_number() -> None:
    model = nn.Sequential(
        nn.Flatten(), *(nn.Linear(64, 64, bias=False) for _ in range(9)), nn.Linear(64, 3)
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(3e38)
    with pytest.raises(ValueError, match="signal is inf"):
        SynFlow(0.5)(model, pictures(2), Run.on("cpu"))


@pytest.mark.parametrize("network", ["cnn", "mlp"])
@pytest.mark.parametrize(("sparsity", "rate", "rewind"), [(0.7, 0.3, 1), (0.5, 0.5, 0)])
def test_iterative_is_the_plain_loop(
    network: str, sparsity: float, rate: float, rewind: int
) -> None:
    model, data, run = setting(network)
    origin = run.origin
    assert isinstance(origin, Origin)
    recipe = origin.train
    assert isinstance(recipe, Recipe)
    order = Run.on("cpu", seed=derive(origin.seed, "order"))
    # The weights after one epoch of a longer training are those of a training of one epoch.
    start = fit(origin.fresh(), data, replace(recipe, epochs=rewind), order)

    def train(begun: nn.Module, keep: dict[str, Tensor]) -> nn.Module:
        return fit(begun, data, recipe, replace(order, mask=Mask(keep)))

    found = Iterative(sparsity, rewind=rewind, rate=rate)(model, data, run)
    layers = list(prunable(model))
    expected = oracles_pruning.iterative(model, start, layers, sparsity, rate, train)
    assert_same_mask(found, expected)
    assert any(
        not torch.equal(found.keep[n], Magnitude(sparsity)(model, data, run).keep[n])
        for n in layers
    ) == (len(Iterative(sparsity, rate=rate).sparsities()) > 1)


def test_iterative_never_brings_a_weight_back() -> None:
    """Not even where more weights are zero than its rounds have removed."""
    model, data, run = setting()
    with torch.no_grad():
        for weight in prunable(model).values():
            weight.view(-1)[::2] = 0
    first = Iterative(0.2, rewind=1, rate=0.2)(model, data, run)
    second = Iterative(0.3, rewind=1, rate=0.2)(model, data, run)
    for name, keep in second.keep.items():
        assert not bool((keep & ~first.keep[name]).any())


def test_iterative_rounds() -> None:
    fourteen = Iterative(0.95).sparsities()
    assert len(fourteen) == 14
    assert fourteen == pytest.approx([*(1 - 0.8**i for i in range(1, 14)), 0.95])
    assert Iterative(0.0).sparsities() == [0.0]
    # A whole number of rounds is not one more for a rounding error's sake.
    assert Iterative(0.2).sparsities() == [0.2]
    assert Iterative(0.36).sparsities() == [pytest.approx(0.2), 0.36]
    assert len(Iterative(1 - 0.7**9, rate=0.3).sparsities()) == 9


def test_iterative_needs_to_know_how_the_model_was_made() -> None:
    model, data, run = setting()
    with pytest.raises(ValueError, match="give the run its origin"):
        Iterative(0.5)(model, data, replace(run, origin=None))


def test_random_depends_on_the_seed_alone() -> None:
    model, data, run = setting()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    one = Random(0.5)(model, data, run)
    assert_same_mask(one, Random(0.5)(setting()[0], pictures(5), run))
    other = Random(0.5)(model, data, replace(run, seed=1))
    agree = sum(int((one.keep[n] == other.keep[n]).sum()) for n in one.keep) / one.total
    assert agree == pytest.approx(0.5, abs=0.06)
    # Every layer loses about the same share: nothing but chance decides.
    for keep in one.keep.values():
        p = keep.double().mean()
        assert float(p) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(keep.numel()))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rounds": 0}, "rounds = 0 must be 1 or more"),
        ({"rounds": -5}, "rounds = -5 must be 1 or more"),
    ],
)
def test_bad_rounds(settings: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SynFlow(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.2, 3.0, math.nan])
def test_bad_rates(rate: float) -> None:
    with pytest.raises(ValueError, match=r"rate = .* must be between 0 and 1"):
        Iterative(rate=rate)


# --- The largest of many ------------------------------------------------------------------------


def by_sorting(values: list[float], count: int) -> list[bool]:
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    chosen = set(order[len(values) - count :])
    return [i in chosen for i in range(len(values))]


@given(
    values=st.lists(
        st.one_of(st.integers(-2, 2).map(float), st.floats(-9, 9, width=32), st.just(math.inf)),
        min_size=1,
        max_size=60,
    ),
    share=st.floats(0, 1),
)
def test_largest_is_what_sorting_gives(values: list[float], share: float) -> None:
    count = round(share * len(values))
    assert largest(torch.tensor(values), count).tolist() == by_sorting(values, count)


@pytest.mark.parametrize("count", [0, 1, 777, 49_999, 50_000, 50_001, 99_990, 99_999, 100_000])
@pytest.mark.parametrize("kind", ["spread", "ties", "equal", "sorted", "backwards", "lumpy"])
def test_largest_of_many(kind: str, count: int) -> None:
    """More values than the sample that narrows the search; orders that mislead it."""
    n, draw = 100_000, torch.Generator().manual_seed(0)
    values = {
        "spread": torch.randn(n, generator=draw),
        "ties": torch.randint(4, (n,), generator=draw).float(),
        "equal": torch.ones(n),
        "sorted": torch.arange(n).float(),
        "backwards": -torch.arange(n).float(),
        "lumpy": (torch.arange(n) % 5 == 0).float() * torch.rand(n, generator=draw),
    }[kind]
    expected = torch.zeros(n, dtype=torch.bool)
    expected[values.sort(stable=True).indices[n - count :]] = True
    assert torch.equal(largest(values, count), expected)


@given(
    values=st.lists(st.integers(0, 3).map(float), min_size=1, max_size=40), seed=st.integers(0, 99)
)
def test_smallest_among_some(values: list[float], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    among = torch.rand(len(values), generator=draw) < 0.5
    count = int(torch.randint(int(among.sum()) + 1, (), generator=draw))
    places = [i for i in range(len(values)) if among[i]]
    expected = sorted(sorted(places, key=lambda i: (values[i], i))[:count])
    assert smallest(torch.tensor(values), count, among).tolist() == expected


def test_smallest_among_few_of_many() -> None:
    """Those that take part may all lie between the sample's places."""
    values, among = torch.rand(100_000), torch.zeros(100_000, dtype=torch.bool)
    among[1::1000] = True
    places = torch.where(among)[0]
    expected = places[values[places].sort().indices[:40]].sort().values
    assert torch.equal(smallest(values, 40, among), expected)


def test_a_score_that_is_no_number_is_refused() -> None:
    for count in (0, 2, 3):
        with pytest.raises(ValueError, match="A score is NaN"):
            largest(torch.tensor([1.0, math.nan, 2.0]), count)
    with pytest.raises(ValueError, match="A score is NaN"):
        keep_largest({"a": torch.ones(3), "b": torch.tensor([math.nan])}, 0.5)


@given(sparsity=st.floats(0, 1, exclude_max=True), total=st.integers(1, 10**8))
def test_removed_is_met_to_one_weight(sparsity: float, total: int) -> None:
    count = removed(sparsity, total)
    assert 0 <= count <= total - 1
    assert abs(count - sparsity * total) <= 0.5 or count == total - 1


# --- Collapse is told once ----------------------------------------------------------------------


@pytest.mark.parametrize("name", names("pruners"))
def test_the_pipeline_tells_of_collapse_once(name: str) -> None:
    _, data, run = setting("mlp")
    build = factory({"name": "mlp", "hidden": [8, 8]}, (1, 8, 8), 3)
    origin = replace(run.origin, build=build)  # pyright: ignore[reportArgumentType, reportCallIssue]
    total = 64 * 8 + 8 * 8
    with pytest.warns(LayerCollapse) as caught:
        sparse(origin, made(name, 1 - 0.9 / total)).make(data, run)
    assert len([w for w in caught if w.category is LayerCollapse]) == 1


def test_intermediate_rounds_tell_nothing() -> None:
    """Fourteen rounds, of which the last few leave a layer empty: one warning, and all trained."""
    model, data, run = setting()
    heard: list[object] = []
    with pytest.warns(LayerCollapse) as caught:
        Iterative(0.999, rewind=0, rate=0.6)(model, data, replace(run, tell=heard.append))
    assert len(caught) == 1
    assert len(heard) == 2 * (len(Iterative(0.999, rate=0.6).sparsities()) - 1)
