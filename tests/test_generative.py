"""A GAN out of anybody's two players: logits are found, and what does not fit is said."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import laws
from gan_worlds import CLASSES, SHAPE, pictures
from oblivio.adversarial import Adversarial, fit_gan
from oblivio.core import Part, Run, Split, unlearn
from oblivio.data.arrays import Arrays
from oblivio.gan.fine_tune import FineTune as FineTuneGan
from oblivio.generative import GAN, check_images, generate, read_logits, scores
from oblivio.methods.fine_tune import FineTune
from oblivio.models.dcgan import DCGAN
from oblivio.train import Recipe

RUN = Run.on("cpu", seed=3)


class Gives(nn.Module):
    """A user's discriminator, or generator, which returns what this function makes of a layer."""

    def __init__(self, features: int, out: int, then: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.then = nn.Linear(features, out), then

    def forward(self, x: Tensor) -> Any:
        return self.then(self.layer(x.flatten(1)))


class Told(nn.Module):
    """A conditional player: what it makes of its input and of the label's embedding, added up."""

    def __init__(self, player: nn.Module, features: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.player, self.label = player, nn.Embedding(classes, features)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.player(x + self.label(labels).view(x.shape))


def generator(shape: tuple[int, ...] = SHAPE, end: nn.Module | None = None) -> nn.Module:
    layers = nn.Linear(4, math.prod(shape)), end or nn.Tanh(), nn.Unflatten(1, shape)
    return nn.Sequential(*layers)


def critic(then: Callable[[Tensor], Any] = lambda logits: logits, out: int = 1) -> nn.Module:
    return Gives(math.prod(SHAPE), out, then)


def user_pair(
    makes: nn.Module | None = None, tells: nn.Module | None = None, **options: Any
) -> GAN:
    with laws.random_state(0):
        return GAN(makes or generator(), tells or critic(), 4, **options)


def told_pair(classes: int = CLASSES) -> GAN:
    with laws.random_state(0):
        tells = Told(critic(lambda logits: logits[:, 0]), math.prod(SHAPE), classes)
        return GAN(Told(generator(), 4, classes), tells, 4, classes=classes)


def parts(data: Arrays | None = None) -> Split:
    data = pictures(60) if data is None else data
    return Split.of(data, data.ids[:12])


# --- Whatever a discriminator returns -----------------------------------------------------------

L = torch.tensor([0.5, -2.0, 3.0])

READABLE: dict[str, tuple[Any, dict[str, Any], Tensor]] = {
    "(n,)": (L, {}, L),
    "(n, 1)": (L[:, None], {}, L),
    "(n, 1, 1, 1)": (L.view(3, 1, 1, 1), {}, L),
    "patches": (torch.arange(12.0).view(3, 1, 2, 2), {}, torch.tensor([1.5, 5.5, 9.5])),
    "probabilities": (L.sigmoid()[:, None], {"gives": "probabilities"}, L),
    "by a usual name": ({"features": L + 1, "validity": L}, {}, L),
    "by the only name": ({"anything": L}, {}, L),
    "by a name given": ({"logits": L + 1, "real": L}, {"read": "real"}, L),
    "by a key that is a number": ({7: L, 8: L + 1}, {"read": 7}, L),
    "the first of a tuple": ((L, L + 1), {}, L),
    "the second of a tuple": ((L + 1, L), {"read": 1}, L),
    "the last of a list": ([L + 1, L + 2, L[:, None]], {"read": -1}, L),
    "in half precision": (L.bfloat16(), {}, L.bfloat16()),
}


@pytest.mark.parametrize("case", READABLE)
def test_logits_are_found(case: str) -> None:
    output, how, expected = READABLE[case]
    found = read_logits(output, 3, **how)
    assert found.shape == (3,)
    torch.testing.assert_close(found, expected)


def test_sure_probabilities_have_finite_logits_with_a_gradient() -> None:
    p = torch.tensor([0.0, 1.0, 0.5], requires_grad=True)
    logits = read_logits(p, 3, gives="probabilities")
    assert logits.tolist() == pytest.approx([-math.log(1e6), math.log(1e6), 0], rel=0.02, abs=1e-6)
    (slope,) = torch.autograd.grad(logits[2], p)
    assert float(slope[2]) == pytest.approx(4)


UNREADABLE: list[tuple[Any, dict[str, Any], str]] = [
    (
        {"a": L, "b": L},
        {},
        r"returns a dict with 'a', 'b': name the key of its logits, GAN\(…, read=…\)\.$",
    ),
    ({"a": L}, {"read": "b"}, r"returns a dict with 'a' but no 'b': name the key"),
    ((L, L), {"read": 2}, r"returns 2 things, of which 2 is none: give the place"),
    ((L, L), {"read": "a"}, r"returns 2 things, of which 'a' is none"),
    ((), {}, r"returns 0 things, of which 0 is none"),
    (None, {}, r"must be a floating-point tensor, not NoneType: say with GAN\(…, read=…\)"),
    (L.long(), {}, r"must be a floating-point tensor, not torch.int64"),
    (({"a": L}, L), {}, r"must be a floating-point tensor, not dict"),
    (L.sum(), {}, r"one number per image, shape \(3,\) or \(3, 1\); it gave \(\)\.$"),
    (L[:2], {}, r"one number per image, .* it gave \(2,\)"),
    (L.view(1, 3), {}, r"one number per image, .* it gave \(1, 3\)"),
    (torch.zeros(3, 2), {}, r"one number per image, .* it gave \(3, 2\)"),
    (L, {"gives": "probabilities"}, r"numbers outside \[0, 1\]: leave out gives="),
]


@pytest.mark.parametrize(("output", "how", "match"), UNREADABLE, ids=str)
def test_what_holds_no_logits_is_refused(output: Any, how: dict[str, Any], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        read_logits(output, 3, **how)


DISCRIMINATORS: dict[str, tuple[nn.Module, dict[str, Any]]] = {
    "flat": (critic(lambda x: x[:, 0]), {}),
    "sigmoid": (critic(torch.sigmoid), {"gives": "probabilities"}),
    "patches": (nn.Conv2d(1, 1, 3), {}),
    "with features": (critic(lambda x: (x[:, :1], x), out=5), {}),
    "features first": (critic(lambda x: {"h": x, "d": x[:, 0]}, out=5), {"read": "d"}),
}


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_a_pair_of_ones_own_trains_and_scores(kind: str) -> None:
    tells, how = DISCRIMINATORS[kind]
    gan = user_pair(tells=copy.deepcopy(tells), **how)
    before = copy.deepcopy(gan)
    fit_gan(gan, pictures(40), Adversarial(steps=3, batch_size=16), RUN)
    assert laws.differs(gan.generator, before.generator)
    assert laws.differs(gan.discriminator, before.discriminator)
    found = scores(gan, pictures(9).inputs)
    assert found.shape == (9,)
    assert found.dtype == torch.float32


# --- The module ---------------------------------------------------------------------------------


def test_samples_come_from_the_average_and_training_from_the_generator() -> None:
    gan = user_pair()
    z = gan.latents(3, 0)
    assert torch.equal(gan(z), gan.make(z))
    with torch.no_grad():
        gan.generator.get_parameter("0.bias").add_(1)
    assert torch.equal(gan(z), gan.average(z))
    assert torch.equal(gan.make(z), gan.generator(z))
    assert not torch.equal(gan(z), gan.make(z))
    assert not any(p.requires_grad for p in gan.average.parameters())


def test_an_average_of_ones_own_is_kept() -> None:
    average = generator()
    assert user_pair(average=average).average is average


def test_latents_and_labels_come_from_their_seed_alone() -> None:
    gan = told_pair()
    with laws.untouched_randomness():
        z, labels = gan.latents(3000, 7), gan.labels(3000, 7)
    assert torch.equal(z, gan.latents(3000, 7))
    assert not torch.equal(z, gan.latents(3000, 8))
    assert z.shape == (3000, 4)
    assert float(z.mean()) == pytest.approx(0, abs=0.05)
    assert float(z.std()) == pytest.approx(1, abs=0.05)
    assert labels is not None
    assert labels.bincount().tolist() == pytest.approx([1000] * CLASSES, abs=120)
    assert user_pair().labels(3, 7) is None


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"latent": 0}, ValueError, "latent = 0 must be a whole number, 1 or more"),
        ({"latent": "4"}, ValueError, "latent = '4' must be a whole number"),
        ({"classes": 0}, ValueError, "classes = 0 must be a whole number, 1 or more"),
        ({"gives": "odds"}, ValueError, "gives = 'odds' must be 'logits' or 'probabilities'"),
        ({"generator": nn.Tanh}, TypeError, r"generator must be an nn.Module that is built, not <"),
        ({"discriminator": len}, TypeError, "discriminator must be an nn.Module that is built"),
    ],
    ids=str,
)
def test_a_pair_refuses_what_makes_no_sense(
    arguments: dict[str, Any], error: type[Exception], match: str, unchecked: None
) -> None:
    with pytest.raises(error, match=match):
        GAN(**{"generator": generator(), "discriminator": critic(), "latent": 4, **arguments})


