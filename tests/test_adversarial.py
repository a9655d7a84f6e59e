"""Two players trained, against formulas in float64 and against a bare loop written by hand."""

from __future__ import annotations

import copy
import io
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import laws
from gan_worlds import CLASSES, SHAPE, pictures
from oblivio.adversarial import (
    AUGMENTS,
    Adversarial,
    Duel,
    discriminator_loss,
    endless,
    fit_gan,
    generator_loss,
    loss_towards,
)
from oblivio.adversarial.state import MAGIC
from oblivio.core import Note, Progress, Run, derive
from oblivio.data.arrays import Arrays
from oblivio.data.dataset import loaded
from oblivio.generative import GAN
from oblivio.models.dcgan import DCGAN

LOSSES: Any = ("non_saturating", "hinge", "least_squares")
RUN = Run.on("cpu", seed=5)
DATA = pictures(50)
QUICK = Adversarial(steps=6, batch_size=16, lr=1e-3, average=0.9, save_every=1)


def pair(**settings: Any) -> GAN:
    """A small DCGAN, always the same."""
    with laws.random_state(0):
        return DCGAN(**{"width": 4, "latent": 6, **settings})(SHAPE, CLASSES)


def plain_pair(dropout: float = 0.0) -> GAN:
    """A user's own pair, of linear layers; with dropout, its steps draw random numbers."""
    with laws.random_state(0):
        generator = nn.Sequential(
            nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, SHAPE)
        )
        discriminator = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(32, 1)
        )
        return GAN(generator, discriminator, 6)


def trained(gan: GAN | None = None, recipe: Adversarial = QUICK, **options: Any) -> GAN:
    return fit_gan(pair() if gan is None else gan, DATA, recipe, replace(RUN, **options))


def assert_same_gan(one: GAN, two: GAN) -> None:
    laws.assert_same_state(one.state_dict(), two.state_dict())


# --- Losses -------------------------------------------------------------------------------------

numbers = st.lists(st.floats(-200, 200), min_size=1, max_size=6)


def softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


BY_HAND: dict[str, tuple[Callable[[float], float], ...]] = {
    "non_saturating": (lambda r: softplus(-r), softplus, lambda f: softplus(-f)),
    "hinge": (lambda r: max(0, 1 - r), lambda f: max(0, 1 + f), lambda f: -f),
    "least_squares": (
        lambda r: (r - 1) ** 2 / 2,
        lambda f: f**2 / 2,
        lambda f: (f - 1) ** 2 / 2,
    ),
}
"""What a real logit, a generated one, and a generated one that G stands for cost."""


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=15)
@given(real=numbers, fake=numbers)
def test_losses_are_their_formulas(loss: Any, real: list[float], fake: list[float]) -> None:
    x, y = (torch.tensor(values, dtype=torch.float64) for values in (real, fake))
    of_real, of_fake, of_maker = BY_HAND[loss]
    real_part, fake_part = mean([of_real(r) for r in real]), mean([of_fake(f) for f in fake])
    close = {"rel": 1e-12, "abs": 3e-9}  # softplus(x) is x from 20 on
    assert float(loss_towards(x, loss, real=True)) == pytest.approx(real_part, **close)
    assert float(loss_towards(y, loss, real=False)) == pytest.approx(fake_part, **close)
    total = discriminator_loss(x, y, loss)
    assert float(total) == pytest.approx(real_part + fake_part, **close)
    maker = mean([of_maker(f) for f in fake])
    assert float(generator_loss(y, loss)) == pytest.approx(maker, **close)


@pytest.mark.parametrize("loss", LOSSES)
def test_players_pull_in_opposite_directions(loss: Any) -> None:
    """At a logit of 0 the discriminator pushes generated images down, the generator up."""
    logits = torch.zeros(3, requires_grad=True)
    (down,) = torch.autograd.grad(discriminator_loss(torch.zeros(3), logits + 0.1, loss), logits)
    (up,) = torch.autograd.grad(generator_loss(logits, loss), logits)
    assert bool((down > 0).all())
    assert bool((up < 0).all())


# --- Augmentations ------------------------------------------------------------------------------


def drawn(name: str, x: Tensor, seed: int = 0) -> Tensor:
    return AUGMENTS[name](x, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 1, 8, 8), (7, 3, 28, 28), (5, 3, 6, 10), (3, 1, 5, 5)])
