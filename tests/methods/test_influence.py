"""Influence unlearning reaches the answers that are known, and goes no further than it should."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import pytest
import torch
from torch import Tensor, nn

import laws
import oracles
import oracles_influence
import worlds
from oblivio.core import Outcome, Run, Split, unlearn
from oblivio.curvature.gradients import flat_mask
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask
from oblivio.methods.influence import Influence, step

RUN = Run.on("cpu")


def arrays(split: Split) -> tuple[Arrays, Arrays]:
    assert isinstance(split.forget, Arrays)
    assert isinstance(split.retain, Arrays)
    return split.forget, split.retain


def double(data: Arrays) -> Arrays:
    return replace(data, inputs=data.inputs.double())


@dataclass(frozen=True)
class World:
    """Ridge regression by mean losses: (1/n) Σ ½‖W x − e_y‖² + ½ λ ‖W‖²; the forgotten differ."""

    decay: float = 0.1

    @cached_property
    def split(self) -> Split:
        data = worlds.pictures(40, 3, (6,), dtype=torch.float64)
        inputs = data.inputs.clone()
        inputs[:20] *= 2
        return Split.of(Arrays(inputs, data.labels, data.ids), data.ids[:20])

    def optimum(self, *parts: Arrays) -> Tensor:
        inputs = torch.cat([part.inputs for part in parts])
        labels = torch.cat([part.labels for part in parts])
        return oracles_influence.ridge(
            inputs, nn.functional.one_hot(labels, 3).double(), self.decay
        )

    def model(self) -> nn.Module:
        layer = nn.Linear(6, 3, bias=False, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(self.optimum(*arrays(self.split)))
        return layer

    def step(self, *drawn: Arrays) -> Tensor:
        found = step(
            self.model(),
            self.split,
            drawn,
            self.decay,
            loss=oracles_influence.squared_error,
            columns=oracles_influence.logits_one_by_one(3),
        )
        return found.view(3, 6)


def test_the_retain_sets_curvature_gives_the_retrained_weights_on_ridge_regression() -> None:
    world = World()
    forget, retain = arrays(world.split)
    way = world.optimum(retain) - world.optimum(forget, retain)
    assert float(way.norm()) > 0.05
    assert float((world.step(retain) - way).norm()) < 1e-10 * float(way.norm())
    # The curvature of all the data is another one, and so is the answer.
    assert float((world.step(retain, forget) - way).norm()) > 0.3 * float(way.norm())


def test_one_step_comes_near_the_retrained_optimum_of_logistic_regression() -> None:
    world = worlds.Logistic()
    split = Split.of(world.data, world.data.ids[:15])
    start, goal = world.optimum(world.data), world.optimum(arrays(split)[1])
    model = world.build()
    nn.utils.vector_to_parameters(start, model.parameters())
    left = {}
    for curvature in ("ggn", "empirical"):
        method = Influence(damping=world.decay, curvature=curvature, limit=None)  # pyright: ignore
        unlearned = unlearn(method, model, split, RUN).model
        left[curvature] = float((worlds.weights(unlearned) - goal).norm() / (start - goal).norm())
    # A linear model's Gauss–Newton matrix is its Hessian: what is left is of second order.
    assert left["ggn"] < 0.15
    assert left["empirical"] < 0.7


# --- The step itself ----------------------------------------------------------------------------


def standard() -> tuple[nn.Module, Split]:
    """An untrained network in float64, of which no example's gradient is small."""
    torch.manual_seed(0)
    forget, retain = arrays(laws.standard().split)
    network = worlds.tiny_network(3, (1, 8, 8)).double()
    return network, Split(double(forget), double(retain))


def moved(outcome: Outcome, model: nn.Module) -> Tensor:
    return worlds.weights(outcome.model) - worlds.weights(model)


def direction(model: nn.Module, split: Split) -> Tensor:
    """v, one example at a time."""
    means = [
        torch.cat([s.flatten() for s in oracles.gradient(model, p.inputs, p.labels).values()])
        for p in arrays(split)
    ]
    return len(split.forget) / (len(split.forget) + len(split.retain)) * (means[0] - means[1])


def test_takes_the_step_that_the_docstring_says() -> None:
    model, split = standard()
    forget, retain = arrays(split)
    both = Arrays(
        torch.cat([retain.inputs, forget.inputs]), torch.cat([retain.labels, forget.labels])
    )
    for examples, data in (("retain", retain), ("all", both)):
        rows = oracles_influence.per_example(model, data, nn.functional.cross_entropy)
        expected = oracles_influence.wood_fisher(rows, 0.01) @ direction(model, split)
        method = Influence(damping=0.01, examples=examples, limit=None)  # pyright: ignore
        outcome = unlearn(method, model, split, RUN)
        found = moved(outcome, model)
        assert float((found - expected).norm()) < 1e-9 * float(expected.norm())
        assert outcome.notes["norm"] == pytest.approx(float(expected.norm()), rel=1e-9)
        assert outcome.notes["bounded"] is False