def test_the_average_is_not_the_generator_itself() -> None:
    one = generator()
    with pytest.raises(ValueError, match="The average must be a module of its own"):
        GAN(one, critic(), 4, average=one)
    assert all(p.requires_grad for p in one.parameters())


@pytest.mark.parametrize(
    "act",
    [
        lambda gan, z, _: gan(z),
        lambda gan, z, _: gan.make(z),
        lambda gan, _, x: gan.score(x),
        lambda gan, z, _: generate(gan, z),
        lambda gan, _, x: scores(gan, x),
    ],
)
def test_a_conditional_pair_needs_labels(act: Callable[[GAN, Tensor, Tensor], Any]) -> None:
    gan = told_pair()
    with pytest.raises(ValueError, match="conditional, so it needs a label from 0 to 2 beside"):
        act(gan, gan.latents(2, 0), pictures(2).inputs)


# --- Images and scores --------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
def test_generating_and_scoring_leave_the_pair_alone(conditional: bool) -> None:
    with laws.random_state(0):
        gan = DCGAN(width=4, latent=4, conditional=conditional, spectral_norm=True)(SHAPE, CLASSES)
    gan.train()
    before = laws.snapshot(gan)
    z, labels = gan.latents(10, 0), gan.labels(10, 1)
    with laws.untouched_randomness():
        images = generate(gan, z, labels)
        logits = scores(gan, images, labels)
    laws.assert_same(laws.snapshot(gan), before)
    for size in (1, 3, 10, 100):
        made = generate(gan, z, labels, batch_size=size)
        torch.testing.assert_close(made, images, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            scores(gan, images, labels, batch_size=size), logits, rtol=1e-5, atol=1e-6
        )
    assert (images.shape, logits.shape) == ((10, *SHAPE), (10,))
    assert images.dtype == logits.dtype == torch.float32
    assert images.is_contiguous()
    assert not images.requires_grad
    assert not logits.requires_grad


