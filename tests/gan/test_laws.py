"""Every way in which a GAN forgets obeys the laws: those of methods, and those of a pair."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import laws
from gan_worlds import GanCase, gan_case
from oblivio.adversarial import Duel
from oblivio.catalogue import build, find, names, settings_of
from oblivio.core import Method, Outcome, Progress, Split, unlearn
from oblivio.generative import GAN, generate, scores
from oblivio.judge import whole

NAMES = names("gan")
LEARNING = [name for name in NAMES if name != "original"]
EXACT = ("retrain",)
"""Methods whose result owes nothing to the weights that come in."""

SHORT: Mapping[str, float] = {
    "steps": 8,
    "batch_size": 16,
    "latents": 200,
    "samples": 100,
    "settle": 5,
}
"""Settings, however deep they stand, that keep a method quick."""

CASES: Mapping[str, Mapping[str, bool]] = {
    "class": {},
    "items": {"class_wise": False},
    "conditional class": {"conditional": True, "spectral_norm": True},
    "conditional items": {"conditional": True, "class_wise": False},
    "spectral norm": {"spectral_norm": True, "class_wise": False},
    "without BatchNorm": {"normalise": False, "class_wise": False},
}


def changed(thing: Any, values: Mapping[str, Any]) -> Any:
    """The same settings with these values, however deep they stand."""
    own: dict[str, Any] = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if field.name in values:
            own[field.name] = values[field.name]
        elif is_dataclass(value) and not isinstance(value, type):
            own[field.name] = changed(value, values)
    return replace(thing, **own)


def quick(name: str, of: str = "class", **values: Any) -> Any:
    """The method, cut short."""
    return changed(find("gan", name)(), {**SHORT, **values})


def case(name: str = "class") -> GanCase:
    """An original, made once; the pair is a copy of one's own. Retraining is cut short."""
    here = gan_case(**CASES[name])
    train = changed(here.origin.train, {"steps": 8})
    return replace(here, run=replace(here.run, origin=replace(here.origin, train=train)))


def forgotten(method: Method, here: GanCase) -> Outcome:
    return unlearn(method, here.original, here.split, here.run)


@cache
def usual(name: str, of: str = "class") -> Outcome:
    """What a method makes of a case; look, do not touch."""
    return forgotten(quick(name, of), case(of))


def pair(outcome: Outcome) -> GAN:
    assert isinstance(outcome.model, GAN)
    return outcome.model


# --- Laws of methods ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", ["class", "conditional class", "spectral norm"])
def test_the_input_stays_as_it_is(name: str, of: str) -> None:
    """Weights, averages, norm vectors, modes, flags and hooks, in whatever mode it is."""
    here = case(of)
    here.original.train()
    here.original.average.eval()
    here.original.discriminator.get_submodule("blocks.2").eval()
    before = laws.snapshot(here.original)
    result = forgotten(quick(name, of), here).model
    laws.assert_same(before, laws.snapshot(here.original))
    with torch.no_grad():
        for value in result.state_dict().values():
            value.zero_()
    laws.assert_same(before, laws.snapshot(here.original))


@pytest.mark.parametrize("name", NAMES)
def test_the_data_stay_as_they_are(name: str) -> None:
    here = case("items")
    parts: list[Any] = [here.split.forget, here.split.retain, here.run.held_out]
    before = [[one.clone() for one in (p.inputs, p.labels, p.ids)] for p in parts]
    forgotten(quick(name, "items"), here)
    for part, old in zip(parts, before, strict=True):
        for now, then in zip((part.inputs, part.labels, part.ids), old, strict=True):
            assert torch.equal(now, then)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", ["class", "conditional items"])
def test_the_seed_decides_all(name: str, of: str) -> None:
    """Whatever the global random state is; and another seed of the run decides otherwise."""
    here, outcomes = case(of), [usual(name, of)]
    for seed in (1, 2):
        with laws.random_state(seed), laws.untouched_randomness():
            outcomes.append(forgotten(quick(name, of), here))
    for other in outcomes[1:]:
        laws.assert_same_state(outcomes[0].model.state_dict(), other.model.state_dict())
        assert dict(outcomes[0].notes) == dict(other.notes)
    reseeded = forgotten(quick(name, of), replace(here, run=replace(here.run, seed=9)))
    assert laws.differs(reseeded.model, outcomes[0].model) == (
        name in LEARNING and name not in EXACT
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", CASES)
@pytest.mark.parametrize("held_out", [True, False], ids=["held out", "none held out"])
def test_any_pair_can_forget_anything(name: str, of: str, held_out: bool) -> None:
    """Kept: names, shapes and types, what is trainable, hooks. Gained: eval mode, no gradient."""
    here = case(of)
    if not held_out and of != "class":
        here = replace(here, run=replace(here.run, held_out=None))
    outcome = usual(name, of) if held_out else forgotten(quick(name, of), here)
    result, original = outcome.model, here.original
    assert type(result) is GAN
    assert (result.latent, result.classes) == (original.latent, original.classes)
    old, new = original.state_dict(), result.state_dict()
    assert list(old) == list(new)
    for key in old:
        assert (old[key].shape, old[key].dtype) == (new[key].shape, new[key].dtype), key
        assert bool(new[key].isfinite().all()), key
        assert new[key].is_contiguous(), key
    before, after = laws.snapshot(original), laws.snapshot(result)
    assert before["trainable"] == after["trainable"]
    assert before["hooks"] == after["hooks"]
    assert not any(after["training"].values())
    assert all(after["gradient"].values()), "a gradient is left behind"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in EXACT])
