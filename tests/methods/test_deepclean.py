"""DeepClean finds the weights that only the forgotten examples need, and touches no others."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import oracles
import oracles_fisher
import worlds
from oblivio.core import Origin, Run, Split, unlearn
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask, prunable
from oblivio.methods.deepclean import DeepClean
from oblivio.prune import Pruned
from oblivio.prune.magnitude import Magnitude
from oblivio.train import Recipe

STILL = Recipe(epochs=0)
ROUGH = Recipe(epochs=3, lr=0.05, batch_size=8, weight_decay=0.1)


def case() -> tuple[nn.Module, Split, Run]:
    """The standard CNN and its data, in float64."""
    here = laws.standard()
    parts = (here.split.forget, here.split.retain)
    forget, retain = (replace(part, inputs=part.inputs.double()) for part in parts)  # pyright: ignore
    return here.original.double(), Split(forget, retain), here.run


def blocks() -> tuple[nn.Module, Split]:
    """A linear classifier in which classes 0 and 1 use the first four features, and class 2, which
    is to be forgotten, the last three.
    """
    data = worlds.pictures(30, 3, (7,), dtype=torch.float64)
    last = data.labels == 2
    data.inputs[last, :4] = 0
    data.inputs[~last, 4:] = 0
    torch.manual_seed(0)
    model = nn.Linear(7, 3, bias=False, dtype=torch.float64)
    return model, Split.of(data, data.ids[last])


def ratios(model: nn.Module, split: Split) -> dict[str, Tensor]:
    """By gradients that are taken one at a time; 0/0 is 0."""
    parts = (split.forget, split.retain)
    forget, retain = (oracles_fisher.fisher(model, part, part.labels) for part in parts)  # pyright: ignore
    return {name: (forget[name] / retain[name]).nan_to_num(0, posinf=torch.inf) for name in forget}


def changed(before: nn.Module, after: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach() != after.get_parameter(n).detach() for n, p in before.named_parameters()}


# --- Which weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [{"share": 0.9}, {"threshold": 1e-6}, {"threshold": 1e6}])
def test_exactly_the_weights_that_only_the_forgotten_class_uses_are_reset(extent: Any) -> None:
    model, split = blocks()
    outcome = unlearn(DeepClean(**extent, recipe=ROUGH), model, split, Run.on("cpu"))
    assert isinstance(outcome.model, nn.Linear)
    assert torch.equal(outcome.model.weight[:, :4], model.weight[:, :4])
    # On D_r these features are zero, so that training leaves them at zero.
    assert bool((outcome.model.weight[:, 4:] == 0).all())
    assert outcome.notes["changed"] == 9 / 21
    told: Any = outcome.notes["explanation"]
    assert told["layers"] == [["weight", 9, 21]]
    assert (told["histogram"]["zero"], told["histogram"]["infinite"]) == (12, 9)
    assert sum(told["histogram"]["counts"]["all"]) == 0


@pytest.mark.parametrize("layerwise", [False, True])
def test_a_share_of_the_largest_ratios_is_reset(layerwise: bool) -> None:
    model, split, run = case()
    method = DeepClean(share=0.2, layerwise=layerwise, recipe=STILL)
    outcome = unlearn(method, model, split, run)
    r = ratios(model, split)
    groups = [[name] for name in r] if layerwise else [list(r)]
    least = {}
    for group in groups:
        flat = torch.cat([r[name].flatten() for name in group])
        count = round(0.2 * len(flat))
        bound = float(flat.sort().values[-count])
        assert 0 < bound < math.inf
        least |= dict.fromkeys(group, bound * (1 - 1e-9))
    for name, weight in model.named_parameters():
        some = r[name] >= least[name]
        expected = torch.where(some, 0, weight.detach())
        assert torch.equal(outcome.model.get_parameter(name), expected), name
    if layerwise:
        assert outcome.notes["threshold"] is None
    else:
        assert outcome.notes["threshold"] == pytest.approx(next(iter(least.values())))
        assert outcome.notes["changed"] == pytest.approx(0.2, abs=0.002)


def test_a_threshold_resets_what_is_above_it() -> None:
    model, split, run = case()
    outcome = unlearn(DeepClean(threshold=3.0, recipe=STILL), model, split, run)
    r = ratios(model, split)
    some = {name: value > 3 for name, value in r.items()}
    for name, weight in model.named_parameters():
        assert torch.equal(outcome.model.get_parameter(name), weight.masked_fill(some[name], 0))
    total = sum(s.numel() for s in some.values())
    share = sum(int(s.sum()) for s in some.values()) / total
    assert 0.01 < share < 0.9
    assert outcome.notes["changed"] == pytest.approx(share)
    assert outcome.notes["threshold"] == 3.0


def test_the_account_can_be_kept() -> None:
    model, split, run = case()
    notes = dict(unlearn(DeepClean(), model, split, run).notes)
    assert json.loads(json.dumps(notes, allow_nan=False)) == notes
    assert set(notes) == {"changed", "threshold", "explanation"}


def test_labels_may_be_drawn_from_the_model() -> None:
    _, split, run = case()
    unsure = laws.standard().origin.fresh().double()
    given = unlearn(DeepClean(recipe=STILL), unsure, split, run).model
    drawn = unlearn(DeepClean(labels="model", recipe=STILL), unsure, split, run).model
    assert laws.differs(given, drawn)


# --- What happens to them -----------------------------------------------------------------------


@pytest.mark.parametrize("reset", ["zero", "initial", "none"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_all_other_weights_and_statistics_stay_bit_for_bit(reset: Any, optimizer: Any) -> None:
    model, split, run = case()
    still = DeepClean(share=0.1, recipe=STILL)
    chosen = changed(model, unlearn(still, model, split, run).model)
    recipe = replace(ROUGH, optimizer=optimizer)
    method = DeepClean(share=0.1, reset=reset, recipe=recipe)
    after = unlearn(method, model, split, run).model
    for name, moved in changed(model, after).items():
        assert not bool((moved & ~chosen[name]).any()), name
    assert sum(int(m.sum()) for m in changed(model, after).values()) > 30
    for name, value in after.named_buffers():
        assert torch.equal(value, model.get_buffer(name)), name
    assert all(p.requires_grad for p in after.parameters())


def test_weights_are_reset_to_zero_to_the_first_ones_or_not_at_all() -> None:
    model, split, run = case()
    first = laws.standard().origin.fresh()  # float32, as the run's origin makes it
    zero = unlearn(DeepClean(share=0.1, recipe=STILL), model, split, run).model
    chosen = changed(model, zero)
    initial = unlearn(DeepClean(share=0.1, reset="initial", recipe=STILL), model, split, run).model
    none = unlearn(DeepClean(share=0.1, reset="none", recipe=STILL), model, split, run).model
    for name, weight in model.named_parameters():
        begun = torch.where(chosen[name], first.get_parameter(name).double(), weight)
        assert torch.equal(initial.get_parameter(name), begun)
    laws.assert_same_state(none.state_dict(), model.state_dict())
    assert laws.differs(initial, zero)


def test_what_is_forgotten_is_not_relearned_and_the_rest_is() -> None:
    """The original knows the wrong labels of D_f by heart; D_r contradicts them."""
    here = laws.standard("mlp")

    def right(model: nn.Module, data: Any) -> float:
        with torch.no_grad():
            return oracles.percent_right(model(data.inputs), data.labels)

    relearned = Recipe(epochs=10, lr=0.05, batch_size=8, weight_decay=0.0)
    reset, after = (
        unlearn(DeepClean(share=0.3, recipe=recipe), here.original, here.split, here.run).model
        for recipe in (STILL, relearned)
    )
    assert right(here.original, here.split.forget) == 100
    assert right(after, here.split.forget) < 50
    assert right(after, here.split.retain) == 100
    retain: Any = here.split.retain
    one, two = (oracles.cross_entropy(m(retain.inputs), retain.labels) for m in (reset, after))
    assert two < 0.5 * one


# --- Pruned models ------------------------------------------------------------------------------


def test_of_a_pruned_model_only_weights_that_stay_are_chosen() -> None:
    model, split, run = case()
    draw = torch.Generator().manual_seed(1)
    keep = {n: torch.rand(w.shape, generator=draw) < 0.3 for n, w in prunable(model).items()}
    mask = Mask(keep)
    mask.apply(model)
    run = replace(run, mask=mask)
    outcome = unlearn(DeepClean(share=0.5, reset="initial", recipe=ROUGH), model, split, run)
    assert mask.held_by(outcome.model)
    total = sum(p.numel() for p in model.parameters())
    candidates = total - (mask.total - mask.kept)
    assert outcome.notes["changed"] == pytest.approx(0.5 * candidates / total, abs=1 / total)


def test_prune_first_then_clean() -> None:
    here = laws.standard()
    method = Pruned(Magnitude(0.6), DeepClean(share=0.2, recipe=ROUGH))
    sparse = method.prepare(here.original, worlds.pictures(42, seed=1), here.run)
    before = Mask.of(sparse)
    after = unlearn(method, sparse, here.split, here.run).model
    assert before.held_by(after)
    assert laws.differs(sparse, after)


# --- Beforehand ---------------------------------------------------------------------------------


def test_what_is_kept_beside_the_weights_gives_the_same(tmp_path: Path) -> None:
    model, split, run = case()
    method = DeepClean(share=0.1, recipe=STILL)
    whole = Arrays(
        torch.cat([split.forget.inputs, split.retain.inputs]),  # pyright: ignore
        torch.cat([split.forget.labels, split.retain.labels]),
        torch.cat([split.forget.ids, split.retain.ids]),
    )
    method.prepare(model, whole, run)
    assert not list(tmp_path.iterdir())
    beside = replace(run, beside=tmp_path / "net.safetensors")
    method.prepare(model, whole, beside)
    assert [path.name for path in tmp_path.iterdir()] == ["net.fisher-data.safetensors"]
    outcome = unlearn(method, model, split, beside)
    plain = unlearn(method, model, split, run)
    laws.assert_same_state(outcome.model.state_dict(), plain.model.state_dict())
    assert "prepared_seconds" in outcome.notes


# --- What cannot be cleaned ---------------------------------------------------------------------


def test_a_model_that_is_certain_of_what_it_is_to_forget_stays() -> None:
    model, split = blocks()
    assert isinstance(model, nn.Linear)
    with torch.no_grad():
        model.weight.fill_(0)
        model.weight[2, 4:] = 1e6 * split.forget.inputs[0, 4:].sign()  # pyright: ignore
        split.forget.inputs[:, 4:] = model.weight[2, 4:].sign()  # pyright: ignore
    outcome = unlearn(DeepClean(), model, split, Run.on("cpu"))
    laws.assert_same_state(outcome.model.state_dict(), model.state_dict())
    assert "certain" in str(outcome.notes["unchanged"])
    assert outcome.notes["changed"] == 0
    assert outcome.notes["threshold"] is None


def test_a_threshold_that_nothing_exceeds_changes_nothing() -> None:
    data = worlds.pictures(30, 3, (7,), dtype=torch.float64)
    model, split, run = worlds.linear(7, 3), Split.of(data, data.ids[:5]), Run.on("cpu")
    outcome = unlearn(DeepClean(threshold=1e9), model, split, run)
    laws.assert_same_state(outcome.model.state_dict(), model.state_dict())
    assert outcome.notes["changed"] == 0


def test_a_layer_without_influence_is_named() -> None:
    model, split, run = case()
    wasted = nn.Sequential(model, nn.Linear(3, 3, dtype=torch.float64))
    with torch.no_grad():
        wasted[1].weight.zero_()  # pyright: ignore
    with pytest.raises(ValueError, match=r"zero throughout 0\.0\.weight"):
        unlearn(DeepClean(), wasted, split, run)


def test_a_fisher_that_is_not_finite_is_named() -> None:
    """Gradients near the end of float64: their squares overflow."""
    model, split = blocks()
    for part in (split.forget, split.retain):
        part.inputs.mul_(1e200)  # pyright: ignore
    with torch.no_grad():
        model.get_parameter("weight").mul_(1e-200)
    with pytest.raises(ValueError, match="diagonal of weight holds numbers that are not finite"):
        unlearn(DeepClean(), model, split, Run.on("cpu"))


def test_a_model_without_trainable_weights_is_refused() -> None:
    model, split, run = case()
    with pytest.raises(ValueError, match="no trainable parameters"):
        unlearn(DeepClean(), model.requires_grad_(False), split, run)


def test_initial_weights_need_the_origin_and_the_same_network() -> None:
    model, split, run = case()
    method = DeepClean(reset="initial", recipe=STILL)
    with pytest.raises(ValueError, match="origin=Origin"):
        unlearn(method, model, split, replace(run, origin=None))
    other = Origin(lambda: nn.Linear(2, 2), Recipe(), 0)
    with pytest.raises(ValueError, match=r"its 0\.weight differs"):
        unlearn(method, model, split, replace(run, origin=other))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"share": 0.0}, "share = 0 must"),
        ({"share": 1.0}, "share = 1 must"),
        ({"threshold": 0.0}, "threshold = 0 must"),
        ({"threshold": -2.0}, "threshold = -2 must"),
        ({"share": 0.1, "threshold": 2.0}, "both are given"),
        ({"threshold": 2.0, "layerwise": True}, "layerwise = true needs a share"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        DeepClean(**settings)


@pytest.mark.usefixtures("unchecked")
def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no reset 'zeros'\. Did you mean zero"):
        DeepClean(reset="zeros")  # pyright: ignore
    with pytest.raises(ValueError, match="no kind of labels 'true'"):
        DeepClean(labels="true")  # pyright: ignore


def test_a_share_is_taken_unless_a_threshold_is_given() -> None:
    assert DeepClean().share == 0.1
    assert DeepClean(threshold=2.0).share is None
    assert replace(DeepClean(threshold=2.0), reset="none").share is None


# --- What is trained afterwards, and on what ----------------------------------------------------


def test_all_weights_may_be_trained() -> None:
    here = laws.standard()
    outcome = unlearn(DeepClean(share=0.1, train="all"), here.original, here.split, here.run)
    before, after = here.original.state_dict(), outcome.model.state_dict()
    assert outcome.notes["changed"] == pytest.approx(0.1, abs=0.01)
    moved = [float((before[name] != after[name]).double().mean()) for name in before]
    assert sum(moved) / len(moved) > 0.9


def test_few_examples_may_do() -> None:
    """They are drawn by the seed, and the others are not touched."""
    here = laws.standard()
    taken: list[list[int]] = []

    class Noting(Arrays):
        def batches(self, *args: Any, **options: Any) -> Any:
            if options.get("shuffle") is not None:
                taken.append(self.ids.tolist())
            return super().batches(*args, **options)

    retain = here.split.retain
    split = Split(here.split.forget, Noting(retain.inputs, retain.labels, retain.ids))  # pyright: ignore
    method = DeepClean(samples=7, recipe=Recipe(epochs=2, lr=0.01, batch_size=4))
    for _ in range(2):
        unlearn(method, here.original, split, here.run)
    assert [len(ids) for ids in taken] == [7] * 4
    assert all(ids == taken[0] for ids in taken)
    assert set(taken[0]) < set(retain.ids.tolist())


def test_the_control_chooses_as_many_weights_by_chance() -> None:
    here = laws.standard()
    settings = {"share": 0.05, "reset": "zero", "recipe": STILL}
    one, two, other = (
        unlearn(DeepClean(by=by, **settings), here.original, here.split, run)  # pyright: ignore
        for by, run in (
            ("ratio", here.run),
            ("chance", here.run),
            ("chance", replace(here.run, seed=here.run.seed + 1)),
        )
    )
    assert one.notes["changed"] == pytest.approx(two.notes["changed"], abs=1e-3)
    assert two.notes["threshold"] is None
    assert laws.differs(one.model, two.model)
    assert laws.differs(two.model, other.model)


@pytest.mark.usefixtures("unchecked")
def test_wrong_ways_are_refused() -> None:
    for settings, match in (
        ({"train": "some"}, "no way to train 'some'"),
        ({"by": "luck"}, "no way to choose 'luck'"),
        ({"by": "chance", "threshold": 2.0}, "needs a share"),
        ({"samples": 0}, "samples = 0 must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=match):
            DeepClean(**settings)  # pyright: ignore
