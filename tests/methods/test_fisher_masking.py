"""Fisher masking zeroes the kernels that a plain sort finds, and then trains the whole network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import oracles_fisher
import worlds
from oblivio.core import Run, Split, unlearn
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask, prunable
from oblivio.methods.fisher_masking import FisherMasking, _kernels
from oblivio.prune import Pruned
from oblivio.prune.magnitude import Magnitude
from oblivio.train import Recipe, fit

STILL = Recipe(epochs=0)


def case(width: int = 3) -> tuple[nn.Module, Split, Run]:
    """A network with kernels of nine weights, and pictures, in float64."""
    data = worlds.pictures(30, 3, (2, 6, 6), dtype=torch.float64)
    model = nn.Sequential(
        nn.Conv2d(2, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    return oracles_fisher.unsettled(model), Split.of(data, data.ids[:6]), Run.on("cpu", seed=1)


def differences(model: nn.Module, split: Split) -> dict[str, Tensor]:
    """F_f − F_r of weights that may be masked, by gradients that are taken one at a time."""
    parts = (split.forget, split.retain)
    forget, retain = (oracles_fisher.fisher(model, part, part.labels) for part in parts)  # pyright: ignore
    return {name: forget[name] - retain[name] for name in ("0.weight", "3.weight", "6.weight")}


def kernels(weight: Tensor) -> list[Tensor]:
    """The parts that are masked as one; they share the weight's memory."""
    return [kernel for row in weight for kernel in row]


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.15, 0.3])
def test_the_kernels_of_the_largest_differences_go_to_zero(share: float, pruned: bool) -> None:
    model, split, run = case()
    keep = {n: torch.ones_like(w, dtype=torch.bool) for n, w in model.named_parameters()}
    if pruned:
        draw = torch.Generator().manual_seed(1)
        some = {n: torch.rand(w.shape, generator=draw) < 0.4 for n, w in prunable(model).items()}
        some["3.weight"][:, 0] = False  # kernels of which nothing stays
        some["0.weight"][0] = False
        run = replace(run, mask=Mask(some))
        Mask(some).apply(model)
        keep |= some
    d = differences(model, split)
    scored = []
    for name, value in d.items():
        pairs = zip(kernels(value), kernels(keep[name]), strict=True)
        for place, (each, stays) in enumerate(pairs):
            if bool(stays.any()):
                scored.append((float(each[stays].mean()), name, place))
    scored.sort(key=lambda row: -row[0])
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    best = [row for row in scored[: round(share * len(scored))] if row[0] > 0]
    assert len(best) > 1
    for _, name, place in best:
        kernels(expected[name])[place].zero_()
    method = FisherMasking(share=share, labels="data", recipe=STILL)
    outcome = unlearn(method, model, split, run)
    for name, weight in outcome.model.named_parameters():
        assert torch.equal(weight, expected[name]), name
    count = sum(int(kernels(keep[name])[place].sum()) for _, name, place in best)
    total = sum(p.numel() for p in model.parameters())
    assert outcome.notes["changed"] == pytest.approx(count / total)
    told: Any = outcome.notes["explanation"]
    assert told["by"] == "difference"
    assert told["histogram"]["threshold"] is None


def test_a_kernel_counts_by_its_mean_and_not_by_its_size() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Flatten(), nn.Linear(1, 1, bias=False))
    values = {name: torch.ones(p.shape).double() for name, p in model.named_parameters()}
    values["2.weight"] *= 2
    chosen = _kernels(model, values, 0.5, None)
    assert {name: bool(some.all()) for name, some in chosen.items()} == {
        "0.weight": False,
        "2.weight": True,
    }


def test_then_the_whole_network_is_fine_tuned() -> None:
    model, split, run = case()
    recipe = Recipe(epochs=2, lr=0.01, batch_size=8)
    masked = unlearn(FisherMasking(recipe=STILL), model, split, run).model
    found = unlearn(FisherMasking(recipe=recipe), model, split, run).model
    expected = fit(masked, split.retain, recipe, run)
    laws.assert_same_state(found.state_dict(), expected.state_dict())
    assert not torch.equal(found.get_buffer("1.running_mean"), model.get_buffer("1.running_mean"))


def test_a_weight_that_the_retained_data_need_more_is_never_masked() -> None:
    model, split, run = case()
    d = differences(model, split)
    positive = sum(float(k.mean()) > 0 for value in d.values() for k in kernels(value))
    after = unlearn(FisherMasking(share=0.99, labels="data", recipe=STILL), model, split, run).model
    zero = sum(not bool(k.any()) for n in d for k in kernels(after.get_parameter(n)))
    assert zero == positive
    assert 0 < positive < 0.9 * sum(len(kernels(value)) for value in d.values())


def test_zeros_of_a_pruned_model_stay() -> None:
    here = laws.standard()
    method = Pruned(Magnitude(0.6), FisherMasking(share=0.1, recipe=Recipe(epochs=2, lr=0.01)))
    sparse = method.prepare(here.original, worlds.pictures(42, seed=1), here.run)
    after = unlearn(method, sparse, here.split, here.run).model
    assert Mask.of(sparse).held_by(after)
    assert laws.differs(sparse, after)


def test_labels_are_the_datas_unless_drawn_ones_are_asked_for() -> None:
    model, split, run = case()
    one, two, three = (
        unlearn(FisherMasking(**labels, recipe=STILL), model, split, run).model
        for labels in ({}, {"labels": "data"}, {"labels": "model"})
    )
    laws.assert_same_state(one.state_dict(), two.state_dict())
    assert laws.differs(one, three)


def test_frozen_layers_are_not_masked() -> None:
    model, split, run = case()
    model.get_parameter("0.weight").requires_grad_(False)
    after = unlearn(FisherMasking(share=0.5, recipe=STILL), model, split, run).model
    assert torch.equal(after.get_parameter("0.weight"), model.get_parameter("0.weight"))
    assert laws.differs(after, model)


def test_what_is_kept_beside_the_weights_gives_the_same(tmp_path: Path) -> None:
    model, split, run = case()
    data = worlds.pictures(30, 3, (2, 6, 6), dtype=torch.float64)
    method = FisherMasking(share=0.2, recipe=STILL)
    method.prepare(model, data, run)
    beside = replace(run, beside=tmp_path / "net.safetensors")
    method.prepare(model, data, beside)
    assert [path.name for path in tmp_path.iterdir()] == ["net.fisher-data.safetensors"]
    one, two = (unlearn(method, model, split, r).model for r in (run, beside))
    laws.assert_same_state(one.state_dict(), two.state_dict())


def test_a_model_without_layers_to_mask_is_refused() -> None:
    data = Arrays(torch.randn(6, 3), torch.arange(6) % 3)
    model = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="no trainable convolution or linear layer"):
        unlearn(FisherMasking(), model, Split.of(data, [0]), Run.on("cpu"))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"share = .* must lie between 0 and 1"):
        FisherMasking(share=share)


@pytest.mark.usefixtures("unchecked")
def test_unknown_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="no kind of labels 'true'"):
        FisherMasking(labels="true")  # pyright: ignore