@pytest.mark.parametrize("name", AUGMENTS)
def test_augmentations_keep_shape_and_pass_gradients(name: str, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, requires_grad=True)
    y = drawn(name, x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert torch.equal(y, drawn(name, x))
    assert not torch.equal(y, drawn(name, x, 1))
    towards = torch.randn(shape)
    (gradient,) = torch.autograd.grad((y * towards).sum(), x)
    # What comes out is linear in x, apart from what is added: ⟨∇, x⟩ = ⟨towards, A x⟩.
    linear = y - drawn(name, torch.zeros_like(x))
    torch.testing.assert_close((gradient * x).sum(), (towards * linear).sum())
    assert int((gradient != 0).flatten(1).any(1).sum()) == len(x)


def test_brightness_adds_one_number_to_each_image() -> None:
    x = torch.rand(500, 2, 4, 4)
    added = (drawn("brightness", x) - x).flatten(1)
    assert float((added - added[:, :1]).abs().max()) < 1e-6
    assert -0.5 <= float(added.min()) < -0.45
    assert 0.45 < float(added.max()) < 0.5


def test_shift_moves_by_up_to_an_eighth() -> None:
    x = torch.zeros(400, 1, 16, 16)
    x[:, :, 8, 8] = 1
    places = drawn("shift", x).flatten(1).argmax(1)
    assert set((places // 16).tolist()) == set((places % 16).tolist()) == set(range(6, 11))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 10)])
def test_cutout_clears_half_of_each_side(height: int, width: int) -> None:
    kept = drawn("cutout", torch.ones(600, 2, height, width))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    gone = kept[:, 0] == 0
    assert torch.equal(kept[:, 0], kept[:, 1])
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(gone.sum((1, 2)), rows * columns)  # a rectangle
    assert (int(rows.max()), int(columns.max())) == (height // 2, width // 2)
    assert int(rows.min()) == int(columns.min()) == 1  # it may hang over the edge
    assert bool(gone.any(0).all())


# --- A round ------------------------------------------------------------------------------------


def by_hand(gan: GAN, recipe: Adversarial, images: list[Tensor]) -> GAN:
    """The training as it is written down, with plain Adam and no layout."""
    gan.train()
    adams = [
        torch.optim.Adam(player.parameters(), lr, betas=recipe.betas)
        for player, lr in (
            (gan.generator, recipe.lr),
            (gan.discriminator, recipe.lr_discriminator or recipe.lr),
        )
    ]
    average = [p.detach().clone() for p in gan.generator.parameters()]
    given, d = iter(images), 0
    for g in range(recipe.steps):
        n = 0
        for _ in range(recipe.d_steps):
            x = next(given)
            n = len(x)
            z = gan.latents(n, derive(RUN.seed, "discriminate", g, d))
            fake = gan.generator(z).detach()
            real_part = loss_towards(gan.discriminator(x)[:, 0], recipe.loss, real=True)
            fake_part = loss_towards(gan.discriminator(fake)[:, 0], recipe.loss, real=False)
            adams[1].zero_grad()
            (real_part + fake_part).backward()
            adams[1].step()
            d += 1
        z = gan.latents(n, derive(RUN.seed, "generate", g, d))
        adams[0].zero_grad()
        generator_loss(gan.discriminator(gan.generator(z))[:, 0], recipe.loss).backward()
        adams[0].step()
        decay = min(recipe.average, (2 + g) / (11 + g))
        new = [p.detach() for p in gan.generator.parameters()]
        average = [decay * a + (1 - decay) * b for a, b in zip(average, new, strict=True)]
    for place, value in zip(gan.average.parameters(), average, strict=True):
        place.data.copy_(value)
    return gan


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("d_steps", [1, 2])
def test_training_is_the_loop_written_by_hand(loss: Any, d_steps: int) -> None:
    recipe = replace(QUICK, loss=loss, d_steps=d_steps, lr=1e-2, lr_discriminator=3e-3)
    images = [x for x, _ in islice(endless(DATA, 16, RUN), recipe.steps * d_steps)]
    expected = by_hand(plain_pair(), recipe, images).state_dict()
    for name, value in trained(plain_pair(), recipe).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def recorded(monkeypatch: pytest.MonkeyPatch, gan: GAN) -> list[tuple[bool, Tensor | None]]:
    """Which labels the discriminator hears, and whether its weights learn from them."""
    heard: list[tuple[bool, Tensor | None]] = []
    score = gan.score

    def listening(images: Tensor, labels: Tensor | None = None) -> Tensor:
        heard.append((next(gan.discriminator.parameters()).requires_grad, labels))
        return score(images, labels)

    monkeypatch.setattr(gan, "score", listening)
    return heard


def test_a_conditional_pair_hears_the_labels_of_real_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gan = pair(conditional=True)
    duel = Duel(gan, QUICK, RUN)
    heard = recorded(monkeypatch, gan)
    images, labels = next(endless(DATA, 16, RUN))
    duel.discriminate(images, labels)
    duel.generate(16)
    (real, fake, made) = heard
    assert real[1] is labels
    assert fake[1] is not None
    assert made[1] is not None
    assert set(fake[1].tolist()) | set(made[1].tolist()) == set(range(CLASSES))
    assert not torch.equal(fake[1], made[1])
    assert [learning for learning, _ in heard] == [True, True, False]


def test_an_unconditional_pair_hears_none(monkeypatch: pytest.MonkeyPatch) -> None:
    gan = pair()
    duel = Duel(gan, QUICK, RUN)
    heard = recorded(monkeypatch, gan)
    duel.learn(endless(DATA, 16, RUN))
    assert [labels for _, labels in heard] == [None] * 3


def changed(duel: Duel, act: Callable[[], object]) -> set[str]:
    """Which of the three networks have other parameters afterwards."""
    before = {name: p.detach().clone() for name, p in duel.gan.named_parameters()}
    act()
    now = dict(duel.gan.named_parameters())
    return {name.split(".")[0] for name in before if not torch.equal(before[name], now[name])}


def test_a_step_changes_one_player() -> None:
    duel = Duel(pair(), QUICK, RUN)
    images, labels = next(endless(DATA, 16, RUN))
    assert changed(duel, lambda: duel.discriminate(images, labels)) == {"discriminator"}
    assert all(p.grad is None for p in duel.gan.generator.parameters())
    assert changed(duel, lambda: duel.generate(16)) == {"generator", "average"}
    assert all(p.grad is not None for p in duel.gan.discriminator.parameters())
    assert (duel.generator_steps, duel.discriminator_steps) == (1, 1)


def test_what_is_added_to_a_loss_is_followed() -> None:
    """With a rate for which only the sign counts: Adam's first step is lr · sign."""
    duel = Duel(plain_pair(), replace(QUICK, lr=1e-3), RUN)
    weight = next(duel.gan.discriminator.parameters())
    before = weight.detach().clone()
    duel.discriminate(next(endless(DATA, 8, RUN))[0], None, lambda: 1e6 * weight.sum())
    torch.testing.assert_close(weight.detach(), before - 1e-3, rtol=0, atol=1e-6)


def test_weights_that_a_user_froze_stay() -> None:
    gan = plain_pair()
    frozen = gan.discriminator.get_parameter("1.weight").requires_grad_(False)
    before = frozen.clone()
    trained(gan)
    assert torch.equal(frozen, before)
    assert not frozen.requires_grad
    assert gan.discriminator.get_parameter("4.weight").requires_grad


def test_gradients_are_computed_again_after_an_error() -> None:
    duel = Duel(plain_pair(), QUICK, RUN)
    weights = list(duel.gan.discriminator.parameters())

    def fail() -> None:
        with duel.discriminator_as_it_is():
            raise KeyError([p.requires_grad for p in weights])

    with pytest.raises(KeyError, match=r"^\[False, False, False, False\]$"):
        fail()
    assert all(p.requires_grad for p in weights)


def test_every_step_is_augmented_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    duel = Duel(plain_pair(), replace(QUICK, augment=("brightness",)), RUN)
    images, seen = torch.zeros(8, *SHAPE), []
    score = duel.gan.score

    def listening(x: Tensor, labels: Tensor | None = None) -> Tensor:
        seen.append(float(x.detach()[0].mean()))
        return score(x, labels)

    monkeypatch.setattr(duel.gan, "score", listening)
    monkeypatch.setattr(duel, "make", lambda z, _: images + 0 * duel.gan.generator(z))
    for _ in range(2):
        duel.discriminate(images, None)
    duel.generate(8)
    assert len(set(seen)) == 5


def test_a_round_adds_to_every_step_of_the_discriminator() -> None:
    asked: list[float] = []

    def also() -> Tensor:
        asked.append(float(bias.detach()))
        return 1e6 * bias.sum()

    duel = Duel(plain_pair(), replace(QUICK, lr=1e-3, d_steps=3), RUN)
    bias = duel.gan.discriminator.get_parameter("4.bias")
    first = float(bias.detach())
    duel.learn(endless(DATA, 8, RUN), also)
    assert asked == pytest.approx([first - 1e-3 * step for step in range(3)], abs=1e-5)
    assert (duel.generator_steps, duel.discriminator_steps) == (1, 3)


# --- The average --------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_average_follows_weights_and_buffers(decay: float) -> None:
    gan = pair()
    states = [part.state_dict() for part in (gan.average, gan.generator)]
    for state in states:
        for value in state.values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else torch.tensor(3))
    states[1]["blocks.0.num_batches_tracked"].fill_(8)
    before = [{name: v.double().clone() for name, v in state.items()} for state in states]
    gan.follow(decay)
    for name, value in gan.average.state_dict().items():
        old, new = before[0][name], before[1][name]
        expected = decay * old + (1 - decay) * new if value.is_floating_point() else new
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6, msg=name)
    for name, value in gan.generator.state_dict().items():
        assert torch.equal(value.double(), before[1][name])
    assert int(gan.average.state_dict()["blocks.0.num_batches_tracked"]) == 8
    assert "blocks.0.running_mean" in states[0]


@pytest.mark.parametrize("d_steps", [1, 2])
def test_rates_fall_as_a_cosine(d_steps: int) -> None:
    recipe = Adversarial(
        steps=4, lr=0.1, lr_discriminator=0.2, schedule="cosine", batch_size=8, d_steps=d_steps
    )
    duel, batches = Duel(pair(), recipe, RUN), endless(DATA, 8, RUN)
    for step in range(recipe.steps):
        duel.learn(batches)
        rates = [
            adam.param_groups[0]["lr"] for adam in (duel.generator_adam, duel.discriminator_adam)
        ]
        last = (step * d_steps + d_steps - 1) / (recipe.steps * d_steps)
        assert rates[0] == pytest.approx(0.1 * (1 + math.cos(math.pi * step / 4)) / 2)
        assert rates[1] == pytest.approx(0.2 * (1 + math.cos(math.pi * last)) / 2)


def test_without_an_average_it_is_the_generator() -> None:
    gan = trained(recipe=replace(QUICK, average=0.0))
    laws.assert_same_state(gan.average.state_dict(), gan.generator.state_dict())
    assert not any(p.requires_grad for p in gan.average.parameters())


# --- The loop -----------------------------------------------------------------------------------


def test_training_is_deterministic_and_owes_nothing_to_the_random_state() -> None:
    found = []
    for seed in (1, 2):
        with laws.random_state(seed), laws.untouched_randomness():
            found.append(trained(plain_pair(dropout=0.5)))
    assert_same_gan(*found)
    other = fit_gan(plain_pair(dropout=0.5), DATA, QUICK, replace(RUN, seed=6))
    assert laws.differs(found[0], other)


def test_the_pair_is_trained_in_place_and_left_as_usual() -> None:
    gan = pair()
    assert trained(gan) is gan
    assert not any(module.training for module in gan.modules())
    assert all(p.is_contiguous() and p.grad is None for p in gan.parameters())
    assert all(p.requires_grad for p in gan.generator.parameters())
    assert laws.differs(gan, pair())


def test_the_layout_changes_nothing_but_rounding() -> None:
    one, two = (trained(channels_last=last).state_dict() for last in (True, False))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-2, atol=1e-4, msg=name)


@pytest.mark.parametrize(("steps", "d_steps"), [(0, 1), (4, 1), (3, 2)])
def test_steps_are_counted_and_told(steps: int, d_steps: int) -> None:
    events: list[Any] = []
    recipe = replace(QUICK, steps=steps, d_steps=d_steps)
    trained(recipe=recipe, tell=events.append)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event[:2] for event in progress] == [(step, steps) for step in range(1, steps + 1)]
    assert all(math.isfinite(event.loss) for event in progress)
    assert [event for event in events if isinstance(event, Note)] == [
        Note("generator_steps", steps),
        Note("discriminator_steps", steps * d_steps),
    ]


