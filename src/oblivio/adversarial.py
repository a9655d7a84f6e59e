"""The training loop for two players: `fit_gan`, its recipe, and the `Duel` it is made of."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.catalogue import unknown
from oblivio.core import Data, Progress, Run, convolves, derive
from oblivio.data.arrays import batch_starts, shifted
from oblivio.files import weights_digest, write_whole
from oblivio.generative import GAN, Images, Labels

Logits = Float[Tensor, " n"]
LossName = Literal["non_saturating", "hinge", "least_squares"]


@dataclass(frozen=True)
class Adversarial:
    """How to train a GAN: loss, Adam, length, average, augmentation.

    It can be called, `recipe(gan, data, run)`, which is `fit_gan`.

    Args:
        steps: Steps of the generator.
        batch_size: Images per step.
        lr: Adam's rate, of both players.
        lr_discriminator: That of the discriminator, where it differs.
        betas: Adam's.
        loss: "non_saturating" (Goodfellow et al. 2014), "hinge" (Lim and Ye 2017) or
            "least_squares" (Mao et al. 2017).
        d_steps: Steps of the discriminator before each of the generator.
        average: Decay of the generator's moving average; 0 keeps none.
        augment: What differentiable augmentation does to all that the discriminator sees (Zhao et
            al. 2020): any of "brightness", "shift", "cutout".
        check_every: After how many steps the quality is judged, to keep the best; 0 keeps the last.
        save_every: After how many steps the training's state is written, so that it can go on after
            a kill.

    Raises:
        ValueError: If a number is out of range, or there is no such loss or augmentation.
    """

    steps: int = 5000
    batch_size: int = 64
    lr: float = 2e-4
    lr_discriminator: float | None = None
    betas: tuple[float, float] = (0.5, 0.999)
    loss: LossName = "non_saturating"
    d_steps: int = 1
    average: float = 0.999
    augment: tuple[str, ...] = ()
    check_every: int = 0
    save_every: int = 1000

    def __post_init__(self) -> None:
        for name, ok, range_ in (
            ("steps", self.steps >= 0, "0 or more"),
            ("batch_size", self.batch_size >= 2, "2 or more"),
            ("lr", self.lr > 0, "above 0"),
            ("lr_discriminator", (self.lr_discriminator or 1) > 0, "above 0"),
            ("betas", all(0 <= b < 1 for b in self.betas), "from 0 to below 1"),
            ("d_steps", self.d_steps >= 1, "1 or more"),
            ("average", 0 <= self.average < 1, "from 0 to below 1"),
            ("check_every", self.check_every >= 0, "0 or more"),
            ("save_every", self.save_every >= 1, "1 or more"),
        ):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} must be {range_}.")
        if self.loss not in get_args(LossName):
            raise ValueError(unknown("loss", self.loss, get_args(LossName)))
        for name in self.augment:
            if name not in AUGMENTS:
                raise ValueError(unknown("augmentation", name, AUGMENTS))

    def __call__(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        """Train the pair on the data; see `fit_gan`."""
        return fit_gan(as_gan(model), data, self, run)


def as_gan(model: nn.Module) -> GAN:
    """The model, if it is a GAN.

    Returns:
        The model itself.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(model, GAN):
        raise TypeError(
            f"A GAN is needed, not {type(model).__name__}: put generator and discriminator into "
            "oblivio.GAN(generator, discriminator, latent)."
        )
    return model


# --- Losses -------------------------------------------------------------------------------------


def discriminator_loss(real: Logits, fake: Logits, loss: LossName) -> Float[Tensor, ""]:
    """What D minimises.

        non-saturating   E[softplus(−D(x))] + E[softplus(D(G(z)))]
        hinge            E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))]
        least squares    ½ E[(D(x) − 1)²] + ½ E[D(G(z))²]

    Args:
        real: Logits of real images.
        fake: Logits of generated ones.
        loss: Which.

    Returns:
        A mean over images.
    """
    return loss_towards(real, loss, real=True) + loss_towards(fake, loss, real=False)


def loss_towards(logits: Logits, loss: LossName, *, real: bool) -> Float[Tensor, ""]:
    """D's loss for images that it is to call real, or not real.

    Returns:
        A mean over images.
    """
    if loss == "hinge":
        return F.relu(1 - logits if real else 1 + logits).mean()
    if loss == "least_squares":
        return 0.5 * (logits - float(real)).square().mean()
    return F.softplus(-logits if real else logits).mean()


