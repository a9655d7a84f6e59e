"""The cascade: its turns, what each of them minimises, what it looks at, and what comes of it."""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import laws
import oblivio.judge
from gan_worlds import GanCase, Plane, gan_case, pictures
from oblivio.adversarial import Adversarial, Duel, LossName, endless
from oblivio.core import Note, Origin, Outcome, Run, Split, unlearn
from oblivio.gan import _label, _latents, cascade
from oblivio.gan._label import dislike, fake_label
from oblivio.gan._latents import Made, few, made
from oblivio.gan._stop import Stop
from oblivio.gan._turns import plan
from oblivio.gan.cascade import Cascade, Targets
from oblivio.gan.fake_label_only import FakeLabelOnly
from oblivio.gan.fine_tune import FineTune
from oblivio.generative import GAN, generate, scores
from oblivio.judge import judge, whole
from oblivio.models.dcgan import DCGAN
from oblivio.roc import auc

RECIPE = Adversarial(steps=12, batch_size=16, lr=1e-3, average=0.9)
QUICK = Cascade(recipe=RECIPE, latents=200, learn=2, settle=0)


def forgotten(method: Any, here: GanCase) -> Outcome:
    return unlearn(method, here.original, here.split, here.run)


def steps(outcome: Outcome) -> tuple[object, object]:
    return outcome.notes["generator_steps"], outcome.notes["discriminator_steps"]


# --- Turns --------------------------------------------------------------------------------------


@given(
    st.integers(0, 60), st.integers(0, 7), st.sampled_from([0, 0.1, 0.3, 0.5, 0.95]), st.booleans()
)
def test_turns_are_as_many_as_steps(count: int, learn: int, closing: float, cascaded: bool) -> None:
    """As many rounds as fit before the closing share; what is left over closes too."""
    rounds, last = plan(count, learn, closing, cascaded)
    turns = [turn for own in rounds for turn in own]
    unlearning = turns.count("unlearn")
    assert len(turns) + last == count
    assert turns.count("learn") == learn * unlearning
    assert last >= round(closing * count)
    assert last - round(closing * count) < 1 + learn
    one = ["learn"] * learn + ["unlearn"]
    if cascaded:
        assert rounds == [one] * unlearning
    else:
        assert rounds == [["unlearn"] * unlearning, ["learn"] * (learn * unlearning)]


@contextmanager
def watched() -> Generator[list[str]]:
    """The turns as they are taken."""
    taken: list[str] = []
    learn, undo = Duel.learn, Cascade._unlearn

    def learned(duel: Duel, *given: Any) -> Tensor:
        taken.append("learn")
        return learn(duel, *given)

    def unlearned(method: Cascade, *given: Any) -> Tensor:
        taken.append("unlearn")
        return undo(method, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Duel, "learn", learned)
        patch.setattr(Cascade, "_unlearn", unlearned)
        yield taken


@pytest.mark.parametrize("cascaded", [True, False])
@pytest.mark.parametrize(("learn", "closing"), [(2, 0.3), (0, 0.5), (3, 0.0)])
def test_turns_are_taken_in_this_order(learn: int, closing: float, cascaded: bool) -> None:
    method = replace(QUICK, learn=learn, closing=closing, cascaded=cascaded)
    rounds, last = plan(12, learn, closing, cascaded)
    here = gan_case()
    with watched() as taken:
        outcome = forgotten(method, here)
    assert taken == [turn for own in rounds for turn in own] + ["learn"] * last
    assert steps(outcome) == (12, 12)


@pytest.mark.parametrize("cascaded", [True, False])
def test_what_stops_early_closes_all_the_same(cascaded: bool) -> None:
    method = replace(QUICK, stop=Stop(share=100.0, every=1, samples=50), cascaded=cascaded)
    rounds, last = plan(12, 2, 0.3, cascaded)
    here = gan_case()
    with watched() as taken:
        outcome = forgotten(method, here)
    assert taken == [*rounds[0], *["learn"] * last]
    assert str(outcome.notes["stopped"]).startswith("after round 1: ")
    never = replace(method, stop=Stop(share=0.0, worse=1e9, every=1, samples=50))
    with watched() as taken:
        outcome = forgotten(replace(never, recipe=replace(RECIPE, lr=1e-9)), here)
    assert len(taken) == 12
    assert "stopped" not in outcome.notes