def test_long_trainings_tell_a_hundred_times() -> None:
    events: list[Any] = []
    recipe = Adversarial(steps=200, batch_size=2)
    fit_gan(plain_pair(), DATA, recipe, replace(RUN, tell=events.append))
    told = [event.done for event in events if isinstance(event, Progress)]
    assert told == [*range(2, 201, 2)]


def test_a_pair_learns_what_pictures_are_like() -> None:
    """After two seconds the mean generated image is nearer to the mean real one."""
    recipe = Adversarial(steps=80, batch_size=32, lr=2e-3, average=0.9)
    gan, data = pair(width=8), pictures(200)

    def away(gan: GAN) -> float:
        with torch.no_grad():
            made = copy.deepcopy(gan).eval()(gan.latents(200, 9))
        return float((made.mean(0) - data.inputs.mean(0)).square().mean())

    before = away(gan)
    assert away(fit_gan(gan, data, recipe, RUN)) < 0.2 * before


@pytest.mark.parametrize("n", [2, 3, 17])
def test_few_images_suffice(n: int) -> None:
    gan = fit_gan(pair(), pictures(n), replace(QUICK, steps=2), RUN)
    assert all(bool(p.isfinite().all()) for p in gan.parameters())


def test_a_single_image_does_not() -> None:
    with pytest.raises(ValueError, match="on a single image: BatchNorm needs two"):
        fit_gan(pair(), pictures(1), QUICK, RUN)