def generator_loss(fake: Logits, loss: LossName) -> Float[Tensor, ""]:
    """What G minimises.

        non-saturating   E[softplus(−D(G(z)))]
        hinge            −E[D(G(z))]
        least squares    ½ E[(D(G(z)) − 1)²]

    Args:
        fake: Logits of generated images.
        loss: Which.

    Returns:
        A mean over images.
    """
    return -fake.mean() if loss == "hinge" else loss_towards(fake, loss, real=True)


# --- Differentiable augmentation ------------------------------------------------------------------


def brightness(x: Images, draw: torch.Generator) -> Images:
    """Add a number in [-½, ½) to each image."""
    return x + (torch.rand(len(x), 1, 1, 1, generator=draw) - 0.5).to(x)


def shift(x: Images, draw: torch.Generator) -> Images:
    """Move each image by up to an eighth of its side."""
    most = max(1, x.shape[-1] // 8)
    return shifted(x, torch.randint(2 * most + 1, (len(x), 2), generator=draw).to(x.device), most)


def cutout(x: Images, draw: torch.Generator) -> Images:
    """Set a square of half the side to zero, at a random place of each image."""
    side, half = x.shape[-1], x.shape[-1] // 2
    corner = torch.randint(1 - half, side, (2, len(x), 1), generator=draw)
    inside = [(torch.arange(side) >= one) & (torch.arange(side) < one + half) for one in corner]
    return x * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(x.device)


AUGMENTS: dict[str, Callable[[Images, torch.Generator], Images]] = {
    "brightness": brightness,
    "shift": shift,
    "cutout": cutout,
}
"""Differentiable augmentations by name."""


# --- Two players --------------------------------------------------------------------------------


class Duel:
    """Two players, each with its Adam; what a step of either is.

    Random numbers of a step derive from the run's seed and the step's number, so that a training
    that is taken up again draws the same.

    Args:
        gan: The pair; it is trained in place.
        recipe: How.
        run: Where, and with which seed.

    Raises:
        ValueError: If the precision is half without a wide exponent.
    """

    def __init__(self, gan: GAN, recipe: Adversarial, run: Run) -> None:
        if "16" in run.precision and not run.precision.startswith("bf16"):
            raise ValueError(
                f"GANs train in bf16-mixed or 32-true, not {run.precision}: nothing scales the two "
                "players' losses."
            )
        gan.to(run.device).train()
        gan.average.eval()
        wide = convolves(gan) if run.channels_last is None else run.channels_last
        self.layout = torch.channels_last if wide else torch.contiguous_format
        for player in (gan.generator, gan.discriminator):
            player.to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
        self.gan, self.recipe, self.run = gan, recipe, run
        self.generator_steps = self.discriminator_steps = 0
        self.generator_adam = self._adam(gan.generator, recipe.lr)
        self.discriminator_adam = self._adam(
            gan.discriminator, recipe.lr_discriminator or recipe.lr
        )

    def _adam(self, player: nn.Module, lr: float) -> torch.optim.Adam:
        fused = self.run.device.type in ("cpu", "cuda")
        return torch.optim.Adam(player.parameters(), lr, betas=self.recipe.betas, fused=fused)

    def draw(self, n: int, *what: object) -> tuple[Tensor, Labels | None]:
        """Latents and, for a conditional pair, labels, that depend on the step and on `what`."""
        seed = derive(self.run.seed, *what, self.generator_steps, self.discriminator_steps)
        return self.gan.latents(n, seed), self.gan.labels(n, seed + 1)

    def seen(self, images: Images, *what: object) -> Images:
        """Images as the discriminator is shown them: augmented."""
        images = images.to(self.run.device, non_blocking=True).contiguous(memory_format=self.layout)
        if not self.recipe.augment:
            return images
        seed = derive(self.run.seed, "augment", *what, self.generator_steps)
        draw = torch.Generator().manual_seed(seed)
        for name in self.recipe.augment:
            images = AUGMENTS[name](images, draw)
        return images

    def score(self, images: Images, labels: Labels | None = None) -> Logits:
        """D's logits, in the run's precision."""
        with self.run.fabric.autocast():
            return self.gan.score(images, labels).float()

    def make(self, z: Tensor, labels: Labels | None = None) -> Images:
        """G's images, in the run's precision."""
        with self.run.fabric.autocast():
            return self.gan.make(z, labels).float()

    def discriminate(
        self, real: Images, labels: Labels | None, also: Float[Tensor, ""] | None = None
    ) -> Float[Tensor, ""]:
        """One step of D on real images and as many generated ones.

        Args:
            real: Images to call real.
            labels: Theirs; looked at where the pair is conditional.
            also: What is added to its loss.

        Returns:
            The loss.
        """
        z, wanted = self.draw(len(real), "discriminate")
        y = None if self.gan.classes is None else labels
        with torch.no_grad():
            fake = self.make(z, wanted)
        value = discriminator_loss(
            self.score(self.seen(real, "real"), y),
            self.score(self.seen(fake, "fake"), wanted),
            self.recipe.loss,
        )
        self.step_discriminator(value if also is None else value + also)
        return value.detach()

    def generate(self, n: int, also: Float[Tensor, ""] | None = None) -> Float[Tensor, ""]:
        """One step of G on this many latents; `also` is added to its loss.

        Returns:
            The loss.
        """
        z, labels = self.draw(n, "generate")
        self.gan.discriminator.requires_grad_(False)
        fake = self.score(self.seen(self.make(z, labels), "made"), labels)
        value = generator_loss(fake, self.recipe.loss)
        self.step_generator(value if also is None else value + also)
        self.gan.discriminator.requires_grad_(True)
        return value.detach()

    def step_discriminator(self, loss: Float[Tensor, ""]) -> None:
        """Follow a loss's gradient with D."""
        self.discriminator_adam.zero_grad(set_to_none=True)
        self.run.fabric.backward(loss)
        self.discriminator_adam.step()
        self.discriminator_steps += 1

    def step_generator(self, loss: Float[Tensor, ""]) -> None:
        """Follow a loss's gradient with G, and let the average follow."""
        self.generator_adam.zero_grad(set_to_none=True)
        self.run.fabric.backward(loss)
        self.generator_adam.step()
        self.generator_steps += 1
        # The average of few steps is not to remember the first weights: Kingma's correction.
        warm = (1 + self.generator_steps) / (10 + self.generator_steps)
        self.gan.follow(min(self.recipe.average, warm))

    def learn(self, batches: Iterator[tuple[Images, Labels]]) -> Float[Tensor, ""]:
        """One ordinary round: D's steps, then one of G.

        Returns:
            D's loss.
        """
        value, n = torch.zeros(()), self.recipe.batch_size
        for _ in range(self.recipe.d_steps):
            images, labels = next(batches)
            value, n = self.discriminate(images, labels), len(images)
        self.generate(n)
        return value

    def finish(self) -> GAN:
        """The pair, laid out as usual, in eval mode; says how many steps it took."""
        self.run.note(
            generator_steps=self.generator_steps, discriminator_steps=self.discriminator_steps
        )
        self.gan.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        for player in (self.gan.generator, self.gan.discriminator):
            player.zero_grad(set_to_none=True)
        return self.gan.eval()


def endless(data: Data, size: int, run: Run, *, start: int = 0) -> Iterator[tuple[Images, Labels]]:
    """Batches without end: pass after pass, each in an order of its own.

    Args:
        data: Real images.
        size: Of a batch.
        run: Whose seed the orders derive from.
        start: How many batches are to be left out at the beginning, as they were had already.

    Yields:
        Images and labels.
    """
    per_pass = len(batch_starts(len(data), size))
    pass_, skip = divmod(start, per_pass)
    while True:
        seed = derive(run.seed, "pass", pass_)
        for place, batch in enumerate(data.batches(size, shuffle=seed, augment=True)):
            if place >= skip:
                yield batch.inputs, batch.labels.to(run.device)
        pass_, skip = pass_ + 1, 0


def fit_gan(
    model: GAN,
    data: Data,
    recipe: Adversarial,
    run: Run,
    *,
    quality: Callable[[GAN], float] | None = None,
) -> GAN:
    """Train a pair in place.

    Where the run names a file to resume from (`run.resume`), the state is written there every
    `recipe.save_every` steps; a training that finds it goes on from there, to the same bits. The
    file is removed at the end.

    Args:
        model: The pair.
        data: Real images in [-1, 1].
        recipe: How.
        run: Where; its seed decides the order of the data and all latents.
        quality: Judges the pair every `recipe.check_every` steps, less is better; the best is kept.

    Returns:
        The same pair, in eval mode.

    Raises:
        FloatingPointError: If a loss is no longer a finite number.
        ValueError: If there is no batch of two images.
    """
    if len(data) < 2:
        raise ValueError("A GAN cannot be trained on a single image: BatchNorm needs two.")
    duel, best = Duel(model, recipe, run), Best()
    state = State(run.resume, _fingerprint(model, data, recipe, run))
    done = state.read(duel, best)
    size = min(recipe.batch_size, len(data))
    batches = endless(data, size, run, start=done * recipe.d_steps)
    every = max(1, recipe.steps // 100)
    for step in range(done + 1, recipe.steps + 1):
        value = duel.learn(batches)
        if step % every == 0 or step == recipe.steps:
            run.tell(Progress(step, recipe.steps, finite(value, step, recipe)))
        if recipe.check_every and quality is not None and step % recipe.check_every == 0:
            best.judge(model, quality(model), step)
        if step % recipe.save_every == 0 and step < recipe.steps:
            state.write(duel, best, step)
    if best.state is not None:
        model.load_state_dict(best.state)
        run.note(best_step=best.step, best_quality=best.quality)
    state.remove()
    return duel.finish()


def finite(value: Tensor, step: int, recipe: Adversarial) -> float:
    """A loss as a number.

    Returns:
        The number.

    Raises:
        FloatingPointError: If it is not finite.
    """
    if not math.isfinite(float(value)):
        raise FloatingPointError(
            f"The discriminator's loss is {float(value)} after step {step} of {recipe.steps}: the "
            f"learning rate {recipe.lr:g} is too high, or the images are not in [-1, 1]."
        )
    return float(value)


@dataclass
class Best:
    """The pair with the best quality so far."""

    quality: float = math.inf
    step: int = 0
    state: dict[str, Tensor] | None = None

    def judge(self, gan: GAN, quality: float, step: int) -> None:
        """Keep the pair if it is better than any before."""
        if quality < self.quality:
            self.quality, self.step = quality, step
            self.state = copy.deepcopy(gan.state_dict())


@dataclass(frozen=True)
class State:
    """Where a long training keeps its state, and what must be the same for it to go on.

    Args:
        path: The file; None keeps nothing.
        fingerprint: Of the first weights, the data, the recipe and the seed.
    """

    path: Path | None
    fingerprint: str

    def write(self, duel: Duel, best: Best, step: int) -> None:
        """Put the state in its place, whole or not at all."""
        if self.path is None:
            return
        import io

        buffer = io.BytesIO()
        torch.save(
            {
                "fingerprint": self.fingerprint,
                "step": step,
                "counts": (duel.generator_steps, duel.discriminator_steps),
                "gan": duel.gan.state_dict(),
                "generator": duel.generator_adam.state_dict(),
                "discriminator": duel.discriminator_adam.state_dict(),
                "best": (best.quality, best.step, best.state),
            },
            buffer,
        )
        write_whole(self.path, buffer.getvalue())

    def read(self, duel: Duel, best: Best) -> int:
        """Take up the state, if there is one and it is of this very training.

        Returns:
            How many steps are done.
        """
        if self.path is None or not self.path.is_file():
            return 0
        try:
            found: Any = torch.load(self.path, map_location=duel.run.device, weights_only=True)
            if found["fingerprint"] != self.fingerprint:
                return 0
        except Exception:  # a damaged file of whatever kind: the training begins anew
            return 0
        duel.gan.load_state_dict(found["gan"])
        duel.generator_adam.load_state_dict(found["generator"])
        duel.discriminator_adam.load_state_dict(found["discriminator"])
        duel.generator_steps, duel.discriminator_steps = found["counts"]
        best.quality, best.step, best.state = found["best"]
        return int(found["step"])

    def remove(self) -> None:
        """Take the file off the disk."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _fingerprint(gan: GAN, data: Data, recipe: Adversarial, run: Run) -> str:
    """Of all that decides a training's result."""
    first = weights_digest(gan.state_dict()) if run.resume is not None else ""
    return f"{first} {weights_digest({'ids': data.ids})} {recipe} {run.seed}"