def test_what_a_user_froze_stays(name: str) -> None:
    """It can be trained no more than before, and does not move."""
    here = case()
    frozen = ("generator.start.0.weight", "discriminator.blocks.0.weight")
    for key in frozen:
        here.original.get_parameter(key).requires_grad_(False)
    here.original.average.load_state_dict(here.original.generator.state_dict())
    result = forgotten(quick(name), here).model
    trainable = {key for key, weight in result.named_parameters() if weight.requires_grad}
    assert trainable == {
        k for k, weight in here.original.named_parameters() if weight.requires_grad
    }
    for key in frozen:
        assert torch.equal(result.get_parameter(key), here.original.get_parameter(key))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", ["class", "items"])
def test_only_what_is_declared_is_read(name: str, of: str) -> None:
    """Called with the other set missing altogether, it finishes all the same."""

    class Trap:
        def __getattribute__(self, attribute: str) -> Any:
            raise AssertionError(f"{attribute} of an undeclared set is used")

        def __len__(self) -> int:
            raise AssertionError("the length of an undeclared set is used")

    here, method = case(of), quick(name, of)
    assert method.reads <= {"forget", "retain"}
    view = copy.copy(here.split)
    for part in {"forget", "retain"} - method.reads:
        object.__setattr__(view, part, Trap())
    assert isinstance(method(here.original, view, here.run), nn.Module)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_plain_data(name: str) -> None:
    for method in (find("gan", name)(), quick(name)):
        settings = settings_of(method)
        assert build(type(method), settings) == method
        assert build(type(method), json.loads(json.dumps(settings))) == method


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_of_it_can_be_kept(name: str) -> None:
    """The pair can be copied and saved; the notes are plain data."""
    outcome = usual(name, "conditional items")
    laws.assert_same_state(copy.deepcopy(outcome.model).state_dict(), outcome.model.state_dict())
    torch.save(outcome.model.state_dict(), io.BytesIO())
    assert json.loads(json.dumps(dict(outcome.notes))) == dict(outcome.notes)
    assert outcome.seconds >= 0


@pytest.mark.parametrize("name", NAMES)
def test_batches_may_be_larger_than_the_data_or_leave_one_image_over(name: str) -> None:
    here = case("items")
    few = of_few(here, 9)
    for size in (10_000, 8):
        run = laws.origin_with_batches(here.run, min(size, 300))
        forgotten(quick(name, "items", batch_size=min(size, 300)), replace(few, run=run))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_single_image_can_be_forgotten(name: str, conditional: bool) -> None:
    here = case("conditional items" if conditional else "items")
    forgotten(quick(name, "items"), of_few(here, 1))


def of_few(here: GanCase, n: int) -> GanCase:
    """The same data, of which only so many images are to be forgotten."""
    train = whole(here.split.forget, here.split.retain)
    return replace(here, split=Split.of(train, here.split.forget.ids[:n]))


@pytest.mark.parametrize("name", NAMES)
def test_old_weights_play_a_part_unless_it_is_exact(name: str) -> None:
    here, other = case(), case().original
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    one, two = usual(name).model, unlearn(quick(name), other, here.split, here.run)
    if name in EXACT:
        laws.assert_same_state(one.state_dict(), two.model.state_dict())
    else:
        assert laws.differs(one, two.model)


# --- Laws of a pair -----------------------------------------------------------------------------


@contextmanager
def averages(decay: float) -> Generator[list[dict[str, Tensor]]]:
    """What the average ought to be after each step of G, in float64, begun where G begins."""
    seen: list[dict[str, Tensor]] = []
    step = Duel.step_generator

    def watched(duel: Duel, loss: Tensor, *adam: Any) -> None:
        old = seen[-1] if seen and duel.generator_steps else numbers(duel.gan.average)
        step(duel, loss, *adam)
        own = min(decay, (1 + duel.generator_steps) / (10 + duel.generator_steps))
        new = numbers(duel.gan.generator)
        seen.append({key: own * old[key] + (1 - own) * new[key] for key in old})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Duel, "step_generator", watched)
        yield seen


