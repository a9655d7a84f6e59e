"""Dampening is the formula's, weight by weight, with labels (SSD) and without (LFSSD)."""

from __future__ import annotations

import math
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
from oblivio.methods.lfssd import LFSSD
from oblivio.methods.ssd import SSD
from oblivio.prune import Pruned
from oblivio.prune.magnitude import Magnitude

Method = type[SSD] | type[LFSSD]
BOTH = pytest.mark.parametrize("kind", [SSD, LFSSD])


def case() -> tuple[nn.Module, Split, Run]:
    """The standard CNN and its data, in float64."""
    here = laws.standard()
    parts = (here.split.forget, here.split.retain)
    forget, retain = (replace(part, inputs=part.inputs.double()) for part in parts)  # pyright: ignore
    return here.original.double(), Split(forget, retain), here.run


def whole(split: Split) -> Arrays:
    forget, retain = split.forget, split.retain
    assert isinstance(forget, Arrays)
    assert isinstance(retain, Arrays)
    return Arrays(
        torch.cat([forget.inputs, retain.inputs]),
        torch.cat([forget.labels, retain.labels]),
        torch.cat([forget.ids, retain.ids]),
    )


def measured(kind: Method, model: nn.Module, data: Arrays) -> dict[str, Tensor]:
    """F or Ω, one example at a time."""
    model = model.eval()
    if kind is SSD:
        return oracles_fisher.fisher(model, data, data.labels)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x in data.inputs:
        length = (model(x[None]) ** 2).sum()
        for name, slope in zip(
            total, torch.autograd.grad(length, list(model.parameters())), strict=True
        ):
            total[name] += slope.abs() / len(data)
    return total


def test_a_hand_computed_case() -> None:
    """One weight per feature, zero at first: p = ½, so that g² = x² / 4 for both classes."""
    inputs = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 4.0]], dtype=torch.float64)
    data = Arrays(inputs, torch.tensor([0, 1]))
    model = nn.Linear(3, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[8.0, 16.0, 3.0]]).expand(2, 3))
    split = Split.of(data, data.ids[:1])
    # F_f = (1, ¼, 0), F = (½, ¼, 2): F_f / F = (2, 1, 0). Equal rows give p = ½.
    outcome = unlearn(SSD(alpha=1.5, strength=0.5), model, split, Run.on("cpu"))
    assert outcome.model.get_parameter("weight").tolist() == [[2.0, 16.0, 3.0]] * 2
    assert outcome.notes["changed"] == pytest.approx(1 / 3)
    assert outcome.notes["largest"] == pytest.approx(2)
    more = unlearn(SSD(alpha=0.9, strength=0.5), model, split, Run.on("cpu")).model
    assert more.get_parameter("weight").tolist() == [[2.0, 8.0, 3.0]] * 2
    # ∂‖z‖²/∂w = 2 (w·x) x: Ω_f = 64 (2, 1, 0), Ω = ½ Ω_f + 28 (0, 1, 4), Ω_f / Ω = (2, 1.07, 0).
    outcome = unlearn(LFSSD(alpha=1.5), model, split, Run.on("cpu"))
    assert outcome.model.get_parameter("weight").tolist() == [[4.0, 16.0, 3.0]] * 2


@BOTH
@pytest.mark.parametrize(("alpha", "strength"), [(1.5, 1.0), (3.0, 0.3), (0.5, 2.0), (2.0, 0.0)])
def test_weight_by_weight(kind: Method, alpha: float, strength: float) -> None:
    model, split, run = case()
    forget, every = measured(kind, model, split.forget), measured(kind, model, whole(split))  # pyright: ignore
    outcome = unlearn(kind(alpha=alpha, strength=strength), model, split, run)
    count = 0
    for name, before in model.named_parameters():
        after = outcome.model.get_parameter(name)
        for w, f, d, found in zip(
            *(t.flatten().tolist() for t in (before, forget[name], every[name], after)), strict=True
        ):
            if f > alpha * d:
                assert found == pytest.approx(w * min(strength * d / f, 1.0), rel=1e-9, abs=1e-15)
                count += 1
            else:
                assert found == w
    total = sum(p.numel() for p in model.parameters())
    assert 0.02 * total < count < 0.98 * total
    assert outcome.notes["changed"] == pytest.approx(count / total)