def test_a_recipe_can_be_called_on_a_gan_alone() -> None:
    assert_same_gan(QUICK(pair(), DATA, RUN), trained())  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"A GAN is needed, not Linear: put generator and discr"):
        QUICK(nn.Linear(2, 2), DATA, RUN)
    with pytest.raises(TypeError, match=r"A GAN is needed, not Linear: put generator and discr"):
        fit_gan(nn.Linear(2, 2), DATA, QUICK, RUN)


# --- Batches without end ------------------------------------------------------------------------


def positions(batches: Iterator[tuple[Tensor, Tensor]], count: int) -> list[list[int]]:
    return [images[:, 0, 0, 0].int().tolist() for images, _ in islice(batches, count)]


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7])
def test_endless_goes_through_all_again_and_again(start: int) -> None:
    places = torch.arange(23.0).view(-1, 1, 1, 1)
    data = Arrays(places, torch.arange(23))
    all_ = positions(endless(data, 8, RUN), 9)
    for pass_ in range(3):
        seen = all_[3 * pass_ : 3 * pass_ + 3]
        assert sorted(chain(*seen)) == list(range(23))
        assert [len(batch) for batch in seen] == [7, 8, 8]
    assert all_[:3] != all_[3:6]
    assert positions(endless(data, 8, RUN, start=start), 9 - start) == all_[start:]
    images, labels = next(endless(data, 8, RUN))
    assert torch.equal(images.flatten().long(), labels)


