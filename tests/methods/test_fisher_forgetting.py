"""Fisher forgetting's noise is the formula's, and it forgets the class that was asked for."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import oracles
import oracles_fisher
import worlds
from oblivio.core import Run, Split, derive, unlearn
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask, prunable
from oblivio.methods.fisher_forgetting import FisherForgetting


def case(*, class_wise: bool = False) -> tuple[nn.Module, Split, Run]:
    """The standard CNN and its data, in float64."""
    here = laws.standard(class_wise=class_wise)
    parts = (here.split.forget, here.split.retain)
    forget, retain = (replace(part, inputs=part.inputs.double()) for part in parts)  # pyright: ignore
    return here.original.double(), Split(forget, retain), here.run


def retained(split: Split) -> Arrays:
    assert isinstance(split.retain, Arrays)
    return split.retain


def scales(model: nn.Module, data: Arrays, sigma: float, limit: float) -> dict[str, Tensor]:
    """s of every weight, from gradients taken one at a time; zeros count as pruned."""
    fisher = oracles_fisher.fisher(model, data, data.labels)
    found = {}
    for name, weight in model.named_parameters():
        kept = [w for w in weight.detach().flatten().tolist() if w != 0]
        rms = (sum(w * w for w in kept) / len(kept)) ** 0.5
        found[name] = (sigma * fisher[name] ** -0.25).clamp(max=limit * rms) * (weight != 0)
    return found


def moves(model: nn.Module, split: Split, run: Run, **settings: Any) -> dict[str, Tensor]:
    after = unlearn(FisherForgetting(**settings), model, split, run).model
    before = dict(model.named_parameters())
    return {name: (p - before[name]).detach() for name, p in after.named_parameters()}


@pytest.mark.parametrize("pruned", [False, True])
def test_the_noise_is_the_formulas(pruned: bool) -> None:
    """Every weight's move is s ε: ε from the run's seed, s from the slow truth."""
    model, split, run = case()
    if pruned:
        draw = torch.Generator().manual_seed(1)
        keep = {n: torch.rand(w.shape, generator=draw) < 0.3 for n, w in prunable(model).items()}
        run = replace(run, mask=Mask(keep))
        Mask(keep).apply(model)
    expected = scales(model, retained(split), 0.01, 0.5)
    draw = torch.Generator().manual_seed(derive(run.seed, "noise"))
    noise = torch.randn(sum(s.numel() for s in expected.values()), generator=draw).double()
    found = moves(model, split, run, sigma=0.01, limit=0.5)
    for part, (name, scale) in zip(
        noise.split([s.numel() for s in expected.values()]), expected.items(), strict=True
    ):
        worst = part.view_as(scale) * scale
        torch.testing.assert_close(found[name], worst, rtol=1e-7, atol=1e-12)


def test_over_seeds_the_noise_has_the_deviation_it_should_have() -> None:
    model, split, run = case()
    few = Split(split.forget, split.retain.take(torch.arange(6)))
    expected = scales(model, retained(few), 1e-3, 1.0)["7.weight"]
    many = [moves(model, few, replace(run, seed=i), sigma=1e-3)["7.weight"] for i in range(30)]
    ratio = torch.stack(many).square().mean(0).sqrt() / expected
    assert float(ratio.square().mean()) == pytest.approx(1, abs=0.1)


def test_what_the_mask_removed_stays_zero_and_does_not_count() -> None:
    model, split, run = case()
    keep = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in prunable(model).items()}
    first = next(iter(keep.values()))
    first.view(-1)[:5] = True
    run = replace(run, mask=Mask(keep))
    Mask(keep).apply(model)
    outcome = unlearn(FisherForgetting(sigma=10.0), model, split, run)
    for name, kept in keep.items():
        weight = outcome.model.get_parameter(name)
        assert bool((weight[~kept] == 0).all())
        assert bool((weight[kept] != 0).all())
    # At such a σ every weight that stays is clamped; those that were removed are not counted.
    assert outcome.notes["clamped"] == 1


def test_the_note_counts_weights_at_the_bound() -> None:
    model, split, run = case()
    wanted = oracles_fisher.fisher(model, retained(split), retained(split).labels)
    at = total = 0
    for name, weight in model.named_parameters():
        most = 0.5 * float(weight.detach().square().mean().sqrt())
        at += int((1e-4 * wanted[name] ** -0.25 > most).sum())
        total += weight.numel()
    outcome = unlearn(FisherForgetting(sigma=1e-4, limit=0.5), model, split, run)
    assert outcome.notes == {"clamped": pytest.approx(at / total), "rows": []}
    assert 0.05 < at / total < 0.95


def test_statistics_and_frozen_weights_stay() -> None:
    model, split, run = case()
    model.get_parameter("0.weight").requires_grad_(False)
    after = unlearn(FisherForgetting(), model, split, run).model
    assert torch.equal(after.get_parameter("0.weight"), model.get_parameter("0.weight"))
    buffers = dict(model.named_buffers())
    assert buffers
    for name, value in after.named_buffers():
        assert torch.equal(value, buffers[name])


def test_a_weight_that_is_not_needed_drowns_and_no_more() -> None:
    """F_r = 0 wants infinite noise; it gets as much as its neighbours weigh, times the limit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    split, run = case()[1:]
    for part in (split.forget, split.retain):
        part.inputs[:, 0, 0, 0] = 0  # pyright: ignore
    found = moves(model, split, run, sigma=1e-12, limit=2.0)["1.weight"]
    rms = float(model.get_parameter("1.weight").detach().square().mean().sqrt())
    assert float(found[:, 0].abs().max()) > 0.1 * rms
    assert float(found[:, 0].abs().max()) < 8 * rms
    assert float(found[:, 1:].abs().max()) < 1e-3 * rms