def test_labels_reach_both_players() -> None:
    gan = told_pair()
    z, x = gan.latents(CLASSES, 0), pictures(CLASSES).inputs
    labels = torch.arange(CLASSES)
    for one in range(CLASSES):
        rows = slice(one, one + 1)
        made = generate(gan, z, labels, batch_size=2)[rows]
        torch.testing.assert_close(made, gan(z[rows], labels[rows]).detach())
        found = scores(gan, x, labels, batch_size=2)[rows]
        torch.testing.assert_close(found, gan.score(x[rows], labels[rows]).detach())


def test_labels_are_no_matter_to_an_unconditional_pair() -> None:
    gan = user_pair()
    z, labels = gan.latents(4, 0), torch.zeros(4, dtype=torch.int64)
    assert torch.equal(generate(gan, z, labels), generate(gan, z))


# --- What does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (
            torch.zeros(3, 8, 8),
            r"Images must be torch.float32 of shape .*; .* of shape \(3, 8, 8\)",
        ),
        (torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "they are torch.uint8 of shape"),
        (torch.rand(3, 1, 8, 8), r"looks like \[0, 1\]: give 2 \* images - 1, or Arrays\("),
        (255 * torch.rand(3, 1, 8, 8), r"must be in \[-1, 1\], .* For pixels in \[0, 1\] give 2"),
        (torch.linspace(-1.1, 1, 64).view(1, 1, 8, 8), r"they go from -1\.1 to 1\."),
        (torch.full((3, 1, 8, 8), torch.nan), "they go from nan to nan"),
    ],
    ids=["vectors", "bytes", "unit", "large", "beyond", "nan"],
)
def test_images_out_of_range_are_refused(images: Tensor, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_images(images)


def test_images_in_range_are_not() -> None:
    check_images(torch.rand(3, 1, 8, 8) * 2 - 1)
    check_images(torch.linspace(-1, 1, 64).view(1, 1, 8, 8))
    check_images(torch.rand(1, 1, 8, 8))  # a single bright image tells nothing


@dataclass(frozen=True)
class Shake:
    """A user's own method: forgets by noise on the generator."""

    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        assert isinstance(model, GAN)
        with torch.no_grad():
            for p in model.average.parameters():
                p.add_(torch.randn_like(p))
        run.note(generator_steps=0)
        return model.train()


@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
def test_unlearn_takes_a_gan(conditional: bool) -> None:
    gan = told_pair() if conditional else user_pair()
    before = laws.snapshot(gan)
    with laws.untouched_randomness():
        outcome = unlearn(Shake(), gan, parts(), RUN)
    laws.assert_same(laws.snapshot(gan), before)
    assert isinstance(outcome.model, GAN)
    assert laws.differs(outcome.model.average, gan.average)
    assert not laws.differs(outcome.model.generator, gan.generator)
    assert not any(module.training for module in outcome.model.modules())
    assert outcome.notes == {"generator_steps": 0}


def with_images(change: Callable[[Tensor], Tensor]) -> Arrays:
    data = pictures(60)
    return Arrays(change(data.inputs), data.labels, data.ids)


def usual() -> Arrays:
    return pictures(60)


class Twin(nn.Module):
    """A generator that returns images and something else."""

    def forward(self, z: Tensor) -> Any:
        return torch.tanh(z).repeat(1, 16).view(-1, *SHAPE), z


def upsampling() -> nn.Module:
    """As of PyTorch's tutorial: latents are (n, z, 1, 1)."""
    return nn.Sequential(nn.ConvTranspose2d(4, 1, 8), nn.Tanh())


UNFIT: dict[str, tuple[Callable[[], GAN], Callable[[], Arrays], str]] = {
    "in [0, 1]": (
        user_pair,
        lambda: with_images(lambda x: (x + 1) / 2),
        r"^The forget set's images must be in \[-1, 1\], as the generator makes them; they go from "
        r"0 to 1, which looks like \[0, 1\]: give 2 \* images - 1, or Arrays\(…, mean=.*\)\)\.$",
    ),
    "in 0..255": (
        user_pair,
        lambda: with_images(lambda x: (x + 1) * 127),
        r"^The forget set's images .* from 0 to 254\. For pixels in .* for bytes Arrays\(",
    ),
    "bytes": (
        user_pair,
        lambda: with_images(lambda x: ((x + 1) * 127).byte()),
        r"which looks like \[0, 1\]: give 2",
    ),
    "in double precision": (
        user_pair,
        lambda: with_images(lambda x: x.double()),
        r"^The forget set's images must be torch.float32 of shape .* they are torch.float64 of",
    ),
    "weights in double precision": (
        lambda: user_pair().double(),
        lambda: pictures(60),
        r"^A GAN's weights must be torch\.float32, not torch\.float64\.$",
    ),
    "vectors": (
        user_pair,
        lambda: with_images(lambda x: x.flatten(1)),
        r"must be torch.float32 of shape \(n, .*\); they are torch.float32 of shape \(12, 64",
    ),
    "other side": (
        lambda: user_pair(generator((1, 16, 16))),
        usual,
        r"^The generator makes images of shape \(1, 16, 16\), but the forget set's are \(1, 8, 8\)",
    ),
    "colour": (
        user_pair,
        lambda: with_images(lambda x: x.expand(-1, 3, -1, -1).clone()),
        r"makes images of shape \(1, 8, 8\), but the forget set's are \(3, 8, 8\)",
    ),
    "discriminator of another side": (
        lambda: user_pair(tells=Gives(256, 1, lambda x: x)),
        usual,
        r"^The discriminator cannot take images of shape \(12, 1, 8, 8\): .*mat1 and mat2 .*\.$",
    ),
    "other latent": (
        lambda: GAN(generator(), critic(), 5),
        usual,
        r"^The generator cannot take latents of shape \(12, 5\): .*mat1 and mat2 .*4x64\)\.$",
    ),
    "latents as images": (
        lambda: user_pair(upsampling()),
        usual,
        r"latents of shape \(12, 4\): .*; one that takes \(n, 4, 1, 1\) needs "
        r"nn\.Unflatten\(1, \(4, 1, 1\)\) before it\.$",
    ),
    "labels not expected": (
        lambda: user_pair(classes=3),
        usual,
        r"^The generator cannot take latents of shape \(12, 4\) and labels: .*positional argument",
    ),
    "labels expected": (
        lambda: user_pair(Told(generator(), 4)),
        usual,
        r"^The generator cannot take latents of shape \(12, 4\): .*missing 1 .* argument: 'labels'",
    ),
    "too few classes": (
        lambda: told_pair(2),
        usual,
        r"^The forget set has label 2, but the conditional GAN knows 2 classes \(labels 0 to 1\)",
    ),
    "generator without an end": (
        lambda: user_pair(nn.Sequential(generator(end=nn.Identity()), Scale(1e3))),
        usual,
        r"^The generator makes images from -.* to .*, but they must be in \[-1, 1\], .*nn\.Tanh\(",
    ),
    "generator with a sigmoid": (
        lambda: user_pair(generator(end=nn.Sigmoid())),
        usual,
        r"^The generator makes images in \[0, 1\] alone, .* in the place of its sigmoid\.$",
    ),
    "generator that diverged": (
        lambda: user_pair(nn.Sequential(generator(), Scale(math.nan))),
        usual,
        "The generator makes images from nan to nan",
    ),
    "generator of two things": (
        lambda: user_pair(Twin()),
        usual,
        "^The generator must return floating-point images alone, not tuple",
    ),
    "generator of whole numbers": (
        lambda: user_pair(Gives(4, 64, lambda x: x.long().view(-1, *SHAPE))),
        usual,
        "^The generator must return floating-point images alone, not torch.int64",
    ),
    "discriminator with a sigmoid": (
        lambda: user_pair(tells=critic(torch.sigmoid)),
        usual,
        r'in \[0, 1\] alone, so they must be probabilities: say so with GAN\(…, gives="prob',
    ),
    "discriminator with a sigmoid of little": (
        lambda: user_pair(tells=critic(lambda x: torch.sigmoid(0.01 * x))),
        usual,
        r"in \[0, 1\] alone, so they must be probabilities",
    ),
    "discriminator without one": (
        lambda: user_pair(gives="probabilities"),
        usual,
        r'is said to give probabilities, but .* leave out gives="probabilities"\.$',
    ),
    "discriminator of classes": (
        lambda: user_pair(tells=critic(out=2)),
        usual,
        r"must give one number per image, shape \(12,\) or \(12, 1\); it gave \(12, 2\)",
    ),
}


class Scale(nn.Module):
    """Multiplies."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_is_said_in_a_sentence(case: str, unchecked: None) -> None:
    build, data, match = UNFIT[case]
    with pytest.raises((ValueError, TypeError), match=match) as caught:
        unlearn(Shake(), build(), parts(data()), RUN)
    assert "\n" not in str(caught.value)
    training = match.replace("forget set", "training set").replace("12,", "60,")
    with pytest.raises((ValueError, TypeError), match=training):
        fit_gan(build(), data(), Adversarial(steps=1), RUN)


@pytest.mark.parametrize("data", [(torch.zeros(4, *SHAPE), torch.zeros(4)), [1, 2, 3]], ids=type)
def test_data_must_be_made_first(data: Any, unchecked: None) -> None:
    with pytest.raises(TypeError, match=r"The training set must be oblivio\.as_data\(.*, not a "):
        fit_gan(user_pair(), data, Adversarial(steps=1), RUN)


@pytest.mark.parametrize("shape", [(3, *SHAPE), (3, 5), (4,)])
def test_images_are_no_latents(shape: tuple[int, ...], unchecked: None) -> None:
    gan = user_pair()
    for act in (gan, lambda some: generate(gan, some)):
        with pytest.raises(TypeError, match=r"latents of shape \(n, 4\), but was .* oblivio\.gan"):
            act(torch.zeros(shape))


def test_what_is_made_for_classifiers_says_so(unchecked: None) -> None:
    method = FineTune(Recipe(epochs=1))
    with pytest.raises(TypeError, match="what is made for classifiers cannot be used on it"):
        unlearn(method, user_pair(), parts(), RUN)
    with pytest.raises(TypeError, match="A GAN is needed, not Sequential"):
        unlearn(FineTuneGan(), nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), parts(), RUN)


def test_the_retain_set_is_looked_at_too() -> None:
    data = pictures(60)
    data.inputs[data.ids.tolist().index(int(data.ids[30]))] += 5
    with pytest.raises(ValueError, match="The retain set's images must be in"):
        unlearn(Shake(), user_pair(), parts(data), RUN)


HONEST: dict[str, Callable[[], GAN]] = {
    "untrained": lambda: DCGAN(width=4, latent=4)(SHAPE, CLASSES),
    "constant images": lambda: user_pair(nn.Sequential(generator(), Scale(0))),
    "constant logits": lambda: user_pair(tells=nn.Sequential(critic(), Scale(0))),
    "logits around a half": lambda: user_pair(tells=critic(lambda x: 0.5 + 0.2 * x)),
    "a sigmoid, said": lambda: user_pair(tells=critic(torch.sigmoid), gives="probabilities"),
    "bounded logits": lambda: user_pair(tells=critic(torch.tanh)),
    "no end, but small": lambda: user_pair(nn.Sequential(generator(end=nn.Identity()), Scale(0.5))),
    "a sigmoid stretched": lambda: user_pair(generator(end=Stretched())),
}


class Stretched(nn.Module):
    """A sigmoid that goes from −1 to 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(x) - 1


@pytest.mark.parametrize("case", HONEST)
def test_what_fits_is_not_refused(case: str) -> None:
    gan = HONEST[case]()
    before = laws.snapshot(gan)
    with laws.untouched_randomness():
        gan.check_fit(parts())
    laws.assert_same(laws.snapshot(gan), before)