# --- Going on after a kill ----------------------------------------------------------------------


class Killed(Exception):
    """Stands for the end of the process."""


def killed(step: int) -> Callable[[Progress | Note], None]:
    def tell(event: Progress | Note) -> None:
        if isinstance(event, Progress) and event.done == step:
            raise Killed

    return tell


KINDS: dict[str, tuple[Callable[[], GAN], dict[str, Any]]] = {
    "plain": (pair, {}),
    "conditional": (
        lambda: pair(conditional=True, spectral_norm=True),
        {"d_steps": 2, "augment": ("shift", "cutout"), "loss": "hinge"},
    ),
    "dropout": (lambda: plain_pair(dropout=0.5), {"schedule": "cosine"}),
}


@pytest.mark.parametrize(
    ("kind", "save_every"), [("plain", 1), ("plain", 2), ("conditional", 1), ("dropout", 2)]
)
def test_a_training_goes_on_to_the_same_bits(kind: str, save_every: int, tmp_path: Path) -> None:
    build, settings = KINDS[kind]
    recipe = replace(QUICK, steps=5, save_every=save_every, **settings)
    expected, file = trained(build(), recipe), tmp_path / "state"
    for step in range(1, recipe.steps + 1):
        run = {"resume": file, "tell": killed(step)}
        with laws.random_state(step), pytest.raises(Killed):
            trained(build(), recipe, **run)
        assert file.is_file() == (step > save_every)
        told: list[Any] = []
        with laws.random_state(100), laws.untouched_randomness():
            found = trained(build(), recipe, resume=file, tell=told.append)
        assert_same_gan(found, expected)
        saved = (step - 1) // save_every * save_every
        assert told[0].done == saved + 1
        assert Note("generator_steps", recipe.steps) in told
        assert list(tmp_path.iterdir()) == []


COINS: dict[str, Callable[[], float]] = {
    "torch": lambda: float(torch.rand(())),
    "numpy": lambda: np.random.rand(),  # ruff: ignore[numpy-legacy-random]
    "python": random.random,
}


class Flipping(torch.utils.data.Dataset[Any]):
    """The pictures, each flipped where a coin falls so."""

    def __init__(self, coin: Callable[[], float]) -> None:
        self.coin = coin

    def __len__(self) -> int:
        return len(DATA)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        image = DATA.inputs[place]
        return image.flip(-1) if self.coin() < 0.5 else image, int(DATA.labels[place])


@pytest.mark.parametrize("coin", COINS)
def test_random_transforms_go_on_to_the_same_bits(coin: str, tmp_path: Path) -> None:
    """Also with dropout, which draws in between; passes have four batches, steps two."""
    recipe = replace(QUICK, steps=9, d_steps=2, save_every=3)
    with laws.random_state(0):
        data = loaded(Flipping(COINS[coin]))

    def run(**options: Any) -> GAN:
        return fit_gan(plain_pair(dropout=0.5), data, recipe, replace(RUN, **options))

    expected, file = run(), tmp_path / "state"
    assert laws.differs(expected, trained(plain_pair(dropout=0.5), recipe))
    for step in (2, 4, 6, 8):
        with laws.random_state(step), pytest.raises(Killed):
            run(resume=file, tell=killed(step))
        with laws.random_state(100), laws.untouched_randomness():
            assert_same_gan(run(resume=file), expected)


def test_a_resumed_training_says_what_it_took_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("oblivio.adversarial.fit.time.perf_counter", lambda: float(next(clock)))
    file, told = tmp_path / "state", []
    recipe = replace(QUICK, steps=5, save_every=2)
    interrupted(file, recipe)
    trained(recipe=recipe, resume=file, tell=told.append)
    notes = {one.name: one.value for one in told if isinstance(one, Note)}
    assert notes["seconds_before"] > 0
    assert notes["seconds_judging"] == 0