def test_is_not_v_plus_a_multiple_of_the_first_examples_gradient() -> None:
    """As the widespread code has it, whose |cos| with that gradient is 1."""
    model, split = standard()
    _, retain = arrays(split)
    v = direction(model, split)
    delta = moved(unlearn(Influence(damping=0.01, limit=None), model, split, RUN), model)
    rows = oracles_influence.per_example(model, retain, nn.functional.cross_entropy)
    rest = 0.01 * delta - v
    assert float(rest.norm()) > 0.1 * float(v.norm())
    assert float(nn.functional.cosine_similarity(rest[None], rows).abs().max()) < 0.9


def test_draws_its_samples_by_the_runs_seed() -> None:
    model, split = standard()
    for examples in ("retain", "all"):
        method = Influence(samples=5, damping=0.01, examples=examples)  # pyright: ignore
        one, same, other = (
            worlds.weights(unlearn(method, model, split, replace(RUN, seed=seed)).model)
            for seed in (1, 1, 2)
        )
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_the_step_is_cut_to_the_limit_and_says_so() -> None:
    model, split = standard()
    theta = worlds.weights(model)
    free = unlearn(Influence(damping=1e-4, limit=None), model, split, RUN)
    cut = unlearn(Influence(damping=1e-4, limit=0.01), model, split, RUN)
    assert free.notes["bounded"] is False
    assert cut.notes["bounded"] is True
    assert cut.notes["norm"] == free.notes["norm"]
    one, two = moved(free, model), moved(cut, model)
    assert float(one.norm()) > 0.02 * float(theta.norm())
    assert float(two.norm()) == pytest.approx(0.01 * float(theta.norm()), rel=1e-9)
    assert float(nn.functional.cosine_similarity(one, two, dim=0)) == pytest.approx(1, abs=1e-12)


def test_pruned_weights_stay_zero_and_the_others_take_their_own_step() -> None:
    model, split = standard()
    _, retain = arrays(split)
    draw = torch.Generator().manual_seed(0)
    mask = Mask({"1.weight": torch.rand(5, 64, generator=draw) > 0.8})
    mask.apply(model)
    flat = flat_mask(model, mask)
    rows = oracles_influence.per_example(model, retain, nn.functional.cross_entropy)[:, flat]
    expected = oracles_influence.wood_fisher(rows, 0.01) @ direction(model, split)[flat]
    outcome = unlearn(Influence(damping=0.01, limit=None), model, split, replace(RUN, mask=mask))
    after = outcome.model.get_parameter("1.weight")
    assert torch.equal(after == 0, ~mask.keep["1.weight"])
    found = moved(outcome, model)[flat]
    assert float((found - expected).norm()) < 1e-9 * float(expected.norm())


def test_batchnorms_statistics_stay() -> None:
    here = laws.standard("cnn")
    model = here.original
    unlearned = unlearn(Influence(curvature="ggn"), model, here.split, RUN).model
    assert laws.differs(unlearned, model)
    for (name, old), (_, new) in zip(model.named_buffers(), unlearned.named_buffers(), strict=True):
        assert torch.equal(old, new), name


def test_bad_settings_are_refused(unchecked: None) -> None:
    for settings, message in (
        ({"samples": 0}, "samples = 0 must be 1 or more"),
        ({"damping": 0.0}, "damping = 0.0 must be above 0"),
        ({"damping": -1.0}, "damping = -1.0 must be above 0"),
        ({"limit": 0.0}, "limit = 0.0 must be above 0"),
        ({"examples": "retained"}, "retain"),
        ({"curvature": "fisher"}, "empirical"),
    ):
        with pytest.raises(ValueError, match=message):
            Influence(**settings)


def test_more_samples_than_there_are_is_an_error() -> None:
    model, split = standard()
    with pytest.raises(ValueError, match="samples = 5000, but the retain set has 33"):
        unlearn(Influence(samples=5000), model, split, RUN)
    with pytest.raises(ValueError, match="samples = 43, but the training data has 42"):
        unlearn(Influence(samples=43, examples="all"), model, split, RUN)
    unlearn(Influence(samples=42, examples="all"), model, split, RUN)


def test_a_model_without_trainable_parameters_is_refused() -> None:
    model, split = standard()
    with pytest.raises(ValueError, match="no trainable parameters"):
        unlearn(Influence(), model.requires_grad_(False), split, RUN)