def numbers(player: nn.Module) -> dict[str, Tensor]:
    state = player.state_dict()
    return {key: value.double() for key, value in state.items() if value.is_floating_point()}


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("of", ["class", "conditional items"])
def test_the_average_forgets_too(name: str, of: str) -> None:
    """Samples come from it: one that is left behind is a leak. It follows G's every step."""
    here = case(of)
    train: Any = here.origin.train
    with averages(train.average if name in EXACT else 0.999) as expected:
        result = pair(forgotten(quick(name, of), here))
    assert len(expected) == usual(name, of).notes["generator_steps"]
    for key, value in numbers(result.average).items():
        torch.testing.assert_close(value, expected[-1][key], atol=1e-5, rtol=1e-4)
    z, labels = here.original.latents(8, 0), here.original.labels(8, 0)
    assert not torch.equal(generate(result, z, labels), generate(here.original, z, labels))
    images = generate(here.original, z, labels)
    assert not torch.equal(scores(result, images, labels), scores(here.original, images, labels))
    for player in ("generator", "average", "discriminator"):
        for key, weight in getattr(result, player).named_parameters():
            assert not torch.equal(weight, here.original.get_parameter(f"{player}.{key}")), key


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("of", ["class", "items"])
def test_steps_are_noted_as_they_are_taken(name: str, of: str) -> None:
    here, taken = case(of), []
    shapes = {
        player: [weight.shape for weight in getattr(here.original, player).parameters()]
        for player in ("generator", "discriminator")
    }

    def count(optimizer: Any, *_: Any) -> None:
        own = [weight.shape for group in optimizer.param_groups for weight in group["params"]]
        taken.extend(player for player, wanted in shapes.items() if own == wanted)

    handle = register_optimizer_step_post_hook(count)
    try:
        outcome = forgotten(quick(name, of), here)
    finally:
        handle.remove()
    assert taken.count("generator") == outcome.notes["generator_steps"] > 0
    assert taken.count("discriminator") == outcome.notes["discriminator_steps"] > 0


@pytest.mark.parametrize("name", LEARNING)
def test_progress_is_told_to_the_end(name: str) -> None:
    here, told = case(), []
    run = replace(here.run, tell=told.append)
    unlearn(quick(name), here.original, here.split, run)
    heard = [event for event in told if isinstance(event, Progress)]
    assert heard
    assert {event.total for event in heard} == {heard[-1].done}
    assert [event.done for event in heard] == sorted(event.done for event in heard)


@pytest.mark.parametrize("name", [name for name in LEARNING if name not in EXACT])
@pytest.mark.parametrize("of", ["class", "items"])
def test_what_diverges_is_an_error(name: str, of: str) -> None:
    as_usual = quick(name, of)
    wild = replace(as_usual, recipe=replace(as_usual.recipe, lr=1e30))
    with pytest.raises(FloatingPointError, match=r"(nan|inf) after .* learning rate 1e\+30"):
        forgotten(wild, case(of))


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.usefixtures("unchecked")
def test_a_classifier_is_no_pair(name: str) -> None:
    here = case()
    if name in EXACT:
        return
    with pytest.raises(TypeError, match="A GAN is needed, not Linear"):
        quick(name)(nn.Linear(2, 2), here.split, here.run)


# --- The two ends -------------------------------------------------------------------------------


def test_the_original_is_the_pair_itself() -> None:
    here = case()
    outcome = usual("original")
    laws.assert_same_state(outcome.model.state_dict(), here.original.state_dict())
    assert outcome.notes == {}


@pytest.mark.parametrize("of", ["class", "conditional items"])
def test_retraining_is_the_origin_made_on_the_retained_data(of: str) -> None:
    """It owes nothing to the run's seed, and all to the original's."""
    here = case(of)
    made = here.origin.make(here.split.retain, here.run)
    laws.assert_same_state(usual("retrain", of).model.state_dict(), made.state_dict())
    assert laws.differs(made, here.original)
    reborn = replace(here.run, origin=replace(here.origin, seed=99))
    assert laws.differs(made, forgotten(quick("retrain"), replace(here, run=reborn)).model)


def test_retraining_needs_the_origin() -> None:
    here = case()
    with pytest.raises(ValueError, match=r"how the original GAN was made.*origin=Origin"):
        forgotten(quick("retrain"), replace(here, run=replace(here.run, origin=None)))
