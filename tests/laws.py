"""What every member of a family must obey: one list of laws per family.

A law is a function of one member that asserts. The tests apply each law to each file of the
family's folder, so that a file added is tested by itself.
"""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import oblivio.core
from oblivio.catalogue import build, settings_of
from oblivio.core import Method, Metric, Run, Scenario, Score, Split, Trial, derive, unlearn
from oblivio.data.arrays import Arrays
from oblivio.data.attack import Attack
from oblivio.data.triggers.patch import Patch
from worlds import Case, case, pictures

EXACT = ("Retrain", "RetrainAgain")
"""Methods whose result owes nothing to the weights that come in."""

ELSEWHERE = ("transfer", "trojan")
"""Metrics whose headline is about something else than memorised labels: see their own tests."""

TRAINING = ("bound", "cka", "closeness", "probe", "relearn", "tow")
"""Metrics that train a model of their own, whose order of examples goes by position."""

QUICK: Mapping[str, Mapping[str, Any]] = {
    "transfer": {
        "target": {"name": "part", "train": 40, "test": 40},
        "probe": {"epochs": 3},
        "full": {"epochs": 2},
    },
    "relearn": {"recipe": {"lr": 0.05}, "floor": 0.5, "most": 25},
}
"""Settings of metrics that would take too long as they are."""


@cache
def _case(network: str, class_wise: bool = False) -> Case:
    return case(network, class_wise=class_wise)


def standard(network: str = "cnn", *, class_wise: bool = False) -> Case:
    """The case that laws are tried on, made once; the model is a copy of one's own."""
    made = _case(network, class_wise)
    return replace(made, original=copy.deepcopy(made.original))


# --- Helpers ------------------------------------------------------------------------------------


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that could change in a model: weights, buffers, flags, gradients and hooks."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "training": {name: module.training for name, module in model.named_modules()},
        "trainable": {name: p.requires_grad for name, p in model.named_parameters()},
        "gradient": {name: p.grad is None for name, p in model.named_parameters()},
        "hooks": {
            name: (
                len(module._forward_hooks),
                len(module._forward_pre_hooks),
                len(module._backward_hooks),
                len(module._backward_pre_hooks),
            )
            for name, module in model.named_modules()
        },
    }