# --- Classes that are gone ----------------------------------------------------------------------


@pytest.mark.parametrize("asked", [0, 2])
def test_the_rows_of_the_class_that_was_asked_for_go_to_zero(asked: int) -> None:
    model, split, run = case()
    data = worlds.pictures(42, seed=1, dtype=torch.float64)
    split = Split.of(data, data.ids[data.labels == asked])
    outcome = unlearn(FisherForgetting(limit=0.0, rows=True), model, split, run)
    assert outcome.notes["rows"] == [asked]
    linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    for name, before in model.named_parameters():
        after = outcome.model.get_parameter(name)
        same = torch.ones(before.shape, dtype=torch.bool)
        if name in (f"{linear}.weight", f"{linear}.bias"):
            same[asked] = False
            assert bool((after[asked] == 0).all())
        assert torch.equal(after[same], before[same]), name


def test_a_class_is_forgotten_with_the_rows_and_not_without() -> None:
    """Where others' logits are positive: a constant on all logits changes no probability."""
    model, split, run = case(class_wise=True)
    with torch.no_grad():
        model.get_parameter("7.bias").add_(50)

    def errors(rows: bool) -> float:
        after = unlearn(FisherForgetting(rows=rows), model, split, run).model
        with torch.no_grad():
            logits = after(split.forget.inputs)  # pyright: ignore
        return 100 - oracles.percent_right(logits, split.forget.labels)

    assert errors(rows=True) == 100
    assert errors(rows=False) < 10


def test_rows_are_noisy_too() -> None:
    model, split, run = case(class_wise=True)
    after = unlearn(FisherForgetting(rows=True), model, split, run).model
    rows = list(after.parameters())[-2][split.gone]
    assert bool((rows != 0).all())


def test_the_forget_set_is_read_for_its_rows_only() -> None:
    assert FisherForgetting(rows=True).reads == {"forget", "retain"}
    assert FisherForgetting(rows=False).reads == {"retain"}
    model, split, run = case()
    laws.reads_only_what_it_declares(FisherForgetting(rows=False))
    other = Split(split.forget.take(torch.arange(1)), split.retain)
    one = unlearn(FisherForgetting(rows=True), model, split, run).model
    two = unlearn(FisherForgetting(rows=True), model, other, run).model
    laws.assert_same_state(one.state_dict(), two.state_dict())


def test_a_head_without_the_rows_is_refused() -> None:
    _, split, run = case(class_wise=True)
    data = worlds.pictures(42, seed=1)
    split = Split.of(data, data.ids[data.labels == 2])
    odd = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.ReLU(), nn.Unflatten(1, (2, 1)))
    odd = nn.Sequential(odd, nn.Conv1d(2, 3, 1), nn.Flatten())
    with pytest.raises(ValueError, match="no rows"):
        unlearn(FisherForgetting(rows=True), odd, split, run)
    unlearn(FisherForgetting(rows=False), odd, split, run)


# --- Settings -----------------------------------------------------------------------------------


def test_a_part_of_the_retain_set_estimates_it() -> None:
    model, split, run = case()
    one = unlearn(FisherForgetting(samples=10), model, split, run).model
    same = unlearn(FisherForgetting(samples=10), copy.deepcopy(model), split, run).model
    everything = unlearn(FisherForgetting(), model, split, run).model
    more = unlearn(FisherForgetting(samples=1000), model, split, run).model
    laws.assert_same_state(one.state_dict(), same.state_dict())
    laws.assert_same_state(everything.state_dict(), more.state_dict())
    assert laws.differs(one, everything)


def test_noise_depends_on_the_seed_and_labels_matter() -> None:
    model, split, run = case()
    one = unlearn(FisherForgetting(), model, split, run).model
    two = unlearn(FisherForgetting(), model, split, replace(run, seed=5)).model
    assert laws.differs(one, two)
    unsure = laws.standard().origin.fresh().double()
    given = unlearn(FisherForgetting(), unsure, split, run).model
    drawn = unlearn(FisherForgetting(labels="model"), unsure, split, run).model
    assert laws.differs(given, drawn)


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"limit": -1.0}, {"samples": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} = "):
        FisherForgetting(**wrong)
