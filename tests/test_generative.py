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
from torch.nn.utils import spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

import laws
from gan_worlds import CLASSES, SHAPE, pictures
from oblivio.adversarial import Adversarial, fit_gan
from oblivio.core import Part, Run, Split, unlearn
from oblivio.data.arrays import Arrays
from oblivio.data.dataset import loaded
from oblivio.gan.fine_tune import FineTune as FineTuneGan
from oblivio.generative import GAN, check_images, check_pair, generate, read_logits, scores
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
    assert logits.tolist() == pytest.approx(
        [-100 * math.log(2), math.log(2**24 - 1), 0], rel=1e-6, abs=1e-6
    )
    (slope,) = torch.autograd.grad(logits[2], p)
    assert float(slope[2]) == pytest.approx(4)


def test_probabilities_near_0_and_1_are_told_apart() -> None:
    p = torch.cat([torch.logspace(-30, -1, 40), 1 - 2.0 ** -torch.arange(1, 25)])
    exact, p = p.double(), p.requires_grad_()
    found = read_logits(p, len(p), gives="probabilities")
    torch.testing.assert_close(found.double(), exact.log() - (-exact).log1p())
    (slope,) = torch.autograd.grad(found.sum(), p)
    torch.testing.assert_close(slope.double(), 1 / (exact * (1 - exact)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("logit", [-200.0, -87.0, -69.0, 16.0, 200.0])
def test_a_sure_sigmoid_has_a_finite_gradient(logit: float) -> None:
    sure = torch.full((2,), logit, requires_grad=True)
    loss = 1e3 * (read_logits(sure.sigmoid(), 2, gives="probabilities") - 1).square().sum()
    assert bool(torch.autograd.grad(loss, sure)[0].isfinite().all())


UNREADABLE: list[tuple[Any, dict[str, Any], str]] = [
    (
        {"a": L, "b": L},
        {},
        r"returns a dict with 'a', 'b': name the key of its logits, GAN\(…, read=…\)\.$",
    ),
    ({"a": L}, {"read": "b"}, r"returns a dict with 'a' but no 'b': name the key"),
    ({}, {}, r"returns a dict with nothing: name the key"),
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


def test_pytorchs_averaged_model_is_an_average() -> None:
    makes = generator()
    around = AveragedModel(makes)
    gan = user_pair(makes, average=around)
    assert gan.average is around.module
    fit_gan(gan, pictures(40), Adversarial(steps=2, batch_size=16), RUN)


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Unflatten(1, SHAPE))


def test_an_average_that_is_not_like_the_generator_is_refused() -> None:
    deeper = nn.Sequential(*linear()[:1], nn.Linear(64, 64), *linear()[1:])
    for average, match in (
        (nn.Sequential(nn.Linear(5, 64)), r"its '0\.weight' is \(64, 5\) and .*'s \(64, 4\)\.$"),
        (nn.Sequential(nn.Linear(4, 64, bias=False)), r"its '0\.bias' is missing and .* \(64,\)"),
        (deeper, r"its '1\.weight' is \(64, 64\) and the generator's missing\.$"),
    ):
        with pytest.raises(ValueError, match=match):
            GAN(linear(), critic(), 4, average=average)
        assert all(p.requires_grad for p in average.parameters())


def test_an_average_that_shares_a_weight_is_refused() -> None:
    makes, average = linear(), linear()
    average[0].bias = makes[0].bias
    with pytest.raises(ValueError, match=r"of its own, but its '0\.bias' is a weight of the gene"):
        GAN(makes, critic(), 4, average=average)
    average = linear()
    with pytest.raises(ValueError, match=r"'0\.weight' is a weight of the discriminator too"):
        GAN(linear(), nn.Sequential(average, critic()), 4, average=average)
    assert all(p.requires_grad for p in makes.parameters())


def test_players_share_no_weight_that_learns() -> None:
    both = nn.Linear(64, 64)
    makes = nn.Sequential(nn.Linear(4, 64), both, nn.Tanh(), nn.Unflatten(1, SHAPE))
    tells = nn.Sequential(nn.Flatten(), both, nn.Linear(64, 1))
    with pytest.raises(ValueError, match=r"generator's '1\.weight' is a weight of the discrim"):
        GAN(makes, tells, 4)
    both.requires_grad_(False)
    GAN(makes, tells, 4).check_fit(parts())
    same = nn.Tanh()
    GAN(nn.Sequential(linear(), same), nn.Sequential(nn.Flatten(), same, nn.Linear(64, 1)), 4)


class Tied(nn.Module):
    """A generator whose second layer is its first."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.one = nn.Linear(4, 64), nn.Linear(64, 64)
        self.norm = nn.BatchNorm1d(64)
        self.two, self.again = self.one, self.norm

    def forward(self, z: Tensor) -> Tensor:
        return self.again(self.two(self.norm(self.one(self.start(z))))).tanh().view(-1, *SHAPE)


def test_the_average_of_tied_weights_decays_once() -> None:
    gan = user_pair(Tied())
    with torch.no_grad():
        for value in gan.generator.state_dict(keep_vars=True).values():
            value.add_(1)
    before = {name: value.clone() for name, value in gan.average.state_dict().items()}
    now = gan.generator.state_dict()
    gan.follow(0.9)
    for name, value in gan.average.state_dict().items():
        old, new = before[name].double(), now[name].double()
        wanted = 0.9 * old + 0.1 * new if value.is_floating_point() else new
        torch.testing.assert_close(value.double(), wanted, rtol=1e-6, atol=1e-6)


class Keeps(nn.Module):
    """A discriminator that keeps what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(64, 8), nn.Linear(8, 1)
        self.features: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.layer(x.flatten(1))
        self.features = [self.last]
        return self.head(self.last)


HISTORY: dict[str, Callable[[], tuple[nn.Module, nn.Module]]] = {
    "spectral norm": lambda: (
        nn.Sequential(spectral_norm(nn.Linear(4, 64)), *linear()[1:]),
        nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(64, 1))),
    ),
    "weight norm": lambda: (
        nn.Sequential(weight_norm(nn.Linear(4, 64)), *linear()[1:]),
        nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(64, 1))),
    ),
    "features": lambda: (linear(), Keeps()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("kind", HISTORY)
def test_networks_that_keep_what_they_computed_can_be_copied(kind: str, used: bool) -> None:
    makes, tells = HISTORY[kind]()
    if used:
        tells(makes(torch.randn(3, 4)))
    kept = [(part, dict(vars(part))) for one in (makes, tells) for part in one.modules()]
    gan = GAN(makes, tells, 4)
    twin = copy.deepcopy(gan)
    for part, before in kept:
        assert all(vars(part)[name] is value for name, value in before.items())
    laws.assert_same(laws.snapshot(twin), laws.snapshot(gan))
    assert twin.generator is not makes
    fit_gan(gan, pictures(40), Adversarial(steps=2, batch_size=16), RUN)
    outcome = unlearn(Shake(), gan, parts(), RUN)
    assert isinstance(outcome.model, GAN)
    assert generate(outcome.model, gan.latents(2, 0)).shape == (2, *SHAPE)


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
        ({"latent": True}, ValueError, "latent = True must be a whole number"),
        (
            {"read": True},
            TypeError,
            r"read = True must be the key of D's logits \(text\), their pl",
        ),
        ({"read": 0.0}, TypeError, r"read = 0\.0 must be the key of D's logits"),
        ({"gives": ["logits"]}, ValueError, r"gives = \['logits'\] must be 'logits' or"),
        ({"average": nn.Tanh}, TypeError, "average must be an nn.Module that is built, not <"),
        (
            {"generator": nn.LazyLinear(64)},
            ValueError,
            "^The generator has lazy layers whose size is still open: run a batch through it first",
        ),
        (
            {"discriminator": nn.LazyBatchNorm1d(affine=False)},
            ValueError,
            "^The discriminator has lazy layers",
        ),
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


class Noisy(nn.Module):
    """Adds noise in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


def test_networks_that_draw_give_the_same_and_draw_nothing_of_the_callers() -> None:
    gan = user_pair(nn.Sequential(generator(), Noisy()), nn.Sequential(Noisy(), critic()))
    z, x = gan.latents(5, 0), pictures(5).inputs
    with laws.untouched_randomness():
        images, logits = generate(gan, z), scores(gan, x)
    with laws.random_state(7):
        assert torch.equal(generate(gan, z), images)
        assert torch.equal(scores(gan, x), logits)
    assert not torch.equal(*generate(gan, z[:1].expand(2, -1)))  # it did draw


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
        r"^The forget set's images .* 0 to 254 \(first at id 184\)\. For pixels in .* for bytes A",
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
    "generator that is frozen": (
        lambda: user_pair(generator().requires_grad_(False)),
        usual,
        r"^The generator has no weights that are not frozen, so it cannot learn: unfreeze it with "
        r"gan\.generator\.requires_grad_\(True\)\.$",
    ),
    "discriminator that is frozen": (
        lambda: user_pair(tells=critic().requires_grad_(False)),
        usual,
        "^The discriminator has no weights that are not frozen",
    ),
    "generator without weights": (
        lambda: GAN(nn.Sequential(nn.Tanh(), nn.Unflatten(1, SHAPE)), critic(), 64),
        usual,
        "^The generator has no weights, so it cannot learn: give it some",
    ),
    "generator without gradients": (
        lambda: user_pair(nn.Sequential(generator(), Cut())),
        usual,
        "^No weight of the generator gets a gradient from what the discriminator says",
    ),
    "discriminator without gradients": (
        lambda: user_pair(tells=critic(lambda x: x.detach())),
        usual,
        "^No weight of the generator gets a gradient",
    ),
    "discriminator without gradients for its weights": (
        lambda: user_pair(tells=Kept()),
        usual,
        "^No weight of the discriminator gets a gradient from what the discriminator says",
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


class Cut(nn.Module):
    """Lets no gradient through."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Kept(nn.Module):
    """A discriminator that makes no use of its weight, as of one that is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.detach()


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


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_nothing_is_learned_where_gradients_are_off(off: Callable[[], Any]) -> None:
    gan = user_pair()
    with off(), pytest.raises(ValueError, match=r"cannot learn under torch\.no_grad\(\) or torch"):
        unlearn(Shake(), gan, parts(), RUN)


@pytest.mark.parametrize("value", [3.0, -1.1, math.nan, -math.inf])
def test_all_images_in_memory_are_looked_at(value: float) -> None:
    data = pictures(1300)
    data.inputs[1200, 0, 3, 3] = value
    data.inputs[1250] = value
    with pytest.raises(ValueError, match=rf"^The training .*\(first at id {int(data.ids[1200])}\)"):
        check_pair(user_pair(), {"training": data})


class Read(Dataset[Any]):
    """Counts what is read of it, and draws."""

    def __init__(self) -> None:
        self.data, self.reads = pictures(200), 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        self.reads += 1
        flipped = float(torch.rand(())) < 0.5
        image = self.data.inputs[place]
        return image.flip(-1) if flipped else image, int(self.data.labels[place])


def test_of_a_dataset_a_few_images_are_looked_at_and_none_of_the_callers_chance() -> None:
    dataset = Read()
    data = loaded(dataset)
    dataset.reads = 0
    with laws.untouched_randomness():
        check_pair(user_pair(), {"training": data})
    assert dataset.reads == 64
    dataset.data.inputs[63] = 3
    with pytest.raises(ValueError, match=r"from -1 to 3 \(first at id 63\)"):
        check_pair(user_pair(), {"training": data})


def test_a_few_bright_images_can_be_forgotten() -> None:
    data = pictures(60)
    data.inputs[:12].abs_()
    split = parts(data)
    user_pair().check_fit(split)
    with pytest.raises(ValueError, match=r"^The held-out set's images .*looks like \[0, 1\]"):
        check_pair(user_pair(), {"held-out": split.forget})


def test_a_set_without_images_is_no_matter() -> None:
    check_pair(user_pair(), {"held-out": pictures(60).take(torch.arange(0))})


HONEST: dict[str, Callable[[], GAN]] = {
    "untrained": lambda: DCGAN(width=4, latent=4)(SHAPE, CLASSES),
    "constant images": lambda: user_pair(nn.Sequential(generator(), Scale(0))),
    "constant logits": lambda: user_pair(tells=nn.Sequential(critic(), Scale(0))),
    "logits around a half": lambda: user_pair(tells=critic(lambda x: 0.5 + 0.2 * x)),
    "a sigmoid, said": lambda: user_pair(tells=critic(torch.sigmoid), gives="probabilities"),
    "bounded logits": lambda: user_pair(tells=critic(torch.tanh)),
    "no end, but small": lambda: user_pair(nn.Sequential(generator(end=nn.Identity()), Scale(0.5))),
    "no gradients in eval mode": lambda: user_pair(nn.Sequential(generator(), Frugal())),
    "a part frozen": lambda: user_pair(
        nn.Sequential(nn.Linear(4, 4).requires_grad_(False), linear())
    ),
    "a sigmoid stretched": lambda: user_pair(generator(end=Stretched())),
}


class Frugal(nn.Module):
    """Has a history in training alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else x.detach()


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
