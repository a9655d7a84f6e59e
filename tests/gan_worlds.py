"""Small worlds for GANs: pictures of three classes, and a case of forgetting that is made once."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from oblivio.adversarial import Adversarial
from oblivio.core import Data, Origin, Run, Split, Trial
from oblivio.data.arrays import Arrays
from oblivio.gan._latents import Located, Search, locate, pool
from oblivio.generative import GAN
from oblivio.judge import Judge
from oblivio.models.dcgan import DCGAN

CLASSES, SHAPE = 3, (1, 8, 8)


def pictures(n: int, *, seed: int = 0, noise: float = 0.3) -> Arrays:
    """Images in [-1, 1]: a bright bar on a dark ground, upright, lying or askew, in some place.

    Every class from 0 on occurs. Ids are not positions.
    """
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    rows, columns = torch.arange(8)[None, :, None], torch.arange(8)[None, None]
    place = torch.randint(2, 6, (n, 1, 1), generator=draw)
    bars = torch.stack(
        [
            (columns - place).abs().expand(n, 8, 8),
            (rows - place).abs().expand(n, 8, 8),
            (rows + columns - 2 * place).abs().expand(n, 8, 8),
        ],
        1,
    )
    bright = (bars[torch.arange(n), labels] <= 1).float()[:, None]
    made = 1.4 * bright - 0.7 + noise * torch.randn(n, *SHAPE, generator=draw)
    return Arrays(made.clamp(-1, 1), labels, 3 * torch.arange(n).flip(0) + 7)


@dataclass(frozen=True)
class GanCase:
    """A GAN that has learned some pictures, a part of which it is to forget."""

    original: GAN
    split: Split
    test: Data
    run: Run

    @property
    def origin(self) -> Origin:
        """How the original came to be."""
        assert self.run.origin is not None
        return self.run.origin

    def trial(self, unlearned: GAN | None = None, **more: object) -> Trial:
        """What a metric sees of it; the original is judged unless another is given."""
        model = self.original if unlearned is None else unlearned
        return Trial(self.original, model, self.split, self.test, 1.5, **more)  # pyright: ignore[reportArgumentType]


def gan_case(
    *, class_wise: bool = True, conditional: bool = False, steps: int = 60, **network: bool
) -> GanCase:
    """A case made once; the GAN is a copy of one's own.

    Args:
        class_wise: Whether class 2 is to be forgotten, or else 24 items of all classes.
        conditional: Whether the GAN is told the class.
        steps: How long the original is trained.
        network: Further settings of the DCGAN.
    """
    made = _gan_case(class_wise, conditional, steps, **network)
    return replace(made, original=copy.deepcopy(made.original))


def gan_origin(*, conditional: bool = False, steps: int = 60, **network: bool) -> Origin:
    """An 8×8 DCGAN and a training of a second."""
    made = DCGAN(width=8, latent=8, conditional=conditional, **network)
    recipe = Adversarial(steps=steps, batch_size=32, lr=2e-3, average=0.9)
    return Origin(lambda: made(SHAPE, CLASSES), recipe, seed=0)


def gan_retrained(*, class_wise: bool = True, conditional: bool = False) -> GAN:
    """What retraining of the case's original on D_r gives; a copy of one's own."""
    return copy.deepcopy(_retrained(class_wise, conditional))


@cache
def _retrained(class_wise: bool, conditional: bool) -> GAN:
    here = _gan_case(class_wise, conditional)
    return cast(GAN, here.origin.make(here.split.retain, here.run))


@cache
def _gan_case(class_wise: bool, conditional: bool, steps: int = 60, **network: bool) -> GanCase:
    train = pictures(200, seed=1)
    origin = gan_origin(conditional=conditional, steps=steps, **network)
    chosen = train.labels == 2 if class_wise else torch.arange(len(train)) < 24
    run = Run.on("cpu", seed=0, origin=origin, held_out=pictures(60, seed=3))
    original = _original(conditional, steps, **network)
    return GanCase(original, Split.of(train, train.ids[chosen]), pictures(60, seed=2), run)


@cache
def _original(conditional: bool, steps: int, **network: bool) -> GAN:
    origin = gan_origin(conditional=conditional, steps=steps, **network)
    return cast(GAN, origin.make(pictures(200, seed=1), Run.on("cpu", origin=origin)))


# --- A world with a known answer ----------------------------------------------------------------


@dataclass(frozen=True)
class Plane:
    """A pair whose image is a known function of z = (a, b), and a judge who knows what it shows.

    G(z) = z M is an image of 2×2 pixels, of which the first two are a/10 and b/10. Its class is the
    place of the largest of a, b and −a − b, which a linear judge reads off those pixels. A
    conditional G adds the brightness of its label to the last pixel. D(x) = x w + c.
    """

    conditional: bool = False

    matrix: ClassVar = torch.tensor([[0.1, 0.0, 0.05, 0.02], [0.0, 0.1, -0.05, 0.03]])
    brightness: ClassVar = torch.tensor([0.0, 0.1, 0.4])
    judged: ClassVar = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [-1, -1, 0, 0]])
    w: ClassVar = torch.tensor([1.0, -2.0, 0.5, 3.0])
    c: ClassVar = 0.25

    @property
    def gan(self) -> GAN:
        """The pair; it can learn."""
        discriminator = nn.Sequential(nn.Flatten(), _linear(self.w[None], torch.tensor([self.c])))
        known = CLASSES if self.conditional else None
        if self.conditional:
            discriminator = _Deaf(discriminator)
        return GAN(_Plane(self.conditional), discriminator, 2, classes=known).eval()

    @property
    def judge(self) -> Judge:
        """It looks at pixels: they are its features."""
        last = _linear(self.judged, torch.zeros(CLASSES))
        return Judge(nn.Sequential(nn.Flatten(), last).eval(), 100.0, "plane")

    def shows(self, z: Tensor) -> list[int]:
        """The class of each latent's image, in float64."""
        found = []
        for a, b in z.double().tolist():
            values = [a, b, -a - b]
            found.append(values.index(max(values)))
        return found

    def image(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images in float64."""
        rows = z.double() @ self.matrix.double()
        if labels is not None:
            rows[:, 3] += self.brightness.double()[labels]
        return rows.view(-1, 1, 2, 2)

    def data(self, n: int, seed: int, *, off: float = 0.0) -> Arrays:
        """Images of the pair's own, some way off, with what they show as labels."""
        draw = torch.Generator().manual_seed(seed)
        z = torch.randn(n, 2, generator=draw)
        labels = torch.tensor(self.shows(z))
        images = self.image(z, labels if self.conditional else None).float()
        images = images + off * torch.randn(images.shape, generator=draw)
        return Arrays(images, labels, torch.arange(n) * 2 + 1)


WORLDS = [Plane(), Plane(conditional=True)]
WORLD_NAMES = ["unconditional", "conditional"]


def class_split(world: Plane) -> Split:
    train = world.data(60, seed=5, off=0.02)
    return Split.of(train, train.ids[train.labels == 2])


def item_split(world: Plane, n: int = 7, off: float = 0.02) -> Split:
    train = world.data(60, seed=5, off=off)
    return Split.of(train, train.ids[:n])


def found(world: Plane, split: Split, n: int = 200, search: Search = Search(steps=40)) -> Located:
    (here,) = locate(world.gan, pool(world.gan, n, 3), split, world.judge, search, 11)
    return here


class _Plane(nn.Module):
    def __init__(self, conditional: bool) -> None:
        super().__init__()
        self.matrix = nn.Parameter(Plane.matrix.clone())
        self.conditional = conditional

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        rows = z @ self.matrix
        if self.conditional:
            assert labels is not None
            last = Plane.brightness.to(z)[labels][:, None]
            rows = rows + nn.functional.pad(last, (3, 0))
        return rows.view(-1, 1, 2, 2)


class _Deaf(nn.Module):
    """Hears the label and does not care."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        assert len(images) == len(labels)
        return self.inner(images)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
