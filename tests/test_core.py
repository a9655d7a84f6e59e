"""Splits, seeds, origins, the door to methods, and what a metric sees."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import laws
import oblivio
import worlds
from oblivio.core import (
    Data,
    Method,
    Note,
    Origin,
    Part,
    Progress,
    Run,
    Split,
    Trial,
    derive,
    predict,
    seeded,
    unlearn,
)
from oblivio.data.arrays import Arrays
from oblivio.methods.fine_tune import FineTune
from oblivio.methods.retrain import Retrain
from oblivio.train import Recipe


def test_every_public_word_is_there() -> None:
    for word in oblivio.__all__:
        assert getattr(oblivio, word).__name__ == word
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        getattr(oblivio, "mis" + "sing")


# --- Split --------------------------------------------------------------------------------------


@given(st.data())
def test_split_of_ids_is_disjoint_and_complete(data: st.DataObject) -> None:
    train = worlds.pictures(20, 3, (2,))
    ids = train.ids.tolist()
    wanted = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=19, unique=True))
    split = Split.of(train, wanted)
    assert set(split.forget.ids.tolist()) == set(wanted)
    assert split.forget.ids.tolist() == [i for i in ids if i in wanted]
    assert split.retain.ids.tolist() == [i for i in ids if i not in wanted]
    assert Split.of(train, torch.tensor(wanted[::-1])).digest == split.digest


@pytest.mark.parametrize(
    ("forget", "match"),
    [
        ([], "The forget set is empty: nothing to forget"),
        ([7, 7], "given twice: 7"),
        ([1, 2, 3, 4, 5, 6], "no examples with these ids: 1, 2, 3, 4, 5 and 1 more. It has 4"),
        ([7, 10, 13, 16], "all of the training data"),
    ],
)
def test_split_refuses(forget: list[int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Split.of(worlds.pictures(4), forget)


def test_split_parts_are_checked() -> None:
    train = worlds.pictures(6)
    some, twice = train.take(torch.tensor([0, 1])), train.take(torch.tensor([2, 2]))
    with pytest.raises(ValueError, match="both sets, forget and retain: 19, 22"):
        Split(some, train)
    with pytest.raises(ValueError, match="twice in the retain set: 16"):
        Split(some, twice)
    with pytest.raises(ValueError, match="The retain set is empty: nothing would be retained"):
        Split(some, train.take(torch.arange(0)))


def test_digest_is_of_the_ids_alone() -> None:
    """A fixed value: records of old experiments must not lose their splits."""
    train = Arrays(torch.zeros(5, 1), torch.zeros(5, dtype=torch.int64))
    assert Split.of(train, [1, 3]).digest == "859550c55d2597eb"
    other = Arrays(torch.ones(5, 2), torch.arange(5))
    assert Split.of(other, [3, 1]).digest == "859550c55d2597eb"
    assert Split.of(other, [3, 2]).digest != "859550c55d2597eb"


def test_gone_are_the_classes_without_a_retained_example() -> None:
    train = Arrays(torch.zeros(6, 1), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert Split.of(train, [0, 1, 2]).gone.tolist() == [0]
    assert Split.of(train, [0, 1, 4, 5]).gone.tolist() == [0, 2]
    assert Split.of(train, [0]).gone.tolist() == []


# --- Seeds --------------------------------------------------------------------------------------


@given(st.integers(), st.lists(st.one_of(st.text(), st.integers())))
def test_derived_seeds_are_seeds(seed: int, axes: list[object]) -> None:
    value = derive(seed, *axes)
    assert 0 <= value < 2**63
    assert value == derive(seed, *axes)
    torch.Generator().manual_seed(value)


def test_derived_seeds_differ_in_every_axis() -> None:
    found = {derive(s, a, b) for s in range(10) for a in "xyz" for b in range(10)}
    assert len(found) == 300
    assert derive(0, "ab") != derive(0, "a", "b")
    assert derive(0, 1) != derive(0, "1")


def draws() -> tuple[float, float, float]:
    numpy = np.random.rand()  # ruff: ignore[numpy-legacy-random]
    return float(torch.rand(())), float(numpy), random.random()


def test_seeded_forks_all_three_generators() -> None:
    with laws.untouched_randomness():
        with seeded(5):
            one = draws()
        with seeded(5):
            assert draws() == one
        with seeded(6):
            assert all(a != b for a, b in zip(draws(), one, strict=True))


def test_seeded_restores_after_an_error() -> None:
    def fail() -> None:
        with seeded(2**63 - 1):
            draws()
            raise RuntimeError

    with laws.untouched_randomness(), pytest.raises(RuntimeError):
        fail()


# --- Run ----------------------------------------------------------------------------------------


def test_run_on() -> None:
    run = Run.on("cpu", seed=3, channels_last=True)
    assert (run.device.type, run.seed, run.channels_last, run.compile) == ("cpu", 3, True, False)
    assert run.fabric._precision.precision == "32-true"
    assert Run.on("cpu", precision="bf16-mixed").fabric._precision.precision == "bf16-mixed"
    with pytest.raises(ValueError, match="no device 'tpu'; there are auto, cpu"):
        Run.on("tpu")


def test_a_precision_is_not_repeated_on_the_console() -> None:
    """In a process of its own: handlers hold on to the stream that they found first."""
    code = "from oblivio.core import Run; print(Run.on('cpu', precision='bf16-mixed').precision)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("bf16-mixed\n", "")


def test_run_on_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Run.on().device.type == "cpu"
    with pytest.raises(ValueError, match="sees no CUDA device"):
        Run.on("cuda")


def test_notes_are_told() -> None:
    heard: list[object] = []
    Run.on("cpu", tell=heard.append).note(steps=3, stopped="early")
    assert heard == [Note("steps", 3), Note("stopped", "early")]


# --- Origin -------------------------------------------------------------------------------------


def test_origin_makes_the_same_model_whatever_the_random_state() -> None:
    here, made = laws.standard(), []
    for seed in (1, 2):
        with laws.random_state(seed), laws.untouched_randomness():
            made.append(here.origin.make(here.split.retain, replace(here.run, seed=seed)))
    laws.assert_same_state(made[0].state_dict(), made[1].state_dict())
    assert not any(module.training for module in made[0].modules())


def test_origins_seed_decides_weights_order_and_whatever_else_is_drawn() -> None:
    drawn: list[tuple[int, Any]] = []

    def train(model: nn.Module, data: Data, run: Run) -> nn.Module:
        drawn.append((run.seed, draws()))
        return model

    here = laws.standard()
    models = [
        Origin(here.origin.build, train, seed).make(here.split.retain, here.run)
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[2][0]
    assert drawn[0][1] != drawn[2][1]
    laws.assert_same_state(models[0].state_dict(), models[1].state_dict())
    assert laws.differs(models[0], models[2])


# --- The door -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toy:
    """Does to the model and the split what it is told."""

    act: Callable[[nn.Module, Split, Run], object]
    reads: ClassVar[frozenset[Part]] = frozenset()

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        self.act(model, split, run)
        return model


@dataclass(frozen=True)
class Forgetful(Toy):
    reads: ClassVar[frozenset[Part]] = frozenset({"forget"})


@dataclass(frozen=True)
class Retentive(Toy):
    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})


USES: dict[str, Callable[[Any], object]] = {
    "labels": lambda data: data.labels,
    "ids": lambda data: data.ids,
    "inputs": lambda data: data.inputs,
    "len": len,
    "take": lambda data: data.take(torch.arange(1)),
    "batches": lambda data: next(data.batches(1)),
    "to": lambda data: data.to(torch.device("cpu")),
    "loop": list,
    "item": lambda data: data[0],
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("method", "part"),
    [(Toy, "forget"), (Toy, "retain"), (Forgetful, "retain"), (Retentive, "forget")],
)
def test_reading_an_undeclared_set_raises(method: type[Toy], part: str, use: str) -> None:
    here = laws.standard("mlp")

    def act(model: nn.Module, split: Split, run: Run) -> object:
        return USES[use](getattr(split, part))

    # Python itself refuses to iterate over or to index what has no such method.
    error = (PermissionError, TypeError) if use in ("loop", "item") else PermissionError
    with pytest.raises(error) as caught:
        unlearn(method(act), here.original, here.split, here.run)
    if isinstance(caught.value, PermissionError):
        assert f"{method.__name__} reads the {part} set" in str(caught.value)


@pytest.mark.parametrize(("method", "part"), [(Forgetful, "forget"), (Retentive, "retain")])
def test_reading_a_declared_set_is_reading_it(method: type[Toy], part: str) -> None:
    here, seen = laws.standard("mlp"), []
    unlearn(
        method(lambda m, split, r: seen.append(getattr(split, part).ids)),
        here.original,
        here.split,
        here.run,
    )
    assert torch.equal(seen[0], getattr(here.split, part).ids)
    assert len(here.split.forget) == 9  # the caller's split is as it was
    assert len(here.split.retain) == 33


def test_the_method_works_on_a_copy() -> None:
    here = laws.standard()
    before = laws.snapshot(here.original.train())

    def ruin(model: nn.Module, split: Split, run: Run) -> None:
        with torch.no_grad():
            for value in model.state_dict().values():
                value.zero_()

    outcome = unlearn(Toy(ruin), here.original, here.split, here.run)
    laws.assert_same(before, laws.snapshot(here.original))
    assert all(not value.any() for value in outcome.model.state_dict().values())
    assert not any(module.training for module in outcome.model.modules())


def test_the_method_starts_from_the_model_and_a_seed_of_its_own() -> None:
    here, seen = laws.standard(), []

    def look(model: nn.Module, split: Split, run: Run) -> None:
        seen.append((copy.deepcopy(model.state_dict()), draws()))

    with laws.untouched_randomness():
        for method, seed in ((Toy, 0), (Toy, 0), (Toy, 1), (Forgetful, 0)):
            unlearn(method(look), here.original, here.split, replace(here.run, seed=seed))
    # The warm-up has not touched the copy: not its weights, and not BatchNorm's statistics.
    laws.assert_same_state(seen[0][0], here.original.state_dict())
    assert seen[0][1] == seen[1][1]
    assert seen[0][1] != seen[2][1]
    assert seen[0][1] != seen[3][1]


def test_notes_and_progress_arrive() -> None:
    here, heard = laws.standard("mlp"), []
    run = replace(here.run, tell=heard.append)
    told = unlearn(Toy(lambda m, s, r: r.note(a=1, b="x")), here.original, here.split, run)
    assert told.notes == {"a": 1, "b": "x"}
    assert heard == [Note("a", 1), Note("b", "x")]
    heard.clear()
    method = FineTune(Recipe(epochs=3, batch_size=8))
    assert unlearn(method, here.original, here.split, run).notes == {}
    assert [event[:2] for event in heard] == [(1, 3), (2, 3), (3, 3)]
    assert all(isinstance(event, Progress) for event in heard)


def test_seconds_are_the_methods_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("oblivio.core.time.perf_counter", lambda: clock[0])

    def work(model: nn.Module, split: Split, run: Run) -> None:
        clock[0] += 2.5

    def slow_copy(*_: object) -> None:
        clock[0] += 100

    monkeypatch.setattr("oblivio.core.check_fit", slow_copy)
    here = laws.standard("mlp")
    assert unlearn(Toy(work), here.original, here.split, here.run).seconds == 2.5


class Odd(nn.Module):
    """Gives something else than logits."""

    def __init__(self, act: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> object:
        return self.act(x)


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda x: x, r"\(8, classes\); it gave \(8, 1, 8, 8\)"),
        (lambda x: (x, x), "it gave tuple"),
        (lambda x: x.flatten(1).sum(1), r"it gave \(8,\)"),
        (lambda x: torch.zeros(1, 3), r"it gave \(1, 3\)"),
        (lambda x: x.flatten(1)[:, :2], "label 2, but the model knows 2 classes"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(act: Callable[[Tensor], object], match: str) -> None:
    here = laws.standard()
    with pytest.raises(ValueError, match=match):
        unlearn(Toy(lambda *_: None), Odd(act), here.split, here.run)


def test_unlearn_without_a_run() -> None:
    here = laws.standard("mlp")
    cpu = unlearn(FineTune(Recipe(epochs=1)), here.original, here.split, Run.on(seed=0))
    default = unlearn(FineTune(Recipe(epochs=1)), here.original, here.split)
    laws.assert_same_state(cpu.model.state_dict(), default.model.state_dict())


def test_families_are_protocols() -> None:
    assert isinstance(FineTune(), Method)
    assert isinstance(Retrain(), Method)
    assert isinstance(worlds.pictures(3), Data)
    assert not isinstance(nn.Linear(1, 1), Method)


# --- What a metric sees -------------------------------------------------------------------------


@given(size=st.integers(1, 40))
def test_predictions_do_not_depend_on_the_batch_size(size: int) -> None:
    here = laws.standard()
    whole = predict(here.original, here.test)
    parts = predict(here.original, here.test, batch_size=size)
    torch.testing.assert_close(parts.logits, whole.logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(parts.labels, here.test.labels)


def test_predictions_are_the_models_in_eval_mode_without_augmentation() -> None:
    here = laws.standard()
    test = replace(here.test, augment=oblivio.Augment(2, True))  # pyright: ignore
    with torch.no_grad():
        expected = here.original(test.inputs)
    before = laws.snapshot(here.original.train())
    found = predict(here.original, test)
    torch.testing.assert_close(found.logits, expected, rtol=1e-4, atol=1e-4)
    assert not found.logits.requires_grad
    assert found.logits.dtype == torch.float32
    laws.assert_same(before, laws.snapshot(here.original))


def test_trial_leaves_the_classes_that_are_gone_out_of_the_unseen() -> None:
    here = laws.standard(class_wise=True)
    trial = Trial(here.original, here.original, here.split, here.test)
    assert here.split.gone.tolist() == [2]
    assert set(trial.unseen.labels.tolist()) == {0, 1}
    assert len(trial.on_unseen.labels) == 20
    assert len(trial.on_test.labels) == 30
    mixed = laws.standard()
    kept = Trial(mixed.original, mixed.original, mixed.split, mixed.test)
    assert kept.unseen is mixed.test


def test_trial_looks_at_the_unlearned_model() -> None:
    here = laws.standard()
    fresh = here.origin.fresh()
    trial = Trial(here.original, fresh, here.split, here.test)
    for outputs, data in (
        (trial.on_forget, here.split.forget),
        (trial.on_retain, here.split.retain),
        (trial.on_test, here.test),
    ):
        expected = predict(fresh, data)
        assert torch.equal(outputs.logits, expected.logits)
        assert torch.equal(outputs.labels, expected.labels)
