"""Every method obeys the laws; and what each of them promises beyond."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

import laws
import oracles
import worlds
from oblivio.catalogue import find, names
from oblivio.core import Method, Run, unlearn
from oblivio.methods.fine_tune import FineTune
from oblivio.methods.gradient_ascent import GradientAscent
from oblivio.methods.original import Original
from oblivio.methods.retrain import Retrain
from oblivio.train import Recipe


@pytest.mark.parametrize("law", laws.METHOD_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", names("methods"))
def test_law(name: str, law: Callable[[Method], None]) -> None:
    law(find("methods", name)())


def test_original_changes_nothing() -> None:
    here = laws.standard()
    unlearned = unlearn(Original(), here.original, here.split, here.run).model
    laws.assert_same_state(unlearned.state_dict(), here.original.state_dict())


def test_retrain_is_the_origin_made_on_the_retained_data() -> None:
    here = laws.standard()
    unlearned = unlearn(Retrain(), here.original, here.split, here.run).model
    made = here.origin.make(here.split.retain, here.run)
    laws.assert_same_state(unlearned.state_dict(), made.state_dict())
    assert laws.differs(unlearned, here.original)


def test_retrain_depends_on_the_originals_seed_and_not_on_the_runs() -> None:
    here = laws.standard()
    other = unlearn(Retrain(), here.original, here.split, replace(here.run, seed=99)).model
    same = unlearn(Retrain(), here.original, here.split, here.run).model
    laws.assert_same_state(same.state_dict(), other.state_dict())
    reborn = replace(here.run, origin=replace(here.origin, seed=99))
    assert laws.differs(same, unlearn(Retrain(), here.original, here.split, reborn).model)


def test_retrain_needs_the_origin() -> None:
    here = laws.standard()
    with pytest.raises(ValueError, match="origin=Origin"):
        unlearn(Retrain(), here.original, here.split, replace(here.run, origin=None))


def test_fine_tune_and_ascent_depend_on_the_runs_seed() -> None:
    here = laws.standard()
    for method in (FineTune(Recipe(epochs=2, batch_size=8)), ascent(1e-2, batch_size=4)):
        one = unlearn(method, here.original, here.split, here.run).model
        two = unlearn(method, here.original, here.split, replace(here.run, seed=99)).model
        assert laws.differs(one, two)


# --- Gradient ascent ----------------------------------------------------------------------------


def ascent(lr: float, *, epochs: int = 1, batch_size: int = 1000, limit: float = 1e9) -> Method:
    recipe = Recipe(epochs=epochs, lr=lr, batch_size=batch_size, weight_decay=0.0)
    return GradientAscent(recipe, limit=limit)


def test_ascent_takes_the_gradients_own_way() -> None:
    """The first step is θ + η ∇ℓ(θ; D_f), with the gradient of one example at a time."""
    here = laws.standard("mlp")
    model = here.original.double()
    forget = replace(here.split.forget, inputs=here.split.forget.inputs.double())  # pyright: ignore
    retain = replace(here.split.retain, inputs=here.split.retain.inputs.double())  # pyright: ignore
    split, run = type(here.split)(forget, retain), Run.on("cpu")
    unlearned = unlearn(ascent(0.05), model, split, run).model
    slopes = oracles.gradient(model, forget.inputs, forget.labels)
    for name, weight in model.named_parameters():
        expected = weight + 0.05 * slopes[name]
        torch.testing.assert_close(unlearned.get_parameter(name), expected, rtol=1e-12, atol=1e-14)
    assert max(float(slope.norm()) for slope in slopes.values()) > 1e-6


def test_ascent_stops_before_the_step_that_begins_at_the_limit() -> None:
    here = laws.standard("mlp")
    outcome = unlearn(ascent(0.5, epochs=200, limit=2.0), here.original, here.split, here.run)
    steps = outcome.notes["steps"]
    assert isinstance(steps, int)
    assert 0 < steps < 200
    assert "2.00" in str(outcome.notes["stopped"])

    def loss(model: nn.Module) -> float:
        forget = here.split.forget
        return oracles.cross_entropy(model(forget.inputs), forget.labels)  # pyright: ignore

    assert loss(outcome.model) >= 2.0
    # One step less and it is still below the limit.
    fewer = unlearn(ascent(0.5, epochs=steps - 1), here.original, here.split, here.run)
    assert loss(fewer.model) < 2.0
    assert fewer.notes == {"steps": steps - 1}


def test_ascent_stops_at_a_uniform_guess_unless_told_otherwise() -> None:
    here = laws.standard("mlp")
    recipe = Recipe(epochs=200, lr=0.5, batch_size=1000, weight_decay=0.0)
    outcome = unlearn(GradientAscent(recipe), here.original, here.split, here.run)
    assert f"limit is {math.log(3):.2f}" in str(outcome.notes["stopped"])


def test_ascent_leaves_a_model_that_is_beyond_the_limit() -> None:
    here = laws.standard("mlp")
    outcome = unlearn(ascent(1.0, limit=1e-9), here.original, here.split, here.run)
    assert outcome.notes["steps"] == 0
    laws.assert_same_state(outcome.model.state_dict(), here.original.state_dict())


def test_the_world_is_one_where_forgetting_shows() -> None:
    """The original knows the wrong labels of D_f by heart; the retrained model contradicts them."""
    here = laws.standard()
    retrained = here.origin.make(here.split.retain, here.run)
    forget = here.split.forget
    with torch.no_grad():
        known = oracles.percent_right(here.original(forget.inputs), forget.labels)  # pyright: ignore
        after = oracles.percent_right(retrained(forget.inputs), forget.labels)  # pyright: ignore
    assert known == 100
    assert after < 50
    assert worlds.weights(here.original).numel() == worlds.weights(retrained).numel()