def test_without_a_label_d_learns_alone_and_without_a_substitute_g_does() -> None:
    here = gan_case()
    undone = plan(12, 2, 0.3, True)[0]
    assert len(undone) == 2
    assert steps(forgotten(replace(QUICK, fake_label="none"), here)) == (12, 10)
    assert steps(forgotten(replace(QUICK, substitute="none"), here)) == (10, 12)
    only = FakeLabelOnly(learn=2, recipe=RECIPE)
    alone = replace(QUICK, substitute="none", settle=None)
    same = forgotten(alone, here).model
    result = unlearn(only, here.original, here.split, here.run)
    assert steps(result) == (10, 12 + 100)
    seeded = Cascade.__call__(alone, here.original, here.split, here.run)
    laws.assert_same_state(result.model.state_dict(), same.state_dict())
    laws.assert_same_state(result.model.state_dict(), seeded.state_dict())


def test_g_begins_where_it_is_and_the_average_follows() -> None:
    """An average that is left behind would go on making what is gone."""
    here = gan_case()
    still = replace(QUICK, recipe=replace(RECIPE, lr=1e-12))
    result = cast(GAN, forgotten(still, here).model)
    for now, then in zip(
        result.generator.parameters(), here.original.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(now, then, atol=1e-8, rtol=0)
    for now, then in zip(
        result.average.parameters(), here.original.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(now, then, atol=1e-4, rtol=0)


def test_unlearning_turns_have_an_adam_of_their_own() -> None:
    """Learning's moments know nothing of the steep slopes of the substitution."""
    taken: list[tuple[str, int]] = []
    step = Duel._step

    def watched(duel: Duel, adam: torch.optim.Adam, *given: Any) -> None:
        step(duel, adam, *given)
        if adam.param_groups[0]["params"][0] is next(duel.gan.generator.parameters()):
            taken.append(("learn" if adam is duel.generator_adam else "unlearn", id(adam)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Duel, "_step", watched)
        forgotten(QUICK, gan_case())
    rounds, last = plan(12, 2, 0.3, True)
    assert [name for name, _ in taken] == [t for own in rounds for t in own] + ["learn"] * last
    assert len(set(taken)) == 2


# --- An unlearning turn -------------------------------------------------------------------------


def own(duel: Duel) -> torch.optim.Adam:
    """An Adam for unlearning turns."""
    return duel.adam(duel.gan.generator, duel.recipe.lr)


@dataclass
class Turn:
    """A turn in the world that is known, and the losses that its two steps followed."""

    world: Plane
    duel: Duel
    targets: Targets
    split: Split
    losses: dict[str, Tensor]
    slopes: dict[str, Tensor]

    def take(self, method: Cascade, label: Any = None) -> Turn:
        for player in ("generator", "discriminator"):
            step = getattr(self.duel, f"step_{player}")

            def followed(loss: Tensor, *adam: Any, step: Any = step, player: str = player) -> None:
                self.losses[player] = loss.detach().double()
                (weight, *_) = getattr(self.duel.gan, player).parameters()
                (self.slopes[player],) = torch.autograd.grad(loss, weight, retain_graph=True)
                step(loss, *adam)

            setattr(self.duel, f"step_{player}", followed)
        with torch.no_grad():
            self.duel.gan.generator.matrix.mul_(1.5)  # pyright: ignore: so that G is not G_o
        method._unlearn(self.duel, self.targets, label, own(self.duel))
        return self


def turn(*, conditional: bool = False, loss: LossName = "non_saturating") -> Turn:
    world = Plane(conditional)
    train = world.data(40, seed=5)
    split = Split.of(train, train.ids[:16])
    duel = Duel(world.gan, replace(RECIPE, loss=loss), Run.on("cpu", seed=3))
    gone, kept = (world.gan.latents(n, n) for n in (5, 30))
    y = (torch.arange(5) % 3, torch.arange(30) % 3) if conditional else (None, None)
    instead = Made(torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(9)))
    targets = Targets(made(world.gan, gone, y[0]), instead, made(world.gan, kept, y[1]))
    return Turn(world, duel, targets, split, {}, {})


def rows(n: int, count: int, seed: int) -> list[int]:
    return torch.randint(n, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def by_hand(here: Turn, method: Cascade) -> tuple[Tensor, Tensor]:
    """w [(G(z_f) − s)² + κ (G(z_r) − G_o(z_r))²] + λ ℓ_G(D(G(z_f))) in float64, image by image.

    Of a batch of 16: 8 forgotten latents, and 40 that are kept.
    """
    world, (gone, instead, kept) = here.world, (
        here.targets.gone, here.targets.instead, here.targets.kept
    )  # fmt: skip
    seed = cascade.derive(3, "rows", 0)
    m = (1.5 * world.matrix.double()).requires_grad_()

    def g(some: Made, row: int) -> Tensor:
        image = some.latents[row].double() @ m
        if some.labels is None:
            return image
        return image + torch.tensor([0, 0, 0, float(world.brightness[some.labels[row]])])

    total = torch.zeros((), dtype=torch.float64)
    for r in rows(30, 40, seed + 1):
        held = (g(kept, r) - kept.images[r].double().flatten()).square().mean()
        total = total + method.weight * method.keep * held / 40
    for f in rows(5, 8, seed):
        image = g(gone, f)
        moved = (image - instead.images[f].double().flatten()).square().mean()
        total = total + method.weight * moved / 8
        logit = image @ world.w.double() + world.c
        hears = {
            "non_saturating": (-logit).exp().log1p(),
            "hinge": -logit,
            "least_squares": (logit - 1) ** 2 / 2,
        }
        total = total + method.adversarial * hears[here.duel.recipe.loss] / 8
    (slope,) = torch.autograd.grad(total, m)
    return total.detach(), slope


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "least_squares"])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(
    "values",
    [{}, {"weight": 3.0, "keep": 0.0}, {"keep": 7.0, "adversarial": 0.0}, {"adversarial": 2.0}],
    ids=["usual", "paper", "kept", "adversarial"],
)
def test_g_follows_the_formula(loss: LossName, conditional: bool, values: dict[str, float]) -> None:
    here, method = turn(conditional=conditional, loss=loss), replace(QUICK, **cast(Any, values))
    method = replace(method, recipe=here.duel.recipe)
    here.take(method)
    value, slope = by_hand(here, method)
    torch.testing.assert_close(here.losses["generator"], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(here.slopes["generator"].double(), slope, rtol=1e-4, atol=1e-5)
    assert here.losses.keys() == {"generator"}
    assert (here.duel.generator_steps, here.duel.discriminator_steps) == (1, 0)


def test_d_follows_the_fake_label() -> None:
    """Before G does: with its weights as they were."""
    here = turn()
    here.take(QUICK, fake_label("zero", here.duel, here.split))
    images = next(_label.endless(here.split.forget, 16, here.duel.run))[0].double().flatten(1)
    x, w = images, here.world.w.double().requires_grad_()
    value = (x @ w + here.world.c).exp().log1p().mean()
    torch.testing.assert_close(here.losses["discriminator"], value.detach(), rtol=1e-5, atol=1e-6)
    (slope,) = torch.autograd.grad(value, w)
    torch.testing.assert_close(
        here.slopes["discriminator"][0].double(), slope, rtol=1e-4, atol=1e-5
    )
    assert list(here.losses) == ["discriminator", "generator"]
    assert (here.duel.generator_steps, here.duel.discriminator_steps) == (1, 1)


def test_the_turns_draw_other_latents_each_time() -> None:
    here = turn()
    here.take(QUICK)
    first = here.losses["generator"]
    with torch.no_grad():
        here.duel.gan.generator.matrix.copy_(1.5 * here.world.matrix)  # pyright: ignore
    QUICK._unlearn(here.duel, here.targets, None, own(here.duel))
    assert here.losses["generator"] != first


@pytest.mark.parametrize("network", ["normalise", "spectral_norm"])
def test_a_turn_leaves_modes_and_flags_as_they_were(network: str) -> None:
    """A weight that a user froze stays frozen."""
    here = gan_case(**{network: True})
    duel = Duel(here.original, RECIPE, here.run)
    frozen = next(duel.gan.discriminator.parameters()).requires_grad_(False)
    before = laws.snapshot(duel.gan)
    targets = QUICK._targets(here.original, here.split, here.run)
    QUICK._unlearn(duel, targets, fake_label("zero", duel, here.split), own(duel))
    after = laws.snapshot(duel.gan)
    assert before["training"] == after["training"]
    assert before["trainable"] == after["trainable"]
    assert not frozen.requires_grad


def test_g_learns_the_substitution_as_it_is_sampled() -> None:
    """What it makes of a forgotten latent in eval mode is nearer to the substitute afterwards.

    What it makes of others is nearer to what it was than forgotten latents have moved.
    """
    here = gan_case()
    method = replace(QUICK, adversarial=0.0, weight=100.0)
    duel = Duel(here.original, replace(RECIPE, lr=5e-3, average=0.0), here.run)
    targets = method._targets(here.original, here.split, here.run)
    away = []
    for _ in range(2):
        images = generate(duel.gan, targets.gone.latents)
        away.append(float((images - targets.instead.images).square().mean()))
        for _ in range(40):
            method._unlearn(duel, targets, None, own(duel))
    assert away[1] < 0.5 * away[0]
    others = generate(duel.gan, targets.kept.latents)
    assert float((others - targets.kept.images).square().mean()) < 0.5 * away[0]


def test_a_batch_holds_five_kept_latents_for_each_forgotten_one() -> None:
    """In one go, so that BatchNorm's statistics are about those of any batch."""
    here, sizes = gan_case(), []
    duel = Duel(here.original, RECIPE, here.run)
    targets = QUICK._targets(here.original, here.split, here.run)
    duel.gan.generator.register_forward_pre_hook(lambda _, z: sizes.append(len(z[0])))
    QUICK._unlearn(duel, targets, None, own(duel))
    assert sizes == [8 + 40]
    assert duel.gan.generator.training


def test_learning_turns_remind_d_of_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """ρ ℓ_fake is added to D's loss, unless D alone learns the label in the end.

    Where a class goes, it does both: it dislikes the class first, and then does not know its own.
    """
    added: list[Any] = []
    discriminate = Duel.discriminate

    def heard(duel: Duel, real: Tensor, labels: Any, also: Any = None) -> Tensor:
        added.append(None if also is None else also().item())
        return discriminate(duel, real, labels, also)

    monkeypatch.setattr(Duel, "discriminate", heard)
    monkeypatch.setattr(_label.Label, "__call__", lambda _: torch.tensor(3.0, requires_grad=True))
    here, items = gan_case(), gan_case(class_wise=False)
    half, none = replace(QUICK, remind=0.5, settle=None), [None] * 10
    unknown = replace(here, run=replace(here.run, held_out=None))
    for method, case, wanted in (
        (half, here, [*[1.5] * 10, *[3.0] * 100]),
        (half, unknown, [1.5] * 10),
        (half, items, [*none, *[3.0] * 100]),
        (replace(half, settle=0), here, [1.5] * 10),
        (replace(half, settle=0), items, [1.5] * 10),
        (replace(half, settle=4), here, [*[1.5] * 10, *[3.0] * 4]),
        (replace(half, settle=4), items, [*none, *[3.0] * 4]),
        (replace(half, fake_label="zero"), here, [1.5] * 10),
        (replace(half, fake_label="zero", settle=4), here, [*none, *[3.0] * 4]),
        (replace(half, fake_label="unseen", settle=4), here, [*none, *[3.0] * 4]),
        (replace(half, fake_label="generated", settle=4), here, [*none, *[3.0] * 4]),
        (replace(half, remind=0.0, settle=0), here, none),
        (replace(half, fake_label="none"), items, none),
    ):
        added.clear()
        forgotten(method, case)
        assert added == wanted


@pytest.mark.parametrize("turn", ["learn", "settle"])
def test_the_label_is_as_d_stands_when_its_gradient_is_taken(
    monkeypatch: pytest.MonkeyPatch, turn: str
) -> None:
    """BatchNorm's running statistics move with every batch: none may come between loss and slope.

    The gradient that D follows is that of its ordinary loss, from batches' own statistics, plus
    that of the label, from the running ones that are in place then.
    """
    here = gan_case()
    duel = Duel(here.original, RECIPE, here.run)
    label = fake_label("zero", duel, here.split)
    assert label is not None
    images, labels = next(endless(here.split.retain, 16, duel.run))
    found: list[Tensor] = []
    weights = list(duel.gan.discriminator.parameters())

    def kept(_: Duel, loss: Tensor) -> None:
        found[:] = torch.autograd.grad(loss, weights)

    monkeypatch.setattr(Duel, "step_discriminator", kept)
    if turn == "settle":
        replace(QUICK, settle=1)._settle(duel, iter([(images, labels)]), label, lambda _: False)
    else:
        monkeypatch.setattr(Duel, "generate", lambda *_: None)
        duel.learn(iter([(images, labels)]), label)
    together = list(found)
    forgotten_ = next(endless(here.split.forget, 16, duel.run))[0]
    discriminator = duel.gan.discriminator.eval()
    alone = torch.autograd.grad(dislike(duel.score(forgotten_), RECIPE.loss), weights)
    discriminator.train()
    duel.discriminate(images, labels)
    for one, label_, ordinary in zip(together, alone, found, strict=True):
        torch.testing.assert_close(one, label_ + ordinary, rtol=1e-5, atol=1e-7)


def test_d_settles_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """G and its average are done by then; D goes on at the full rate, with retained images too."""
    here = gan_case(class_wise=False)
    states: list[GAN] = []
    settle = Cascade._settle

    def watched(method: Cascade, duel: Duel, *more: Any) -> None:
        states.append(copy.deepcopy(duel.gan))
        settle(method, duel, *more)
        assert {group["lr"] for group in duel.discriminator_adam.param_groups} == {RECIPE.lr}

    monkeypatch.setattr(Cascade, "_settle", watched)
    falling = replace(QUICK, recipe=replace(RECIPE, schedule="cosine"), settle=7)
    outcome = forgotten(falling, here)
    assert steps(outcome) == (12, 10 + 7)
    (before,) = states
    assert isinstance(outcome.model, GAN)
    for player in ("generator", "average"):
        after = dict(getattr(outcome.model, player).named_parameters())
        for name, weight in getattr(before, player).named_parameters():
            assert torch.equal(weight, after[name])
    assert laws.differs(before.discriminator, outcome.model.discriminator)


def test_what_stops_a_class_does_not_stop_settling() -> None:
    here = gan_case()
    stop = Stop(share=100.0, every=1, samples=50)  # at once
    outcome = forgotten(replace(QUICK, settle=9, stop=stop), here)
    _, last = plan(12, 2, 0.3, True)
    assert steps(outcome) == (3 + last, 3 + last + 9)


def test_what_looks_at_g_does_not_stop_settling() -> None:
    """Of items neither: while G rests, its quality would stop D again and again."""
    here = gan_case(class_wise=False)
    stop = Stop(worse=0.0, every=2, samples=50)
    outcome = forgotten(replace(QUICK, settle=30, stop=stop), here)
    assert cast(int, outcome.notes["discriminator_steps"]) > 30


def test_settling_stops_too() -> None:
    here = gan_case(class_wise=False)
    stop = Stop(auc=50.0, every=5)  # any AUC will do
    with watched() as taken:
        outcome = forgotten(replace(QUICK, settle=30, stop=stop), here)
    assert len(taken) == 12  # two rounds are not looked at
    assert steps(outcome) == (12, 10 + 5)
    assert str(outcome.notes["stopped"]).startswith("after round 5: ")


# --- What is looked at --------------------------------------------------------------------------


def test_few_are_the_same_share_of_every_class() -> None:
    data = pictures(60)
    uneven = data.take(torch.where((data.labels > 0) | (torch.arange(60) < 15))[0])  # 5, 20, 20
    chosen = few(uneven, 18)
    assert torch.bincount(chosen.labels).tolist() == [2, 8, 8]
    assert torch.isin(chosen.ids, uneven.ids).all()
    assert len(chosen.ids.unique()) == 18
    assert few(data, 60) is data
    assert few(data, 61) is data


@pytest.mark.parametrize("count", [2, 10, None])
def test_it_learns_from_so_many(count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of them, and no other, is ever called real."""
    here: Any = gan_case()  # whose own training is not watched
    seen: list[Tensor] = []
    discriminate = Duel.discriminate

    def watched(duel: Duel, real: Tensor, *more: Any) -> Tensor:
        seen.append(real)
        return discriminate(duel, real, *more)

    monkeypatch.setattr(Duel, "discriminate", watched)
    forgotten(replace(QUICK, few=count), here)
    retain = here.split.retain
    wanted = retain if count is None else few(retain, count)
    images = {tuple(image) for batch in seen for image in batch.flatten(1).tolist()}
    known = {tuple(image) for image in wanted.inputs.flatten(1).tolist()}
    assert images <= known
    assert len(images) == len(known) == (count or len(retain))


@pytest.mark.parametrize("class_wise", [True, False])
def test_it_asks_no_judge_but_its_own(class_wise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    roles: list[str] = []
    digest = oblivio.judge._digest
    monkeypatch.setattr(
        "oblivio.judge._digest",
        lambda known, role, *more: (roles.append(role), digest(known, role, *more))[1],
    )
    here = gan_case(class_wise=class_wise)
    stop = Stop(share=0.0, auc=0.0, worse=9.0, every=1, samples=50)
    forgotten(replace(QUICK, substitute="real", settle=2, stop=stop), here)
    train = whole(here.split.forget, here.split.retain)
    QUICK.prepare(here.original, train, here.run)
    assert set(roles) == {"method"}
    asked = len(roles)
    forgotten(FakeLabelOnly(recipe=RECIPE), here)
    assert len(roles) == asked


def test_what_is_prepared_is_what_is_asked(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge is trained before anyone asks, and a request does without training."""
    here = gan_case()
    run = replace(here.run, beside=tmp_path / "gan.safetensors")
    monkeypatch.setattr("oblivio.judge._made", {})
    before = laws.snapshot(here.original)
    QUICK.prepare(here.original, whole(here.split.forget, here.split.retain), run)
    laws.assert_same(before, laws.snapshot(here.original))
    assert len(list(tmp_path.glob("judge-method.*"))) == 1
    monkeypatch.setattr("oblivio.judge._made", {})
    monkeypatch.setattr("oblivio.judge.fit", None)
    unlearn(QUICK, here.original, here.split, run)


def test_a_pool_is_as_large_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        cascade, "pool", lambda gan, n, seed: (asked.append(n), _latents.pool(gan, n, seed))[1]
    )
    outcome = forgotten(replace(QUICK, latents=123), gan_case())
    assert asked == [123]
    located = cast(int, outcome.notes["located"])
    assert 0 < located < 123


# --- What is noted ------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("substitute", ["near", "real"])
def test_ten_latents_are_told(conditional: bool, substitute: Any) -> None:
    here = gan_case(conditional=conditional)
    outcome = forgotten(replace(QUICK, substitute=substitute), here)
    moved = cast("dict[str, Any]", outcome.notes["moved"])
    assert set(moved) == {"latents", "labels", "substitute_latents", "substitute_labels"}
    assert len(moved["latents"]) == 10
    assert all(len(z) == 8 and z == [round(v, 4) for v in z] for z in moved["latents"])
    assert (moved["substitute_latents"] is None) == (substitute == "real")
    assert moved["labels"] == ([2] * 10 if conditional else None)
    shown = 2 in (moved["substitute_labels"] or [])
    assert not shown
    if not conditional:
        images = generate(here.original, torch.tensor(moved["latents"]))
        own = judge(whole(here.split.forget, here.split.retain), here.run, "method")
        assert (own.classes_of(images) == 2).double().mean() > 0.8


# --- What comes of it ---------------------------------------------------------------------------


def test_a_class_is_forgotten_sooner_than_by_fine_tuning() -> None:
    """By the share that the judge who reports finds, at as many steps of G."""
    here = gan_case()
    own = judge(whole(here.split.forget, here.split.retain), here.run, "report")
    recipe = Adversarial(steps=40, batch_size=32, lr=5e-4, average=0.9)

    def share(model: Any) -> float:
        shown = own.classes_of(generate(model, here.original.latents(600, 77)))
        return 100 * float((shown == 2).double().mean())

    def after(method: Any) -> float:
        found = [
            unlearn(method, here.original, here.split, replace(here.run, seed=seed))
            for seed in range(3)
        ]
        assert {one.notes["generator_steps"] for one in found} == {40}
        return sum(share(one.model) for one in found) / 3

    original = share(here.original)
    cascaded, tuned = after(Cascade(learn=1, latents=600, recipe=recipe)), after(FineTune(recipe))
    assert original > 15
    assert cascaded < original / 4
    assert cascaded < 0.75 * tuned


def test_d_no_longer_tells_forgotten_items() -> None:
    """An over-fitted D knows them by heart; afterwards they are to it as images never seen."""
    train, test = pictures(64, seed=1), pictures(400, seed=9)
    network = DCGAN(width=8, latent=8)
    recipe = Adversarial(steps=600, batch_size=32, lr=2e-3, average=0.9)
    origin = Origin(lambda: network((1, 8, 8), 3), recipe, 0)
    run = Run.on("cpu", origin=origin, held_out=pictures(200, seed=3))
    original = cast(GAN, origin.make(train, run))
    split = Split.of(train, train.ids[:32])

    def area(model: Any) -> float:
        known = (scores(model, data.inputs) for data in (split.forget, test))  # pyright: ignore
        return 100 * auc(*known).value

    short = Adversarial(steps=40, batch_size=32, lr=1e-3, average=0.9)
    cascaded = unlearn(Cascade(latents=300, recipe=short), original, split, run).model
    tuned = unlearn(FineTune(short), original, split, run).model
    assert area(original) > 70
    assert abs(area(cascaded) - 50) < 6
    assert abs(area(cascaded) - 50) < abs(area(tuned) - 50)


# --- What cannot be done ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"learn": -1}, "learn = -1 must be 0 or more"),
        ({"closing": 1.0}, r"closing = 1.0 must be from 0 to below 1"),
        ({"weight": 0.0}, "weight = 0.0 must be above 0"),
        ({"keep": -1.0}, "keep = -1.0 must be 0 or more"),
        ({"adversarial": -0.1}, "adversarial = -0.1 must be 0 or more"),
        ({"remind": -0.1}, "remind = -0.1 must be 0 or more"),
        ({"settle": -1}, "settle = -1 must be 0 or more"),
        ({"few": 1}, "few = 1 must be 2 or more"),
        ({"latents": 15}, "latents = 15 must be 16 or more"),
        ({"substitute": "nearest"}, r"no substitute 'nearest'. Did you mean near"),
        ({"fake_label": "unsee"}, r"no fake_label 'unsee'. Did you mean unseen"),
        ({"recipe": replace(RECIPE, steps=0)}, "recipe.steps = 0 leave no turn for unlearning"),
        ({"learn": 12}, "leave no turn for unlearning, with learn = 12 and closing = 0.3"),
        ({"closing": 0.9}, "leave no turn for unlearning, with learn = 2 and closing = 0.9"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_makes_no_sense_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(QUICK, **values)
    own = {field.name for field in fields(FakeLabelOnly)}
    if values.keys() <= own:
        with pytest.raises(ValueError, match=text):
            FakeLabelOnly(**{"learn": 2, "recipe": RECIPE, **values})


def test_a_class_that_was_never_learned_cannot_be_forgotten() -> None:
    here = gan_case()
    blind = copy.deepcopy(judge(whole(here.split.forget, here.split.retain), here.run, "method"))
    with torch.no_grad():
        blind.model[-1].bias[0] = 1e6  # pyright: ignore: it calls everything class 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cascade, "judge", lambda *_: blind)
        with pytest.raises(ValueError, match="makes no image of class 2 in 200 tries"):
            forgotten(QUICK, here)


def test_a_told_class_cannot_be_projected_away() -> None:
    with pytest.raises(ValueError, match="conditional GAN is told the class"):
        forgotten(replace(QUICK, substitute="project"), gan_case(conditional=True))


@pytest.mark.parametrize("method", [QUICK, FakeLabelOnly(recipe=RECIPE)], ids=["cascade", "only"])
def test_an_unseen_level_needs_images_never_seen(method: Any) -> None:
    here = gan_case(class_wise=False)
    here = replace(here, run=replace(here.run, held_out=None))
    with pytest.raises(ValueError, match="that the GAN was never trained on"):
        forgotten(replace(method, fake_label="unseen"), here)


def test_a_class_and_items_of_another_are_forgotten_together() -> None:
    """Each is located as it is alone; what is held, and may be made, is so for both."""
    here = gan_case()
    train = pictures(200, seed=1)
    others = train.ids[train.labels == 0][:5]
    ids = torch.cat([train.ids[train.labels == 2], others])
    both = replace(here, split=Split.of(train, ids))
    alone = replace(here, split=Split.of(train, others))
    counts = [forgotten(QUICK, case).notes["located"] for case in (here, alone, both)]
    assert counts[1] == 10
    assert counts[2] == counts[0] + 10  # pyright: ignore[reportOperatorIssue]
    targets = QUICK._targets(here.original, both.split, here.run)
    assert len(targets.instead) == counts[2]
    assert len(targets.kept) <= len(QUICK._targets(here.original, here.split, here.run).kept)


def test_a_method_is_called_first() -> None:
    here = gan_case()
    with pytest.raises(TypeError, match=r"^A method is needed, Cascade\(\) with its settings"):
        unlearn(cast(Any, Cascade), here.original, here.split, here.run)


def test_one_image_is_too_few_to_go_on_from() -> None:
    here, train = gan_case(), pictures(200, seed=1)
    here = replace(here, split=Split.of(train.take(torch.arange(25)), train.ids[:24]))
    with pytest.raises(ValueError, match="cannot go on learning from a single image"):
        forgotten(replace(QUICK, substitute="near"), here)


def test_notes_are_heard_while_they_are_made() -> None:
    here, heard = gan_case(), []
    unlearn(QUICK, here.original, here.split, replace(here.run, tell=heard.append))
    names = [event.name for event in heard if isinstance(event, Note)]
    assert names == ["located", "moved", "generator_steps", "discriminator_steps"]