def assert_same_state(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    """Bit by bit."""
    assert list(one) == list(two)
    for name in one:
        assert torch.equal(one[name], two[name]), f"{name} differs"


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Two snapshots are the same, bit by bit."""
    assert_same_state(one["state"], two["state"])
    for what in ("training", "trainable", "gradient", "hooks"):
        assert one[what] == two[what]


def differs(one: nn.Module, two: nn.Module) -> bool:
    """Whether any weight or buffer differs."""
    others = two.state_dict()
    return any(not torch.equal(value, others[name]) for name, value in one.state_dict().items())


def _randomness() -> tuple[Tensor, Any, Any]:
    numpy = np.random.get_state()  # ruff: ignore[numpy-legacy-random]
    return torch.get_rng_state(), numpy, random.getstate()


@contextmanager
def untouched_randomness() -> Generator[None]:
    """Assert that the global random state of torch, NumPy and Python is the same afterwards."""
    before = _randomness()
    yield  # ruff: ignore[fallible-context-manager]: after an error there is nothing to assert
    after = _randomness()
    assert torch.equal(before[0], after[0]), "torch's random state changed"
    assert before[1][0] == after[1][0], "NumPy's random state changed"
    assert np.array_equal(before[1][1], after[1][1]), "NumPy's random state changed"
    assert before[1][2:] == after[1][2:], "NumPy's random state changed"
    assert before[2] == after[2], "Python's random state changed"


@contextmanager
def random_state(seed: int) -> Generator[None]:
    """Begin from another global random state."""
    with oblivio.core.seeded(seed):
        yield


def with_batches(thing: Any, size: int) -> Any:
    """The same settings with this batch size, however deep it stands."""
    changes: dict[str, Any] = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if field.name == "batch_size":
            changes[field.name] = size
        elif is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = with_batches(value, size)
    return replace(thing, **changes)


def origin_with_batches(run: Run, size: int) -> Run:
    """The same run, whose original was trained with this batch size."""
    assert run.origin is not None
    return replace(run, origin=replace(run.origin, train=with_batches(run.origin.train, size)))


# --- Methods ------------------------------------------------------------------------------------


def leaves_the_input_as_it_is(method: Method) -> None:
    """Weights, buffers, flags and hooks of the input stay, in eval mode and in mixed modes."""
    here = standard()
    for mixed in (False, True):
        here.original.train(mixed)
        next(here.original.children()).training = False
        before = snapshot(here.original)
        result = unlearn(method, here.original, here.split, here.run).model
        assert_same(before, snapshot(here.original))
        with torch.no_grad():
            for value in result.state_dict().values():
                value.zero_()
        assert_same(before, snapshot(here.original))


def leaves_the_data_as_it_is(method: Method) -> None:
    """Inputs, labels and ids stay, bit by bit."""
    here = standard()
    parts = [here.split.forget, here.split.retain]
    before = [[x.clone() for x in (p.inputs, p.labels, p.ids)] for p in parts]  # pyright: ignore
    unlearn(method, here.original, here.split, here.run)
    for part, old in zip(parts, before, strict=True):
        for now, then in zip((part.inputs, part.labels, part.ids), old, strict=True):  # pyright: ignore
            assert torch.equal(now, then)


def is_deterministic(method: Method) -> None:
    """The same seed gives the same weights and notes, whatever the global random state was."""
    here = standard()
    outcomes = []
    for seed in (1, 2):
        with random_state(seed), untouched_randomness():
            outcomes.append(unlearn(method, here.original, here.split, here.run))
    one, two = outcomes
    assert_same_state(one.model.state_dict(), two.model.state_dict())
    assert dict(one.notes) == dict(two.notes)


def keeps_names_shapes_and_types(method: Method) -> None:
    """Of parameters and buffers; what was trainable is trainable; no hook stays behind."""
    here = standard()
    unlearned = unlearn(method, here.original, here.split, here.run).model
    assert type(unlearned) is type(here.original)
    old, new = here.original.state_dict(), unlearned.state_dict()
    assert list(old) == list(new)
    for name in old:
        assert old[name].shape == new[name].shape, name
        assert old[name].dtype == new[name].dtype, name
    before, after = snapshot(here.original), snapshot(unlearned)
    assert before["trainable"] == after["trainable"]
    assert before["hooks"] == after["hooks"]


def gives_finite_weights(method: Method) -> None:
    """No weight or buffer is NaN or infinite."""
    here = standard()
    unlearned = unlearn(method, here.original, here.split, here.run).model
    for name, value in unlearned.state_dict().items():
        assert bool(value.isfinite().all()), name


def reads_only_what_it_declares(method: Method) -> None:
    """Called with the other set missing altogether, it finishes all the same."""

    class Trap:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"{name} of an undeclared set is used")

        def __len__(self) -> int:
            raise AssertionError("the length of an undeclared set is used")

    assert method.reads <= {"forget", "retain"}
    here = standard()
    view = copy.copy(here.split)
    for part in {"forget", "retain"} - method.reads:
        object.__setattr__(view, part, Trap())
    assert isinstance(method(here.original, view, here.run), nn.Module)


def survives_its_settings(method: Method) -> None:
    """`settings_of` is plain data, and `build` makes the same method of it."""
    settings = settings_of(method)
    assert build(type(method), settings) == method
    assert build(type(method), json.loads(json.dumps(settings))) == method
    changed = with_batches(method, 3)
    assert build(type(method), settings_of(changed)) == changed


def finishes_on_one_batch(method: Method) -> None:
    """A batch that is larger than the data."""
    here = standard()
    run = origin_with_batches(here.run, 10_000)
    unlearn(with_batches(method, 10_000), here.original, here.split, run)


def finishes_on_a_last_batch_of_one(method: Method) -> None:
    """Nine and 33 examples in batches of eight, with BatchNorm, on one value per channel too."""
    for network in (_with_batchnorm, _with_batchnorm_on_vectors):
        here = standard()
        run = replace(here.run, origin=replace(here.origin, build=network))
        run = origin_with_batches(run, 8)
        assert len(here.split.forget) % 8 == len(here.split.retain) % 8 == 1
        unlearn(with_batches(method, 8), network(), here.split, run)


def finishes_on_one_example(method: Method) -> None:
    """A single example to forget, as most real requests are; the network has BatchNorm."""
    here = standard()
    train = pictures(10)
    unlearn(method, here.original, Split.of(train, train.ids[:1]), here.run)


def gives_eval_mode(method: Method) -> None:
    """In every module of the result, also if the input was in train mode."""
    here = standard()
    unlearned = unlearn(method, here.original.train(), here.split, here.run).model
    assert not any(module.training for module in unlearned.modules())


def gives_what_can_be_kept(method: Method) -> None:
    """The result can be copied and saved; the notes are plain data."""
    here = standard()
    outcome = unlearn(method, here.original, here.split, here.run)
    assert_same_state(copy.deepcopy(outcome.model).state_dict(), outcome.model.state_dict())
    torch.save(outcome.model.state_dict(), io.BytesIO())
    assert json.loads(json.dumps(dict(outcome.notes))) == dict(outcome.notes)
    assert outcome.seconds >= 0


def owes_nothing_to_the_old_weights_if_exact(method: Method) -> None:
    """An exact method gives the same for two different incoming weights; others, their own."""
    here = standard()
    other = here.origin.fresh()
    with torch.no_grad():
        for value in other.state_dict().values():
            value.add_(1)
    one = unlearn(method, here.original, here.split, here.run).model
    two = unlearn(method, other, here.split, here.run).model
    if type(method).__name__ in EXACT:
        assert_same_state(one.state_dict(), two.state_dict())
    else:
        assert differs(one, two)


METHOD_LAWS: list[Callable[[Method], None]] = [
    leaves_the_input_as_it_is,
    leaves_the_data_as_it_is,
    is_deterministic,
    keeps_names_shapes_and_types,
    gives_finite_weights,
    reads_only_what_it_declares,
    survives_its_settings,
    finishes_on_one_batch,
    finishes_on_a_last_batch_of_one,
    finishes_on_one_example,
    gives_eval_mode,
    gives_what_can_be_kept,
    owes_nothing_to_the_old_weights_if_exact,
]


def _with_batchnorm() -> nn.Module:
    return standard().origin.build()


def _with_batchnorm_on_vectors() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


# --- Scenarios ----------------------------------------------------------------------------------


def parts_are_disjoint_and_complete(scenario: Scenario) -> None:
    """Every example is in exactly one part, with its own input and label, in the old order."""
    for seed in range(3):
        split, train = scenario(pictures(60), seed), pictures(60)
        if hasattr(scenario, "poison"):
            train = scenario.poison(train, seed)
        assert len(split.forget) > 0
        assert len(split.retain) > 0
        ids = torch.cat([split.forget.ids, split.retain.ids])
        assert sorted(ids.tolist()) == sorted(train.ids.tolist())
        position = {id_: row for row, id_ in enumerate(train.ids.tolist())}
        for part in (split.forget, split.retain):
            rows = [position[id_] for id_ in part.ids.tolist()]
            assert rows == sorted(rows)
            assert torch.equal(part.labels, train.labels[rows])
            assert torch.equal(part.inputs, train.inputs[rows])  # pyright: ignore


def is_the_same_for_the_same_seed(scenario: Scenario) -> None:
    """Whatever the global random state is, and without touching it."""
    train = pictures(60)
    with random_state(1), untouched_randomness():
        one = scenario(train, 5)
    with random_state(2), untouched_randomness():
        two = scenario(train, 5)
    assert torch.equal(one.forget.ids, two.forget.ids)
    assert torch.equal(one.retain.ids, two.retain.ids)
    assert one.digest == two.digest


def has_a_digest_without_order(scenario: Scenario) -> None:
    """The digest knows which examples are where, and no more; moving one of them changes it."""
    split = scenario(pictures(60), 0)
    forget, retain = split.forget, split.retain
    backwards = Split(
        forget.take(torch.arange(len(forget)).flip(0)),
        retain.take(torch.arange(len(retain)).flip(0)),
    )
    assert backwards.digest == split.digest
    moved = Split.of(pictures(60), [*forget.ids.tolist(), int(retain.ids[0])])
    assert moved.digest != split.digest
    assert Split(retain, forget).digest != split.digest


def leaves_the_training_data_as_it_is(scenario: Scenario) -> None:
    """Bit by bit."""
    train = pictures(60)
    before = [x.clone() for x in (train.inputs, train.labels, train.ids)]
    scenario(train, 0)
    for now, then in zip((train.inputs, train.labels, train.ids), before, strict=True):
        assert torch.equal(now, then)


def keeps_its_settings(scenario: Scenario) -> None:
    """`build` makes the same scenario of `settings_of`."""
    assert build(type(scenario), settings_of(scenario)) == scenario


SCENARIO_LAWS: list[Callable[[Scenario], None]] = [
    parts_are_disjoint_and_complete,
    is_the_same_for_the_same_seed,
    has_a_digest_without_order,
    leaves_the_training_data_as_it_is,
    keeps_its_settings,
]


# --- Metrics ------------------------------------------------------------------------------------


def trial(unlearned: nn.Module | None = None, *, class_wise: bool = False) -> Trial:
    """A trial of the standard case; the retrained model is judged unless another is given."""
    here = standard(class_wise=class_wise)
    model = _retrained(class_wise) if unlearned is None else unlearned
    return Trial(here.original, model, here.split, here.test, 1.5, attack=Attack(Patch(), 1))


def _retrained(class_wise: bool) -> nn.Module:
    return copy.deepcopy(_retrained_once(class_wise))


@cache
def _retrained_once(class_wise: bool) -> nn.Module:
    here = standard(class_wise=class_wise)
    return here.origin.make(here.split.retain, here.run)


def numbers(metric: Metric, result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among what a metric returns; the rest are exhibits."""
    return {name: value for name, value in result.items() if isinstance(value, (int, float))}


def returns_what_it_describes(metric: Metric) -> None:
    """Every number is described in `scores` and every score is returned; the rest are exhibits."""
    result = metric(trial(), standard().run)
    found = numbers(metric, result)
    assert set(found) == set(metric.scores)
    for name in set(result) - set(found):
        assert isinstance(result[name], (list, dict)), name
    assert json.loads(json.dumps(dict(result))) == dict(result)
    for score in metric.scores.values():
        assert isinstance(score, Score)
        assert score.better in ("up", "down", "retrain")
        assert score.label
        assert score.meaning


def stays_in_bounds(metric: Metric) -> None:
    """Percentages lie from 0 to 100, for good and for ruined models, classes gone or not."""
    for class_wise in (False, True):
        here = standard(class_wise=class_wise)
        for model in (here.original, here.origin.fresh(), _constant(0), _constant(2)):
            result = metric(trial(model, class_wise=class_wise), here.run)
            for name, value in numbers(metric, result).items():
                assert np.isfinite(value), name
                if metric.scores[name].unit == "%":
                    assert 0 <= value <= 100, name


def does_not_depend_on_the_batch_size(metric: Metric) -> None:
    """Judged three examples at a time, the numbers are the same."""
    full = metric(trial(), standard().run)
    predict = oblivio.core.predict

    def in_threes(model: nn.Module, data: Any, **_: Any) -> Any:
        return predict(model, data, batch_size=3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oblivio.core.predict", in_threes)
        patch.setattr(f"{type(metric).__module__}.predict", in_threes, raising=False)
        small = metric(trial(), standard().run)
    assert small.keys() == full.keys()
    for name, value in numbers(metric, full).items():
        assert small[name] == pytest.approx(value, abs=1e-4), name


def has_no_gap_for_retraining_itself(metric: Metric) -> None:
    """Two retrainings are the same to every number, whatever the global random state is."""
    results = []
    for seed in (1, 2):
        with random_state(seed), untouched_randomness():
            here = standard()
            again = here.origin.make(here.split.retain, here.run)
            results.append(metric(trial(again), here.run))
    assert results[0] == results[1]


def points_in_the_right_direction(metric: Metric) -> None:
    """The original, which has memorised wrong labels, is far from retraining in every headline."""
    here = standard()
    headline = [name for name, score in metric.scores.items() if score.headline]
    original = metric(trial(here.original), here.run)
    retrained = metric(trial(), here.run)
    gaps = {name: abs(original[name] - retrained[name]) for name in headline}
    if headline:
        assert max(gaps.values()) > 30, gaps


def leaves_the_trial_as_it_is(metric: Metric) -> None:
    """Neither model changes, whatever mode it is in, nor does the data."""
    for mode in (False, True):
        here = trial()
        for model in (here.original, here.unlearned):
            model.train(mode)
            next(model.children()).training = not mode
        data = [part.labels.clone() for part in (here.split.forget, here.split.retain, here.test)]
        before = snapshot(here.original), snapshot(here.unlearned)
        metric(here, standard().run)
        assert_same(before[0], snapshot(here.original))
        assert_same(before[1], snapshot(here.unlearned))
        for part, labels in zip(
            (here.split.forget, here.split.retain, here.test), data, strict=True
        ):
            assert torch.equal(part.labels, labels)


def does_not_depend_on_the_order(metric: Metric) -> None:
    """Of the examples: each part turned round gives the same numbers."""
    here = trial()

    def turned(part: Any) -> Arrays:
        return part.take(torch.arange(len(part)).flip(0))

    split = Split(turned(here.split.forget), turned(here.split.retain))
    other = replace(here, split=split, test=turned(here.test))
    run = standard().run
    one, two = metric(here, run), metric(other, run)
    for name, value in numbers(metric, one).items():
        assert two[name] == pytest.approx(value, abs=1e-4), name


def can_be_built_again(metric: Metric) -> None:
    """`build` makes the same metric of `settings_of`."""
    assert build(type(metric), settings_of(metric)) == metric


METRIC_LAWS: list[Callable[[Metric], None]] = [
    returns_what_it_describes,
    stays_in_bounds,
    does_not_depend_on_the_batch_size,
    does_not_depend_on_the_order,
    has_no_gap_for_retraining_itself,
    points_in_the_right_direction,
    leaves_the_trial_as_it_is,
    can_be_built_again,
]


class _Constant(nn.Module):
    """Calls everything one class, from features that are all the same."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.last = nn.Linear(2, 3)
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.bias.copy_(torch.nn.functional.one_hot(torch.tensor(label), 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.ones(len(x), 2))


def _constant(label: int) -> nn.Module:
    return _Constant(label)


def seeds(n: int) -> list[int]:
    """Seeds that have nothing to do with each other."""
    return [derive(0, "test", i) for i in range(n)]