def interrupted(file: Path, recipe: Adversarial = QUICK, gan: GAN | None = None) -> None:
    with pytest.raises(Killed):
        trained(gan, recipe, resume=file, tell=killed(4))
    assert Path(file).is_file()


def test_a_training_killed_again_and_again_arrives(tmp_path: Path) -> None:
    file, expected = tmp_path / "state", trained()
    for step in range(2, QUICK.steps + 1):
        with pytest.raises(Killed):
            trained(resume=file, tell=killed(step))
    assert_same_gan(trained(resume=file), expected)


def begins_anew(file: Path, **changes: Any) -> object:
    """Whether it does, and what it says of that."""
    told: list[Any] = []
    recipe, gan, data = (
        changes.pop(name, default)
        for name, default in (("recipe", QUICK), ("gan", None), ("data", DATA))
    )
    run = replace(RUN, **{"resume": file, "tell": told.append, **changes})
    found = fit_gan(pair() if gan is None else gan(), data, recipe, run)
    fresh = fit_gan(pair() if gan is None else gan(), data, recipe, replace(run, resume=None))
    assert_same_gan(found, fresh)
    notes = {one.name: one.value for one in told if isinstance(one, Note)}
    anew = next(one for one in told if isinstance(one, Progress)).done == 1
    return anew and notes.get("began_anew", True)


DAMAGED = "the state on disk is damaged"
OTHER = "the state on disk is that of another training"


