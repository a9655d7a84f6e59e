"""A sparse model comes to be as it should, and stays sparse whatever forgets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import laws
import worlds
from oblivio.catalogue import find, names
from oblivio.core import Data, Method, Note, Origin, Part, Progress, Run, Split, derive, unlearn
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask, prunable
from oblivio.methods.fine_tune import FineTune
from oblivio.methods.original import Original
from oblivio.methods.retrain import Retrain
from oblivio.prune import Pruned, rewound, sparse
from oblivio.prune.iterative import Iterative
from oblivio.prune.magnitude import Magnitude
from oblivio.prune.random import Random
from oblivio.prune.synflow import SynFlow
from oblivio.train import Recipe, fit

EPOCHS = 6
PRUNERS = [
    Magnitude(0.7, rewind=2),
    Iterative(0.7, rewind=1, rate=0.6),
    Random(0.7),
    SynFlow(0.7, rounds=5),
]


@dataclass(frozen=True)
class Case:
    """A dense model, its origin, what is to be forgotten, and the sparse original by OMP."""

    run: Run
    dense: nn.Module
    split: Split
    train: Data

    @property
    def origin(self) -> Origin:
        assert self.run.origin is not None
        return self.run.origin


@cache
def _case(network: str) -> Case:
    here = worlds.case(network, epochs=EPOCHS)
    parts = (here.split.forget, here.split.retain)
    train = Arrays(
        *(torch.cat([getattr(p, what) for p in parts]) for what in ("inputs", "labels", "ids"))
    )
    return Case(here.run, here.origin.make(train, here.run), here.split, train)


def case(network: str = "cnn") -> Case:
    made = _case(network)
    return replace(made, dense=copy.deepcopy(made.dense))


@cache
def _sparse(network: str) -> nn.Module:
    here = case(network)
    return Pruned(PRUNERS[0], Original()).prepare(here.dense, here.train, here.run)


def sparse_model(network: str = "cnn") -> nn.Module:
    return copy.deepcopy(_sparse(network))


def quick(name: str) -> Any:
    """A method by name, with two epochs where it trains."""
    method = laws.with_batches(find("methods", name)(), 8)
    for field in fields(method):
        value = getattr(method, field.name)
        if is_dataclass(value) and not isinstance(value, type) and hasattr(value, "epochs"):
            method = replace(method, **{field.name: replace(value, epochs=2)})  # pyright: ignore
    return method


class Counting:
    """A training that says how often it was asked, and for how many epochs it went."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.epochs, self.calls = recipe, 0, 0

    def __call__(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        self.calls += 1

        def tell(event: Progress | Note) -> None:
            self.epochs += isinstance(event, Progress)
            run.tell(event)

        return fit(model, data, self.recipe, replace(run, tell=tell))


def counted(origin: Origin) -> tuple[Origin, Counting]:
    assert isinstance(origin.train, Recipe)
    counting = Counting(origin.train)
    return replace(origin, train=counting), counting


# --- Rewinding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_rewound_is_what_the_dense_training_passed_through(network: str) -> None:
    here = case(network)
    passed: list[dict[str, torch.Tensor]] = [here.origin.fresh().state_dict()]

    def listening(model: nn.Module, data: Data, run: Run) -> nn.Module:
        def tell(_: Progress | Note) -> None:
            passed.append({k: v.clone() for k, v in model.state_dict().items()})

        return here.origin.train(model, data, replace(run, tell=tell))

    replace(here.origin, train=listening).make(here.train, here.run)
    assert len(passed) == EPOCHS + 1
    for epochs in range(EPOCHS + 1):
        heard: list[object] = []
        run = replace(here.run, tell=heard.append)
        with laws.untouched_randomness():
            found = rewound(here.origin, here.train, run, epochs)
        laws.assert_same_state(found.state_dict(), passed[epochs])
        assert not any(p.grad is not None for p in found.parameters())
        assert all(p.is_contiguous() for p in found.parameters())
        assert not heard
    laws.assert_same_state(passed[-1], here.dense.state_dict())


def test_rewound_trains_no_longer_than_it_must() -> None:
    here = case()
    origin, counting = counted(here.origin)
    rewound(origin, here.train, here.run, 2)
    assert counting.epochs == 2
    rewound(origin, here.train, here.run, 0)
    assert counting.calls == 1


def test_one_cannot_rewind_to_after_the_end() -> None:
    here = case()
    with pytest.raises(ValueError, match=r"epoch 7, but the training is over.*smaller `rewind`"):
        rewound(here.origin, here.train, here.run, EPOCHS + 1)
    for pruner in (Magnitude(0.5, rewind=EPOCHS + 1), Random(0.5, rewind=EPOCHS + 1)):
        with pytest.raises(ValueError, match="smaller `rewind`"):
            sparse(here.origin, pruner).make(here.train, here.run)


# --- How a sparse model comes to be -------------------------------------------------------------


@pytest.mark.parametrize("network", ["cnn", "mlp"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda p: type(p).__name__)
def test_a_sparse_model_is_made_by_the_three_steps(pruner: Any, network: str) -> None:
    """Spelled out: the dense training, the pruning, and the training from θ_k with the mask."""
    here = case(network)
    with laws.untouched_randomness():
        model = sparse(here.origin, pruner).make(here.train, here.run)
    order = Run.on("cpu", seed=derive(here.origin.seed, "order"), origin=here.origin)
    start = here.dense if pruner.trained else here.origin.fresh()
    mask = pruner(start, here.train, order)
    recipe = here.origin.train
    assert isinstance(recipe, Recipe)
    begun = fit(here.origin.fresh(), here.train, replace(recipe, epochs=pruner.rewind), order)
    expected = fit(begun, here.train, recipe, replace(order, mask=mask))
    laws.assert_same_state(model.state_dict(), expected.state_dict())
    found = Mask.of(model)
    assert all(torch.equal(found.keep[n], keep) for n, keep in mask.keep.items())
    assert not model.training


@pytest.mark.parametrize("network", ["cnn", "mlp"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda p: type(p).__name__)
def test_made_twice_it_is_the_same(pruner: Any, network: str) -> None:
    """Whatever the global random state and the run's own seed are: only the origin's counts."""
    here, made = case(network), []
    for seed in (1, 2):
        with laws.random_state(seed):
            run = replace(here.run, seed=seed)
            made.append(sparse(here.origin, pruner).make(here.train, run))
    laws.assert_same_state(made[0].state_dict(), made[1].state_dict())
    other = sparse(replace(here.origin, seed=9), pruner).make(here.train, here.run)
    assert laws.differs(made[0], other)


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda p: type(p).__name__)
def test_what_is_trained_already_is_not_trained_again(pruner: Any) -> None:
    """And not a bit changes, nor does the dense model."""
    here = case()
    before = laws.snapshot(here.dense)
    origin, without = counted(here.origin)
    one = sparse(origin, pruner).make(here.train, here.run)
    origin, given = counted(here.origin)
    two = sparse(origin, pruner, here.dense).make(here.train, here.run)
    laws.assert_same_state(one.state_dict(), two.state_dict())
    assert without.epochs - given.epochs == (EPOCHS if pruner.trained else 0)
    assert without.calls - given.calls == (1 if pruner.trained else 0)
    laws.assert_same(before, laws.snapshot(here.dense))


def test_iterative_trains_once_for_every_round() -> None:
    here = case()
    origin, counting = counted(here.origin)
    pruner = Iterative(0.7, rewind=1, rate=0.3)
    sparse(origin, pruner, here.dense).make(here.train, here.run)
    # Rounds, of which the last one's training is the sparse model's own; θ_1 twice.
    assert counting.epochs == len(pruner.sparsities()) * EPOCHS + 2


def test_a_sparse_origin_hears_the_progress_of_its_trainings() -> None:
    here, heard = case(), []
    run = replace(here.run, tell=heard.append)
    sparse(here.origin, Magnitude(0.7, rewind=2), here.dense).make(here.train, run)
    assert heard == [Progress(e + 1, EPOCHS, heard[e].loss) for e in range(EPOCHS)]


def test_a_training_that_knows_no_masks_is_refused() -> None:
    here = case()

    def deaf(model: nn.Module, data: Data, run: Run) -> nn.Module:
        return here.origin.train(model, data, replace(run, mask=None))

    with pytest.raises(ValueError, match="The training fills in weights that were pruned"):
        sparse(replace(here.origin, train=deaf), Random(0.5)).make(here.train, here.run)


# --- Forgetting with a mask ---------------------------------------------------------------------


@pytest.mark.parametrize("network", ["cnn", "mlp"])
@pytest.mark.parametrize("name", names("methods"))
def test_zeros_stay_zero_whatever_forgets(name: str, network: str) -> None:
    here, original = case(network), sparse_model(network)
    method = Pruned(PRUNERS[0], quick(name))
    before = laws.snapshot(original)
    outcome = unlearn(method, original, here.split, here.run)
    laws.assert_same(before, laws.snapshot(original))
    old, new = Mask.of(original), Mask.of(outcome.model)
    assert old.total - old.kept >= round(0.7 * old.total)
    if name.startswith("retrain"):  # it finds a mask of its own
        assert new.kept == old.kept
        return
    for layer, keep in old.keep.items():
        weight = outcome.model.get_parameter(layer)
        assert not bool(weight[~keep].any()), layer
    assert method.reads == quick(name).reads


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda p: type(p).__name__)
def test_retraining_owes_nothing_to_old_weights_or_old_mask(pruner: Any) -> None:
    here = case()
    method = Pruned(pruner, Retrain())
    one = method.prepare(here.dense, here.train, here.run)
    other = worlds.case(seed=7, epochs=EPOCHS).original
    two = Magnitude(0.9)(other, here.train, here.run).apply(other)
    assert not torch.equal(Mask.of(one).keep["0.weight"], Mask.of(two).keep["0.weight"])
    found = [unlearn(method, model, here.split, here.run).model for model in (one, two)]
    laws.assert_same_state(found[0].state_dict(), found[1].state_dict())
    # It is what the sparse origin makes of the retained data, by all three steps.
    anew = sparse(here.origin, pruner).make(here.split.retain, here.run)
    laws.assert_same_state(found[0].state_dict(), anew.state_dict())
    # Nor does it look at the forget set.
    assert method.reads == frozenset({"retain"})


def test_preparing_is_making_by_the_sparse_origin() -> None:
    here = case()
    method = Pruned(PRUNERS[0], Original())
    made = method.origin(here.origin).make(here.train, here.run)
    laws.assert_same_state(made.state_dict(), sparse_model().state_dict())
    with pytest.raises(ValueError, match="give the run its origin"):
        method.prepare(here.dense, here.train, replace(here.run, origin=None))


def test_pruned_fine_tuning_is_fine_tuning_with_the_mask() -> None:
    here, original = case(), sparse_model()
    method = FineTune(Recipe(epochs=2, lr=0.05, batch_size=8))
    found = Pruned(PRUNERS[0], method)(copy.deepcopy(original), here.split, here.run)
    run = replace(here.run, mask=Mask.of(original))
    expected = method(copy.deepcopy(original), here.split, run)
    laws.assert_same_state(found.state_dict(), expected.state_dict())
    assert laws.differs(found, original)


def test_without_an_origin_what_needs_none_runs() -> None:
    here, run = case(), replace(case().run, origin=None)
    unlearn(Pruned(PRUNERS[0], Original()), sparse_model(), here.split, run)
    with pytest.raises(ValueError, match="origin"):
        unlearn(Pruned(PRUNERS[0], Retrain()), sparse_model(), here.split, run)


@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_a_dense_model_is_refused_with_advice(network: str) -> None:
    here = case(network)
    with pytest.raises(ValueError, match=r"0 of the model's .*make it with Pruned\.prepare"):
        unlearn(Pruned(PRUNERS[0], Original()), here.dense, here.split, here.run)
    one_too_few = sparse_model(network)
    with torch.no_grad():
        weight = next(iter(prunable(one_too_few).values()))
        weight[weight == 0] = 1e-9
    with pytest.raises(ValueError, match=r"should be pruned to"):
        unlearn(Pruned(PRUNERS[0], Original()), one_too_few, here.split, here.run)
    unlearn(Pruned(Magnitude(0.0), Original()), here.dense, here.split, here.run)


@dataclass(frozen=True)
class Filler:
    """Does not know of masks: moves every weight, or a single one that was removed."""

    fill: Callable[[nn.Module], None]

    reads: ClassVar[frozenset[Part]] = frozenset()

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        with torch.no_grad():
            self.fill(model)
        return model


def fill_all(model: nn.Module) -> None:
    for weight in model.parameters():
        weight.add_(0.01)


def fill_one(model: nn.Module) -> None:
    weight = next(iter(prunable(model).values())).view(-1)
    weight[torch.where(weight == 0)[0][0]] = 1e-6


def swap_one(model: nn.Module) -> None:
    weight = next(iter(prunable(model).values())).view(-1)
    zero, other = torch.where(weight == 0)[0][0], torch.where(weight != 0)[0][0]
    weight[zero], weight[other] = float(weight[other]), 0.0


@pytest.mark.parametrize("fill", [fill_all, fill_one, swap_one])
def test_a_method_that_fills_zeros_in_is_caught(fill: Callable[[nn.Module], None]) -> None:
    here = case()
    method: Method = Pruned(PRUNERS[0], Filler(fill))
    with pytest.raises(ValueError, match="Filler fills in weights that were pruned"):
        unlearn(method, sparse_model(), here.split, here.run)


def test_a_model_may_be_sparser_than_asked() -> None:
    """Weights that are zero beyond the pruner's share are held at zero too."""
    here, original = case(), sparse_model()
    with torch.no_grad():
        original.get_parameter("0.weight")[0] = 0
    result = unlearn(Pruned(PRUNERS[0], quick("fine_tune")), original, here.split, here.run).model
    old, new = Mask.of(original), Mask.of(result)
    assert all(not bool((new.keep[n] & ~keep).any()) for n, keep in old.keep.items())