@BOTH
def test_a_ratio_has_a_bound_above_which_nothing_changes(kind: Method) -> None:
    model, split, run = case()
    bound = len(whole(split)) / len(split.forget)
    for alpha in (bound * (1 + 1e-12), 1e9, math.inf):
        outcome = unlearn(kind(alpha=alpha), model, split, run)
        laws.assert_same_state(outcome.model.state_dict(), model.state_dict())
        assert outcome.notes["changed"] == 0
        assert 1 < outcome.notes["largest"] <= bound * (1 + 1e-12)  # pyright: ignore


@BOTH
def test_statistics_and_frozen_weights_stay(kind: Method) -> None:
    model, split, run = case()
    model.get_parameter("5.weight").requires_grad_(False)
    after = unlearn(kind(alpha=1.0), model, split, run).model
    assert torch.equal(after.get_parameter("5.weight"), model.get_parameter("5.weight"))
    assert laws.differs(after, model)
    for name, value in after.named_buffers():
        assert torch.equal(value, model.get_buffer(name))


@BOTH
def test_zeros_of_a_pruned_model_stay(kind: Method) -> None:
    model, split, run = case()
    draw = torch.Generator().manual_seed(1)
    mask = Mask({n: torch.rand(w.shape, generator=draw) < 0.3 for n, w in prunable(model).items()})
    mask.apply(model)
    after = unlearn(kind(alpha=1.0), model, split, replace(run, mask=mask)).model
    assert mask.held_by(after)
    here = laws.standard()
    method = Pruned(Magnitude(0.6), kind(alpha=1.0))
    sparse = method.prepare(here.original, worlds.pictures(42, seed=1), here.run)
    assert laws.differs(sparse, unlearn(method, sparse, here.split, here.run).model)


@BOTH
def test_labels_matter_with_a_loss_alone(kind: Method) -> None:
    model, split, run = case()
    assert isinstance(split.forget, Arrays)
    other = Split(replace(split.forget, labels=(split.forget.labels + 1) % 3), split.retain)
    one, two = (unlearn(kind(alpha=1.0), model, s, run).model for s in (split, other))
    assert laws.differs(one, two) == (kind is SSD)
    if kind is SSD:
        unsure = laws.standard().origin.fresh().double()
        given, drawn = (
            unlearn(SSD(alpha=1.0, labels=labels), unsure, split, run).model
            for labels in ("data", "model")
        )
        assert laws.differs(given, drawn)


@BOTH
def test_what_is_kept_beside_the_weights_gives_the_same(kind: Method, tmp_path: Path) -> None:
    model, split, run = case()
    method = kind(alpha=1.5)
    method.prepare(model, whole(split), run)
    assert not list(tmp_path.iterdir())
    beside = replace(run, beside=tmp_path / "net.safetensors")
    method.prepare(model, whole(split), beside)
    name = "data" if kind is SSD else "outputs"
    assert [path.name for path in tmp_path.iterdir()] == [f"net.fisher-{name}.safetensors"]
    one, two = (unlearn(method, model, split, r) for r in (run, beside))
    assert "prepared_seconds" in two.notes
    for key, weight in one.model.named_parameters():
        torch.testing.assert_close(two.model.get_parameter(key), weight, rtol=1e-9, atol=1e-12)


@BOTH
def test_the_account_says_what_was_compared(kind: Method) -> None:
    model, split, run = case()
    told: Any = unlearn(kind(alpha=1.5), model, split, run).notes["explanation"]
    assert told["against"] == "whole"
    assert told["of"] == ("Fisher information" if kind is SSD else "sensitivity")
    assert told["histogram"]["threshold"] == 1.5
    told = unlearn(kind(alpha=math.inf), model, split, run).notes["explanation"]
    assert told["histogram"]["threshold"] is None


@BOTH
@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"alpha": 0.0}, "alpha = 0.0 must be above 0"),
        ({"alpha": -1.0}, "alpha = -1.0 must"),
        ({"alpha": math.nan}, "alpha = nan must"),
        ({"strength": -0.1}, "strength = -0.1 must"),
        ({"strength": math.nan}, "strength = nan must"),
    ],
)
def test_numbers_out_of_range_are_refused(
    kind: Method, settings: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        kind(**settings)


@pytest.mark.usefixtures("unchecked")
def test_unknown_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="no kind of labels 'true'"):
        SSD(labels="true")  # pyright: ignore