def weight(whole: bytes) -> bytes:
    """Of the generator's first layer, as it stands in the file."""
    state = torch.load(io.BytesIO(whole[len(MAGIC) + 32 :]), weights_only=True)["gan"]
    return state["generator.start.0.weight"].numpy().tobytes()


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut at once": lambda whole: whole[:5],
    "cut": lambda whole: whole[: len(whole) // 2],
    "no archive": lambda _: MAGIC + b"nothing of the kind",
    "a bit flipped": lambda whole: whole.replace(weight(whole), flipped(weight(whole))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_not_taken_up(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "state"
    interrupted(file)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert begins_anew(file) == DAMAGED
    assert not file.exists()


def test_a_state_of_the_first_format_is_not_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "state"
    content = io.BytesIO()
    torch.save({"fingerprint": "1"}, content)
    file.write_bytes(sha256(content.getvalue()).digest() + content.getvalue())
    assert begins_anew(file) == OTHER


SOMETHING_ELSE = "would be written over .*thing, which is something else: give run.resume another"


@pytest.mark.parametrize("content", [b"my thesis", b"\x89PNG", b"PK" + bytes(100)], ids=str)
def test_what_is_no_state_is_neither_replaced_nor_removed(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "thing"
    file.write_bytes(content)
    gan = pair()
    before = laws.snapshot(gan)
    with pytest.raises(ValueError, match=SOMETHING_ELSE):
        trained(gan, resume=file)
    assert file.read_bytes() == content
    laws.assert_same(laws.snapshot(gan), before)


def test_a_folder_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    with pytest.raises(ValueError, match=SOMETHING_ELSE):
        trained(resume=tmp_path / "thing")


def test_the_folder_of_a_state_is_made(tmp_path: Path) -> None:
    interrupted(tmp_path / "one" / "two" / "state")


def test_a_folder_that_cannot_be_made_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[Any] = []
    with pytest.raises(
        PermissionError, match=r"Cannot write to the folder .*file \(.*\): give run"
    ):
        trained(resume=tmp_path / "file" / "state", tell=told.append)
    assert told == []


def test_a_path_may_be_a_string(tmp_path: Path, unchecked: None) -> None:
    file = tmp_path / "state"
    interrupted(str(file))  # pyright: ignore[reportArgumentType]


OTHERS: dict[str, dict[str, Any]] = {
    "recipe": {"recipe": replace(QUICK, lr=2e-3)},
    "seed": {"seed": 6},
    "weights": {"gan": lambda: pair(latent=7)},
    "ids": {"data": replace(DATA, ids=DATA.ids + 1)},
    "labels": {"data": replace(DATA, labels=DATA.labels.flip(0))},
    "images": {"data": replace(DATA, inputs=-DATA.inputs)},
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_state_of_another_training_is_not_taken_up(other: str, tmp_path: Path) -> None:
    file = tmp_path / "state"
    interrupted(file)
    assert begins_anew(file, **OTHERS[other]) == OTHER


def test_its_own_state_is_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "state"
    interrupted(file)
    assert not begins_anew(file)


# --- The best pair ------------------------------------------------------------------------------


def graded(*grades: float) -> tuple[Callable[[GAN], float], list[dict[str, Tensor]]]:
    """A judge that gives these grades in turn, and what it saw."""
    given, seen = iter(grades), []

    def quality(gan: GAN) -> float:
        seen.append(copy.deepcopy(gan.state_dict()))
        return next(given)

    return quality, seen


@pytest.mark.parametrize(
    ("grades", "best"),
    [((3.0, 1.0, 2.0), 1), ((1.0, 1.0, 2.0), 0), ((3.0, 2.0, 1.0), 2), ((math.inf, 2.0, 3.0), 1)],
    ids=str,
)
def test_the_best_pair_is_kept(grades: tuple[float, ...], best: int) -> None:
    quality, seen = graded(*grades)
    notes: list[Any] = []
    recipe, run = replace(QUICK, check_every=2), replace(RUN, tell=notes.append)
    found = fit_gan(pair(), DATA, recipe, run, quality=quality)
    laws.assert_same_state(found.state_dict(), seen[best])
    assert Note("best_step", 2 * best + 2) in notes
    assert Note("best_quality", grades[best]) in notes
    assert Note("generator_steps", 6) in notes


@pytest.mark.parametrize(
    ("check_every", "grades"), [(0, ()), (4, (math.inf,)), (7, ())], ids=["off", "inf", "late"]
)
def test_the_last_pair_is_kept_where_none_is_judged(
    check_every: int, grades: tuple[float, ...]
) -> None:
    quality, _ = graded(*grades)
    found = fit_gan(pair(), DATA, replace(QUICK, check_every=check_every), RUN, quality=quality)
    assert_same_gan(found, trained())


def test_the_best_pair_survives_a_kill(tmp_path: Path) -> None:
    recipe, file = replace(QUICK, check_every=2), tmp_path / "state"
    run = replace(RUN, resume=file, tell=killed(5))
    with pytest.raises(Killed):
        fit_gan(pair(), DATA, recipe, run, quality=graded(1.0, 2.0)[0])
    quality, seen = graded(1.0, 2.0, 3.0)
    expected = fit_gan(pair(), DATA, recipe, RUN, quality=quality)
    laws.assert_same_state(expected.state_dict(), seen[0])
    run = replace(RUN, resume=file)
    assert_same_gan(fit_gan(pair(), DATA, recipe, run, quality=graded(3.0)[0]), expected)


def test_a_quality_that_is_no_number_is_told() -> None:
    with pytest.raises(
        FloatingPointError, match=r"^The quality is nan after step 4 of 6: lower the learning rate"
    ):
        fit_gan(pair(), DATA, replace(QUICK, check_every=2), RUN, quality=graded(1.0, math.nan)[0])


def test_a_quality_of_whatever_type_survives_a_kill(tmp_path: Path) -> None:
    file, told = tmp_path / "state", []
    recipe, best = replace(QUICK, check_every=2), lambda _: np.float64(1)
    with pytest.raises(Killed):
        fit_gan(pair(), DATA, recipe, replace(RUN, resume=file, tell=killed(5)), quality=best)
    fit_gan(pair(), DATA, recipe, replace(RUN, resume=file, tell=told.append), quality=best)
    assert told[0].done == 5


def test_judging_changes_no_mode() -> None:
    """Batch normalisation in eval mode would learn no running statistics."""

    def quality(gan: GAN) -> float:
        gan.eval() if gan.generator.training else gan.train()
        return math.inf

    found = fit_gan(pair(), DATA, replace(QUICK, check_every=1), RUN, quality=quality)
    assert_same_gan(found, trained())


# --- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"steps": -1}, "steps = -1 must be 0 or more"),
        ({"batch_size": 1}, "batch_size = 1 must be 2 or more"),
        ({"lr": 0.0}, "lr = 0.0 must be above 0"),
        ({"lr": math.nan}, "lr = nan must be above 0"),
        ({"lr_discriminator": 0.0}, "lr_discriminator = 0.0 must be above 0"),
        ({"lr_discriminator": -1.0}, "lr_discriminator = -1.0 must be above 0"),
        ({"betas": (0.5, 1.0)}, r"betas = \(0.5, 1.0\) must be two numbers from 0 to below 1"),
        ({"betas": (-0.1, 0.9)}, "betas = .* must be two numbers"),
        ({"betas": (0.5,)}, "betas = .* must be two numbers"),
        ({"d_steps": 0}, "d_steps = 0 must be 1 or more"),
        ({"average": 1.0}, "average = 1.0 must be from 0 to below 1"),
        ({"average": -0.5}, "average = -0.5 must be from 0 to below 1"),
        ({"check_every": -1}, "check_every = -1 must be 0 or more"),
        ({"save_every": 0}, "save_every = 0 must be 1 or more"),
        ({"steps": 5.5}, "steps = 5.5 must be a whole number, 0 or more"),
        ({"steps": True}, "steps = True must be a whole number, 0 or more"),
        ({"steps": "5"}, "steps = '5' must be a whole number, 0 or more"),
        ({"batch_size": 2.5}, "batch_size = 2.5 must be a whole number, 2 or more"),
        ({"d_steps": 1.5}, "d_steps = 1.5 must be a whole number, 1 or more"),
        ({"check_every": 0.5}, "check_every = 0.5 must be a whole number, 0 or more"),
        ({"save_every": math.inf}, "save_every = inf must be a whole number, 1 or more"),
        ({"loss": "hing"}, "hing.*Did you mean hinge"),
        ({"schedule": "cosin"}, "cosin.*Did you mean cosine"),
        ({"augment": "shift"}, "augment = 'shift' must be a list of names"),
        ({"augment": ("flip",)}, "flip.*brightness"),
        ({"augment": ("shift", "cutuot")}, "cutuot.*Did you mean cutout"),
    ],
    ids=str,
)
def test_a_recipe_refuses_what_makes_no_sense(
    settings: dict[str, Any], match: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=match):
        Adversarial(**settings)


@pytest.mark.parametrize(
    ("lr", "steps", "match"),
    [
        (
            1e30,
            40,
            r"The discriminator's loss is (nan|inf) after step \d+ of 40: the learning rate "
            r"1e\+30 is too high, or the images are not in \[-1, 1\]\.$",
        ),
        (
            1e38,
            1,
            r"The weight [a-z.\d_]+ is no longer finite after step 1 of 1: the learning rate "
            r"1e\+38 is too high",
        ),
    ],
    ids=["on the way", "in its last step"],
)
def test_a_diverging_training_says_so(lr: float, steps: int, match: str) -> None:
    with pytest.raises(FloatingPointError, match=match):
        trained(recipe=replace(QUICK, lr=lr, steps=steps))


def test_what_was_infinite_before_may_stay_so() -> None:
    gan = plain_pair()
    gan.discriminator.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    trained(gan)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_other_precisions_are_refused(precision: str) -> None:
    with pytest.raises(ValueError, match=f"precision 32-true or bf16-mixed, not {precision}"):
        fit_gan(pair(), DATA, QUICK, Run.on("cpu", precision=precision))


def test_several_processes_are_refused() -> None:
    class Two:
        world_size = 2
        _precision = RUN.fabric._precision
        device = RUN.device

    run = copy.copy(RUN)
    object.__setattr__(run, "fabric", Two())
    with pytest.raises(ValueError, match="by one process, not by 2: leave out devices"):
        Duel(pair(), QUICK, run)


def test_images_that_do_not_fit_are_refused_before_the_first_step() -> None:
    bright = replace(DATA, inputs=(DATA.inputs + 1) / 2)
    gan = pair()
    before = laws.snapshot(gan)
    with pytest.raises(ValueError, match=r"^The training set's images must be in \[-1, 1\]"):
        fit_gan(gan, bright, QUICK, RUN)
    laws.assert_same(laws.snapshot(gan), before)


# --- Half precision, and another device ---------------------------------------------------------


def test_bf16_trains_weights_in_single_precision() -> None:
    run = Run.on("cpu", seed=5, precision="bf16-mixed")
    one, two = (fit_gan(pair(conditional=True), DATA, QUICK, run) for _ in range(2))
    assert_same_gan(one, two)
    assert all(p.dtype == torch.float32 for p in one.parameters())
    assert laws.differs(one, trained(pair(conditional=True)))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_trains_to_the_same_bits_each_time(
    kind: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    build, settings = KINDS[kind]
    run = Run.on("cuda", seed=5, precision=precision)
    recipe = replace(QUICK, **settings)
    expected = fit_gan(build(), DATA, recipe, run)
    assert next(expected.parameters()).is_cuda
    assert_same_gan(fit_gan(build(), DATA, recipe, run), expected)
    resumed = replace(run, resume=tmp_path / "state", tell=killed(4))
    with pytest.raises(Killed):
        fit_gan(build(), DATA, recipe, resumed)
    resumed = replace(resumed, tell=run.tell)
    assert_same_gan(fit_gan(build(), DATA, recipe, resumed), expected)


@pytest.mark.gpu
def test_a_gpu_trains_as_the_cpu_does() -> None:
    recipe = replace(QUICK, steps=3)
    there = fit_gan(plain_pair(), DATA, recipe, Run.on("cuda", seed=5, precision="32-true"))
    here = trained(plain_pair(), recipe).state_dict()
    for name, value in there.cpu().state_dict().items():
        torch.testing.assert_close(value, here[name], rtol=1e-3, atol=1e-4, msg=name)
